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


def reconnect(spec: Spec) -> Figures:
    """Cut all connections of `peers` peers at once, and let all reconnect and join."""
    target = target_of(spec)
    names = couples(spec["peers"] // 2)
    conns = dialer(spec, target).dial(names)
    drain(conns)
    target.generation = 1
    if spec["framing"] == "peerjs":
        names = couples(spec["peers"] // 2, "again-")
    again = dialer(spec, target)
    meter = Meter(spec)
    for conn in conns:
        conn.abort()
    again.dial(names)
    figures: Figures = meter.stop()
    latency = {"all": percentiles(again.latencies)}
    return figures | {"deliveries": len(again.latencies), "latency": latency}


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
