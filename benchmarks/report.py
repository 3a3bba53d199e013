"""Turns results into a report: figures of runs, medians, table, JSON and plot."""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.servers import ALL, file_limit
from benchmarks.workloads import Case, Goal

Run = dict[str, Any]

UNITS = {"cpu": "us", "rate": "/s", "memory": "B", "p99": "us"}
HEAD = ("", "server", "CPU us", "ours/it", "spread", "per s", "p50 us", "p99 us", "KB", "load")


def judged(raw: Run) -> Run:
    """Return a run's figures: `cpu` us per delivery, `rate` per s, `p50` and `p99` us, shares.

    The generator is saturated if it was running, or waiting for its core, for more than 0.95 of the
    interval, and the server for less than 0.9. Such a run measures the generator.
    """
    if "error" in raw:
        return {"error": raw["error"]}
    seconds, count = raw["seconds"], raw["deliveries"]
    if not count:
        return {"error": "nothing was delivered"}
    run: Run = {
        "cpu": raw["server_cpu"] / count * 1e6,
        "rate": count / seconds,
        "p50": raw["latency"]["all"][0],
        "p99": raw["latency"]["all"][1],
        "server_share": raw["server_cpu"] / seconds,
        "load_share": raw["load_cpu"] / seconds,
        "server_wait": raw["server_wait"] / seconds,
        "load_wait": raw["load_wait"] / seconds,
        "deliveries": count,
    }
    if "clients" in raw:
        run["client"] = raw["load_cpu"] / count * 1e6
    if "bytes" in raw:
        run["memory"] = raw.get("bytes_joined", raw["bytes"])
        run["memory_opened"] = raw["bytes"]
    if "tasks" in raw:
        run["tasks"] = raw["tasks"]
    if "store" in raw:
        run |= {f"store_{name}": value / count for name, value in raw["store"].items()}
        run["store_cpu"] *= 1e6
        run["store_share"] = raw["store"]["cpu"] / seconds
    if "store_bytes" in raw:
        run["store_memory"] = raw["store_bytes"]  # per room
    if len(raw["latency"]) > 1:
        run["latency"] = raw["latency"]
    if raw.get("kept", 1) < 0.95:
        return {"error": "the load generator did not keep the rate", "saturated": True}
    if "clients" in raw or "crowd" in raw:
        return run  # one side's CPU counts, whichever side is the limit
    load = run["load_share"] + run["load_wait"]
    busy = run["server_share"] + run["server_wait"] + run.get("store_share", 0)
    if load > 0.95 and busy < 0.9:
        shares = f"load {run['load_share']:.2f}, server {run['server_share']:.2f}"
        return {"error": f"the load generator was saturated ({shares})", "saturated": True}
    return run


def summary(runs: list[Run]) -> Run:
    """Return the medians of the valid runs, and the headline figures' spread, (max-min)/median."""
    good = [run for run in runs if "error" not in run]
    if not good:
        return {"error": runs[-1]["error"] if runs else "not run"}
    names = [name for name, value in good[0].items() if isinstance(value, int | float)]
    median: Run = {name: statistics.median(run[name] for run in good) for name in names}
    median["spread"] = {
        name: (max(run[name] for run in good) - min(run[name] for run in good)) / median[name]
        for name in ("cpu", "rate", "memory", "client")
        if median.get(name, 0) > 0
    }
    if "latency" in good[0]:
        median["latency"] = {
            name: [statistics.median(run["latency"][name][i] for run in good) for i in (0, 1)]
            for name in good[0]["latency"]
        }
    if len(good) < len(runs):
        median["failed"] = [run["error"] for run in runs if "error" in run]
    return median


def ratio(case: Case, medians: dict[str, Run], peer: str, figure: str) -> float | None:
    """Return our figure divided by the peer's, None if either is missing."""
    ours, theirs = medians.get("ours", {}).get(figure), medians.get(peer, {}).get(figure)
    return ours / theirs if ours is not None and theirs else None


