"""A path between two peers: what comes over a replaced connection is not lost."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import aioice.ice
import pytest
import pytest_asyncio
from aioice.ice import CandidatePair
from aiortc import RTCBundlePolicy, RTCConfiguration, RTCPeerConnection
from aiortc.rtcicetransport import RTCIceGatherer
from fake_turn import fake_turn
from patience import WAIT_SECONDS, eventually
from skipping import hurry, skip

from videre.client.call import path as module
from videre.client.call.path import Path
from videre.client.call.route import Route

pytestmark = pytest.mark.usefixtures("nothing_is_left")

Pair = tuple[Path, Path]
SUCCEEDED = CandidatePair.State.SUCCEEDED


@pytest_asyncio.fixture
async def pair(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pair]:
    """Give the two ends of an open path over loopback."""
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda **_: ["127.0.0.1"])
    monkeypatch.setattr(module, "LINGER", WAIT_SECONDS)  # or a busy machine ends it too early
    one, other = _end(), _end()
    one.ice_controlling = True
    for end in (one, other):
        await end.gather_candidates()
    await _connect(one, other)
    yield one, other
    await asyncio.gather(one.close(), other.close())


def _end() -> Path:
    return Path(RTCIceGatherer([]), list, lambda: None)


async def _describe(peer: Path, end: Path) -> None:
    """Describe the latest connection of `peer` to the other end, which starts its own."""
    for candidate in peer.local_candidates:
        await end.add_remote_candidate(candidate)
    end.start(peer.local_username, peer.local_password)


async def _connect(one: Path, other: Path) -> None:
    """Describe the latest connections to each other, and wait until both are open."""
    latest = (one._latest, other._latest)
    await _describe(one, other)
    await _describe(other, one)
    await eventually(lambda: (one._open, other._open) == latest)


async def _restart(one: Path, other: Path) -> tuple[Route, Route]:
    """Replace the open connections, and return them."""
    before = one._open, other._open
    assert before[0] is not None and before[1] is not None
    for end in (one, other):
        await end.renew()
    await _connect(one, other)
    return before[0], before[1]


async def test_datagrams_over_a_replaced_connection_arrive(pair: Pair) -> None:
    """They were under way, or the other end has not changed yet."""
    one, other = pair
    before, their_before = await _restart(one, other)
    await their_before.send(b"late")
    assert await one.recv() == b"late"
    await before.send(b"late, too")
    assert await other.recv() == b"late, too"
    await other.send(b"the new way")
    assert await one.recv() == b"the new way"


async def test_a_replaced_connection_is_closed_in_time(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds sockets and, with a TURN server, an allocation."""
    monkeypatch.setattr(module, "LINGER", 0.01)
    before = await _restart(*pair)
    await eventually(lambda: all(route._closed for route in before))
    for end in pair:
        assert list(end._tasks) == [end._open]


async def test_only_one_replaced_connection_is_kept(pair: Pair) -> None:
    """However often the other end restarts."""
    first = await _restart(*pair)
    second = await _restart(*pair)
    await eventually(lambda: all(route._closed for route in first))
    for end, kept in zip(pair, second, strict=True):
        assert not kept._closed and set(end._tasks) == {kept, end._open}


async def test_a_closed_connection_is_no_error(pair: Pair) -> None:
    """ICE has lost its consent: aiortc would stop the track, although a restart may follow."""
    one, other = pair
    lost = one._open
    assert lost is not None
    closing = asyncio.create_task(lost.close())
    while lost._nominated:  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert one._open is lost  # it has not heard yet
    await one.send(b"lost")
    await closing
    for end in pair:
        await end.renew()
    await _connect(one, other)
    await one.send(b"after it")
    assert await other.recv() == b"after it"


