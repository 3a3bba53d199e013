"""The contract end to end: bad input, and how nobody else notices it."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fakes import brief, error_of, packet
from inprocess import Framing, Server, serving

import videre

both = pytest.mark.parametrize("framing", ["raw", "sockjs"])

HOSTILE = {
    "text": "nonsense",
    "array": "[]",
    "string": '"{}"',
    "null": "null",
    "half": '{"Header":',
    "twice": packet("ping", "a", "room") * 2,
    "NaN": packet("ping", "a", "room", float("nan")),
    "deep": "[" * 60_000,
    "deep-header": '{"Header":' * 2000 + "1" + "}" * 2000,
    "surrogate": packet("broadcast", "a", "room", "\ud800"),
    "empty": "{}",
    "header": '{"Header":[],"Payload":{}}',
    "proto": '{"__proto__":{"Header":1},"constructor":2}',
    "event": packet("__proto__", "a", "room"),
    "server-event": packet("error", "a", "room"),
    "names": json.dumps({"Header": {"Event": "ping", "UserId": [], "RoomId": {}}, "Payload": 0}),
    "control": packet("connect", "a\n", "room"),
    "long": packet("connect", "a" * 129, "r" * 257),
    "large": packet("broadcast", "a", "room", "x" * 70_000),
    "stranger": packet("broadcast", "stranger", "room"),
    "elsewhere": packet("disconnect", "a", "elsewhere"),
}
NULL_NAMES = {
    "user": packet("ping", None, "room"),  # type: ignore[arg-type]
    "room": packet("ping", "a", None),  # type: ignore[arg-type]
}


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """Give a running signaller."""
    async with serving(videre.create_app()) as running:
        yield running


async def answered(server: Server, framing: Framing, text: str) -> str:
    """Send a hostile text, check that nobody else notices, and return its error."""
    (witness,) = await server.members("w")
    a = await server.client(framing)
    await a.join("a")
    await witness.heard()
    await a.say(text)
    answer = await a.text()
    await witness.quiet()
    await a.send("broadcast", "a", "room")
    await witness.hears(("broadcast", "a", "room", "{}"))
    assert await witness.users() == ["w", "a"]
    return answer


@both
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
async def test_hostile_input(server: Server, framing: Framing, text: str) -> None:
    """The sender gets an error and stays connected; nobody else is disturbed."""
    answer = await answered(server, framing, text)
    assert json.loads(answer)["Header"] == {"Event": "error", "UserId": "a", "RoomId": "room"}
    error = error_of(answer)
    assert (error["Retry"], 0 < len(error["Message"]) <= 500) == (False, True)


@both
@pytest.mark.parametrize("text", NULL_NAMES.values(), ids=NULL_NAMES)
async def test_a_null_name(server: Server, framing: Framing, text: str) -> None:
    """It is answered like any bad input, and closes nothing."""
    assert error_of(await answered(server, framing, text))["Code"] == "invalid-packet"


async def test_each_code(server: Server) -> None:
    """Every code of the table that a client without a seat can cause, with the packet's id."""
    a, _ = await server.members("a", "b")
    earned = {
        "malformed-packet": "{",
        "invalid-packet": packet("welcome", "a", "room", Id=1),
        "packet-too-large": packet("broadcast", "a", "room", "x" * 70_000, Id=1),
        "not-in-room": packet("broadcast", "a", "elsewhere", Id=1),
        "wrong-user": packet("broadcast", "b", "room", Id=1),
    }
    for code, text in earned.items():
        await a.say(text)
        answer = await a.text()
        assert brief(answer) == ("error", "a", "room", code)
        known = code != "malformed-packet"
        assert json.loads(answer)["Header"].get("Id") == (1 if known else None)


@both
async def test_ten_bad_packets_in_a_row(server: Server, framing: Framing) -> None:
    """Nine get an error only; the tenth gets an error and closes with 4500."""
    (witness,) = await server.members("w")
    a = await server.client(framing)
    await a.join("a")
    await witness.heard()
    for times in (9, 10):
        for _ in range(times):
            await a.say("nonsense")
            await a.hears(("error", "a", "room", "malformed-packet"))
        if times == 9:
            await a.quiet()
            await witness.quiet()
    assert await a.closed() == 4500
    await witness.hears(("disconnect", "a", "room", ""))
    await witness.quiet()


async def test_packets_after_the_tenth_are_ignored(server: Server) -> None:
    """A closing session acts on nothing more, whatever was sent before it knew."""
    (witness,) = await server.members("w")
    a = await server.client()
    await a.join("a")
    await witness.heard()
    for _ in range(10):
        await a.say("nonsense")
    await a.send("broadcast", "a", "room")
    await a.send("connect", "a", "room")
    await a.hears(*[("error", "a", "room", "malformed-packet")] * 10)
    assert await a.closed() == 4500
    await witness.hears(("disconnect", "a", "room", ""))
    assert await witness.users() == ["w"]


async def test_broken_sockjs_framing_closes_only_its_sender(server: Server) -> None:
    """An invalid SockJS frame ends that session properly; others hear a disconnect."""
    (witness,) = await server.members("w")
    for frame in ("nonsense", "{}", "[1]", '["a"', "[" * 60_000):
        a = await server.client("sockjs")
        await a.join("a")
        await witness.heard()
        await a.socket.send_str(frame)
        await a.closed()
        await witness.hears(("disconnect", "a", "room", ""))
    assert await witness.users() == ["w"]


async def test_noise(server: Server) -> None:
    """A hundred connections of random texts and frames leave a room unchanged."""
    a, b = await server.members("a", "b")
    chance = random.Random(1)
    pieces = [
        '"Header"',
        ":",
        "{",
        "}",
        "[",
        "]",
        ",",
        "null",
        '"connect"',
        "1e9",
        "\x00",
        "\u2028",
    ]
    for number in range(100):
        noisy = await server.client("raw" if number % 2 else "sockjs")
        for _ in range(3):
            text: Any = "".join(chance.choices(pieces, k=chance.randrange(40)))
            if chance.random() < 0.3:
                await noisy.socket.send_bytes(text.encode()[: chance.randrange(100)])
            else:
                await noisy.say(text)
        if chance.random() < 0.5:
            noisy.reset()
        else:
            await noisy.close()
    await a.quiet()
    await b.quiet()
    await a.send("broadcast", "a", "room")
    await b.hears(("broadcast", "a", "room", "{}"))
