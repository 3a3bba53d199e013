"""The composition root: builds what a prefix serves and mounts it in an application."""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from typing import Any

from aiohttp import web

from videre import browser_files, demo, front, health, namespace, siblings, transport
from videre.config import Config
from videre.engines import choice
from videre.ids import SeatId
from videre.jobs import Jobs
from videre.logs import EventLog, Journal
from videre.namespace import IceOffer, Namespace
from videre.packets import Decoder
from videre.peers.context import Context
from videre.peers.peer import Peer
from videre.rooms import Rooms
from videre.settings import MEMORY, Retention
from videre.tally import Lag, Tally
from videre.transport.checks import checked

__all__ = ["NAMESPACES", "Namespace", "create_app", "setup"]

logger = logging.getLogger("videre.app")

# Seconds to wait before looking for other workers, so that they have started too.
SIBLINGS_AFTER = 1.0

_LOOKED: web.AppKey[bool] = web.AppKey("videre-siblings-looked-for", bool)
_LAG: web.AppKey[Lag] = web.AppKey("videre-lag", Lag)


#: The namespaces of an application that create_app made.
NAMESPACES: web.AppKey[Sequence[Namespace]] = web.AppKey("namespaces", Sequence[Namespace])


def setup(
    app: web.Application,
    *,
    prefix: str = "/echo",
    config: Config | None = None,
    logger: logging.Logger | None = None,
    journal: Journal | None = None,
) -> Namespace:
    """Serve signalling below `prefix` in an application that has not started yet.

    Returns the namespace. Uses only the settings in `config` that concern a namespace; those of the
    process (Port, Host, TLS, the log) are up to the application. Logs to `logger`, by default
    "videre".
    """
    config = config or Config()
    journal = journal or Journal(logger or logging.getLogger("videre"))
    log = EventLog(journal, prefix)
    jobs = Jobs()
    ice = IceOffer(config.ice, config.limits)
    tally = Tally(time.monotonic)
    retention = Retention(grace=config.limits.grace, max_bytes=config.limits.max_resume_bytes)
    space = prefix.rstrip("/")
    rooms = Rooms(
        choice.make(config.engine, space, retention, config.node_timeout, _later, tally),
        clock=time.monotonic,
        log=log,
        spawn=jobs.spawn,
        secret=lambda: secrets.token_urlsafe(16),
        grace=config.limits.grace,
        policy=namespace.join_policy(config),
        ice=ice.welcome,
        seat_ids=map(SeatId, _names(8)),
        tally=tally,
    )
    namespace.limit_lost_seats(rooms.lost, config)
    context = Context(
        rooms=rooms,
        decoder=Decoder(config.max_packet_bytes),
        log=log,
        trace=log.trace,
        clock=time.monotonic,
        unix_time=time.time,
        later=_later,
        pause=_Pause,
        limits=config.limits,
        auth=config.auth,
        leeway=config.leeway,
        ice=ice,
    )

    # Session names for the log. The session id in the URL would let log readers hijack the session.
    names = _names(3)

    def accept(session: transport.Session) -> Peer:
        name = next(names)
        request = {"request": session.request_id} if session.request_id else {}
        log("session", session=name, transport=session.transport, tls=session.secure, **request)
        return Peer(session, context, session.address, name)

    alone = config.engine == MEMORY and _LOOKED not in app
    app[_LOOKED] = True

    async def run_engine(_app: web.Application) -> AsyncIterator[None]:
        await rooms.start()
        if alone:
            jobs.spawn(_warn_of_siblings())
        yield
        await rooms.close()
        await jobs.end()
        log.flush()

    app.cleanup_ctx.append(run_engine)
    sessions = transport.mount(app, prefix, accept, options=config.transport, tally=tally)
    if config.client_module:
        browser_files.mount(app, prefix, sessions)
    return Namespace(
        prefix.rstrip("/"),
        rooms,
        sessions,
        context,
        ice,
        log,
        tally=tally,
        lag=_lag_of(app),
        journal=journal,
    )


def _lag_of(app: web.Application) -> Lag:
    """Return the application's lag sampler, which runs while the application does."""
    if _LAG not in app:
        app[_LAG] = lag = Lag(time.monotonic, _later)

        async def run_lag(_app: web.Application) -> AsyncIterator[None]:
            lag.start()
            yield
            lag.stop()

        app.cleanup_ctx.append(run_lag)
    return app[_LAG]


def _names(size: int) -> Iterator[str]:
    """Yield names that are unique across processes, thanks to `size` random bytes.

    The bytes are drawn with the first name, so that forked processes get different ones.
    """
    process = secrets.token_hex(size)
    for number in itertools.count(1):
        yield f"{process}-{number}"


async def _warn_of_siblings() -> None:
    await asyncio.sleep(SIBLINGS_AFTER)
    if found := await asyncio.to_thread(siblings.find):
        logger.warning(
            "memory:// keeps the rooms in this process only, but %s: the members of these two "
            "never meet; set Engine to a Redis or Valkey",
            found,
        )


def _later(seconds: float, call: Callable[[], None]) -> asyncio.TimerHandle:
    return asyncio.get_running_loop().call_later(seconds, call)


class _Pause:
    """See Pause; it begins at once."""

    def __init__(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._over = loop.create_future()
        self._timer = loop.call_later(seconds, self.end)

    def end(self) -> None:
        self._timer.cancel()
        if not self._over.done():
            self._over.set_result(None)

    def __await__(self) -> Generator[Any, None, None]:
        return self._over.__await__()


def create_app(
    config: Config | None = None,
    *,
    logger: logging.Logger | None = None,
    journal: Journal | None = None,
) -> web.Application:
    """Return an application that serves every prefix of `config`, to run or to add as a subapp.

    It also serves `/health` and `/ready` for load balancers, the front page if `FrontPage` is true
    and `/` is not a prefix, and `/demo` if `Demo` is true.
    """
    config = config or Config()
    app = web.Application(middlewares=[checked])
    # Add this route before the namespaces: one of them may be at the root.
    alone = "" not in config.prefixes and not front.wanted(config)
    app.add_routes([health.options(lambda: all(each.ready for each in namespaces), alone=alone)])
    namespaces = [
        setup(app, prefix=prefix, config=config, logger=logger, journal=journal)
        for prefix in config.prefixes
    ]
    app[NAMESPACES] = namespaces
    app.add_routes(
        health.routes(
            lambda: all(each.ready for each in namespaces),
            lambda: (each.rooms.fault for each in namespaces),
        )
    )
    if front.wanted(config):
        front.mount(app, config)
    if config.demo:
        demo.mount(app, config)
    return app
