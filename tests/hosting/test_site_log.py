"""What a site's own log shows of its namespaces."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from aiohttp import web
from inprocess import serving

import videre


class SiteLog(logging.Handler):
    """A site's own handler, which keeps the records of the logger `videre`."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        self.records.append(record)


@pytest.fixture
def log() -> Iterator[SiteLog]:
    """Give the log of a site that has set no level."""
    handler, logger = SiteLog(), logging.getLogger("videre")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


@pytest.mark.parametrize("later", [False, True])
async def test_an_exception_in_a_hook(later: bool, log: SiteLog) -> None:
    """It is an error with its traceback, which a site without any configuration sees too."""
    app = web.Application()
    rooms = videre.setup(app).rooms

    def fail(*_: str) -> None:
        raise RuntimeError("the site's own fault")

    async def fail_later(*_: str) -> None:
        fail()

    rooms.on_join(fail_later if later else fail)
    async with serving(app) as server:
        (client,) = await server.members("a")
        await client.close()
    (record,) = log.records
    assert record.levelno == logging.ERROR
    assert record.fields["error"] == "RuntimeError: the site's own fault"  # type: ignore[attr-defined]
    text = logging.Formatter().format(record)
    assert "in fail" in text and "RuntimeError: the site's own fault" in text
