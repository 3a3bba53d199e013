"""Peers that die silently leave their room within 1.6 heartbeats, however busy it is.

With the shipped heartbeat these are 40 s; here it is shorter.

Run as a program, `test_silent_peers.py URL NAME`, this is the peer that falls silent: one live
client of every kind, each in its own room.
"""

from __future__ import annotations

import asyncio
import json
import math
import signal
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
import pytest_asyncio
from cable import Cable, namespace, no_cables
from patience import WAIT_SECONDS, patient
from process import NO_DRAIN, WITH_SUPPORT, execute, missing, supervised
from signalling import Signalling, connect
from sockjs_client import Stream, fresh, poll, send
from websocket_client import Socket

from videre.settings import Options

pytestmark = [pytest.mark.process, pytest.mark.asyncio(loop_scope="module")]

CONTRACT_SECONDS = 40.0  # for the shipped heartbeat
HEARTBEAT = patient(8.0)  # a busy machine may stop a live client for half of it
#: What is tested here is that they leave, on a machine that may be busy: the bound has room.
SILENT_SECONDS = CONTRACT_SECONDS / 25 * HEARTBEAT + patient(20)
LISTENING_SECONDS = 1.6 * HEARTBEAT  # long enough to be taken for dead
#: The server with this heartbeat, for which there is no setting.
SERVER = f"""
import sys
from videre.command import cli
from videre.settings import Options
Options.__init__.__kwdefaults__["heartbeat"] = {HEARTBEAT}
sys.exit(cli.main())
"""
CHATTER_SECONDS = 0.5  # between two packets for the silent client: its room is busy
JOIN_SECONDS = WAIT_SECONDS  # a busy machine starts the live clients slowly

KINDS = ["raw", "sockjs", "streaming", "polling"]


async def live(base: str, kind: str, room: str) -> None:
    """Join the room and stay there, as a client of this kind does."""
    header = {"Event": "connect", "UserId": "quiet", "RoomId": room}
    packet = json.dumps({"Header": header, "Payload": "{}"})
    if kind in ("raw", "sockjs"):
        path = "/echo/websocket" if kind == "raw" else f"{fresh()}/websocket"
        socket = await Socket.open(base, path)
        socket.send(packet if kind == "raw" else json.dumps([packet]))
        while True:
            await socket.text()
    session = fresh()
    if kind == "polling":
        assert await poll(base, session) == "o\n"
        await send(base, session, packet)
        while True:
            await poll(base, session)
    joined = False
    while True:
        stream = await Stream.open(base, "POST", f"{session}/xhr_streaming")
        while line := await stream.until():
            if line == "o\n":
                await send(base, session, packet)
                joined = True
        assert joined, "no session was opened"
        await stream.wire.close()


async def live_all(base: str, name: str) -> None:
    """Run a client of every kind at once."""
    async with asyncio.TaskGroup() as clients:
        for kind in KINDS:
            clients.create_task(live(base, kind, f"{name} {kind}"))


