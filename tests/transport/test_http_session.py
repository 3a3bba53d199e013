"""The session of requests, without its requests: what it sends, when, and how it ends."""

from __future__ import annotations

import asyncio
from typing import cast
from unittest.mock import Mock

import pytest
from aiohttp.test_utils import make_mocked_request
from seam import Script, Seam, Seams
from sockjs.transports.base import HTTPClientClosedConnection

from videre.errors import CloseCode
from videre.transport.clients import Client
from videre.transport.http import INTERRUPTED, HTTPSession
from videre.transport.requests import Receiving
from videre.transport.session import HANDED_AT_ONCE, OPEN

pytest_plugins = ("sockjs_fixtures",)


class Reader:
    """A request that receives, and has read everything."""

    gone = False
    buffered = 0
    is_cut = False

    def cut(self) -> None:
        """See Receiver."""
        self.is_cut = True


class Broken(Receiving):
    """A request whose connection breaks at the first frame."""

    gone = False

    def __init__(self, session: HTTPSession, error: type[BaseException]) -> None:
        self.session = session
        connection = Mock()
        connection.is_closing.return_value = False
        self.request = make_mocked_request("POST", "/", transport=connection)
        task = cast(Mock, self.request.task)
        task.cancelling.return_value = error is asyncio.CancelledError
        self._error = error

    async def _send(self, text: str) -> bool:
        raise self._error


async def start(
    seam: Seams, script: Script | None = None, **options: int
) -> tuple[Seam, HTTPSession]:
    """Return a server and an open session without a receiver; nothing else sweeps it."""
    server = await seam(script, heartbeat=600, disconnect_delay=600, **options)
    session, reader = HTTPSession("id", server.manager, Client(), "xhr-streaming"), Reader()
    server.manager.opened(session)
    assert session.attach(reader) is None
    assert await session.next_frame(reader) == "o"
    session.detach(reader)
    return server, session


async def test_its_name_in_logs(seam: Seams) -> None:
    """Whoever knows the whole id could read what the session gets."""
    _, session = await start(seam)
    session.id = "secret id"
    assert str(session) == "<xhr-streaming secret open>"


async def beats(session: HTTPSession, reader: Reader) -> int:
    """Return how many sweeps go before the next heartbeat, if the client is heard meanwhile."""
    frame = asyncio.create_task(session.next_frame(reader))
    await asyncio.sleep(0)
    sweeps = 0
    while not frame.done():
        session.sweep()
        session.silent = 0
        sweeps += 1
        await asyncio.sleep(0)
    assert await frame == "h"
    return sweeps


async def test_the_time_between_heartbeats(seam: Seams) -> None:
    """Each one waits as many sweeps as the first, and as after a message."""
    server, session = await start(seam)
    reader = Reader()
    session.attach(reader)
    for _ in range(2):
        assert await beats(session, reader) == server.manager.shared.heartbeat_sweeps
    session.send("x")
    assert await session.next_frame(reader) == 'a["x"]'
    assert await beats(session, reader) == server.manager.shared.heartbeat_sweeps


async def test_many_messages_wait(seam: Seams) -> None:
    """They are handled in slices: all of them, in order."""
    gate = asyncio.get_running_loop().create_future()
    texts = [str(number) for number in range(3 * HANDED_AT_ONCE)]
    server, session = await start(
        seam, script=Script(received=lambda session, text: gate if text == texts[0] else None)
    )
    for text in texts:
        session.receive(text)
    gate.set_result(None)
    await server.tape.until("message", 0, text=texts[-1])
    assert server.tape.story(0) == ["open", *(f"message {text}" for text in texts)]


async def test_what_is_shed_no_longer_waits(seam: Seams) -> None:
    """At once: those who send in the same turn must not be shed as well."""
    gate = asyncio.get_running_loop().create_future()
    server, session = await start(seam, script=Script(received=lambda session, text: gate))
    for _ in range(3):
        session.receive("x")
    assert server.manager.shared.inboxes.total > 0
    session.shed()
    assert server.manager.shared.inboxes.total == 0
    gate.set_result(None)


@pytest.mark.parametrize("sizes", [(600, 401), (1000, 1), (1, 1000), (400, 300, 301)])
async def test_what_waits_is_limited_to_the_byte(seam: Seams, sizes: tuple[int, ...]) -> None:
    """As many bytes as the limit may wait, and not one more."""
    _, session = await start(seam, max_backlog_bytes=1000)
    for size in sizes[:-1]:
        session.send("x" * size)
    session.send("x" * (sizes[-1] - 1))
    assert session.state is OPEN
    session.send("x")
    assert session.goodbye == (CloseCode.SLOW_CONSUMER, CloseCode.SLOW_CONSUMER.reason)


