"""Every fenced block of the documentation is run; this module runs JSON and tables of figures."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from documents import (
    DOCUMENTS,
    ROOT,
    TEST,
    Block,
    defined,
    runs,
    runs_all,
    table_of_tests,
    unclaimed,
)

from benchmarks.report import HEAD
from videre import config
from videre.packets import CLIENT_EVENTS, Decoder

LINK = re.compile(r"\]\(([^)\s]+)\)")
SECRET = "0123456789abcdef0123456789abcdef"


def test_every_block_is_run() -> None:
    """tests/support/documents.py explains how."""
    left = [f"{block}: {block.language or 'no language'}" for block in unclaimed()]
    assert not left, "no test runs " + ", ".join(left)


@runs_all("json")
def test_json(block: Block, tmp_path: Path) -> None:
    """It is a packet that a client may send, or a valid configuration."""
    values = json.loads(block.text)
    if "Header" in values:
        assert Decoder(64 * 1024).decode(block.text).event in CLIENT_EVENTS
        return
    for name in re.findall(r'"(?:\w*(?:Secret|Token)Files?)": *\[?"([^"]+)"', block.text):
        (tmp_path / name).write_text(SECRET)
    conf = tmp_path / "conf.json"
    conf.write_text(block.text)
    assert config.load(conf, environ={"VIDERE_SECRETS": SECRET}).sources.keys() == values.keys()


def _between(figure: str) -> tuple[float, float]:
    """Return the bounds of a figure before it was rounded."""
    half = 0.5 * 10.0 ** -len(figure.partition(".")[2])
    return float(figure) - half, float(figure) + half


def _marked(columns: list[str]) -> tuple[float, float]:
    """Return the figure that a row's ratio compares."""
    (column,) = [each for each in columns if each.endswith("*")]
    match = re.match(r"[\d.]+", column)
    assert match
    return _between(match[0])


@runs_all("text", "ours/it")
def test_figures(block: Block) -> None:
    """In tables of bin/bench, each ratio is our figure divided by the other's, as far as shown."""
    head, *groups = block.text.split("\n\n")
    if "\n" in head:  # no empty line after it
        head, first = head.split("\n", 1)
        groups.insert(0, first)
    assert re.split(r"  +", head.strip()) == list(HEAD[1:])
    compared = 0
    for group in groups:
        ours, *others = [re.split(r"\s{2,}", line) for line in group.splitlines()]
        if others and others[0][0] == "" and ours[1:2] == ["videre-server"]:
            least, most = _marked(ours)
            ran = [row[1:] for row in others if not row[2].startswith("FAILED")]
            for label, _cpu, ratio, *rest in ran:
                low, high = _marked([_cpu, *rest])
                shown = _between(ratio)
                assert least / high <= shown[1] and most / low >= shown[0], label
                compared += 1
    assert compared >= len(groups) / 2


def _anchors(path: Path) -> set[str]:
    """Return the anchors of a document's headings, as GitHub forms them."""
    headings = re.findall(r"^#+ +(.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    """Links within the repository lead to an existing file, and an existing heading in it."""
    for link in LINK.findall(path.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.is_relative_to(ROOT) and target.exists(), link
        assert not anchor or anchor in _anchors(target), link


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_programs_start_in_an_environment(path: Path) -> None:
    """The reader's own programs import what `.venv` has; many systems have no other `python`."""
    assert not re.findall(r"(?<!/)\bpython3? \w+\.py\b", path.read_text(encoding="utf-8"))


def _linked(path: Path) -> set[Path]:
    """Return the documents that a document links to."""
    links = LINK.findall(path.read_text(encoding="utf-8"))
    targets = {(path.parent / link.partition("#")[0]).resolve() for link in links}
    return targets & set(DOCUMENTS)


def test_the_readme_leads_to_every_document() -> None:
    """Links lead from the README to each of them."""
    found, new = set(), {DOCUMENTS[0]}
    while new:
        found |= new
        new = set().union(*map(_linked, new)) - found
    assert not set(DOCUMENTS) - found


@runs("docs/architecture.md", "bin/        serve", name="tree")
@runs("docs/architecture.md", "peers/peer.receive -> peers/connect", name="connect")
def test_names_in_pictures_exist(tree: Block, connect: Block) -> None:
    """The map has every folder and module, and each `folder/module.name` is defined there."""
    package = ROOT / "videre"
    text = tree.text.partition("videre/\n")[2].partition("tests/ ")[0]
    names = " ".join(re.findall(r"^  (\S+(?: \S+)*)", text, re.MULTILINE)).split()
    found = {f"{path.name}/" for path in package.iterdir() if path.is_dir()}
    found |= {path.stem for path in package.glob("*.py")}
    assert sorted(names) == sorted(found - {"__init__", "__main__", "version", "__pycache__/"})
    named = re.findall(r"\b([a-z_]+/[a-z_]+)(?:\.(\w+))?", connect.text)
    assert len(named) >= 3  # test_architecture_docs.py has those of packet.svg
    for path, name in named:
        module = package / f"{path}.py"
        text = (module if module.exists() else package / path / "__init__.py").read_text()
        assert not name or re.search(rf"(def|class) {name}\b", text), f"{path}.{name}"


LOOK = table_of_tests("docs/architecture.md")


@pytest.mark.parametrize("row", LOOK, ids=lambda row: row[0])
def test_where_to_look(row: list[str]) -> None:
    """Each row names existing modules, names that they define, and an existing test."""
    _, code, test = row
    modules = re.findall(r"`(\w[\w/]*\.(?:py|lua))`", code)
    assert modules and all((ROOT / "videre" / module).exists() for module in modules)
    for name, module in re.findall(r"`(\w+)` in `([\w/]+\.py)`", code):
        text = (ROOT / "videre" / module).read_text(encoding="utf-8")
        assert re.search(rf"^ *(def|class|async def) {name}\b|^{name}\b", text, re.MULTILINE), name
    ((file, function),) = TEST.findall(test)
    assert function in defined(file), f"{file}::{function}"


def test_the_table_answers_the_common_questions() -> None:
    """Without this check, the test above would pass if it found no rows."""
    assert len(LOOK) > 9
