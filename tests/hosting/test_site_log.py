"""What a site's own log shows of its namespaces."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Iterator

import pytest
from aiohttp import web
from inprocess import serving

import videre
from videre.logs import EventLog, Journal, journal


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
    logger.setLevel(logging.NOTSET)


async def test_an_event_with_its_fields(log: SiteLog) -> None:
    """The message has them for ordinary formatters, two attributes for others."""
    app = web.Application()
    videre.setup(app)
    logging.getLogger("videre").setLevel(logging.INFO)
    async with serving(app) as server:
        (client,) = await server.members("a")
        await client.close()
    (join,) = (record for record in log.records if record.event == "join")  # type: ignore[attr-defined]
    words = 'join room="ro" user="a" initiator=true members=1 prefix="/echo"'
    assert logging.Formatter("%(message)s").format(join) == words
    room = {"room": "ro", "user": "a", "initiator": True, "members": 1, "prefix": "/echo"}
    assert join.fields == room  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["a\nerror b", '" user="root', "%s %d", "\u202eb\u2028\x1b[2J"])
def test_a_name_writes_no_line_of_its_own(name: str) -> None:
    """The value is quoted and escaped, and no placeholder of a message."""
    logger, log = logging.Logger("videre"), SiteLog()
    logger.addHandler(log)
    EventLog(Journal(logger), "")("join", user=name, members=1)
    (record,) = log.records
    assert record.getMessage() == f"join user={json.dumps(name)} members=1"


async def test_no_room_id_is_whole(log: SiteLog) -> None:
    """At debug, too: a packet is a record of its own, and has the room as other events have it."""
    app, room = web.Application(), secrets.token_hex(8)
    logging.getLogger("videre").setLevel(logging.DEBUG)
    videre.setup(app)
    async with serving(app) as server:
        client = await server.client()
        await client.send("connect", "a", room)
        await client.heard()
        await client.close()
    assert not [record for record in log.records if room in str(vars(record))]
    (packet,) = (record for record in log.records if record.event == "packet")  # type: ignore[attr-defined]
    size = packet.fields["size"]  # type: ignore[attr-defined]
    words = f'packet packet="connect" user="a" room="{room[:6]}" size={size} prefix="/echo"'
    assert packet.getMessage() == words


async def test_packets_until_the_site_raises_its_level(
    log: SiteLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From then on they are not logged, nor counted as left out."""
    logger = logging.getLogger("videre")
    logger.setLevel(logging.DEBUG)
    monkeypatch.setattr(journal, "BATCH_PACKETS", 1)
    packets = Journal(logger)
    trace = EventLog(packets, "").trace
    assert trace is not None
    trace("ping", "a", "room", 10)
    logger.setLevel(logging.INFO)
    trace("ping", "b", "room", 10)
    assert packets.left_out == 0
    assert [record.fields["user"] for record in log.records] == ["a"]  # type: ignore[attr-defined]


async def test_nothing_is_formatted_that_no_logger_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A level that is off costs no formatting."""
    formatted: list[object] = []
    monkeypatch.setattr(journal, "pairs", formatted.append)
    log = EventLog(Journal(logging.Logger("videre", logging.WARNING)), "")
    log("join", user="a")
    assert formatted == []


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
