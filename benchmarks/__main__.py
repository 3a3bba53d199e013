"""`bin/bench`: measure this server and its peers in turn, and print one table.

Every run starts its server afresh on one core, and a load generator on another. The peers of a case
take turns, for several rounds; the figures are medians over the rounds.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks import plot, report, slices, workloads
from benchmarks.servers import (
    ALL,
    LOAD_CORE,
    SERVER_CORE,
    Server,
    ServerError,
    drive,
    file_limit,
    missing,
    raise_file_limit,
    running,
)
from benchmarks.workloads import Case

RESULTS = Path(__file__).resolve().parent / "results"
TRIES = 3  # for one run, if the generator was saturated
RUN_TIMEOUT = 240.0  # s for one run, including its connections' set-up

Results = dict[tuple[str, str], list[report.Run]]  # (case, peer) -> its runs


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="bin/bench", description=__doc__)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="about a minute: fewer, shorter runs")
    size.add_argument("--smoke", action="store_true", help="does everything work? no figures")
    parser.add_argument(
        "--only", help="these workloads: relay,mix,storm,joins,idle,tls,seam,client,scale"
    )
    parser.add_argument("--match", default="", help="only cases whose names contain this")
    parser.add_argument("--peers", help="these servers: " + ",".join(ALL))
    parser.add_argument("--rounds", type=int, help="runs of each (default 3; quick and smoke 1)")
    parser.add_argument(
        "--slices", action="store_true", help="servers take turns in slices: CPU to within 2 %%"
    )
    parser.add_argument("--against", metavar="COMMIT", help="slices, against this server then")
    parser.add_argument("--list", action="store_true", help="print the cases and stop")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of latest.json and .png")
    return parser.parse_args()


def chosen(options: argparse.Namespace) -> list[Case]:
    """Return the cases that the options select."""
    every = workloads.smoke() if options.smoke else workloads.full()
    if options.quick:
        every = workloads.quick()
        if options.only and "seam" in options.only.split(","):
            every += workloads.seam(1, 500, 200, 0.5)
    known = {case.workload for case in every}
    wanted = set(options.only.split(",")) if options.only else known
    if unknown := wanted - known:
        sys.exit(f"no workload {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}")
    return [case for case in every if case.workload in wanted and options.match in case.name]


def peers_of(case: Case, options: argparse.Namespace) -> list[str]:
    """Return the servers that run a case on this machine."""
    here = [peer for peer in case.peers if missing(peer) is None]
    if options.peers:
        return [peer for peer in here if peer in options.peers.split(",")]
    if options.quick and case.workload != "seam":
        return [peer for peer in here if peer not in ("stock", "bare")]
    return here


def run(case: Case, peer: str, server: Server) -> report.Run:
    """Run one case against a running server; retry if the generator was saturated."""
    spec = case.specification(peer) | server.specification
    result: report.Run = {}
    for _ in range(TRIES):
        try:
            result = report.judged(drive(spec, RUN_TIMEOUT))
        except subprocess.TimeoutExpired:
            return {"error": f"no end after {RUN_TIMEOUT:.0f} s"}
        if not result.get("saturated"):
            break
    return result


def measure(cases: list[Case], options: argparse.Namespace, rounds: int) -> Results:
    """Run all cases: the peers of a case in turn, for several rounds, each on a fresh server."""
    results: Results = {}
    for case in cases:
        for turn in range(rounds):
            for peer in peers_of(case, options):
                with tempfile.TemporaryDirectory(prefix="bench-") as folder:
                    try:
                        with running(ALL[peer], case.setting_of(peer), Path(folder)) as server:
                            result = run(case, peer, server)
                    except ServerError as error:
                        result = {"error": str(error)}
                results.setdefault((case.name, peer), []).append(result)
                tell(f"{case.name}, round {turn + 1}", peer, result)
    return results


def check(cases: list[Case], options: argparse.Namespace) -> Results:
    """Run all cases once; a peer keeps its server while the setting stays the same."""
    results: Results = {}

    def check_peer(peer: str) -> None:
        its = [case for case in cases if peer in peers_of(case, options)]
        for case, result in checked(peer, its):
            results[case.name, peer] = [result]
            tell(case.name, peer, result)

    with ThreadPoolExecutor(2) as pool:  # only the time matters here, not the figures
        list(pool.map(check_peer, ALL))
    return results


def checked(peer: str, cases: list[Case]) -> Iterator[tuple[Case, report.Run]]:
    """Yield each case with its run; small cases may saturate the generator."""
    settings = list(dict.fromkeys(case.setting_of(peer) for case in cases))
    for setting in settings:
        its = [case for case in cases if case.setting_of(peer) == setting]
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))
            try:
                server = stack.enter_context(running(ALL[peer], setting, Path(folder)))
            except ServerError as error:
                yield from ((case, {"error": str(error)}) for case in its)
                continue
            for case in its:
                result = run(case, peer, server)
                if result.get("saturated"):
                    result = {"cpu": 0.0}
                yield case, result


def tell(what: str, peer: str, result: report.Run) -> None:
    """Print one run's figures to stderr."""
    said = result.get("error") or ", ".join(
        f"{name} {result[name]:.1f}"
        for name in ("cpu", "client", "store_cpu", "rate", "p99", "memory", "store_memory")
        if name in result
    )
    print(f"{what}: {peer}: {said}", file=sys.stderr, flush=True)


