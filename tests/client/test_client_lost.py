"""The Python client after a lost connection, against a scripted server."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import WSServerHandshakeError
from patience import WAIT_SECONDS
from scripted import Link, Scripted, scripted
from skipping import forward, hurry, skip

from videre import errors
from videre.client import (
    Backoff,
    Client,
    Closed,
    Joined,
    Left,
    Lost,
    Message,
    Overflow,
    Rejoined,
    Resumed,
    Role,
    Unreachable,
    inbox,
)
from videre.client import link as link_module
from videre.client.backoff import Pace

pytestmark = pytest.mark.usefixtures("nothing_is_left")

AT_ONCE = Backoff(first=0.0)


@pytest.fixture
async def server() -> AsyncIterator[Scripted]:
    """Run a scripted server."""
    async with asyncio.timeout(WAIT_SECONDS), scripted() as running:
        yield running


class Waits:
    """A back-off that records its waits, which take no time."""

    def __init__(self, first: float = 1e6, most: float = 1e9) -> None:
        # No test takes 1e6 s: no connection lasts long enough to reset the back-off.
        self.limits: list[float] = []
        self.slept: list[float] = []
        self.backoff = Backoff(first, most, uniform=self._uniform, sleep=self._sleep)

    def _uniform(self, least: float, most: float) -> float:
        assert least == 0
        self.limits.append(most)
        return most / 2

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


async def entered(server: Scripted, *users: str, **settings: Any) -> tuple[Client, Any]:
    """Return a client seated as the last of these users, and the server's end of its connection."""
    settings.setdefault("backoff", AT_ONCE)
    room = Client(server.url, user=users[-1], room="room", **settings)
    entering = asyncio.create_task(room.__aenter__())
    link = await server.link()
    await link.seat(*users)
    await entering
    return room, link


async def leave(server: Scripted, room: Client) -> None:
    """Leave the room without an answer from the script."""
    leaving = asyncio.create_task(room.__aexit__(None, None, None))
    await asyncio.sleep(0)  # it has started: the client knows that it is to leave
    server.end()
    await leaving


async def test_a_resumption(server: Scripted) -> None:
    """The client shows the secret and its count of packets; the seat is as before."""
    room, link = await entered(server, "a", "me")
    await link.say("connect", "b", "false")
    await link.say("broadcast", "b", "hello")
    await link.say("disconnect", "a")
    await link.say("role", "b", "true")
    await link.say("ping", "me", ["b", "me"])  # unsolicited, and not counted
    expected = [Joined("b"), Message, Left("a"), Role("b")]
    for event in expected:
        heard = await room.receive()
        assert heard == event or type(heard) is event
    link.cut()
    assert isinstance(lost := await room.receive(), Lost) and lost.code == 1006
    link = await server.link()
    asked = await link.seat("later", "me", secret="s2", Resumed=True)
    assert asked == {"Welcome": True, "Resume": "s1", "Received": 4}
    assert await room.receive() == Resumed()
    # The welcome precedes the missed packets: the members stay the old ones until they arrive.
    assert (room.users, room.initiator) == (["b", "me"], "b")
    await link.say("connect", "later", "false")
    assert await room.receive() == Joined("later")
    link.cut()
    asked = await (await server.link()).seat("me", secret="s3", Resumed=True)
    assert asked == {"Welcome": True, "Resume": "s2", "Received": 1}
    await leave(server, room)


async def test_a_gap(server: Scripted) -> None:
    """The seat is gone: only the welcome says who is there."""
    room, link = await entered(server, "me")
    assert room.is_initiator
    link.cut()
    asked = await (await server.link()).seat("other", "me", secret=None, Resumed=False)
    assert asked["Resume"] == "s1"
    assert isinstance(await room.receive(), Lost)
    assert await room.receive() == Rejoined()
    assert (room.users, room.is_initiator) == (["other", "me"], False)
    await leave(server, room)


