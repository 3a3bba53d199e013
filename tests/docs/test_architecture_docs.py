"""docs/architecture.md: its layers match the imports, and everything that it names exists."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest
from documents import ROOT, tables

sys.path.append(str(ROOT / "tests" / "house"))
from test_architecture import ARROWS, ROOTS

TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
CODE = re.findall(r"`([^`\n]+)`", TEXT)
PATHS = [each for each in CODE if re.fullmatch(r"[\w./-]+(/|\.(py|md|json))", each)]
NAMES = [each for each in CODE if re.fullmatch(r"packets\.[A-Z]\w+", each)]


def layers() -> list[set[str]]:
    """Return the folders and modules of each layer, lowest first."""
    named = [
        [set(re.findall(r"`(\w+)`", row[1])) for row in rows]
        for _, *rows in tables("docs/architecture.md")
    ]
    return max(named, key=lambda rows: len(set().union(*rows) & {*ARROWS, *ROOTS}))


def test_each_folder_has_its_layer() -> None:
    """The layers together have every folder and module of the package, once each."""
    named = [name for layer in layers() for name in layer]
    assert sorted(named) == sorted({*ARROWS, *ROOTS} - {"", "__main__"})
    assert layers()[-1] == ROOTS - {"", "__main__"}


def test_imports_point_at_the_layers_above() -> None:
    """Each folder imports only from its own layer or from those above."""
    place = {name: number for number, layer in enumerate(layers()) for name in layer}
    wrong = [
        f"{name} imports {other}"
        for name, others in ARROWS.items()
        for other in others
        if place[other] > place[name]
    ]
    assert not wrong


def test_the_document_names_paths_and_names() -> None:
    """Otherwise the tests below would check nothing."""
    assert len(PATHS) > 20 and len(NAMES) >= 2


@pytest.mark.parametrize("path", sorted(set(PATHS)))
def test_its_files_are_there(path: str) -> None:
    """Each path is in the repository, or in the package."""
    assert any((folder / path).exists() for folder in (ROOT, ROOT / "videre"))
    found = next(folder / path for folder in (ROOT, ROOT / "videre") if (folder / path).exists())
    assert found.is_dir() == path.endswith("/")


@pytest.mark.parametrize("name", sorted(set(NAMES)))
def test_its_names_are_there(name: str) -> None:
    """Each name is in the module that the document says."""
    module, _, attribute = name.partition(".")
    assert hasattr(importlib.import_module(f"videre.{module}"), attribute)


@pytest.mark.parametrize(
    ("where", "names"),
    [
        ("peers/peer.py", ["_HANDLERS", "class Peer"]),
        ("peers/context.py", ["class Context"]),
        ("settings.py", ["class Options"]),
        ("engines/__init__.py", ["class Engine(Protocol)"]),
        (
            "transport/session.py",
            ["class Session", "class Keeper(Protocol)", "def send", "def close"],
        ),
        ("transport/session.py", ["def sweep", "def cut", "def backlog", "def is_receiving"]),
        ("transport/shared.py", ["class Handler(Protocol)"]),
        ("transport/requests.py", ["TRANSPORTS: "]),
        ("tally.py", ["TRANSPORTS = "]),
        ("interfaces.py", ["class Connection(Protocol)"]),
        ("app.py", ["def accept("]),
        ("namespace.py", ["isinstance(handler, Peer)"]),
    ],
)
def test_the_places_of_the_recipes(where: str, names: list[str]) -> None:
    """Each is where the recipe says."""
    source = (ROOT / "videre" / where).read_text(encoding="utf-8")
    assert [name for name in names if name not in source] == []


@pytest.mark.parametrize("thing", ["event", "limit", "metric", "engine", "transport", "dialect"])
def test_each_recipe_leads_somewhere(thing: str) -> None:
    """It has numbered steps, and names the files or the code to change."""
    (recipe,) = re.findall(rf"^\*\*An? {thing}\b.*\n((?:(?:\d\.|  ) .*\n)+)", TEXT, re.MULTILINE)
    steps = re.findall(r"^(\d)\. ", recipe, re.MULTILINE)
    assert steps == [str(number) for number in range(1, len(steps) + 1)] and len(steps) > 1
    assert re.search(r"`[\w/]+\.py`|`[\w/]+/`", recipe)


def test_the_picture_shows_the_way() -> None:
    """Each step of the packet's life names a file and a function in it."""
    picture = (ROOT / "docs" / "packet.svg").read_text(encoding="utf-8")
    steps = re.findall(r'class="mono"[^>]*>([\w./]+) (\w+)<', picture)
    assert len(steps) > 4
    for where, name in steps:
        path = ROOT / "videre" / where
        files: list[Path] = [path] if path.is_file() else sorted(path.glob("*.py"))
        sources = [file.read_text(encoding="utf-8") for file in files]
        assert any(re.search(rf"(def|class) {name}\b", source) for source in sources), (where, name)
