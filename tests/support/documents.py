"""The fenced blocks of README.md and docs/*.md, and the tests that run them.

A block that no test runs makes tests/docs/test_documents.py fail. There are two ways to run one.

By its language, in any document:

- `json`: a valid configuration, or a client's packet (test_documents.py).
- `shell`: commands that test_documents_shell.py can run; a new kind of command needs a new
  entry in its table.
- `transcript`: what clients send and receive, played to a real server (see transcripts.py).
- `text` with a table of bin/bench: the table must be valid, and its ratios right
  (test_documents.py).

By name, for all other blocks, and for a block of these that needs more. In any test module:

    from documents import runs

    @runs("docs/hosting.md", "words that stand in no other block there")
    async def test_the_site(block: Block) -> None:
        ... run block.text ...

For several blocks in one test, use several `@runs`, each with its own argument `name`. If a fixture
or a fake takes the block, call the function `claim` instead. Write the arguments as literals:
claims are read from the source of the tests, without importing it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
_FENCE = re.compile(r"( *)(`{3,}|~{3,})([^`]*)")


@dataclass(frozen=True)
class Block:
    """A fenced block: its document, as "docs/x.md", the line of its fence, language and text."""

    document: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def _blocks(path: Path) -> Iterator[Block]:
    document = str(path.relative_to(ROOT))
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    for number, line in lines:
        if (fence := _FENCE.fullmatch(line)) is None:
            continue
        indent, mark, language = fence.groups()
        inner: list[str] = []
        for _, each in lines:
            if each.strip() == mark:
                break
            inner.append(each.removeprefix(indent) + "\n")
        else:
            raise AssertionError(f"{document}:{number}: a block without an end")
        yield Block(document, number, language.strip(), "".join(inner))


BLOCKS = [block for path in DOCUMENTS for block in _blocks(path)]

#: A test that a document names: file and function.
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


@cache
def defined(file: str) -> set[str]:
    """Return the functions and classes that a module defines; `file` is relative to the root."""
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, kinds)}


def sections(document: str) -> list[str]:
    """Return a document's sections, each from a heading `##` on, whatever it says."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.split(r"^(?=## )", text, flags=re.MULTILINE)


def tables(document: str) -> list[list[list[str]]]:
    """Return a document's tables, row by row, as cells; the first row is the head."""
    text = (ROOT / document).read_text(encoding="utf-8")
    found = [each.splitlines() for each in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)]
    return [[_cells(line) for line in (head, *rows)] for head, _, *rows in found]


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def table_of_tests(document: str) -> list[list[str]]:
    """Return the rows of the only table whose first row names a test, without its head."""
    (rows,) = [rows for _, *rows in tables(document) if rows and TEST.search(rows[0][-1])]
    return rows


def _found(document: str, words: str) -> list[Block]:
    return [each for each in BLOCKS if each.document == document and words in each.text]


def _calls(*names: str) -> Iterator[list[str]]:
    """Yield the arguments of each call of these functions in the tests."""
    for path in (ROOT / "tests").rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        if "from documents import" not in source or path.samefile(__file__):
            continue
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and getattr(node.func, "id", None) in names:
                yield [ast.literal_eval(each) for each in node.args]


@cache
def claimed() -> frozenset[Block]:
    """Return the blocks that tests claim by name."""
    return frozenset(found for each in _calls("runs", "claim") for found in _found(*each))


def unclaimed() -> list[Block]:
    """Return the blocks that no test runs, by name or by language."""
    left = [block for block in BLOCKS if block not in claimed()]
    for language, *words in _calls("runs_all"):
        left = [each for each in left if each not in _all_of(language, *words)]
    return left


def _all_of(language: str, words: str = "") -> list[Block]:
    return [
        each
        for each in BLOCKS
        if each.language == language and words in each.text and each not in claimed()
    ]


def claim(document: str, words: str) -> Block:
    """Return the only block of a document that contains `words`; the caller runs it."""
    found = _found(document, words)
    assert len(found) == 1, f"{words!r} stands in {len(found)} blocks of {document}"
    return found[0]


def runs(document: str, words: str, *, name: str = "block") -> pytest.MarkDecorator:
    """Pass the only block of a document that contains `words` to a test, as argument `name`."""
    return pytest.mark.parametrize(name, [claim(document, words)], ids=str)


def runs_all(language: str, words: str = "") -> pytest.MarkDecorator:
    """Pass to a test each block of a language (that contains `words`) that none claims by name."""
    return pytest.mark.parametrize("block", _all_of(language, words), ids=str)


def run_python(block: Block, **names: Any) -> dict[str, Any]:
    """Execute a block as a module with these names defined; return its namespace.

    Tracebacks show the document and the line.
    """
    module: dict[str, Any] = {"__name__": "documented", **names}
    exec(compile("\n" * block.line + block.text, block.document, "exec"), module)
    return module
