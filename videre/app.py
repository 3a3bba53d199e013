"""The composition root: what stands under a prefix, and how it comes into an application."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import AsyncIterator, Callable

from aiohttp import web

from videre import transport
from videre.config import Config
from videre.engines import Terms
from videre.engines.memory import MemoryEngine
from videre.logs import EventLog, Journal
from videre.packets import Decoder
from videre.peer import Peer
from videre.rooms import Rooms
from videre.service import Service


@dataclasses.dataclass(frozen=True)
class Namespace:
    """What is served below one prefix; it shares no room with any other."""

    prefix: str
    rooms: Rooms
    sessions: transport.Manager


def setup(
    app: web.Application,
    *,
    prefix: str = "/echo",
    config: Config | None = None,
    logger: logging.Logger | None = None,
    journal: Journal | None = None,
) -> Namespace:
    """Serve signalling below `prefix` in an application that has not started yet.

    Of `config`, what concerns a namespace is used; what concerns the process (Port, Host, TLS, the
    log) is the application's own affair. Logs to `logger`, "videre" unless given.
    """
    config = config or Config()
    journal = journal or Journal(logger or logging.getLogger("videre"))
    log = EventLog(journal, prefix)
    terms = Terms(
        replace=config.duplicate == "replace",
        capacity=config.limits.room_capacity,
        max_rooms=config.limits.max_rooms,
    )
    rooms = Rooms(MemoryEngine(), clock=time.monotonic, log=log, terms=terms)
    service = Service(
        rooms=rooms,
        decoder=Decoder(config.max_packet_bytes),
        log=log,
        trace=log.trace,
        clock=time.monotonic,
        unix_time=time.time,
        later=lambda seconds, call: asyncio.get_running_loop().call_later(seconds, call),
        sleep=_sleep,
        limits=config.limits,
        auth=config.auth,
        leeway=config.leeway,
    )

    def accept(session: transport.Session) -> Peer:
        log("session", transport=session.transport, tls=session.secure)
        return Peer(session, service, session.address)

    async def engine(_app: web.Application) -> AsyncIterator[None]:
        if (started := rooms.start()) is not None:
            await started
        yield
        if (closed := rooms.close()) is not None:
            await closed
        log.flush()

    app.cleanup_ctx.append(engine)
    sessions = transport.mount(app, prefix, accept, options=config.transport)
    return Namespace(prefix.rstrip("/"), rooms, sessions)


async def _sleep(seconds: float, needless: Callable[[], bool]) -> None:
    while seconds > 0 and not needless():
        await asyncio.sleep(min(seconds, 1.0))
        seconds -= 1.0


def create_app(
    config: Config | None = None,
    *,
    logger: logging.Logger | None = None,
    journal: Journal | None = None,
) -> web.Application:
    """Return an application that serves every prefix of `config`: to run, or to add as a subapp."""
    config = config or Config()
    app = web.Application()
    for prefix in config.prefixes:
        setup(app, prefix=prefix, config=config, logger=logger, journal=journal)
    return app
