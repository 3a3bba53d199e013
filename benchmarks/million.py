"""The figures of docs/scale.md: measurements of a cluster, and an estimate for a million peers.

    bin/bench --only scale --out /tmp/scale
    .venv/bin/python -m benchmarks.million /tmp/scale/latest.json

keeps the results needed in docs/scale.json, and writes both tables into docs/scale.md. If several
result files are given (bin/bench --match), the last one with a case counts. A test checks that the
document matches the file.
"""

import json
import re
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.packets import CALL
from benchmarks.workloads import REAL_RATE

DOCS = Path(__file__).resolve().parent.parent / "docs"
RESULTS = DOCS / "scale.json"
DOCUMENT = DOCS / "scale.md"

PEERS = 1_000_000
REAL_PEERS = 5_000  # which send REAL_RATE packets a second
BROADCASTS, CONNECTS = 0.08, 0.03  # shares of packets; the rest are pings (mix.py)
KEPT_SECONDS = 60  # for which a packet is kept: Grace (20 s) + 40 s
LOW_RATE = 400  # packets a second at which latencies are shown
USE = 0.7  # maximum share of a core; the rest is for crowds that come back
COLUMNS = {"ours": "alone", "node1": "1 node", "node2": "2 nodes", "node4": "4 nodes"}

Results = dict[str, Any]
Row = tuple[str, ...]


def kept(*runs: Results) -> Results:
    """Return what the tables need, from the results of one or more runs or docs/scale.json."""
    cases = {
        case["name"]: {
            **{name: case[name] for name in ("name", "workload", "spec", "medians", "runs")},
            "machine": case.get("machine") or run["machine"],
        }
        for run in runs
        for case in run["cases"]
        if case["workload"] == "scale"
        and not any("error" in median for median in case["medians"].values())
    }
    return {"rounds": min(run["rounds"] for run in runs), "cases": list(cases.values())}


def case(results: Results, begin: str) -> Results:
    """Return the last case whose name has this prefix."""
    found: Results = [each for each in results["cases"] if each["name"].startswith(begin)][-1]
    return found


def measured(results: Results) -> str:
    """Return the table of measurements of nodes and their Valkey."""
    rows: list[Row] = [("", *COLUMNS.values())]
    for each in results["cases"]:
        if "ours" in each["medians"]:
            rows += [(each["name"].removeprefix("scale "),), *_rows(each)]
    rows.append(("",))
    rows += _memory(results)
    return _aligned(rows)


def _rows(each: Results) -> Iterator[Row]:
    medians, runs = each["medians"], each["runs"]

    def row(label: str, figure: str, digits: int = 0) -> Row:
        values = (medians[peer].get(figure) for peer in COLUMNS)
        return (label, *("" if value is None else f"{value:,.{digits}f}" for value in values))

    yield row("  CPU of all nodes, us", "cpu", 1)
    yield ("  ... relative to alone", "1", *(_ratio(runs, peer) for peer in list(COLUMNS)[1:]))
    yield row("  CPU of the Valkey, us", "store_cpu", 1)
    yield row("  commands to the Valkey", "store_asked", 2)
    yield row("  ... with what scripts run", "store_run", 1)
    yield row("  bytes to the Valkey", "store_in")
    yield row("  bytes from the Valkey", "store_out")
    if each["spec"].get("rate") != LOW_RATE:
        return  # under saturation, latency is queue length
    for kind in ("broadcast", "connect", "ping"):
        for at, name in enumerate(("p50", "p99")):
            # Interference only ever adds to a latency.
            least = [min(run["latency"][kind][at] for run in runs[peer]) for peer in COLUMNS]
            yield (f"  {kind}, {name}, ms", *(f"{value / 1000:,.1f}" for value in least))


def _ratio(runs: dict[str, list[Results]], peer: str) -> str:
    """Return a peer's CPU relative to one process: median, minimum and maximum of the rounds."""
    found = [
        theirs["cpu"] / ours["cpu"]
        for ours, theirs in zip(runs["ours"], runs[peer], strict=True)
        if "cpu" in ours and "cpu" in theirs
    ]
    return f"{statistics.median(found):.1f} ({min(found):.1f}-{max(found):.1f})"


def _memory(results: Results) -> Iterator[Row]:
    for each in results["cases"]:
        for median in each["medians"].values():
            if "store_memory" in median:
                name = each["name"].removeprefix("scale seats, ")
                yield (f"{name}: bytes of a room", f"{median['store_memory']:,.0f}")
            elif each["name"] == "scale notes":
                yield ("noting a room and its end: CPU, us", f"{median['store_cpu']:.1f}")