async def test_a_connection_that_opens_as_it_is_given_up(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not become the open one, as it is about to be closed."""
    one, other = pair
    connected = asyncio.Event()

    async def connect(_route: Route) -> None:
        await connected.wait()

    monkeypatch.setattr(Route, "connect", connect)
    before = one._open
    await one.renew()
    one.start("user", "password")
    await asyncio.sleep(0)  # now it connects
    renewing = asyncio.create_task(one.renew())
    connected.set()
    await renewing
    assert one._open is before
    await one.send(b"the old way")
    assert await other.recv() == b"the old way"


async def test_a_turn_server_that_falls_silent() -> None:
    """Closing waits 2 s for it; the allocation is still deleted if it comes back."""
    loop = asyncio.get_running_loop()
    async with fake_turn() as turn:
        end = Path(RTCIceGatherer([]), lambda: [turn.server], lambda: None)
        await end.gather_candidates()
        assert "relay" in {candidate.type for candidate in end.local_candidates}
        turn.is_silent = True
        begin = loop.time()
        await hurry(end.close())
        assert loop.time() - begin < 20  # aioice alone tries for 63 s
        turn.is_silent = False
        skip(60)  # to the next try, which is a datagram: no clock hurries its way
        await eventually(lambda: turn.deleted == 1 and not module._closing)


@pytest.mark.parametrize("controlling", [True, False])
async def test_a_description_that_is_lost(pair: Pair, controlling: bool) -> None:
    """The other end has no use for the new connection yet: the old one goes on for both."""
    one, other = pair if controlling else pair[::-1]
    before = (one._open, other._open)
    for end in pair:
        await end.renew()
    await _describe(other, one)
    new = one._latest
    await eventually(lambda: any(pair.state is SUCCEEDED for pair in new._check_list))
    if controlling:
        await eventually(lambda: new._check_list_done and new._query_consent_task is not None)
    assert (one._open, other._open) == before
    for sender, receiver in ((one, other), (other, one)):
        await sender.send(b"the old way")
        assert await receiver.recv() == b"the old way"
    await _describe(one, other)  # once more
    await eventually(lambda: (one._open, other._open) == (new, other._latest))


async def test_the_other_end_may_be_lite(pair: Pair) -> None:
    """It sends no checks (RFC 8445, 2.5)."""
    one, other = pair
    for end in pair:
        await end.renew()
    one.remote_is_lite = True
    await _describe(other, one)
    await eventually(lambda: one._open is one._latest)


@pytest.mark.parametrize("count", [1, 4])
async def test_a_call_that_ends_while_it_gathers_candidates(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its first socket, or the one to the TURN server: all are closed and given back."""
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda **_: ["127.0.0.1"] * 3)
    loop = asyncio.get_running_loop()
    opened: list[asyncio.BaseTransport] = []

    async def open_socket(*args: Any, **options: Any) -> Any:
        transport, protocol = await create(*args, **options)
        opened.append(transport)
        if len(opened) == count:
            gathering.cancel()
        return transport, protocol

    async with fake_turn() as turn:
        create = loop.create_datagram_endpoint
        monkeypatch.setattr(loop, "create_datagram_endpoint", open_socket)
        end = Path(RTCIceGatherer([]), lambda: [turn.server], lambda: None)
        gathering = asyncio.create_task(end.gather_candidates())
        await asyncio.wait([gathering])
        await end.close()
        assert all(each.is_closing() for each in opened)
        assert (len(opened), turn.deleted) == (4, 1)


async def test_a_call_that_ends_while_it_connects(monkeypatch: pytest.MonkeyPatch) -> None:
    """That is no error, with several sections either: here both ends are about to agree on keys."""

    async def connect(_path: Path) -> None:
        pass

    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda **_: ["127.0.0.1"])
    monkeypatch.setattr(Path, "connect", connect)
    errors: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    bundle = RTCConfiguration(bundlePolicy=RTCBundlePolicy.MAX_BUNDLE)
    one, other = RTCPeerConnection(bundle), RTCPeerConnection(bundle)
    for kind in ("audio", "video"):
        one.addTransceiver(kind, "recvonly")
    module.install(one, list, lambda: None)
    await one.setLocalDescription()
    await other.setRemoteDescription(one.localDescription)
    await other.setLocalDescription()
    await one.setRemoteDescription(other.localDescription)
    keys = one.getTransceivers()[0].receiver.transport
    await eventually(lambda: keys.state == "connecting")
    await asyncio.gather(one.close(), other.close())
    gc.collect()  # then asyncio reports errors of tasks
    assert not errors
