"""The server's status as JSON, and the page that draws it."""

from __future__ import annotations

import asyncio
import datetime
import heapq
import logging
import os
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from aiohttp import web

from videre.admin import requests
from videre.admin.api import answer, nodes_of
from videre.admin.faults import Faults
from videre.admin.latency import Latencies
from videre.admin.samples import DAY_INTERVAL, INTERVAL, Samples
from videre.demo import TOKENS
from videre.engine_url import without_secrets
from videre.logs.formatters import shortened
from videre.namespace import Namespace
from videre.version import __version__

FOLDER = Path(__file__).parent / "static"

#: Number of rooms to show, the largest ones.
LARGEST = 10

#: The files of the page, without data; the token sheet is shared with the demo and front page.
FILES: dict[str, tuple[Path, str]] = {
    "/status": (FOLDER / "status.html", "html"),
    "/status.css": (FOLDER / "status.css", "css"),
    "/status_tokens.css": (TOKENS, "css"),
    **{
        f"/status{part}.js": (FOLDER / f"status{part}.js", "javascript")
        for part in ("", "_charts", "_parts", "_rooms")
    },
}

# The page loads its own files, /status.json and the API, and nothing else.
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)


class Status:
    """Watches the namespaces and reports their status."""

    def __init__(
        self,
        namespaces: Sequence[Namespace],
        *,
        engine: str,
        ready: Callable[[], bool],
        loggers: Sequence[logging.Logger],
    ) -> None:
        self._namespaces = namespaces
        self._engine = without_secrets(engine)
        self._ready = ready
        self._loggers = loggers
        self._faults = Faults()
        self._samples = Samples()
        self._latencies = Latencies(namespaces)
        self._began = time.monotonic()
        self._started = _iso(time.time())
        self._slow = 0
        self._last_slow: str | None = None

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of the page, its files and the JSON."""
        return [
            web.get("/status.json", self.tell),
            *(web.get(path, _File(file, kind).serve) for path, (file, kind) in FILES.items()),
        ]

    async def watch(self, _app: web.Application) -> AsyncIterator[None]:
        """Take samples and collect faults while the application runs; for `cleanup_ctx`."""
        for logger in self._loggers:
            logger.addHandler(self._faults)
        sampling = asyncio.create_task(self._sample_on())
        yield
        sampling.cancel()
        await asyncio.gather(sampling, return_exceptions=True)
        for logger in self._loggers:
            logger.removeHandler(self._faults)

    async def _sample_on(self) -> None:
        while True:
            self.sample()
            await asyncio.sleep(INTERVAL)

    def sample(self) -> None:
        """Take one sample of the levels and totals."""
        slow = sum(each.tally.slow_consumers for each in self._namespaces)
        if slow != self._slow:
            self._slow, self._last_slow = slow, _iso(time.time())
        now = time.monotonic()
        levels, totals = self._levels() | self._latencies.sample(), Counter[str]()
        for each in self._namespaces:
            totals.update(_totals(each))
        self._samples.take(now, levels, totals)

    async def tell(self, request: web.Request) -> web.Response:
        """Answer /status.json; with `history=day`, the history is the last day's."""
        query = requests.read_query(request, {"history": {"type": "string", "allowed": ["day"]}})
        return answer(self.snapshot(day="history" in query))

    def snapshot(self, *, day: bool = False) -> dict[str, Any]:
        """Return the status, as openapi.json describes it."""
        history: dict[str, Any] = {"Interval": INTERVAL, **self._samples.history()}
        if day:
            history = {"Interval": DAY_INTERVAL, **self._samples.day()}
        tallies = [each.tally for each in self._namespaces]
        opened, ended, refused = Counter[str](), Counter[str](), Counter[str]()
        for tally in tallies:
            opened.update(tally.opened)
            ended.update(tally.ended)
            refused.update(tally.refused)
        return {
            "Version": __version__,
            "Host": socket.gethostname(),
            "Pid": os.getpid(),
            "Engine": self._engine,
            "Ready": self._ready(),
            "Started": self._started,
            "Uptime": round(time.monotonic() - self._began, 1),
            **self._levels(),
            "Transports": {name: opened[name] - ended[name] for name in opened},
            "History": history,
            "LargestRooms": self._largest(),
            "Nodes": nodes_of(self._namespaces),
            "SlowConsumers": {"Count": self._slow, "Last": self._last_slow},
            "Refused": refused,
            "RecentErrors": [
                {
                    "Level": fault.level,
                    "Event": fault.event,
                    "Code": fault.code,
                    "Count": fault.count,
                    "Last": _iso(fault.last),
                }
                for fault in self._faults.recent()
            ],
        }

    def _levels(self) -> dict[str, float]:
        return {
            "Sessions": sum(each.sessions.open_sessions for each in self._namespaces),
            "Rooms": sum(len(each.rooms) for each in self._namespaces),
            "Members": sum(each.rooms.census.members for each in self._namespaces),
        }

    def _largest(self) -> list[dict[str, Any]]:
        found = [
            (members, room, each.prefix or "/")
            for each in self._namespaces
            for room, members in each.rooms.census.largest(LARGEST)
        ]
        return [
            {"Prefix": prefix, "Room": shortened(room), "Members": members}
            for members, room, prefix in heapq.nlargest(LARGEST, found)
        ]


def _totals(namespace: Namespace) -> dict[str, int]:
    """Return a namespace's totals since its start, from which rates are computed."""
    tally = namespace.tally
    received, sent = tally.received.values(), tally.sent.values()
    return {
        "Received": sum(flow.packets for flow in received),
        "Sent": sum(flow.packets for flow in sent),
        "SentBytes": sum(flow.bytes for flow in sent),
        "Joins": tally.joins,
        "Leaves": sum(tally.leaves.values()),
        "Errors": sum(tally.errors.values()),
    }


def _iso(seconds: float) -> str:
    """Format a Unix time as ISO 8601, in UTC, to the second."""
    return datetime.datetime.fromtimestamp(int(seconds), datetime.UTC).isoformat()


class _File:
    """Serves one file of the page."""

    def __init__(self, file: Path, kind: str) -> None:
        self._body = file.read_bytes()
        self._kind = f"text/{kind}"

    async def serve(self, _request: web.Request) -> web.Response:
        return web.Response(
            body=self._body,
            content_type=self._kind,
            charset="utf-8",
            headers={"Content-Security-Policy": _POLICY},
        )