async def test_an_invalid_secret(server: Scripted) -> None:
    """The client joins afresh, on the same connection."""
    room, link = await entered(server, "me")
    link.cut()
    link = await server.link()
    asked = await link.hears("connect")
    assert asked["Payload"]["Resume"] == "s1"
    await link.refuse(asked, "unauthorized")
    assert await link.seat("me") == {"Welcome": True}
    assert [type(await room.receive()) for _ in range(2)] == [Lost, Rejoined]
    await leave(server, room)


async def test_without_a_welcome(server: Scripted) -> None:
    """No seat can be resumed; events before the ping's answer are kept."""
    room = Client(server.url, user="me", room="room", welcome=False, backoff=AT_ONCE)

    async def seat() -> Any:
        link = await server.link()
        asked = await link.hears("connect")
        assert asked["Payload"] == {}
        await link.answer(asked, False)
        ping = await link.hears("ping")
        await link.say("connect", "b", "false")
        await link.answer(ping, ["a", "me", "b"])
        return link

    seated = asyncio.create_task(seat())
    await room.__aenter__()
    assert room.users == ["a", "me", "b"]
    (await seated).cut()
    await seat()
    events = [await room.receive() for _ in range(4)]
    assert [type(event) for event in events] == [Joined, Lost, Rejoined, Joined]
    await leave(server, room)


async def test_ids_count_anew_after_a_fresh_join(server: Scripted) -> None:
    """Another user may have restarted meanwhile: what it repeats now is not what it sent before."""
    room = Client(server.url, user="me", room="room", welcome=False, backoff=AT_ONCE)
    entering = asyncio.create_task(room.__aenter__())
    headers: list[dict[str, Any]] = [{"Id": 1}, {"Id": 2, "Again": 1}]
    for header in headers:
        link = await server.link()
        await link.answer(await link.hears("connect"), False)
        await link.answer(await link.hears("ping"), ["b", "me"])
        await entering
        await link.say("broadcast", "b", **header)
        await link.say("disconnect", "c")
        heard: list[Any] = [None]
        while (event := await room.receive()) != Left("c"):
            heard.append(event)
        assert isinstance(heard[-1], Message)
        link.cut()
    await leave(server, room)


async def test_a_close_without_a_code(server: Scripted) -> None:
    """It has the code of a connection that breaks."""
    room, link = await entered(server, "me")
    transport: Any = link._request.transport
    transport.write(b"\x88\x00")
    transport.close()
    assert await room.receive() == Lost(1006, "")
    await (await server.link()).seat("me")
    await leave(server, room)


async def test_the_back_off_grows(server: Scripted) -> None:
    """With full jitter up to the maximum; short connections do not reset it."""
    waits = Waits(first=1e6, most=3e6)
    room, link = await entered(server, "me", backoff=waits.backoff)
    for _ in range(3):
        link.cut()
        link = await server.link()
        await link.seat("me", Resumed=True)
        assert [type(await room.receive()) for _ in range(2)] == [Lost, Resumed]
    assert waits.limits == [1e6, 2e6, 3e6]
    assert waits.slept == [limit / 2 for limit in waits.limits]
    await leave(server, room)


async def test_the_back_off_starts_over_after_a_long_connection(server: Scripted) -> None:
    """One that lasted longer than the wait before it: here, any duration."""
    waits = Waits(first=1e-9)  # doubled each time, unless it starts over
    room, link = await entered(server, "me", backoff=waits.backoff)
    for _ in range(3):
        link.cut()
        link = await server.link()
        await link.seat("me", Resumed=True)
        assert [type(await room.receive()) for _ in range(2)] == [Lost, Resumed]
    assert waits.limits == [1e-9] * 3
    await leave(server, room)


async def test_how_long_a_connection_must_last() -> None:
    """As long as the next longest wait; less does not reset the back-off."""
    waits = Waits(first=2.0)
    pace = Pace(waits.backoff)
    await pace.wait()
    for seconds in (3.9, 8.0, 3.9):
        pace.held(seconds)
        await pace.wait()
    assert waits.limits == [2.0, 4.0, 2.0, 4.0]


