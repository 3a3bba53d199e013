"""A server whose metrics are fetched over HTTP like Prometheus does, and their changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import web
from heard_log import HeardLog
from inprocess import Server, serving
from patience import WAIT_SECONDS
from prometheus_client.parser import text_string_to_metric_families
from sockjs_client import Wire

import videre
from videre import metrics
from videre.app import Namespace
from videre.command.gate import Gate
from videre.config import Config
from videre.logs import EventLog, Journal
from videre.metrics.sockets import Sockets
from videre.settings import Limits

#: Limits that no test reaches.
UNLIMITED = Limits(packets_per_second=None, bytes_per_second=None, join_timeout=None, grace=60)

#: Values by name, without `videre_`, and values of labels other than `prefix`.
Values = Mapping[str, float]


def values_in(text: str) -> dict[str, float]:
    """Return the samples of an exposition, without the buckets of histograms."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if not sample.name.endswith("_bucket"):
                labels = [
                    value for name, value in sorted(sample.labels.items()) if name != "prefix"
                ]
                name = " ".join([sample.name.removeprefix("videre_"), *labels])
                found[name] = found.get(name, 0.0) + sample.value
    return found


class Meter:
    """A running server, its log and its metrics."""

    def __init__(self, server: Server, log: HeardLog, namespace: Namespace) -> None:
        self.server = server
        self.log = log
        self.namespace = namespace

    @property
    def url(self) -> str:
        """The server's URL."""
        return self.server.url

    async def text(self) -> str:
        """Return the exposition."""
        async with self.server.http.get(f"{self.url}/metrics") as answer:
            assert answer.status == 200
            return await answer.text()

    async def values(self) -> dict[str, float]:
        """Return the values in the exposition."""
        return values_in(await self.text())

    @asynccontextmanager
    async def moves(self, **expected: float | Mapping[str, float]) -> AsyncIterator[None]:
        """Check that the named metrics change during the block, by exactly these amounts.

        Metrics with labels are given by the labels' values; those not named must not change. This
        waits for changes that the server has yet to notice.
        """
        before = await self.values()
        yield
        wanted: dict[str, float] = {}
        for name, change in expected.items():
            if isinstance(change, Mapping):
                wanted |= {f"{name} {labels}": value for labels, value in change.items()}
            else:
                wanted[name] = change
        assert wanted.keys() <= before.keys(), "no such metric"
        moved: dict[str, float] = {}
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while moved != {name: change for name, change in wanted.items() if change}:
                    await asyncio.sleep(0.01)
                    after = await self.values()
                    moved = {
                        name: value - before[name]
                        for name, value in after.items()
                        if name.split()[0] in expected and value != before[name]
                    }
        except TimeoutError:
            assert moved == wanted, "something else has moved"


@asynccontextmanager
async def metered(config: Config | None = None, **settings: Any) -> AsyncIterator[Meter]:
    """Run a site with a server and its metrics."""
    if config is None:
        config = Config(**{"limits": UNLIMITED, **settings})
    log = HeardLog()
    app = web.Application()
    namespace = videre.setup(app, config=config, logger=log.logger)
    sockets = Sockets(Gate(config, EventLog(Journal(log.logger), ""), 1024))
    app.add_routes(metrics.routes(metrics.registry([namespace], sockets)))
    async with serving(app) as server:
        try:
            yield Meter(server, log, namespace)
        finally:
            await Wire.hang_up()


async def exposed(url: str, accept: str = "") -> tuple[str, str]:
    """Return the exposition at an address, and its content type."""
    headers = {"Accept": accept} if accept else {}
    async with aiohttp.ClientSession() as http, http.get(url, headers=headers) as answer:
        assert answer.status == 200
        return await answer.text(), answer.headers["Content-Type"]
