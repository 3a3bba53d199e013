"""docs/scale.md: its tables follow from the file of results."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from statistics import median
from types import ModuleType
from typing import Any

import pytest
from documents import Block, runs
from process import ROOT


@pytest.fixture
def million(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Give the module that writes the tables."""
    monkeypatch.syspath_prepend(str(ROOT))
    before = set(sys.modules)
    from benchmarks import million

    yield million
    for name in set(sys.modules) - before:
        if name.split(".")[0] == "benchmarks":
            del sys.modules[name]


@pytest.fixture
def results(million: ModuleType) -> dict[str, Any]:
    """Give the results."""
    found: dict[str, Any] = json.loads(million.RESULTS.read_text(encoding="utf-8"))
    return found


@runs("docs/scale.md", "relay, 50 rooms x 1", name="measured")
@runs("docs/scale.md", "packets a second", name="computed")
def test_the_tables_are_those_of_the_results(
    million: ModuleType, results: dict[str, Any], measured: Block, computed: Block
) -> None:
    """Neither was changed without the other."""
    document = million.DOCUMENT.read_text(encoding="utf-8")
    again = million.written(document, results)
    assert again == document and measured.text in again and computed.text in again


def test_the_medians_are_those_of_the_runs(million: ModuleType, results: dict[str, Any]) -> None:
    """Every case ran this many times, and the tables show the median."""
    for case in results["cases"]:
        for peer, shown in case["medians"].items():
            runs = [run for run in case["runs"][peer] if "error" not in run]
            assert 2 <= len(runs) <= results["rounds"], (case["name"], peer)
            for figure in ("cpu", "rate", "store_cpu", "store_asked", "store_memory"):
                if figure in shown:
                    assert shown[figure] == pytest.approx(median(run[figure] for run in runs))


def test_a_million_is_what_it_says(million: ModuleType, results: dict[str, Any]) -> None:
    """The numbers of nodes and shards, computed independently."""
    mix = [case for case in results["cases"] if case["name"].startswith("scale mix")][-1]
    four, rate = mix["medians"]["node4"], mix["spec"]["rate"]
    table = million.million(results)
    for words, figure in (("nodes, a core each", "cpu"), ("shards of Valkey", "store_cpu")):
        found = re.search(rf"^{words}.*?\s([\d,]+)\s", table, re.M)
        assert found is not None
        count = 560_000 * four[figure] * four["rate"] / rate / 1_000_000 / 0.7
        assert int(found[1].replace(",", "")) == pytest.approx(count, abs=1)


def test_a_document_without_a_place_is_refused(
    million: ModuleType, results: dict[str, Any]
) -> None:
    """A table without a place in the document is an error."""
    with pytest.raises(ValueError, match="no place for measured"):
        million.written("no tables", results)
