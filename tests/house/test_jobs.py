"""Background tasks: failures are logged, and no task outlives its owner."""

from __future__ import annotations

import asyncio
import logging

import pytest
from patience import WAIT_SECONDS

from videre.jobs import Jobs


async def fail(error: BaseException) -> None:
    """Raise an error."""
    raise error


async def test_a_failure_is_logged_and_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """One log line with its traceback; the other task runs to its end."""
    jobs = Jobs()
    release = asyncio.Event()
    jobs.spawn(release.wait())
    jobs.spawn(fail(ValueError("broken")))
    while len(jobs.tasks) > 1:  # noqa: ASYNC110
        await asyncio.sleep(0)
    (record,) = caplog.records
    assert record.getMessage() == "background task failed"
    assert record.exc_info is not None and str(record.exc_info[1]) == "broken"
    release.set()
    await jobs.wait(WAIT_SECONDS)
    assert not jobs.tasks
    assert len(caplog.records) == 1


async def test_an_expected_failure_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Its owner handles it; any other error is still logged."""
    caplog.set_level(logging.DEBUG, "videre")
    jobs = Jobs(KeyError)
    jobs.spawn(fail(KeyError("expected")))
    jobs.spawn(fail(ValueError("broken")))
    await jobs.wait(WAIT_SECONDS)
    await asyncio.sleep(0)  # what is called when a task is done
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == ["broken"]


async def test_the_end_cancels_what_is_left(caplog: pytest.LogCaptureFixture) -> None:
    """Waiting tasks, tasks not yet begun, and other awaitables: all are over when `end` returns."""
    jobs = Jobs()
    forever = asyncio.get_running_loop().create_future()
    jobs.spawn(forever)
    jobs.spawn(asyncio.Event().wait())
    await jobs.wait(0.0)
    jobs.spawn(asyncio.Event().wait())
    assert len(jobs.tasks) == 3
    await jobs.end()
    assert forever.cancelled()
    assert not jobs.tasks
    assert not caplog.records