@pytest.mark.parametrize(("first", "is_spared"), [(1, True), (1000, True), (1001, False)])
async def test_one_packet_may_exceed_the_limit_alone(
    seam: Seams, first: int, is_spared: bool
) -> None:
    """It may be the answer about a crowded room. What follows it has the limit again."""
    _, session = await start(seam, max_backlog_bytes=1000)
    session.send("x" * first)
    session.send("x" * 2000)
    assert (session.state is OPEN) is is_spared
    if is_spared:
        session.send("x" * (1001 - first))
        assert session.state is not OPEN


@pytest.mark.parametrize("excess", [0, 1])
async def test_what_its_receiver_has_not_read_waits_too(seam: Seams, excess: int) -> None:
    """It is counted as it was before it was quoted."""
    _, session = await start(seam, max_backlog_bytes=1000)
    reader = Reader()
    session.attach(reader)
    session.send('"' * 500)
    reader.buffered = len(await session.next_frame(reader))
    assert reader.buffered > 1000
    session.send("x" * (500 + excess))
    assert (session.state is OPEN) is (excess == 0)


async def test_a_client_that_only_listens_polls_again(seam: Seams) -> None:
    """After a heartbeat, however much it hears: so it shows that it lives."""
    server, session = await start(seam)
    session.attach(reader := Reader())
    for _ in range(server.manager.shared.heartbeat_sweeps):
        session.send("x")
        assert await session.next_frame(reader) == 'a["x"]'
        session.sweep()
    session.send("x")
    assert await session.next_frame(reader) == ""


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (ConnectionResetError, ConnectionResetError),
        (HTTPClientClosedConnection, ConnectionResetError),  # the plugin's
        (asyncio.CancelledError, asyncio.CancelledError),  # the server stops
    ],
)
async def test_a_broken_receiver_ends_its_session(
    seam: Seams, error: type[BaseException], raised: type[BaseException]
) -> None:
    """At once: nobody knows what has arrived, and no sweep needs to find it."""
    server, session = await start(seam)
    assert not session.expired
    session.send("x")
    with pytest.raises(raised):
        await Broken(session, error).handle_session()
    assert session.goodbye == INTERRUPTED
    assert server.tape.story() == ["open", "goodbye"]


async def test_a_silent_receiver_is_given_up(seam: Seams) -> None:
    """After one and a half heartbeats, and not before; what waited for it is dropped."""
    server, session = await start(seam)
    reader = Reader()
    session.attach(reader)
    session.send("x")
    for _ in range(server.manager.shared.lost_sweeps - 1):
        session.sweep()
    assert not reader.is_cut and session.state is OPEN and session.backlog
    session.sweep()
    assert reader.is_cut and server.tape.events[-1].text == "lost" and not session.backlog


async def test_a_client_that_stays_away_has_left(seam: Seams) -> None:
    """After the delay, and not before; each request begins it anew."""
    server, session = await start(seam)
    manager = server.manager
    manager.shared.absent_sweeps = 3
    for _ in range(2):
        session.sweep()
        session.sweep()
        session.attach(reader := Reader())
        session.detach(reader)
    session.sweep()
    session.sweep()
    assert server.tape.story() == ["open"] and "id" in manager.sessions
    session.sweep()
    assert server.tape.story() == ["open", "goodbye"] and "id" not in manager.sessions


async def test_a_goodbye_that_is_not_taken(seam: Seams) -> None:
    """A receiver has a time to take it; without one, the session keeps it for the next."""
    server, session = await start(seam)
    manager, reader = server.manager, Reader()
    manager.shared.goodbye_sweeps, manager.shared.absent_sweeps = 3, 5
    session.attach(reader)
    session.close()
    await server.tape.until("goodbye")
    for _ in range(3):
        session.sweep()
    assert not reader.is_cut
    session.sweep()
    assert reader.is_cut and session.expired and "id" in manager.sessions
    session.detach(reader)
    session.sweep()
    assert "id" in manager.sessions
    session.sweep()
    assert "id" not in manager.sessions


async def test_a_receiver_that_was_replaced_ends_nothing_more(seam: Seams) -> None:
    """Its session ended when the next request came, which gets the reason."""
    server, session = await start(seam)
    first, second = Broken(session, ConnectionResetError), Reader()
    waiting = asyncio.create_task(first.handle_session())
    await asyncio.sleep(0)
    first.gone = True
    assert session.attach(second) is None
    with pytest.raises(ConnectionResetError):
        await waiting
    assert session.receiver is second
    assert (await session.next_frame(second))[0] == "c"
    assert server.tape.story() == ["open", "goodbye"]