def test_the_back_off_does_not_overflow() -> None:
    """This holds for any number of attempts."""
    backoff = Backoff()
    assert [backoff.limit(attempt) for attempt in (0, 1, 2, 6, 10_000)] == [0.5, 1, 2, 30, 30]


async def back_after_refusals(server: Scripted, link: Link) -> Link:
    """Cut a connection, refuse the next three, and return the one after them."""
    server.refusal = 503
    link.cut()
    for _ in range(3):
        await server.refused.acquire()
    server.refusal = None
    return await server.link()


async def test_temporary_faults_are_retried(server: Scripted) -> None:
    """No upgrade, no answer, a refusal with Retry true: the client tries until it works."""
    waits = Waits()
    room, link = await entered(server, "me", backoff=waits.backoff)
    link = await back_after_refusals(server, link)
    await link.refuse(await link.hears("connect"), "room-full", retry=True)
    assert await link.ended() == 4005
    link = await server.link()
    await link.refuse(await link.hears("connect"), "brand-new", retry=True)
    assert await link.ended() == 4005
    link = await server.link()
    await link.hears("connect")
    await link.close(1001)
    link = await server.link()
    link.cut()
    await (await server.link()).seat("me", Resumed=True)
    assert [type(await room.receive()) for _ in range(2)] == [Lost, Resumed]
    assert waits.limits == [1e6 * 2**attempt for attempt in range(len(waits.limits))]
    await leave(server, room)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("unauthorized", errors.Unauthorized),
        ("token-expired", errors.TokenExpired),
        ("brand-new", errors.PeerError),
    ],
)
async def test_permanent_faults_are_raised(
    server: Scripted, code: str, error: type[errors.PeerError]
) -> None:
    """They are raised after earlier packets, and then on every call."""
    room, link = await entered(server, "me", token="fixed")
    await link.say("connect", "b", "false")
    link.cut()
    link = await server.link()
    for _ in range(2 if code == "unauthorized" else 1):  # with the secret, and without it
        await link.refuse(await link.hears("connect"), code, message="Never")
    assert await link.ended() == 4005
    assert isinstance(await room.receive(), Joined)
    assert isinstance(await room.receive(), Lost)
    for call in (room.receive(), room.ping(), room.broadcast(1), room.__anext__()):
        with pytest.raises(error, match="Never") as refused:
            await call
        assert refused.value.code == code
    await leave(server, room)


@pytest.mark.parametrize("code", [1000, 1001, 1006, 1011, 4000, 4005, 4499])
async def test_temporary_closes(server: Scripted, code: int) -> None:
    """After each of these codes the client reconnects."""
    room, link = await entered(server, "me")
    if code == 1006:
        link.cut()
    else:
        await link.close(code, "why")
    assert isinstance(lost := await room.receive(), Lost)
    assert lost.code == code
    assert code == 1006 or lost.reason == "why"
    await (await server.link()).seat("me", Resumed=True)
    assert await room.receive() == Resumed()
    await leave(server, room)


@pytest.mark.parametrize("code", [1002, 4500, 4501, 4502, 4503, 4504, 4999])
async def test_final_closes(server: Scripted, code: int) -> None:
    """The application gets the code and the reason."""
    room, link = await entered(server, "me")
    asking = asyncio.create_task(room.ping())
    await link.hears("ping")
    await link.close(code, "why")
    for call in (room.receive(), asking, room.broadcast(1)):
        with pytest.raises(Closed, match="why") as closed:
            await call
        assert (closed.value.code, closed.value.reason) == (code, "why")
    await leave(server, room)


async def test_closed_while_entering(server: Scripted) -> None:
    """Entering raises it, for any code."""
    for code in (4004, 4502):
        room = Client(server.url, user="me", room="room")
        entering = asyncio.create_task(room.__aenter__())
        await (await server.link()).close(code, "why")
        with pytest.raises(Closed, match=f"{code} why"):
            await entering


