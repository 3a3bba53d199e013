"""The load generator's process: `python -m benchmarks.drive`, a spec on stdin, figures on stdout.

A pattern sets up its connections, warms up the server, measures one interval and returns figures:
`deliveries`, `latency` (name -> [p50, p99] in us), and those of `Meter`.
"""

import json
import os
import sys
from collections.abc import Callable
from functools import partial

from benchmarks import slices
from benchmarks.closed import Hops, Relay, Storm
from benchmarks.crowd import idle, reconnect
from benchmarks.load import Closed, Figures, Spec, measured
from benchmarks.mix import mix
from benchmarks.seats import notes, seats
from benchmarks.wire import LoadError


def client(spec: Spec) -> Figures:
    """Run a pattern of `clients`, whose imports would delay all other patterns."""
    from benchmarks import clients

    return clients.resume(spec) if spec["pattern"] == "resume" else clients.relay(spec)


def closed(traffic: Callable[[Spec], Closed], spec: Spec) -> Figures:
    """Run a closed loop."""
    return measured(spec, traffic(spec))


PATTERNS: dict[str, Callable[[Spec], Figures]] = {
    "relay": partial(closed, Relay),
    "storm": partial(closed, Storm),
    "mix": mix,
    "reconnect": reconnect,
    "hops": partial(closed, Hops),
    "idle": idle,
    "seats": seats,
    "notes": notes,
    "client": client,
    "resume": client,
    "slices": slices.run,
}


def main() -> None:
    """Run the spec on stdin; print the figures as JSON, or {"error": reason}."""
    spec = json.load(sys.stdin)
    os.sched_setaffinity(0, {spec["core"]})
    try:
        figures = PATTERNS[spec["pattern"]](spec)
    except LoadError as error:
        figures = {"error": str(error)}
    print(json.dumps(figures))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
