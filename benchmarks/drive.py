"""The load generator's process: `python -m benchmarks.drive`, a spec on stdin, figures on stdout.

A pattern sets up its connections, warms up the server, measures one interval and returns figures:
`deliveries`, `latency` (name -> [p50, p99] in us), and those of `Meter`.
"""

import json
import os
import sys
from collections.abc import Callable

from benchmarks.closed import hops, relay, storm
from benchmarks.crowd import idle, reconnect
from benchmarks.load import Figures, Spec
from benchmarks.mix import mix
from benchmarks.seats import notes, seats
from benchmarks.wire import LoadError


def client(spec: Spec) -> Figures:
    """Run a pattern of `clients`, whose imports would delay all other patterns."""
    from benchmarks import clients

    return clients.resume(spec) if spec["pattern"] == "resume" else clients.relay(spec)


PATTERNS: dict[str, Callable[[Spec], Figures]] = {
    "relay": relay,
    "storm": storm,
    "mix": mix,
    "reconnect": reconnect,
    "hops": hops,
    "idle": idle,
    "seats": seats,
    "notes": notes,
    "client": client,
    "resume": client,
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
