"""The log: the events of a call, for programs and for people, and the secrets it never contains."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from process import signaller
from signalling import connect
from sockjs_client import Wire, ask, poll, send
from websocket_client import CLOSE, Socket

from videre.logs import EventLog, Journal, journal
from videre.logs.formatters import JSONFormatter, TextFormatter, shortened
from videre.version import __version__

pytestmark = pytest.mark.process

ROOM, OTHER_ROOM = (f"{name}-{secrets.token_hex(8)}" for name in ("lounge", "cellar"))
SESSION = f"polled-{secrets.token_hex(8)}"
PAYLOAD = f"candidate-{secrets.token_hex(8)}"
SECRETS = (ROOM[6:], OTHER_ROOM[6:], SESSION[6:], PAYLOAD)

Line = dict[str, Any]


def packet(event: str, user: str, room: str = ROOM, payload: str = PAYLOAD) -> str:
    """Return a packet whose payload is a secret."""
    header = {"Event": event, "UserId": user, "RoomId": room}
    return json.dumps({"Header": header, "Payload": payload})


def read(file: Path) -> list[Line]:
    """Return the lines of a log, each a JSON object."""
    lines = [json.loads(line) for line in file.read_text(encoding="ascii").splitlines()]
    assert all({"time", "level", "event"} <= line.keys() for line in lines)
    return lines


@dataclass
class Recorded:
    """What is left of a call: the log's text and lines, and what the terminal showed."""

    text: str
    lines: list[Line]
    terminal: list[str]

    def of(self, event: str) -> list[Line]:
        """Return the lines of one event."""
        return [line for line in self.lines if line["event"] == event]

    def fields(self, event: str, *names: str) -> list[tuple[Any, ...]]:
        """Return these fields of each line of one event."""
        return [tuple(line[name] for name in names) for line in self.of(event)]


async def call(base: str) -> None:
    """Let three users meet by raw WebSocket, SockJS and polling, make mistakes, and leave."""
    alice = await Socket.open(base, "/echo/websocket")
    bob = await Socket.open(base, f"/echo/000/{SESSION}-bob/websocket")
    carol = f"/echo/000/{SESSION}"
    alice.send(packet("connect", "alice"))
    await alice.text()
    assert await bob.text() == "o"
    for text in (packet("connect", "bob", OTHER_ROOM, "x" * 70_000), packet("connect", "bob")):
        bob.send(json.dumps([text]))
        await bob.text()
    assert await poll(base, carol) == "o\n"
    await send(base, carol, packet("connect", "carol"))
    assert "false" in await poll(base, carol)
    await alice.text(), await alice.text(), await bob.text()

    alice.send(packet("broadcast", "alice"))
    assert PAYLOAD in await bob.text() and PAYLOAD in await poll(base, carol)
    mistakes = [PAYLOAD, packet(PAYLOAD, "alice"), packet("broadcast", "alice", OTHER_ROOM)]
    for text in [*mistakes, packet("broadcast", "mallory"), packet("ping", "alice")]:
        alice.send(text)
        await alice.text()
    await ask(base, "GET", f"{carol}/{PAYLOAD}")
    await ask(base, "POST", f"{carol}/xhr_send", PAYLOAD.encode())
    await break_http(base, f"{carol}/xhr")

    await send(base, carol, packet("disconnect", "carol"))
    await alice.text()
    alice.send(packet("connect", "alice", OTHER_ROOM))
    await alice.text()
    for _ in ("carol left", "alice left", "bob is initiator"):
        await bob.text()
    bob.send((1000).to_bytes(2, "big"), CLOSE)
    await bob.goodbye()
    again = await Socket.open(base, "/echo/websocket")
    again.send(packet("connect", "alice", OTHER_ROOM))
    await again.text()
    assert await alice.goodbye() == (4503, "Replaced by a newer connection")


