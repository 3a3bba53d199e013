"""The composition root: what stands under a prefix, and how it comes into an application."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web

from videre import demo, health, transport
from videre.config import Config
from videre.engines import Retention, Terms, choice
from videre.logs import EventLog, Journal
from videre.packets import Decoder
from videre.peer import Peer
from videre.rooms import Rooms
from videre.service import Service

logger = logging.getLogger("videre.app")


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
    jobs = _Jobs()

    def ice(user: str) -> dict[str, object]:
        return config.ice.offer(user, time.time())

    retention = Retention(grace=config.limits.grace, max_bytes=config.limits.max_resume_bytes)
    rooms = Rooms(
        choice.make(config.engine, prefix.rstrip("/"), retention, config.node_timeout, _later),
        clock=time.monotonic,
        log=log,
        spawn=jobs.spawn,
        secret=lambda: secrets.token_urlsafe(16),
        grace=config.limits.grace,
        terms=terms,
        ice=ice,
        node=f"{secrets.token_hex(8)}-",
    )
    service = Service(
        rooms=rooms,
        decoder=Decoder(config.max_packet_bytes),
        log=log,
        trace=log.trace,
        clock=time.monotonic,
        unix_time=time.time,
        later=_later,
        sleep=_sleep,
        limits=config.limits,
        auth=config.auth,
        leeway=config.leeway,
        ice=ice,
    )

    def accept(session: transport.Session) -> Peer:
        log("session", transport=session.transport, tls=session.secure)
        return Peer(session, service, session.address)

    async def run_engine(_app: web.Application) -> AsyncIterator[None]:
        if (started := rooms.start()) is not None:
            await started
        yield
        if (closed := rooms.close()) is not None:
            await closed
        await jobs.end()
        log.flush()

    app.cleanup_ctx.append(run_engine)
    sessions = transport.mount(app, prefix, accept, options=config.transport)
    return Namespace(prefix.rstrip("/"), rooms, sessions)


def _later(seconds: float, call: Callable[[], None]) -> asyncio.TimerHandle:
    return asyncio.get_running_loop().call_later(seconds, call)


class _Jobs:
    """What nobody waits for, until the application ends."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, job: Awaitable[object]) -> None:
        """Run a job; log what it raises."""
        task = asyncio.get_running_loop().create_task(_logged(job))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def end(self) -> None:
        """Cancel what is still going on."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _logged(job: Awaitable[object]) -> None:
    try:
        await job
    except Exception:
        logger.exception("what nobody waited for has failed")


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
    """Return an application that serves every prefix of `config`: to run, or to add as a subapp.

    It has `/health` and `/ready` as well, for load balancers, and with `Demo` the demo at `/demo`.
    """
    config = config or Config()
    app = web.Application()
    namespaces = [
        setup(app, prefix=prefix, config=config, logger=logger, journal=journal)
        for prefix in config.prefixes
    ]
    app.add_routes(health.routes(lambda: all(each.rooms.ready for each in namespaces)))
    if config.demo:
        demo.mount(app, config)
    return app