def document(
    shown: list[tuple[Case, dict[str, report.Run]]], results: Results, rounds: int
) -> dict[str, Any]:
    """Return all measurements, for the JSON file."""
    return {
        "machine": report.machine(),
        "rounds": rounds,
        "goals": report.goals(shown),
        "cases": [
            {
                "workload": case.workload,
                "name": case.name,
                "headline": case.headline,
                "spec": case.specification("ours"),
                "limits": {peer: dict(case.setting_of(peer).limits) for peer in medians},
                "standing_rooms": case.setting.rooms,
                "medians": medians,
                "runs": {peer: results[case.name, peer] for peer in medians},
            }
            for case, medians in shown
        ],
    }


def notes(shown: list[tuple[Case, dict[str, report.Run]]], rounds: int) -> str:
    """Return the notes needed to read the table."""
    lines = [
        f"Medians of {rounds} rounds; spread is (max-min)/median; the ratio is about the figure",
        "marked *. CPU: the server's, per delivery (joins: per join; client relay: the client's,",
        "of both ends). KB: resident memory per connection. load: the generator's share of its",
        "core; a run that it limited is refused (but for `client`, where it is what is measured).",
        f"The server has core {SERVER_CORE}, the generator core {LOAD_CORE}; others kept the",
        f"generator from its core for {100 * report.noise(shown):.0f} % of the time (the noise).",
    ]
    raised = {
        f"{case.workload}: {ALL[peer].label}: {name} {value}"
        for case, medians in shown
        for peer in medians
        for name, value in case.setting_of(peer).limits
    }
    lines.append("Limits raised, because the load exceeds them:" + ("" if raised else " none."))
    lines += [f"  {line}" for line in sorted(raised)]
    if any(case.setting.rooms > 1000 for case, _ in shown):
        lines += [
            "Standing rooms are seated inside the server, without a socket each: a process here",
            f"may open {file_limit()} files.",
        ]
    return "\n".join(lines)


def main() -> int:
    """Measure what the command line selects; return 1 if any run failed."""
    options = arguments()
    raise_file_limit()
    cases = chosen(options)
    if options.list:
        print("\n".join(f"{case.name}: {', '.join(peers_of(case, options))}" for case in cases))
        return 0
    for name in ALL:
        if reason := missing(name):
            print(f"without {ALL[name].label}: {reason}", file=sys.stderr)
    if options.slices or options.against:
        return min(1, slices.compare(cases, lambda case: peers_of(case, options), options))
    started = time.monotonic()
    rounds = options.rounds or (1 if options.quick or options.smoke else 3)
    results = check(cases, options) if options.smoke else measure(cases, options, rounds)
    failed = sum("error" in result for runs in results.values() for result in runs)
    passed = sum(map(len, results.values())) - failed
    shown = []
    for case in cases:
        of = {peer: report.summary(results[case.name, peer]) for peer in peers_of(case, options)}
        shown.append((case, of))
    if options.smoke:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            plot.plot(Path(folder) / "plot.png", shown)
        print(f"{passed} passed, {failed} failed")
        return 1 if failed or not passed else 0
    report.write_json(options.out / "latest.json", document(shown, results, rounds))
    plot.plot(options.out / "latest.png", shown)
    print(report.table(shown))
    if stores := report.stores(shown):
        print("\nThe Valkey, per delivery:\n" + stores)
    if kinds := report.latencies(shown):
        print("\nLatencies, p50 / p99 in us:\n" + kinds)
    print("\n" + notes(shown, rounds))
    if found := report.goals(shown):
        print("\nGoals:\n" + report.verdicts(found))
    print(f"\n{passed} runs, {failed} failed, {time.monotonic() - started:.0f} s; {options.out}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