@asynccontextmanager
async def living(base: str, name: str, *prefix: str) -> AsyncIterator[Process]:
    """Run `live_all` as a process, with a command in front that chooses where it runs."""
    process = await asyncio.create_subprocess_exec(
        *prefix, sys.executable, str(Path(__file__)), base, name, env=WITH_SUPPORT
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


Seconds = dict[str, float]  # seconds from the silence to the `disconnect`, by kind; inf: none came


async def witness(
    url: str,
    name: str,
    fall_silent: Callable[[Process], Awaitable[None]],
    *prefix: str,
    seen_at: str,
    within: float = SILENT_SECONDS,
) -> Seconds:
    """Talk to live clients, run by a command `prefix`, that fall silent; wait for their leaves."""
    async with AsyncExitStack() as stack:
        talkers = [
            await stack.enter_async_context(
                connect(url, "raw", user="talker", room=f"{name} {kind}")
            )
            for kind in KINDS
        ]
        for talker in talkers:
            assert (await talker.ask("connect"))["Payload"] == "true"
        process = await stack.enter_async_context(living(seen_at, name, *prefix))
        async with asyncio.timeout(JOIN_SECONDS):
            # All at once: whoever waits unread answers no ping, and is taken for dead.
            for packet in await asyncio.gather(*(talker.receive() for talker in talkers)):
                assert packet["Header"]["Event"] == "connect"
        talking = asyncio.create_task(talk(talkers))
        stack.callback(talking.cancel)
        await fall_silent(process)
        seconds = await asyncio.gather(*(until_left(talker, within) for talker in talkers))
        return dict(zip(KINDS, seconds, strict=True))


async def talk(talkers: list[Signalling]) -> None:
    """Keep the rooms busy."""
    while True:
        for talker in talkers:
            await talker.send(talker.packet("broadcast", "still there?"))
        await asyncio.sleep(CHATTER_SECONDS)


async def until_left(talker: Signalling, within: float) -> float:
    """Return the seconds until the talker hears the leave; inf if it does not."""
    start = time.monotonic()
    try:
        async with asyncio.timeout(within):
            packet = await talker.receive()
    except TimeoutError:
        return math.inf
    header = {"Event": "disconnect", "UserId": "quiet", "RoomId": talker.room}
    assert packet == {"Header": header, "Payload": ""}
    return time.monotonic() - start


async def stay(_process: Process) -> None:
    """Leave the clients running."""


async def stop(process: Process) -> None:
    """Stop the clients' process, with its connections left open."""
    process.send_signal(signal.SIGSTOP)


async def witness_a_cut(url: str, port: int, there: str) -> Seconds | str:
    """Cut the cable to live clients in a namespace; return a reason where that is impossible."""
    if fault := no_cables():
        return fault
    cable = Cable(there)
    await cable.lay()
    prefix = ("ip", "netns", "exec", there)
    seen_at = f"http://{cable.here}:{port}"
    return await witness(url, "cut", lambda _: cable.cut(), *prefix, seen_at=seen_at)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def silences(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[dict[str, Seconds | str]]:
    """Do all the waiting at once."""
    tmp = tmp_path_factory.mktemp("signaller")
    async with AsyncExitStack() as stack:
        there = "" if no_cables() else await stack.enter_async_context(namespace())
        process = await execute(
            *(sys.executable, "-c", SERVER, "--port", "0"), cwd=tmp, env=NO_DRAIN
        )
        server = await stack.enter_async_context(supervised(process))
        url, base = f"http://127.0.0.1:{server.port}/echo", f"http://127.0.0.1:{server.port}"
        try:
            alive, stopped, cut = await asyncio.gather(
                witness(url, "alive", stay, seen_at=base, within=LISTENING_SECONDS),
                witness(url, "stopped", stop, seen_at=base),
                witness_a_cut(url, server.port, there),
            )
        except BaseException as error:
            error.add_note(str(server))
            raise
    yield {"alive": alive, "stopped": stopped, "cut": cut}


async def test_the_shipped_heartbeat_keeps_the_contract() -> None:
    """A silent peer is lost after one and a half heartbeats, and at most one sweep more."""
    heartbeat, delay = Options().heartbeat, Options().disconnect_delay
    assert 1.5 * heartbeat + min(heartbeat, delay) / 10 <= CONTRACT_SECONDS


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["stopped", "cut"])
async def test_a_peer_that_falls_silent_leaves_in_time(
    silences: dict[str, Seconds | str], how: str, kind: str
) -> None:
    """Its process is stopped or its cable cut while others send to it: `disconnect`."""
    found = silences[how]
    if isinstance(found, str):
        missing(found)
    else:
        assert found[kind] < SILENT_SECONDS


@pytest.mark.parametrize("kind", KINDS)
async def test_a_peer_that_only_listens_stays(
    silences: dict[str, Seconds | str], kind: str
) -> None:
    """A live client that sends nothing for as long is not taken for dead."""
    alive = silences["alive"]
    assert isinstance(alive, dict)
    assert alive[kind] == math.inf


if __name__ == "__main__":
    asyncio.run(live_all(*sys.argv[1:]))
