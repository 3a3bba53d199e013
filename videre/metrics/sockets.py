"""Metrics of a process's TCP connections."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class Counted(Protocol):
    """A counter of connections: the command's gate."""

    open: int
    refused: Counter[str]


class Sockets(Collector):
    """Collects metrics from a gate's counts."""

    def __init__(self, counted: Counted) -> None:
        self._counted = counted

    def collect(self) -> Iterator[Metric]:
        """Yield the current metrics."""
        yield GaugeMetricFamily(
            "videre_sockets", "TCP connections to the public port.", self._counted.open
        )
        refused = CounterMetricFamily(
            "videre_sockets_refused",
            "TCP connections refused, or dropped while idle, by reason.",
            labels=("reason",),
        )
        for reason, count in self._counted.refused.items():
            refused.add_metric((reason,), count)
        yield refused
