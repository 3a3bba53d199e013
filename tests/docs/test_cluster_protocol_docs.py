"""docs/cluster-protocol.md: its fields, operations and keys are those of the code."""

from __future__ import annotations

import re

import pytest
from documents import ROOT, tables

from videre.engines.redis import node
from videre.engines.redis.view import MOVES, ViewState

TEXT = (ROOT / "docs" / "cluster-protocol.md").read_text(encoding="utf-8")
SCRIPTS = ROOT / "videre" / "engines" / "redis"


def rows(*head: str) -> list[list[list[str]]]:
    """Return the rows of each table whose head begins with these words, under any heading."""
    found = tables("docs/cluster-protocol.md")
    return [rows for first, *rows in found if first[: len(head)] == [*head]]


#: The names in the column `field` of each table that has one: a node's, a view's, a seat's.
FIELDS = [
    {name for row in table for name in re.findall(r"`(\w+)", row[1])}
    for table in (*rows("state", "field"), *rows("condition", "field"))
]


def source(name: str) -> str:
    """Return the text of one of the store's scripts."""
    return (SCRIPTS / name).read_text(encoding="utf-8")


@pytest.mark.parametrize(("number", "module"), [(0, "node.py"), (1, "view.py"), (2, "view.py")])
def test_each_state_is_a_field(number: int, module: str) -> None:
    """Each is a property of Node, View or OwnSeat, or an attribute that is set at its creation."""
    text, named = source(module), FIELDS[number]
    assert len(named) > 2
    held = r"self\.{0}\b[^=\n]* = |@property\n    def {0}\(|^    {0}: "
    pattern = re.MULTILINE
    assert {name for name in named if not re.search(held.format(name), text, pattern)} == set()


def test_the_states_of_a_view() -> None:
    """Each is named and explained as in the code."""
    (table,) = rows("state", "meaning")
    assert [row[0] for row in table] == list(ViewState)


def test_the_moves_of_a_view() -> None:
    """The page has exactly the changes that the code allows."""
    (table,) = rows("to", "from", "when")
    found = {(before, to) for to, earlier, _ in table for before in earlier.split(", ")}
    assert found == {(before, to) for before, row in MOVES.items() for to in row}


def test_each_step_of_the_cluster_is_named() -> None:
    """The page names every operation of nodes.lua."""
    operations = re.findall(r"op == '(\w+)'", source("nodes.lua"))
    assert len(operations) > 5
    assert [each for each in operations if not re.search(rf"\b{each}\b", TEXT)] == []


@pytest.mark.parametrize("script", ["room.lua", "nodes.lua"])
def test_each_key_is_named(script: str) -> None:
    """The page names every key listed at the top of the script."""
    keys = re.findall(r"^--   (\w+) +(?:hash|zset|set|string|list) ", source(script), re.MULTILINE)
    assert len(keys) >= 3
    assert [key for key in keys if f"\n| `{key}` |" not in TEXT] == []


@pytest.mark.parametrize("constant", re.findall(r"`([A-Z]+_SECONDS)`", TEXT))
def test_its_times(constant: str) -> None:
    """Each constant has the seconds that the page says."""
    (seconds,) = re.findall(rf"(\d+) s\b[^.|(`]*\(`{constant}`\)", TEXT)
    assert getattr(node, constant) == float(seconds)
