"""Coroutines that start at once: what runs before the first wait, and how each ends."""

from __future__ import annotations

import asyncio

import pytest

from videre.peers.eagerly import eagerly


class Work:
    """Work that records its progress and waits for futures on its way."""

    def __init__(self, *futures: asyncio.Future[str]) -> None:
        self.notes: list[str] = []
        self._futures = futures

    async def __call__(self) -> None:
        try:
            self.notes.append("begun")
            for future in self._futures:
                try:
                    self.notes.append(await future)
                except asyncio.CancelledError:
                    self.notes.append("cancelled")
                    raise
                except LookupError:
                    self.notes.append("failed")
        finally:
            self.notes.append("ended")


def test_work_that_does_not_wait_finishes_at_once() -> None:
    """It needs no loop and leaves nothing to await."""
    work = Work()
    assert eagerly(work()) is None
    assert work.notes == ["begun", "ended"]


def test_an_early_exception_is_raised_at_once() -> None:
    """It is raised as if by a plain function."""

    async def fail() -> None:
        raise LookupError("why")

    with pytest.raises(LookupError, match="why"):
        eagerly(fail())


async def test_waiting_work_continues_when_its_rest_is_awaited() -> None:
    """It gets the results and exceptions of all futures that it waits for."""
    loop = asyncio.get_running_loop()
    futures = [loop.create_future() for _ in range(3)]
    work = Work(*futures)
    rest = eagerly(work())
    assert rest is not None and work.notes == ["begun"]
    task = asyncio.ensure_future(rest)
    loop.call_soon(futures[0].set_result, "first")
    loop.call_soon(futures[1].set_exception, LookupError())
    loop.call_soon(futures[2].set_result, "last")
    await task
    assert work.notes == ["begun", "first", "failed", "last", "ended"]


async def test_a_future_may_be_done_before_the_rest_is_awaited() -> None:
    """No future is awaited twice."""
    future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    work = Work(future)
    rest = eagerly(work())
    assert rest is not None
    future.set_result("early")
    await rest
    assert work.notes == ["begun", "early", "ended"]


async def test_its_rest_can_be_cancelled() -> None:
    """The work gets the cancellation where it waits, and ends."""
    work = Work(asyncio.get_running_loop().create_future())
    rest = eagerly(work())
    assert rest is not None
    task = asyncio.ensure_future(rest)
    await asyncio.sleep(0)  # the work begins
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.notes == ["begun", "cancelled", "ended"]


async def test_a_late_exception_is_raised_by_the_rest() -> None:
    """It is raised to whoever awaits the rest."""

    async def fail() -> None:
        await asyncio.sleep(0)
        raise LookupError("why")

    rest = eagerly(fail())
    assert rest is not None
    with pytest.raises(LookupError, match="why"):
        await rest


def test_an_unawaited_rest_closes_its_coroutine() -> None:
    """When it is dropped, the work cleans up like any coroutine."""

    class Never:
        def __await__(self):  # type: ignore[no-untyped-def]
            yield

    notes: list[str] = []

    async def wait() -> None:
        try:
            await Never()
        finally:
            notes.append("cleaned up")

    rest = eagerly(wait())
    assert rest is not None and notes == []
    del rest
    assert notes == ["cleaned up"]
