"""Work for all sessions is done in slices: no turn of the loop is long, and none is missed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from aiohttp import web
from patience import WAIT_SECONDS

from videre.reasons import End
from videre.transport import Options, manager, mount
from videre.transport.clients import Client
from videre.transport.http import HTTPSession
from videre.transport.manager import Manager

SLICE = 10
SESSIONS = 5 * SLICE + 3


class Handler:
    """Records in which turn of the loop its session ended."""

    seated = True

    def __init__(self, turns: Turns) -> None:
        self.turns = turns

    def receive(self, text: str) -> None: ...

    def too_large(self) -> None: ...

    def leaving(self) -> None: ...

    def closed(self, end: End) -> None:
        self.turns.note("closed")


class Turns:
    """Counts turns of the loop, and the events in each."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._now = 0
        self.noted: dict[str, Counter[int]] = {}
        self._tick()

    def _tick(self) -> None:
        self._now += 1
        self._handle = self._loop.call_soon(self._tick)

    def stop(self) -> None:
        self._handle.cancel()

    def note(self, what: str) -> None:
        self.noted.setdefault(what, Counter())[self._now] += 1


@contextmanager
def counted() -> Iterator[Turns]:
    """Count turns."""
    turns = Turns()
    try:
        yield turns
    finally:
        turns.stop()


def crowd(turns: Turns, count: int = SESSIONS) -> tuple[Manager, list[HTTPSession]]:
    """Return a manager with this many sessions, whose closes and sweeps are recorded."""

    class Noted(HTTPSession):
        def close(self, code: int = 3000, reason: str = "") -> None:
            turns.note("close")
            super().close(code, reason)

        def configure(self) -> None:
            turns.note("configure")

        def sweep(self) -> None:
            turns.note("sweep")
            self.swept = getattr(self, "swept", 0) + 1

    options = Options(heartbeat=1.0, disconnect_delay=1.0)
    kept = mount(web.Application(), "/", lambda session: Handler(turns), options=options)
    sessions: list[HTTPSession] = []
    for number in range(count):
        session = Noted(str(number), kept, Client("a"), "xhr-polling")
        kept.opened(session)
        session.open()
        sessions.append(session)
    return kept, sessions


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make slices small enough for a test."""
    for name in ("SWEPT_AT_ONCE", "CLOSED_AT_ONCE", "CONFIGURED_AT_ONCE", "FINISHED_AT_ONCE"):
        monkeypatch.setattr(manager, name, SLICE)


@pytest.mark.parametrize("closed", [0, 2])
async def test_a_shutdown(closed: int) -> None:
    """Sessions are closed in slices, then ended in slices; none ends before all are closed.

    Not even those that were closed just before.
    """
    with counted() as turns:
        kept, sessions = crowd(turns)
        for session in sessions[:closed]:
            session.close(1001, "Going")
        turns.noted.clear()
        await kept.shutdown(1001, "Going")
        closes, ends = turns.noted["close"], turns.noted["closed"]
        assert closes.total() == ends.total() == SESSIONS
        assert max(closes.values()) <= SLICE and max(ends.values()) <= SLICE
        assert max(closes) <= min(ends)
        assert all(session.goodbye == (1001, "Going") for session in sessions)
        await kept.stop()


async def test_the_end_of_many_at_once() -> None:
    """Sessions closed in one loop end in slices, each of them once."""
    with counted() as turns:
        kept, sessions = crowd(turns)
        for session in sessions:
            session.close(4504, "Removed")
        while kept.open_sessions:  # noqa: ASYNC110  # the turns are what is counted
            await asyncio.sleep(0)
        assert turns.noted["closed"].total() == SESSIONS
        assert max(turns.noted["closed"].values()) <= SLICE
        await kept.stop()


async def test_stopping() -> None:
    """Sessions that were not closed end in slices as well."""
    with counted() as turns:
        kept, _ = crowd(turns)
        await kept.stop()
        assert turns.noted["closed"].total() == SESSIONS
        assert max(turns.noted["closed"].values()) <= SLICE


async def test_sweeps() -> None:
    """Each round looks at every session once, except those that have ended meanwhile."""
    with counted() as turns:
        kept, sessions = crowd(turns)
        kept._sweep()
        gone = sessions[0]  # in the last slice
        kept.released(gone)
        async with asyncio.timeout(WAIT_SECONDS):
            while getattr(sessions[1], "swept", 0) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert max(turns.noted["sweep"].values()) <= SLICE
        swept = Counter(session.swept for session in sessions[1:])
        assert set(swept) <= {2, 3, 4} and not hasattr(gone, "swept")
        await kept.stop()


async def test_a_few_are_swept_at_once() -> None:
    """Fewer sessions than a slice are swept in one turn, once in an interval."""
    with counted() as turns:
        began = asyncio.get_running_loop().time()  # the first session starts the sweeps
        kept, sessions = crowd(turns, SLICE)
        async with asyncio.timeout(WAIT_SECONDS):
            while getattr(sessions[0], "swept", 0) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert set(turns.noted["sweep"].values()) == {SLICE}
        assert asyncio.get_running_loop().time() - began >= 3 * kept.shared.interval
        await kept.stop()


async def test_new_options() -> None:
    """They reach every open session, in slices, the first of them at once."""
    with counted() as turns:
        kept, _ = crowd(turns)
        kept.configure(kept.options)
        assert turns.noted["configure"].total() == SLICE
        await kept.shared.jobs.wait(WAIT_SECONDS)
        assert turns.noted["configure"].total() == SESSIONS
        assert max(turns.noted["configure"].values()) <= SLICE
        await kept.stop()