async def break_http(base: str, target: str) -> None:
    """Send malformed requests, about which aiohttp logs."""
    for lines in (f"GET {target}\0 HTTP/1.1\r\n", f"GET {target} HTTP/1.1\r\n{PAYLOAD}\r\n"):
        wire = await Wire.open(base)
        wire.writer.write(f"{lines}\r\n".encode())
        assert (await wire.answer()).status == 400


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Record a call with the shipped configuration."""
    tmp = tmp_path_factory.mktemp("call")

    async def run() -> list[str]:
        async with signaller(tmp=tmp) as server:
            await call(f"http://127.0.0.1:{server.port}")
        await Wire.hang_up()
        return server.output

    terminal = asyncio.run(run())
    return Recorded((tmp / "debug.log").read_text(), read(tmp / "debug.log"), terminal)


@pytest.mark.parametrize("secret", SECRETS, ids=["room", "other room", "session", "payload"])
def test_no_secret_is_logged(secret: str, recorded: Recorded) -> None:
    """Neither log nor terminal shows a payload, a whole room id or a session id."""
    assert secret not in recorded.text
    assert not any(secret in line for line in recorded.terminal)


def test_the_life_of_the_server(recorded: Recorded) -> None:
    """Start, listen, signal and stop are logged, in this order, around everything else."""
    ((version, pid),) = recorded.fields("start", "version", "pid")
    ((urls,),) = recorded.fields("listen", "urls")
    assert version == __version__ and pid > 0
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/echo", *urls)
    assert recorded.fields("signal", "signal") == [("SIGTERM",)]
    events = [line["event"] for line in recorded.lines]
    assert events[:2] == ["start", "listen"] and events[-1] == "stop"
    times = [line["time"] for line in recorded.lines if "prefix" in line]
    assert times == sorted(times) and times[0].endswith("+00:00")


def test_sessions(recorded: Recorded) -> None:
    """Each session is logged with its transport."""
    raw, framed, polling = "websocket-raw", "websocket", "xhr-polling"
    assert recorded.fields("session", "transport") == [(raw,), (framed,), (polling,), (raw,)]


def test_rooms(recorded: Recorded) -> None:
    """Rooms are logged when made and dropped; a room is empty while its user is replaced."""
    rooms = [("lounge", "/echo"), ("cellar", "/echo"), ("cellar", "/echo")]
    assert recorded.fields("room-made", "room", "prefix") == rooms
    assert recorded.fields("room-dropped", "room", "prefix") == rooms


def test_joins(recorded: Recorded) -> None:
    """Each join is logged with the role and the number of members."""
    assert recorded.fields("join", "room", "user", "initiator", "members") == [
        ("lounge", "alice", True, 1),
        ("lounge", "bob", False, 2),
        ("lounge", "carol", False, 3),
        ("cellar", "alice", True, 1),
        ("cellar", "alice", True, 1),
    ]


def test_leaves(recorded: Recorded) -> None:
    """Each leave is logged with its reason and how long the seat was held."""
    assert recorded.fields("leave", "room", "user", "reason") == [
        ("lounge", "carol", "disconnect"),
        ("lounge", "alice", "moved"),
        ("lounge", "bob", "closed-by-client"),
        ("cellar", "alice", "replaced"),
        ("cellar", "alice", "closed-by-server"),
    ]
    seconds = [line["seconds"] for line in recorded.of("leave")]
    assert all(isinstance(number, float) and 0 <= number < 60 for number in seconds)


def test_promotions(recorded: Recorded) -> None:
    """A new initiator is logged."""
    assert recorded.fields("promote", "room", "user") == [("lounge", "bob")]


def test_errors(recorded: Recorded) -> None:
    """Each refused packet is logged with its code and sender."""
    assert recorded.fields("error", "code", "user", "room") == [
        ("packet-too-large", "bob", "cellar"),
        ("malformed-packet", "alice", "lounge"),
        ("invalid-packet", "alice", "lounge"),
        ("not-in-room", "alice", "lounge"),
        ("wrong-user", "alice", "lounge"),
    ]


def test_packets(recorded: Recorded) -> None:
    """Each readable packet is logged with its header and size, before its effects."""
    found = recorded.fields("packet", "packet", "user", "room", "size")
    assert found[:3] == [
        ("connect", "alice", "lounge", len(packet("connect", "alice"))),
        ("connect", "bob", "lounge", len(packet("connect", "bob"))),
        ("connect", "carol", "lounge", len(packet("connect", "carol"))),
    ]
    assert ("ping", "alice", "lounge", len(packet("ping", "alice"))) in found
    assert [kind for kind, *_ in found].count("broadcast") == 3
    events = [line["event"] for line in recorded.lines if line["event"] in ("packet", "join")]
    assert events[:6] == ["packet", "join"] * 3


def test_the_terminal(recorded: Recorded) -> None:
    """People see lines with the time, the event and its fields, but no packets."""
    lines = recorded.terminal
    joins = [line for line in lines if re.match(r"\d\d:\d\d:\d\d info    join ", line)]
    assert joins[0].endswith('room="lounge" user="alice" initiator=true members=1')
    assert len(joins) == 5
    assert not any(line.startswith("{") or "packet room" in line for line in lines)
    assert not any("size=" in line or "Traceback" in line for line in lines)


async def test_packets_before_a_quiet_end_are_recorded(tmp_path: Path) -> None:
    """Packets still collected when the server stops are written."""
    async with (
        signaller(tmp=tmp_path) as server,
        connect(server.url, "raw", user="alice", room=ROOM) as peer,
    ):
        await peer.ask("ping")
    assert "packet" in [line["event"] for line in read(tmp_path / "debug.log")]


@pytest.mark.parametrize(("level", "events"), [("info", {"join", "error"}), ("warning", {"error"})])
async def test_levels(level: str, events: set[str], tmp_path: Path) -> None:
    """LogLevel decides what is logged; packets and sessions only at debug."""
    async with (
        signaller("--log-level", level, tmp=tmp_path) as server,
        connect(server.url, "raw", user="alice", room=ROOM) as peer,
    ):
        await peer.ask("connect")
        await peer.ask("nonsense")
    found = {line["event"] for line in read(tmp_path / "debug.log")}
    assert events == found & {"session", "packet", "join", "error"}


def test_shortened() -> None:
    """6 characters of a secret are shown, but at most half of it."""
    assert [shortened(secret) for secret in ("", "a", "abcd", "abcdefghijklmn")] == [
        "",
        "",
        "ab",
        "abcdef",
    ]


def collecting(level: int) -> tuple[logging.Logger, list[str]]:
    """Return a logger, and the list of lines that it gets."""
    lines: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.extend(self.format(record).splitlines())

    logger, handler = logging.Logger("videre", level), Collector()
    handler.setFormatter(JSONFormatter())
    logger.addHandler(handler)
    return logger, lines


@pytest.mark.parametrize("batched", [True, False])
async def test_packets_beyond_the_batch_are_counted(
    monkeypatch: pytest.MonkeyPatch, batched: bool
) -> None:
    """The number of packets that do not fit into a batch, or into its time, is logged."""
    monkeypatch.setattr(journal, "BATCH_PACKETS", 5)
    logger, lines = collecting(logging.DEBUG)
    log = EventLog(Journal(logger, batched=batched), "/echo")
    assert log.trace is not None
    for number in range(12):
        log.trace("ping", f"user{number}", ROOM, 10)
    assert len(lines) == (0 if batched else 5)
    log.flush()
    log("join", room=ROOM, user="a")
    log.trace("ping", "later", ROOM, 10)
    log("leave", room=ROOM, user="a")
    log.flush()
    found = [json.loads(line) for line in lines]
    batch = [f"user{number}" for number in range(5)]
    assert [line.get("user") for line in found] == [*batch, None, "a", "later", "a"]
    assert found[5]["event"] == "packets-left-out" and found[5]["count"] == 7
    assert EventLog(Journal(collecting(logging.INFO)[0]), "/echo").trace is None


@pytest.mark.parametrize("formatter", [JSONFormatter(), TextFormatter()])
def test_a_name_writes_no_lines_of_its_own(formatter: logging.Formatter) -> None:
    """A stranger's name is escaped, on one line."""
    record = logging.LogRecord("videre", logging.INFO, "", 0, "join", (), None)
    record.fields = {"user": "a\u202eb\u2028c\x1b[2Jd\ne"}
    text = formatter.format(record)
    assert text.isascii() and text.isprintable() and r"\u202eb\u2028c\u001b[2Jd\ne" in text