def million(results: Results) -> str:
    """Return the table of estimates for a million peers with the real client's traffic."""
    mix = case(results, "scale mix")
    per_packet = mix["medians"]["node4"]["rate"] / mix["spec"]["rate"]
    cost = {name: value * per_packet for name, value in _plain(mix["medians"]["node4"])}
    alone = mix["medians"]["ours"]["cpu"] * mix["medians"]["ours"]["rate"] / mix["spec"]["rate"]
    note = case(results, "scale notes")["medians"]["node1"]["store_cpu"]
    seat = case(results, "scale seats")["medians"]["node1"]["memory"]
    rooms = [
        case(results, f"scale seats, {number} rooms of 2")
        for number in {
            each["spec"].get("rooms") for each in results["cases"] if "size" in each["spec"]
        }
    ]
    room = max(each["medians"]["node1"]["store_memory"] for each in rooms)

    each_peer = REAL_RATE / REAL_PEERS
    packets = PEERS * each_peer
    joins = packets * CONNECTS
    log = packets * BROADCASTS * statistics.mean(CALL) * KEPT_SECONDS
    nodes = packets * cost["cpu"] / 1e6 / USE
    shards = packets * cost["store_cpu"] / 1e6 / USE
    rows: list[Row] = [
        ("packets a second", f"{packets:,.0f}", f"{each_peer} of each peer"),
        ("... of them broadcasts, connects", f"{packets * BROADCASTS:,.0f}, {joins:,.0f}"),
        ("nodes, a core each", f"{nodes:,.0f}", f"{cost['cpu']:.0f} us a packet, at {USE:.0%}"),
        ("... without a Valkey", f"{packets * alone / 1e6 / USE:,.0f}", f"{alone:.0f} us a packet"),
        ("peers of a node", f"{PEERS / nodes:,.0f}"),
        ("the nodes' memory", f"{PEERS * seat / 1e9:,.0f} GB", f"{seat:,.0f} B a peer"),
        ("shards of Valkey, a core each", f"{shards:,.0f}", f"{cost['store_cpu']:.1f} us a packet"),
        ("peers of a shard", f"{PEERS / shards:,.0f}"),
        ("memory of rooms", f"{PEERS / 2 * room / 1e9:,.1f} GB", f"{room:,.0f} B a room of two"),
        ("memory of packets kept", f"{log / 1e9:,.1f} GB", f"for {KEPT_SECONDS} s"),
        ("to the shards", f"{packets * cost['store_in'] / 1e6:,.0f} MB/s"),
        ("from the shards", f"{packets * cost['store_out'] / 1e6:,.0f} MB/s"),
        (
            "the one slot of notes",
            f"{joins * note / 1e4:,.0f} % of a core",
            f"{note:.0f} us a connect to another room",
        ),
    ]
    limits = {
        "a node's core": USE * 1e6 / (each_peer * cost["cpu"]),
        "the core of a single Valkey, or of a shard": USE * 1e6 / (each_peer * cost["store_cpu"]),
        "the shard with the notes, if it has nothing else": USE
        * 1e6
        / (each_peer * CONNECTS * note),
    }
    rows += [("",), ("what is full, and with how many peers",)]
    rows += [(f"  {name}", f"{peers:,.0f}") for name, peers in sorted(limits.items(), key=_second)]
    return _aligned(rows)


def _plain(median: Results) -> Iterator[tuple[str, float]]:
    names = ("cpu", "store_cpu", "store_in", "store_out")
    return ((name, median[name]) for name in names)


def _second(pair: tuple[str, float]) -> float:
    return pair[1]


def _aligned(rows: list[Row]) -> str:
    count = max(map(len, rows))
    filled = [row for row in rows if len(row) > 1]
    widths = [max(len(row[i]) for row in filled if i < len(row)) for i in range(count)]
    lines = []
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=False)]
        if len(row) == 3:  # a remark
            cells[1] = row[2]
        lines.append("  ".join([row[0].ljust(widths[0]), *cells]).rstrip())
    return "\n".join(lines)


def blocks(results: Results) -> dict[str, str]:
    """Return the tables, by their names in the document."""
    return {"measured": measured(results), "million": million(results)}


def written(document: str, results: Results) -> str:
    """Return the document with its tables replaced by those of the results."""
    for name, table in blocks(results).items():
        pattern = rf"(<!-- {name} -->\n```text\n).*?(```\n)"
        document, count = re.subn(
            pattern,
            lambda found, table=table: f"{found[1]}{table}\n{found[2]}",  # type: ignore[misc]
            document,
            flags=re.S,
        )
        if count != 1:
            raise ValueError(f"{DOCUMENT}: no place for {name}")
    return document


def main() -> None:
    """Process the result files named on the command line."""
    results = kept(*(json.loads(Path(path).read_text(encoding="utf-8")) for path in sys.argv[1:]))
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    document = DOCUMENT.read_text(encoding="utf-8")
    DOCUMENT.write_text(written(document, results), encoding="utf-8")


if __name__ == "__main__":
    main()
