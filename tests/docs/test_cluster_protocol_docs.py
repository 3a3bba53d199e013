"""docs/cluster-protocol.md: the fields, operations and keys that it names are those of the code."""

from __future__ import annotations

import re

import pytest
from process import ROOT

from videre.engines.redis import node, view
from videre.engines.redis.view import MOVES, ViewState

TEXT = (ROOT / "docs" / "cluster-protocol.md").read_text(encoding="utf-8")
SCRIPTS = ROOT / "videre" / "engines" / "redis"


def section(title: str) -> str:
    """Return a section of the page."""
    return TEXT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows(title: str, head: str) -> list[list[str]]:
    """Return the cells of a section's table, which begins with `head`."""
    table = section(title).partition(head)[2].partition("\n\n")[0]
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in table.splitlines()[2:]]


def fields(title: str) -> set[str]:
    """Return the names in the second column of a section's table of fields."""
    heads = ("| state | field |", "| condition | field |")
    cells = [row[1] for head in heads for row in rows(title, head)]
    return {name for cell in cells for name in re.findall(r"`(\w+)", cell)}


def source(name: str) -> str:
    """Return the text of a script of the store."""
    return (SCRIPTS / name).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("title", "module", "least"),
    [("States of a node", node, 4), ("States of a view", view, 3), ("A node's own seats", view, 4)],
)
def test_each_state_is_a_field(title: str, module: object, least: int) -> None:
    """Of Node, View or OwnSeat: an attribute that is set when one is made, or a property."""
    text = source(f"{module.__name__.rpartition('.')[2]}.py")  # type: ignore[attr-defined]
    named = fields(title)
    assert len(named) >= least
    held = r"self\.{0}\b[^=\n]* = |@property\n    def {0}\(|^    {0}: "
    pattern = re.MULTILINE
    assert {name for name in named if not re.search(held.format(name), text, pattern)} == set()


def test_the_states_of_a_view() -> None:
    """Each is named as in the code, with its meaning."""
    found = [row[0] for row in rows("States of a view", "| state | meaning |")]
    assert found == list(ViewState)


def test_the_moves_of_a_view() -> None:
    """The page allows what the code allows."""
    found = {
        (before, to)
        for to, earlier, _ in rows("States of a view", "| to | from | when |")
        for before in earlier.split(", ")
    }
    assert found == {(before, to) for before, row in MOVES.items() for to in row}


def test_each_step_of_the_cluster_is_named() -> None:
    """Every operation of nodes.lua."""
    operations = re.findall(r"op == '(\w+)'", source("nodes.lua"))
    assert len(operations) > 5
    assert [each for each in operations if not re.search(rf"\b{each}\b", TEXT)] == []


@pytest.mark.parametrize("script", ["room.lua", "nodes.lua"])
def test_each_key_is_named(script: str) -> None:
    """Of those at the top of the script."""
    keys = re.findall(r"^--   (\w+) +(?:hash|zset|set|string|list) ", source(script), re.MULTILINE)
    assert len(keys) >= 3
    assert [key for key in keys if f"`{key}`" not in section("What the store holds")] == []


@pytest.mark.parametrize("constant", re.findall(r"`([A-Z]+_SECONDS)`", TEXT))
def test_its_times(constant: str) -> None:
    """Each constant is the engine's, with the seconds that the page says."""
    (seconds,) = re.findall(rf"(\d+) s\s+(?:later\s+)?\(`{constant}`\)", TEXT)
    assert getattr(node, constant) == float(seconds)
