"""`bin/bench --slices`: servers that run at the same time and take turns of a quarter of a second.

On a shared machine, whole runs differ by 10 to 50 %, because what disturbs one run misses the next.
Slices of all servers are disturbed alike. Only CPU time is compared: a server has its core to
itself during its turn, but its caches are cold at first.
"""

import argparse
import json
import random
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from benchmarks.closed import Hops, Relay, Storm
from benchmarks.crowd import Reconnect
from benchmarks.load import Figures, Spec, Traffic
from benchmarks.mix import Mix
from benchmarks.servers import ALL, ROOT, Peer, ServerError, at_commit, drive, running
from benchmarks.store import cpu_ns
from benchmarks.workloads import Case

WARM_UP = 3  # turns that do not count
TIMEOUT = 540.0  # s for one case
SIZES = {"mix": {"peers": 2000}, "reconnect": {"peers": 200}}  # for all servers at once


TRAFFIC: dict[str, Callable[[Spec], Traffic]] = {
    "relay": Relay,
    "storm": Storm,
    "hops": Hops,
    "mix": Mix,
    "reconnect": Reconnect,
}


def run(spec: Spec) -> Figures:
    """Let the `servers` (name -> spec) take turns; return each one's CPU in us per delivery.

    Runs in the load generator. The lists are of equal length: entries at one index were measured
    within the same turn, in random order.
    """
    servers: dict[str, Spec] = spec["servers"]
    traffic = {name: TRAFFIC[spec["of"]](its) for name, its in servers.items()}
    for carrier in traffic.values():
        for _ in range(WARM_UP):
            carrier.run(max(spec["slice"], 0.5))
    costs: dict[str, list[float]] = {name: [] for name in servers}
    for _ in range(spec["turns"]):
        for name in random.sample(list(servers), len(servers)):
            carry = partial(traffic[name].run, spec["slice"])
            costs[name].append(cost(carry, partial(cpu_ns, servers[name]["pid"])))
    return {"costs": costs}


def cost(carry: Callable[[], int], clock: Callable[[], int]) -> float:
    """Return the CPU in us per delivery of one turn; `carry` delivers, `clock` tells ns of CPU.

    Some machines count CPU time in steps of 10 ms, longer than a short slice needs: a turn lasts
    until the clock has moved.
    """
    before = clock()
    count, used = 0, 0
    while not (count and used):
        count += carry()
        used = clock() - before
    return used / 1000 / count


@contextmanager
def earlier(commit: str | None) -> Iterator[list[Peer]]:
    """Check a commit out into a temporary folder; yield the server there, if there is a commit."""
    if commit is None:
        yield []
        return
    git = ["git", "-C", str(ROOT), "worktree"]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        tree = Path(folder) / "tree"
        subprocess.run([*git, "add", "--quiet", "--detach", str(tree), commit], check=True)
        try:
            yield [at_commit(commit, tree)]
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def compare(
    cases: list[Case], peers_of: Callable[[Case], list[str]], options: argparse.Namespace
) -> int:
    """Measure each case in slices and print a row for it; return how many cases failed."""
    failed = 0
    results = {}
    with earlier(options.against) as more:
        for case in cases:
            if case.pattern not in TRAFFIC or case.workload == "scale":
                continue
            peers = [ALL[name] for name in peers_of(case)]
            if more and not options.peers:
                peers = [ALL["ours"]]  # the other servers only when they are asked for
            result = _measure(case, [*peers, *more], options)
            failed += "error" in result
            results[case.name] = result
            print(f"{case.name}: {result.get('error') or row(result['costs'])}", flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "slices.json").write_text(json.dumps(results, indent=1))
    return failed


def _measure(case: Case, peers: list[Peer], options: argparse.Namespace) -> Figures:
    sizes = SIZES.get(case.pattern, {}) if not options.smoke else {}
    with ExitStack() as stack:
        servers = {}
        for peer in peers:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
            setting = case.setting_of("ours" if peer.root != ROOT else peer.name)
            try:
                server = stack.enter_context(running(peer, setting, folder))
            except ServerError as error:
                return {"error": str(error)}
            spec = case.specification(peer.name) | sizes
            servers[peer.name] = spec | server.specification
        # A slice of the mix is longer: it has few packets, and each turn ends by waiting for all.
        length = 1.0 if case.pattern == "mix" else 0.25
        turns = options.rounds or (2 if options.smoke else 40)
        spec = {"pattern": "slices", "of": case.pattern, "servers": servers, "turns": turns}
        try:
            return drive(spec | {"slice": 0.05 if options.smoke else length}, TIMEOUT)
        except subprocess.TimeoutExpired:
            return {"error": f"no end after {TIMEOUT:.0f} s"}


def row(costs: dict[str, list[float]]) -> str:
    """Return the first server's median cost, and how much of each other's that is.

    A ratio is the median over the turns, with the quartiles in brackets.
    """
    (first, ours), *others = costs.items()
    parts = [f"{first} {statistics.median(ours):.2f} us"]
    for name, theirs in others:
        ratios = sorted(mine / its for mine, its in zip(ours, theirs, strict=True))
        low, middle, high = statistics.quantiles(ratios) if len(ratios) > 1 else ratios * 3
        its = statistics.median(theirs)
        parts.append(f"{name} {its:.2f} us, ratio {middle:.3f} ({low:.3f}-{high:.3f})")
    return "; ".join(parts)
