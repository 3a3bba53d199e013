"""A default is written in one place, videre/settings.py: code refers to it, documents agree."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Iterator
from typing import Any

import pytest
from documents import DOCUMENTS
from process import ROOT

from videre.config.schema import CLASSES, SCHEMA

PACKAGE = ROOT / "videre"
#: All modules of the server except the one that holds the defaults.
FILES = [
    path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path != PACKAGE / "settings.py" and PACKAGE / "client" not in path.parents
]
DEFAULTS: dict[str, Any] = {
    field.name: field.default for kind in CLASSES for field in dataclasses.fields(kind)
}
#: "`Grace`, 20 s" or "`PacketBurst` (400)" or "`DrainSeconds` (30 s)"; not "16 x `MaxPacketBytes`".
STATED = re.compile(r"(?<!× )`([A-Z]\w+)`(?:, | \()([\d,.]*\d)(?: (s|KiB|MiB)\b)?(?=[\s),.:;])")
UNITS = {"": 1, "s": 1, "KiB": 1024, "MiB": 1024 * 1024}


def repeated(tree: ast.AST) -> Iterator[str]:
    """Yield the names of parameters, fields and constants that repeat a setting's default."""
    for node in ast.walk(tree):
        pairs: list[tuple[str, ast.expr | None]] = []
        if isinstance(node, ast.arguments):
            named = [*node.posonlyargs, *node.args]
            given = node.defaults
            pairs += zip(
                (each.arg for each in named[len(named) - len(given) :]), given, strict=True
            )
            pairs += zip((each.arg for each in node.kwonlyargs), node.kw_defaults, strict=True)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            pairs.append((node.target.id.lower(), node.value))
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            pairs.append((node.targets[0].id.lower(), node.value))
        for name, value in pairs:
            if DEFAULTS.get(name) and value is not None and constant(value) == DEFAULTS[name]:
                yield name


def constant(value: ast.expr) -> Any:
    """Return the value of a literal, or of a product of literals; None for anything else."""
    if not all(isinstance(n, ast.Constant | ast.BinOp | ast.Mult) for n in ast.walk(value)):
        return None
    return eval(compile(ast.Expression(value), "", "eval"))


@pytest.mark.parametrize(
    "text",
    [
        "def f(*, grace=20.0): ...",
        "def f(host='0.0.0.0'): ...",
        "byte_burst = 512 * 1024",
        "class A:\n    node_timeout: float = 10.0",
        "PORT = 1111",
    ],
)
def test_a_repeated_default_is_found(text: str) -> None:
    """In a parameter, a field and a constant: the walk of the next test sees them."""
    assert list(repeated(ast.parse(text)))


def test_no_module_repeats_a_default() -> None:
    """It writes `Limits.grace`, so that a changed default changes everywhere."""
    wrong = {
        str(path.relative_to(PACKAGE)): found
        for path in FILES
        if (found := list(repeated(ast.parse(path.read_text(encoding="utf-8")))))
    }
    assert not wrong


def test_documents_state_the_real_defaults() -> None:
    """Beside a key, as in "`Grace`, 20 s" or "`PacketBurst` (400)"."""
    stated = {
        (path.name, key, float(number.replace(",", "")) * UNITS[unit])
        for path in DOCUMENTS
        if path.name != "configuration.md"  # written from the settings
        for key, number, unit in STATED.findall(path.read_text(encoding="utf-8"))
        if key in SCHEMA
    }
    assert len(stated) > 8
    assert [each for each in sorted(stated) if each[2] != SCHEMA[each[1]]["default"]] == []