async def test_giving_up(server: Scripted) -> None:
    """It happens after a time without a connection: here at once."""
    waits = Waits(first=0.0)
    room, link = await entered(server, "me", backoff=waits.backoff, give_up_after=0.0)
    waiting = asyncio.create_task(room.broadcast(1))
    await link.hears("broadcast")
    await waiting
    server.refusal = 503
    link.cut()
    assert isinstance(await room.receive(), Lost)
    for call in (room.receive(), room.broadcast(2), room.ping()):
        with pytest.raises(Unreachable, match=r"no connection for 0\.0 s"):
            await call
    await leave(server, room)


async def test_giving_up_says_why(server: Scripted) -> None:
    """The error of the last try is in the message, and is the cause."""
    patience = WAIT_SECONDS / 2
    sleeps = 0

    async def sleep(seconds: float) -> None:
        nonlocal sleeps
        sleeps += 1
        if sleeps == 2:  # the first try has failed
            skip(patience)
            await asyncio.Event().wait()

    room, link = await entered(server, "me", backoff=Backoff(sleep=sleep), give_up_after=patience)
    server.refusal = 503
    link.cut()
    assert isinstance(await room.receive(), Lost)
    with pytest.raises(Unreachable, match=rf"no connection for {patience} s: 503,") as given_up:
        await room.receive()
    assert isinstance(given_up.value.__cause__, WSServerHandshakeError)
    await leave(server, room)


async def test_why_reconnecting_fails_is_logged(
    server: Scripted, caplog: pytest.LogCaptureFixture
) -> None:
    """The reason is logged once, until it changes or there has been a connection."""
    room, link = await entered(server, "me")
    for _ in range(2):
        caplog.clear()
        link = await back_after_refusals(server, link)
        await link.refuse(await link.hears("connect"), "room-full", message="Full", retry=True)
        assert await link.ended() == 4005
        link = await server.link()
        await link.seat("me", Resumed=True)
        assert [type(await room.receive()) for _ in range(2)] == [Lost, Resumed]
        first, second = caplog.record_tuples
        assert first[:2] == second[:2] == ("videre.client", logging.WARNING)
        assert first[2].startswith(
            "me at 127.0.0.1: cannot reconnect, will try again: 503, message="
        )
        assert second[2] == "me at 127.0.0.1: cannot reconnect, will try again: Full"
    await leave(server, room)