def table(results: list[tuple[Case, dict[str, Run]]]) -> str:
    """Return all medians as one aligned table; `*` marks the figure that the ratio compares."""
    rows: list[tuple[str, ...]] = [HEAD]
    for case, medians in results:
        title = case.name
        for peer, median in medians.items():
            rows.append((title, ALL[peer].label, *_cells(case, medians, peer, median)))
            title = ""
    widths = [max(len(row[i]) for row in rows if len(row) > 3) for i in range(len(HEAD))]
    lines: list[str] = []
    for row in rows:
        if row[0] and lines:
            lines.append("")
        cells = [cell.ljust(width) for cell, width in zip(row[:2], widths, strict=False)]
        cells += [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=False)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _cells(case: Case, medians: dict[str, Run], peer: str, median: Run) -> tuple[str, ...]:
    if "error" in median:
        return (" FAILED: " + median["error"].strip().splitlines()[-1][:80],)
    mark = {case.headline: "*"}
    against = ratio(case, medians, peer, case.headline)
    memory = f"{median['memory'] / 1024:.1f}" if "memory" in median else ""
    if "tasks" in median:
        memory += f" ({median['tasks']:.0f} tasks)"
    cpu = f"{median['cpu']:.1f}" + mark.get("cpu", "")
    return (
        f"{median['client']:.1f}*" if case.headline == "client" else cpu,
        "" if against is None or peer == "ours" else f"{against:.2f}",
        f"{100 * median['spread'].get(case.headline, 0):.0f} %",
        f"{median['rate']:.0f}" + mark.get("rate", ""),
        f"{median['p50']:.0f}",
        f"{median['p99']:.0f}",
        memory + (mark.get("memory", "") if memory else ""),
        f"{100 * median['load_share']:.0f} %",
    )


def latencies(results: list[tuple[Case, dict[str, Run]]]) -> str:
    """Return p50 and p99 of each kind of packet, for cases that send several kinds."""
    lines = []
    for case, medians in results:
        for peer, median in medians.items():
            if "latency" not in median:
                continue
            kinds = [
                f"{name} {p50:.0f} / {p99:.0f}" for name, (p50, p99) in median["latency"].items()
            ]
            lines.append(f"  {case.name}  {ALL[peer].label:<31}" + ", ".join(kinds))
    return "\n".join(lines)


def stores(results: list[tuple[Case, dict[str, Run]]]) -> str:
    """Return the load on the store of nodes, if there was one."""
    lines = []
    for case, medians in results:
        for peer, median in medians.items():
            if "store_cpu" in median:
                memory = (
                    f", {median['store_memory']:.0f} B a room" if "store_memory" in median else ""
                )
                lines.append(
                    f"  {case.name}  {ALL[peer].label:<20}"
                    f"{median['store_cpu']:.1f} us CPU, {median['store_asked']:.2f} commands that "
                    f"ran {median['store_run']:.1f}, {median['store_in']:.0f} B in, "
                    f"{median['store_out']:.0f} B out{memory}"
                )
    return "\n".join(lines)


def noise(results: list[tuple[Case, dict[str, Run]]]) -> float:
    """Return the median share of its time that the generator waited for its core."""
    waits = [run["load_wait"] for _, medians in results for run in medians.values() if "cpu" in run]
    return statistics.median(waits) if waits else 0.0


def goals(results: list[tuple[Case, dict[str, Run]]]) -> list[dict[str, Any]]:
    """Return each goal that could be judged: its subject, the figure, and whether it is met."""
    found = []
    for case, medians in results:
        for goal in case.goals:
            got = ratio(case, medians, goal.peer, goal.figure)
            if got is not None:
                found.append(_judge(case.name, goal, got))
        memory = medians.get("ours", {}).get("memory")
        if case.most and memory is not None:
            name = f"{case.name}: {case.headline} in bytes"
            held = memory <= case.most
            found.append({"goal": name, "most": case.most, "got": memory, "held": held})
    hops = {case.setting.rooms: medians for case, medians in results if case.pattern == "hops"}
    rates = [hops[rooms].get("ours", {}).get("rate", 0) for rooms in sorted(hops)]
    if len(rates) == 2 and all(rates):
        name = "joins: rate with many rooms / with few"
        got = rates[1] / rates[0]
        found.append({"goal": name, "least": 0.95, "got": got, "held": got >= 0.95})
    return found


def _judge(name: str, goal: Goal, got: float) -> dict[str, Any]:
    held = got >= goal.ratio if goal.least else got <= goal.ratio
    bound = "least" if goal.least else "most"
    text = f"{name}: {goal.figure} / {goal.peer}'s"
    return {"goal": text, bound: goal.ratio, "got": got, "held": held}


def verdicts(found: Iterable[dict[str, Any]]) -> str:
    """Return the goals as lines."""
    lines = []
    for goal in found:
        bound = f"at most {goal['most']}" if "most" in goal else f"at least {goal['least']}"
        word = "held  " if goal["held"] else "MISSED"
        lines.append(f"  {word}  {goal['goal']}: {goal['got']:.2f}, {bound}")
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    """Describe the machine of the measurements."""
    node = subprocess.run(["node", "--version"], capture_output=True, text=True, timeout=10)
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = next((line for line in cpuinfo.splitlines() if line.startswith("model name")), ":")
    return {
        "cpu": model.split(":", 1)[1].strip(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": sys.version.split()[0],
        "node": node.stdout.strip(),
        "files_per_process": file_limit(),
        "load_average": os.getloadavg(),
        "date": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
    }


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write the results as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")
