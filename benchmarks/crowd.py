"""Crowds: many connections that come back at once, or that stay idle."""

import http.client
import time

from benchmarks.load import (
    Figures,
    Meter,
    Spec,
    couples,
    dialer,
    drain,
    percentiles,
    resident,
    target_of,
)
from benchmarks.packets import connect


class Reconnect:
    """All connections of `peers` peers are cut at once, and all reconnect and join."""

    def __init__(self, spec: Spec) -> None:
        self.spec, self.target = spec, target_of(spec)
        self.latencies: list[int] = []
        self.conns = dialer(spec, self.target).dial(couples(spec["peers"] // 2))
        drain(self.conns)

    def run(self, seconds: float = 0) -> int:
        """Cut and reconnect once, however long it takes; return how many came back."""
        self.target.generation += 1
        prefix = ""
        if self.spec["framing"] == "peerjs":  # it takes a name in use for an error
            prefix = f"again{self.target.generation:04}-"
        again = dialer(self.spec, self.target)
        for conn in self.conns:
            conn.abort()
        self.conns = again.dial(couples(self.spec["peers"] // 2, prefix))
        self.latencies += again.latencies
        return len(self.conns)


def reconnect(spec: Spec) -> Figures:
    """Measure one reconnection of all."""
    crowd = Reconnect(spec)
    meter = Meter(spec)
    count = crowd.run()
    figures = meter.stop()
    return figures | {"deliveries": count, "latency": {"all": percentiles(crowd.latencies)}}


def idle(spec: Spec) -> Figures:
    """Open `peers` idle connections: memory and tasks of each, before and after joining.

    One hundred are opened and closed first, so that what a server loads only once is not counted.
    """
    target, pid = target_of(spec), spec["pid"]
    for conn in dialer(spec, target).dial(couples(50, "warm-")):
        conn.abort()
    time.sleep(spec["settle"])
    memory, tasks = resident(pid), count_tasks(spec)
    meter = Meter(spec)
    names = couples(spec["peers"] // 2)
    entry = dialer(spec, target, join=False)
    conns = entry.dial(names)
    figures: Figures = meter.stop()
    drain(conns, spec["settle"])
    opened, n = resident(pid), len(conns)
    figures |= {"deliveries": n, "latency": {"all": percentiles(entry.latencies)}}
    figures["bytes"] = (opened - memory) / n
    if tasks is not None:
        figures["tasks"] = ((count_tasks(spec) or 0) - tasks) / n
    if spec["framing"] != "peerjs":
        for start in range(0, n, 500):
            for conn in conns[start : start + 500]:
                conn.send(connect(spec["framing"], conn))
            drain(conns[start : start + 500], 0.02)
        drain(conns, spec["settle"])
        figures["bytes_joined"] = (resident(pid) - memory) / n
    return figures


def count_tasks(spec: Spec) -> int | None:
    """Return the number of asyncio tasks in the server, None if it does not report it."""
    if not spec.get("tasks"):
        return None
    connection = http.client.HTTPConnection(spec["host"], spec["port"], timeout=10)
    connection.request("GET", "/_tasks")
    count = int(connection.getresponse().read())
    connection.close()
    return count