async def test_no_secret_of_the_url_is_shown(
    server: Scripted, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither in the log nor in an error: its password and its query may be secrets."""
    url = server.url.replace("//", "//user:secret@") + "?key=secret"
    room = Client(url, user="me", room="room", backoff=AT_ONCE, give_up_after=1e6)
    server.refusal = 503
    with pytest.raises(Unreachable, match=r"^ws://127.*/echo/websocket: 503") as unreachable:
        await room.__aenter__()
    assert "secret" not in str(unreachable.value)
    server.refusal = None
    room = Client(url, user="me", room="room", backoff=AT_ONCE)
    entering = asyncio.create_task(room.__aenter__())
    link = await server.link()
    await link.seat("me")
    await entering
    await back_after_refusals(server, link)
    assert "503" in caplog.text and "secret" not in caplog.text
    await leave(server, room)


async def test_packets_wait_for_a_connection(server: Scripted) -> None:
    """They are sent in order, and requests are repeated."""
    room, link = await entered(server, "me")
    asking = asyncio.create_task(room.ice())
    await link.hears("ice")
    link.cut()
    assert isinstance(await room.receive(), Lost)
    assert not room.connected
    sending = [asyncio.create_task(room.broadcast(number)) for number in range(3)]
    link = await server.link()
    await link.seat("me", Resumed=True)
    heard = [await link.heard() for _ in range(4)]
    broadcasts = [each["Payload"] for each in heard if each["Header"]["Event"] == "broadcast"]
    assert broadcasts == [0, 1, 2]
    (ice,) = (each for each in heard if each["Header"]["Event"] == "ice")
    servers = [{"urls": ["stun:stun.example"]}]
    await link.answer(ice, {"IceServers": servers, "IceTtl": None})
    assert await asking == room.ice_servers == servers
    await asyncio.gather(*sending)
    await leave(server, room)


async def test_errors_of_requests(server: Scripted) -> None:
    """The call raises its own; others are events, with the id of their packet."""
    room, link = await entered(server, "me")
    asking = asyncio.create_task(room.ping())
    await link.refuse(await link.hears("ping"), "unauthorized")
    with pytest.raises(errors.Unauthorized):
        await asking
    number = await room.broadcast(1)
    await link.refuse(await link.hears("broadcast"), "brand-new", message="Hm")
    with pytest.raises(errors.PeerError, match="Hm") as refused:
        await room.receive()
    assert (refused.value.code, refused.value.packet_id) == ("brand-new", number)
    assert room.connected
    await leave(server, room)


async def test_a_token_is_fetched_for_each_connection(server: Scripted) -> None:
    """It is also fetched when the server says that the last one has expired."""
    fetched = iter(["t1", "t2", "t3", "t4"])

    async def fetch() -> str:
        return next(fetched)

    room = Client(server.url, user="me", room="room", token=fetch, backoff=AT_ONCE)
    entering = asyncio.create_task(room.__aenter__())
    link = await server.link()
    assert (await link.seat("me"))["Token"] == "t1"
    await entering
    told = {"Code": "token-expired", "Message": "Renew", "Retry": False}
    await link.say("error", "me", told)
    renewal = await link.hears("connect")
    assert renewal["Payload"] == {"Token": "t2"}
    await link.answer(renewal, True)
    # A client that can resume its seat gets another secret with it.
    await link.welcome("me", secret="s2")
    await link.close(4502, "Token expired")
    link = await server.link()
    asked = await link.hears("connect")
    assert asked["Payload"]["Token"] == "t3"
    await link.refuse(asked, "token-expired")
    assert await link.ended() == 4005
    link = await server.link()
    asked = await link.seat("me", Resumed=True)
    assert (asked["Token"], asked["Resume"], asked["Received"]) == ("t4", "s2", 0)
    assert [type(await room.receive()) for _ in range(2)] == [Lost, Resumed]
    await leave(server, room)


async def test_a_token_that_cannot_be_fetched(server: Scripted) -> None:
    """A network fault is retried; a fault of the application's code is raised."""
    wrong: list[Exception] = [OSError("no way there"), ZeroDivisionError("a bug")]

    def fetch() -> str:
        if fetched:
            raise wrong.pop(0)
        fetched.append("t1")
        return "t1"

    fetched: list[str] = []
    room, link = await entered(server, "me", token=fetch)
    link.cut()
    assert isinstance(await room.receive(), Lost)
    with pytest.raises(ZeroDivisionError):
        await room.receive()
    assert not wrong
    await leave(server, room)


async def test_a_token_that_is_cancelled(server: Scripted) -> None:
    """By the application's own code: a fault of it, which ends the seat with a word."""
    tokens = ["t1"]

    async def fetch() -> str:
        if not tokens:
            raise asyncio.CancelledError
        return tokens.pop()

    room, link = await entered(server, "me", token=fetch)
    link.cut()
    assert isinstance(await room.receive(), Lost)
    for call in (room.receive(), room.broadcast(1)):
        with pytest.raises(RuntimeError, match="token was cancelled"):
            await call
    await leave(server, room)


async def test_a_slow_token(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what follows is limited in time: a slow application is asked once."""
    monkeypatch.setattr(link_module, "JOIN_SECONDS", WAIT_SECONDS / 3)
    asked = 0

    async def fetch() -> str:
        nonlocal asked
        asked += 1
        await forward(WAIT_SECONDS / 2, by=1.0)
        return f"t{asked}"

    room = Client(server.url, user="me", room="room", token=fetch, backoff=AT_ONCE)
    entering = asyncio.create_task(room.__aenter__())
    link = await server.link()
    assert (await link.seat("me"))["Token"] == "t1"
    await entering
    link.cut()
    assert (await (await server.link()).seat("me", Resumed=True))["Token"] == "t2"
    assert [type(await room.receive()) for _ in range(2)] == [Lost, Resumed]
    assert asked == 2
    await leave(server, room)


async def test_receiving_during_a_renewal(server: Scripted) -> None:
    """The client goes on while the application gets a fresh token; a loss or a leave ends that."""
    asked, answered = asyncio.Semaphore(0), asyncio.Queue[str]()
    told = {"Code": "token-expired", "Message": "Renew", "Retry": False}

    async def fetch() -> str:
        asked.release()
        return await answered.get()

    answered.put_nowait("t1")
    room, link = await entered(server, "me", token=fetch)
    await asked.acquire()
    await link.say("error", "me", told)
    await asked.acquire()
    await link.say("error", "me", told)  # it is asked for already
    await link.say("connect", "b", "false")
    assert await room.receive() == Joined("b")
    answered.put_nowait("t2")
    assert (await link.hears("connect"))["Payload"] == {"Token": "t2"}
    await link.say("error", "me", told)
    await asked.acquire()
    link.cut()
    await asked.acquire()  # for the next connection
    answered.put_nowait("t3")
    link = await server.link()
    assert (await link.seat("me", Resumed=True))["Token"] == "t3"
    assert [type(await room.receive()) for _ in range(2)] == [Lost, Resumed]
    await link.say("error", "me", told)
    await asked.acquire()
    before = asyncio.all_tasks()
    await leave(server, room)
    assert asyncio.all_tasks() < before


async def test_a_renewal_that_fails(server: Scripted, caplog: pytest.LogCaptureFixture) -> None:
    """A fault of the application's code ends the seat, as at a reconnect; others are logged."""
    wrong: list[Exception] = []

    def fetch() -> str:
        if wrong:
            raise wrong.pop()
        return "t1"

    room, link = await entered(server, "me", token=fetch)
    wrong += [ZeroDivisionError("a bug"), OSError("no way there")]
    told = {"Code": "token-expired", "Message": "Renew", "Retry": False}
    await link.say("error", "me", told)  # the network's fault: the server will close
    while len(wrong) == 2:  # noqa: ASYNC110
        await asyncio.sleep(0)
    await link.say("error", "me", told)
    assert await link.ended() == 1000
    with pytest.raises(ZeroDivisionError):
        await room.receive()
    assert caplog.messages == ["me at 127.0.0.1: no fresh token: no way there"]
    await leave(server, room)


async def test_a_renewal_that_is_refused(server: Scripted) -> None:
    """The application gets the error, and keeps its seat; the function is not called at once."""
    fetched: list[str] = []

    def fetch() -> str:
        fetched.append("expired")
        return fetched[-1]

    room, link = await entered(server, "me", token=fetch)
    told = {"Code": "token-expired", "Message": "Renew", "Retry": False}
    for code, error in (
        ("token-expired", errors.TokenExpired),
        ("unauthorized", errors.Unauthorized),
    ):
        fetched.clear()
        await link.say("error", "me", told)
        await link.refuse(await link.hears("connect"), code)
        await link.say("connect", "b", "false")
        with pytest.raises(error) as refused:
            await room.receive()
        assert refused.value.packet_id is None and not room.is_end(refused.value)
        assert await room.receive() == Joined("b")
        await room.broadcast("still here")
        await link.hears("broadcast")
        assert len(fetched) == 1
    await link.close(4502, "Token expired")
    await (await server.link()).seat("me", Resumed=True)
    assert [type(await room.receive()) for _ in range(2)] == [Lost, Resumed]
    await leave(server, room)


async def test_leaving_a_server_that_goes_away(server: Scripted) -> None:
    """The client closes already, and the server does not answer: no task is left."""
    room, link = await entered(server, "me")
    before = asyncio.all_tasks()
    await link.say("goaway", "me", {"RetryAfter": 0})
    while room.connected:  # noqa: ASYNC110
        await asyncio.sleep(0)
    await room.__aexit__(None, None, None)
    assert asyncio.all_tasks() < before


async def test_a_server_that_goes_away(server: Scripted) -> None:
    """The client leaves at the given time, keeps its seat, and comes back at once."""
    waits = Waits()
    room, link = await entered(server, "me", backoff=waits.backoff)
    await link.say("goaway", "me", {"RetryAfter": 1})
    assert await link.ended() == 4005  # not a normal close: the seat is kept
    assert isinstance(lost := await room.receive(), Lost) and lost.code == 4005
    link = await server.link()
    assert (await link.seat("me", Resumed=True))["Resume"] == "s1"
    assert await room.receive() == Resumed()
    assert (waits.limits, waits.slept) == ([], [])
    link.cut()
    await (await server.link()).seat("me", Resumed=True)
    assert [type(await room.receive()) for _ in range(2)] == [Lost, Resumed]
    assert (waits.limits, waits.slept) == ([1e6], [5e5])  # only the first wait is left out
    await leave(server, room)


async def test_a_server_that_goes_away_before_the_welcome(server: Scripted) -> None:
    """The client has its seat for a moment, then leaves like any other."""
    room = Client(server.url, user="me", room="room", backoff=AT_ONCE)
    entering = asyncio.create_task(room.__aenter__())
    link = await server.link()
    asked = await link.hears("connect")
    await link.say("goaway", "me", {"RetryAfter": 1})
    await link.answer(asked, True)
    await link.welcome("me", secret="s1")
    await entering
    assert await link.ended() == 4005
    await (await server.link()).seat("me", Resumed=True)
    assert [type(await room.receive()) for _ in range(2)] == [Lost, Resumed]
    await leave(server, room)


@pytest.mark.parametrize("code", [1006, 4005])
async def test_lost_before_the_time_to_leave(server: Scripted, code: int) -> None:
    """A server that is killed while it drains: its seats are not kept until the named time."""
    waits = Waits()
    room, link = await entered(server, "me", backoff=waits.backoff)
    await link.say("goaway", "me", {"RetryAfter": 1e9})
    await link.say("connect", "b", "false")
    assert await room.receive() == Joined("b")  # and so the client knows the time
    if code == 1006:
        link.cut()
    else:
        await link.close(code)
    await (await server.link()).seat("b", "me", Resumed=True)
    assert [type(await room.receive()) for _ in range(2)] == [Lost, Resumed]
    assert (waits.limits, waits.slept) == ([1e6], [5e5])
    await leave(server, room)


async def test_a_silent_server_is_lost(server: Scripted) -> None:
    """It answers no WebSocket pings either."""
    room, link = await entered(server, "me", heartbeat=20.0)
    lost = await hurry(asyncio.wait_for(room.receive(), WAIT_SECONDS))
    assert isinstance(lost, Lost)
    assert (lost.code, "PONG" in lost.reason) == (1006, True)
    link = await server.link()
    assert (await link.seat("me", Resumed=True))["Received"] == 0
    await leave(server, room)


@pytest.mark.parametrize(
    "text", ["", "nonsense", "[]", "{}", '{"Header":{"Event":"ping"}}', '{"Header":null}']
)
async def test_an_invalid_packet(server: Scripted, text: str) -> None:
    """The other end speaks another protocol, so the client does not retry."""
    room, link = await entered(server, "me")
    await link.write(text)
    assert await link.ended() == 1002
    with pytest.raises(Closed, match="1002 Not a packet"):
        await room.receive()
    await leave(server, room)


@pytest.mark.parametrize(
    ("event", "payload"),
    [
        ("ping", "5"),
        ("ping", "no JSON"),
        ("error", "{}"),
        ("error", '{"Code": "unavailable", "Message": 5, "Retry": true}'),
        ("welcome", "null"),
        ("goaway", '{"RetryAfter": null}'),
        ("connect", "{true}"),
    ],
)
async def test_a_packet_without_its_content(server: Scripted, event: str, payload: str) -> None:
    """It is as invalid, when the client enters and later."""
    room, link = await entered(server, "me")
    await link.say(event, "me", payload)
    assert await link.ended() == 1002
    with pytest.raises(Closed, match="1002 Not a packet") as caught:
        await room.receive()
    assert room.is_end(caught.value)
    await leave(server, room)
    room = Client(server.url, user="me", room="room", welcome=event != "connect")
    entering = asyncio.create_task(room.__aenter__())
    link = await server.link()
    await link.hears("connect")
    await link.say(event, "me", payload)
    assert await link.ended() == 1002  # which answers the close
    with pytest.raises(Closed, match="1002 Not a packet"):
        await entering


async def test_unknown_packets_are_ignored(server: Scripted) -> None:
    """A newer server may send more."""
    room, link = await entered(server, "me")
    await link.say("weather", "me", {"Sun": True})
    await link.say("connect", "b", "false")
    assert await room.receive() == Joined("b")
    await leave(server, room)


async def test_too_many_packets_wait(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    """An application that does not iterate gets an error, after those it has not received."""
    monkeypatch.setattr(inbox, "MAX_BYTES", 100_000)
    room, link = await entered(server, "me")
    for _ in range(10):
        await link.say("broadcast", "b", json.dumps("x" * 10_000))
    assert await link.ended() == 1000  # the seat is left
    for _ in range(9):
        assert isinstance(await room.receive(), Message)
    with pytest.raises(Overflow):
        await room.receive()
    await leave(server, room)


async def test_receiving_can_be_cancelled(server: Scripted) -> None:
    """No packet is lost, and several tasks may receive."""
    room, link = await entered(server, "me")
    receiving = [asyncio.create_task(room.receive()) for _ in range(3)]
    await asyncio.sleep(0)
    receiving[0].cancel()
    for user in ("b", "c"):
        await link.say("connect", user, "false")
    heard = await asyncio.gather(*receiving, return_exceptions=True)
    assert isinstance(heard[0], asyncio.CancelledError)
    assert heard[1:] == [Joined("b"), Joined("c")]
    await leave(server, room)


async def test_leaving_without_a_connection(server: Scripted) -> None:
    """It happens at once, in a back-off and in a handshake."""
    sleeping = asyncio.Event()

    async def sleep(seconds: float) -> None:
        if not sleeping.is_set():
            sleeping.set()
            await asyncio.Event().wait()

    room, link = await entered(server, "me", backoff=Backoff(sleep=sleep))
    link.cut()
    await sleeping.wait()
    await leave(server, room)
    room, link = await entered(server, "me", backoff=Backoff(sleep=sleep))
    link.cut()
    link = await server.link()
    await link.hears("connect")
    leaving = asyncio.create_task(room.__aexit__(None, None, None))
    assert await link.ended() == 1000
    await leaving
    assert not [task for task in asyncio.all_tasks() if "videre" in task.get_name()]


async def test_using_a_seat_that_has_ended(server: Scripted) -> None:
    """Each call raises the same error, which does not grow with their number."""
    room, link = await entered(server, "me")
    await link.close(4504, "Removed")
    with pytest.raises(Closed):
        await room.receive()
    lengths = []
    for _ in range(20):
        for call in (room.broadcast("x"), room.ping(), room.receive()):
            with pytest.raises(Closed, match="4504 Removed") as raised:
                await call
            lengths.append(len(raised.traceback))
    assert max(lengths) < 10
    await leave(server, room)


async def test_a_ping_without_an_answer(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server silently drops pings beyond its rate."""
    from videre.client import requests

    room, link = await entered(server, "me")
    monkeypatch.setattr(requests, "ANSWER_SECONDS", 0.01)
    with pytest.raises(TimeoutError, match="No answer to ping"):
        await room.ping()
    await link.answer(await link.hears("ping"), ["me"])  # late: nobody waits for it
    await link.say("connect", "b", "false")
    assert await room.receive() == Joined("b")
    await leave(server, room)
