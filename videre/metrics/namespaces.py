"""Metrics of namespaces, collected from their tallies."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeHistogramMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from videre.namespace import Namespace
from videre.tally import TIMED, Histogram, Tally
from videre.version import __version__

#: Histogram bounds for members per room: one alone, a call of two, larger and larger meshes.
MEMBERS = (1, 2, 3, 4, 6, 8, 12, 16, 32, 64, 128, 256)


@dataclasses.dataclass(frozen=True)
class Found:
    """The results of a walk: backlog bytes by prefix, and tasks (None outside an event loop)."""

    backlogs: dict[str, int]
    tasks: int | None


class Namespaces(Collector):
    """Collects metrics from tallies. All label values are from fixed sets or the configuration."""

    def __init__(self, namespaces: Sequence[Namespace]) -> None:
        self._namespaces = [(each.prefix or "/", each) for each in namespaces]
        self.found: Found | None = None  # what `measure` returned, during `measured`

    async def measure(self) -> Found:
        """Walk the sessions in slices, and count the tasks in a separate turn of the event loop."""
        backlogs = {
            prefix: await each.sessions.measure_backlog() for prefix, each in self._namespaces
        }
        tasks = _count_tasks()
        await asyncio.sleep(0)
        return Found(backlogs, tasks)

    def _walk(self) -> Found:
        backlogs = {prefix: each.sessions.backlog for prefix, each in self._namespaces}
        return Found(backlogs, _count_tasks())

    def collect(self) -> Iterator[Metric]:
        """Yield the current metrics."""
        found = self.found or self._walk()
        yield InfoMetricFamily("videre_build", "The running version.", {"version": __version__})
        yield from self._sessions(found.backlogs)
        yield from self._rooms()
        yield from self._packets()
        yield from self._engines()
        yield from self._process(found.tasks)

    def _sessions(self, backlogs: dict[str, int]) -> Iterator[Metric]:
        open_sessions = GaugeMetricFamily(
            "videre_sessions",
            "Open sessions, by transport.",
            labels=("prefix", "transport"),
        )
        for prefix, each in self._namespaces:
            ended = each.tally.ended
            for transport, opened in each.tally.opened.items():
                open_sessions.add_metric((prefix, transport), opened - ended[transport])
        yield open_sessions
        yield self._counters(
            "videre_sessions_opened",
            "Sessions opened, by transport.",
            "transport",
            lambda tally: tally.opened,
        )
        yield self._counters(
            "videre_connections_refused",
            "Refused requests for a session, by reason.",
            "reason",
            lambda tally: tally.refused,
        )
        yield self._counter(
            "videre_slow_consumers_dropped",
            "Sessions closed with 4002 because the client did not read.",
            lambda tally: tally.slow_consumers,
        )
        backlog = GaugeMetricFamily(
            "videre_backlog_bytes",
            "Bytes in this process that wait for clients to read them.",
            labels=("prefix",),
        )
        inboxes = GaugeMetricFamily(
            "videre_inbox_bytes",
            "Bytes from clients that wait to be processed (approximate).",
            labels=("prefix",),
        )
        for prefix, each in self._namespaces:
            backlog.add_metric((prefix,), backlogs[prefix])
            inboxes.add_metric((prefix,), each.sessions.shared.inboxes.total)
        yield backlog
        yield inboxes

    def _rooms(self) -> Iterator[Metric]:
        rooms = GaugeMetricFamily(
            "videre_rooms", "Rooms with members on this node.", labels=("prefix",)
        )
        members = GaugeHistogramMetricFamily(
            "videre_room_members",
            "Members of these rooms, including those on other nodes.",
            labels=("prefix",),
        )
        for prefix, each in self._namespaces:
            rooms.add_metric((prefix,), len(each.rooms))
            sizes = Histogram(MEMBERS)
            for size, times in each.rooms.census.sizes():
                sizes.observe(size, times)
            members.add_metric((prefix,), _buckets(sizes), sizes.sum)
        yield rooms
        yield members
        yield self._counter(
            "videre_joins", "Seats taken by sessions of this node.", lambda tally: tally.joins
        )
        yield self._counters(
            "videre_leaves",
            "Seats of this node's sessions given up, by reason.",
            "reason",
            lambda tally: tally.leaves,
        )
        yield self._counter(
            "videre_promotions",
            "Members of this node that became their room's initiator when another left.",
            lambda tally: tally.promotions,
        )
        yield self._counters(
            "videre_resumes",
            "Attempts to resume a seat, by result.",
            "result",
            lambda tally: tally.resumes,
        )

    def _packets(self) -> Iterator[Metric]:
        labels = ("prefix", "event", "direction")
        packets = CounterMetricFamily(
            "videre_packets",
            "Packets received from clients and sent to clients, each copy counted.",
            labels=labels,
        )
        sizes = CounterMetricFamily(
            "videre_packet_bytes",
            "Bytes of UTF-8 of these packets, without the framing of any transport.",
            labels=labels,
        )
        for prefix, each in self._namespaces:
            both = (("received", each.tally.received), ("sent", each.tally.sent))
            for direction, flows in both:
                for event, flow in flows.items():
                    packets.add_metric((prefix, event, direction), flow.packets)
                    sizes.add_metric((prefix, event, direction), flow.bytes)
        yield packets
        yield sizes
        yield self._counters(
            "videre_errors", "Error packets sent, by code.", "code", lambda tally: tally.errors
        )
        relays = HistogramMetricFamily(
            "videre_relay_seconds",
            "From the arrival of a broadcast's bytes in this process to the write to the socket of "
            "its last receiver on this node (to the queue of one that polls or streams). One chunk "
            f"of received bytes in {TIMED} is timed.",
            labels=("prefix",),
        )
        for prefix, each in self._namespaces:
            seconds = each.tally.relays.seconds
            relays.add_metric((prefix,), _buckets(seconds), seconds.sum)
        yield relays

    def _engines(self) -> Iterator[Metric]:
        ready = GaugeMetricFamily(
            "videre_engine_ready", "Whether the rooms can be reached: 1 or 0.", labels=("prefix",)
        )
        steps = HistogramMetricFamily(
            "videre_engine_step_seconds",
            "Time that the store took to answer, by step. Steps in memory are not timed.",
            labels=("prefix", "step"),
        )
        for prefix, each in self._namespaces:
            ready.add_metric((prefix,), float(each.rooms.ready))
            for step, seconds in each.tally.steps.items():
                steps.add_metric((prefix, step), _buckets(seconds), seconds.sum)
        yield ready
        yield steps
        yield self._counters(
            "videre_engine_step_failures",
            "Steps that the store did not take, by step.",
            "step",
            lambda tally: tally.failures,
        )

    def _process(self, running: int | None) -> Iterator[Metric]:
        lag = HistogramMetricFamily(
            "videre_event_loop_lag_seconds",
            "Delay of the event loop's timers, sampled twice a second.",
            labels=(),
        )
        lost = CounterMetricFamily(
            "videre_log_records_dropped",
            "Log records not written, by target and reason.",
            labels=("target", "reason"),
        )
        if self._namespaces:
            seconds = self._namespaces[0][1].lag.seconds
            lag.add_metric((), _buckets(seconds), seconds.sum)
        losses: Counter[tuple[str, str]] = Counter()
        for journal in {id(each.journal): each.journal for _, each in self._namespaces}.values():
            losses.update(journal.losses)
        for labels, count in losses.items():
            lost.add_metric(labels, count)
        tasks = GaugeMetricFamily(
            "videre_event_loop_tasks",
            "Tasks of the event loop; each request in progress is one.",
        )
        if running is not None:
            tasks.add_metric((), running)
        yield lag
        yield tasks
        yield lost

    def _counter(self, name: str, text: str, value: Callable[[Tally], int]) -> Metric:
        family = CounterMetricFamily(name, text, labels=("prefix",))
        for prefix, each in self._namespaces:
            family.add_metric((prefix,), value(each.tally))
        return family

    def _counters(
        self, name: str, text: str, label: str, values: Callable[[Tally], dict[str, int]]
    ) -> Metric:
        family = CounterMetricFamily(name, text, labels=("prefix", label))
        for prefix, each in self._namespaces:
            for key, value in values(each.tally).items():
                family.add_metric((prefix, key), value)
        return family


def _count_tasks() -> int | None:
    with contextlib.suppress(RuntimeError):  # called outside an event loop
        return len(asyncio.all_tasks())
    return None


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Return Prometheus's cumulative buckets: each includes the counts of those before it."""
    bounds = [*(str(float(bound)) for bound in histogram.bounds), "+Inf"]
    return list(zip(bounds, map(float, accumulate(histogram.counts)), strict=True))
