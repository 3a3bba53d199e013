"""Measure which branches the fast tests take: python tests/support/branches.py [--pure]

All branches of the pure modules must be taken (the list is PURE in
tests/house/test_architecture.py), and of the rest at least as many as FLOOR says, which is raised
when the figure has risen. `--pure` measures the pure modules alone, with the tests of the rules.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import coverage
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "house")]  # tests import from the root, too

from test_architecture import PURE  # noqa: E402  # it is no package

RULES = ("config", "engines", "house", "peers", "rooms", "wire")  # folders that test pure modules
FLOOR = 79.0  # per cent of the branches of all other modules


def files(modules: Sequence[str]) -> set[str]:
    """Return the files of modules of the package, relative to the root."""
    found: set[str] = set()
    for module in modules:
        path = ROOT / "videre" / module.replace(".", "/")
        path = path / "__init__.py" if path.is_dir() else path.with_name(f"{path.name}.py")
        found.add(str(path.relative_to(ROOT)))
    return found


def measured(include: Sequence[str], tests: Sequence[str]) -> tuple[dict[str, Any], bool]:
    """Run the fast ones of these tests; return coverage's report by file, and if all passed."""
    cover = coverage.Coverage(branch=True, data_file=None, include=[*include])
    cover.start()
    options = ["-n", "0", "-q", "--fast", "-p", "no:cacheprovider"]
    options.append("--ignore-glob=*growth*")  # they measure costs, which tracing changes
    code = pytest.main([*options, *tests])
    cover.stop()
    if code:
        print("TESTS HAVE FAILED: the figures are not to be trusted")
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        cover.json_report(outfile=report.name)
        found: dict[str, Any] = json.load(report)["files"]
    return found, not code


def missing(found: dict[str, Any]) -> list[str]:
    """Return the branches and lines of these files that were not reached."""
    return [
        f"{file}: {kind} {', '.join(map(str, lines))}"
        for file, report in sorted(found.items())
        for kind in ("missing_lines", "missing_branches")
        if (lines := report[kind])
    ]


def main() -> int:
    """Report; return 1 if something is below its bound, or a test fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pure", action="store_true", help="only the pure modules")
    pure_only = parser.parse_args().pure
    pure = files(PURE)
    tests = [str(ROOT / "tests" / folder) for folder in RULES] if pure_only else []
    found, passed = measured([*pure] if pure_only else ["videre/*"], tests)
    assert pure <= found.keys(), pure - found.keys()
    left = missing({file: report for file, report in found.items() if file in pure})
    print(*left, sep="\n")
    rest = [report["summary"] for file, report in found.items() if file not in pure]
    taken = sum(each["covered_branches"] for each in rest)
    share = 100 * taken / max(1, sum(each["num_branches"] for each in rest))
    print(
        f"pure modules: {len(left)} gaps", "" if pure_only else f"others: {share:.1f} %", sep="; "
    )
    return 1 if left or (rest and share < FLOOR) or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
