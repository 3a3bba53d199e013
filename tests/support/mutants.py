"""Change the code in one small way at a time, and see whether a test fails: a mutation run.

    python tests/support/mutants.py limits            # every mutant of videre/limits.py
    python tests/support/mutants.py transport --sample 60 --seed 1

The areas are in AREAS, each with the tests that should fail. Nothing is written: a mutant is
compiled from memory, in a process forked from one that has imported the libraries. The program
prints each surviving mutant, and a line of figures. A mutant that runs too long counts as killed,
and is printed, too: on a busy machine that may be wrong.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import importlib.abc
import importlib.machinery
import importlib.util
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType

import aiohttp.web
import hypothesis
import jwt
import orjson
import pytest

ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = (aiohttp.web, hypothesis, jwt, orjson, pytest)  # imported once, for all mutants
CPU_SECONDS = 120  # for the tests of one mutant: several times what they need
SECONDS = 600.0  # in all: a mutant may wait for ever, at no cost

#: By name: modules of videre, and the tests to run on their mutants.
AREAS: dict[str, tuple[list[str], list[str]]] = {
    "limits": (["limits.py"], ["house/test_limits.py", "peers"]),
    "packets": (
        ["packets/*.py", "payload.py"],
        ["wire/test_*packets*.py", "wire/test_payload.py", "peers/test_peer_[bpt]*.py"],
    ),
    "auth": (["auth.py"], ["house/test_auth*.py", "peers/test_peer_tokens.py"]),
    "peers": (["peers"], ["peers", "rooms"]),
    "rooms": (["rooms"], ["rooms", "peers"]),
    "engines": (["engines/*.py"], ["engines/test_engine_[hmn]*.py", "rooms", "peers"]),
    "transport": (["transport"], ["transport", "hostile"]),
}

SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
}


@dataclass(frozen=True)
class Mutant:
    """One change of a module: the node's number in ast.walk's order, and the kind of change."""

    path: Path
    node: int
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}: {self.what}"

    def code(self) -> CodeType:
        """Return the module's code with the change."""
        tree = ast.parse(self.path.read_text(encoding="utf-8"))
        node = list(ast.walk(tree))[self.node]
        _change(node)
        return compile(ast.fix_missing_locations(tree), str(self.path), "exec")


def _change(node: ast.AST) -> str | None:
    """Change a node in place; return a description, or None if it cannot be changed."""
    match node:
        case ast.Compare(ops=[op]) if type(op) in SWAPS:
            node.ops = [SWAPS[type(op)]()]  # type: ignore[list-item]
        case ast.BoolOp(op=op) | ast.BinOp(op=op) | ast.AugAssign(op=op) if type(op) in SWAPS:
            node.op = SWAPS[type(op)]()  # type: ignore[assignment]
        case ast.UnaryOp(op=ast.Not()):
            node.op = ast.UAdd()
            node.operand = ast.Call(ast.Name("bool", ast.Load()), [node.operand], [])
        case ast.Constant(value=bool(value)):
            node.value = not value
        case ast.Constant(value=int(value) | float(value)):
            node.value = value + 1
        case ast.If(test=test):
            node.test = ast.BoolOp(ast.And(), [ast.Constant(False), test])
        case ast.Expr(value=ast.Call() | ast.Await()):
            node.value = ast.Constant(None)
        case ast.Return(value=ast.expr()) if not isinstance(node.value, ast.Constant):
            node.value = ast.Constant(None)
        case _:
            return None
    return type(node).__name__


def _ignored(tree: ast.Module) -> set[ast.AST]:
    """Return the nodes that tests need not notice: annotations, decorators, log lines."""
    found: set[ast.AST] = set()
    for node in ast.walk(tree):
        for field in ("annotation", "returns"):
            if (part := getattr(node, field, None)) is not None:
                found |= set(ast.walk(part))
        for decorator in getattr(node, "decorator_list", ()):
            found |= set(ast.walk(decorator))
        is_log = isinstance(node, ast.Call) and "log" in ast.unparse(node.func)
        is_slots = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__slots__"
        if is_log or is_slots or isinstance(node, ast.ImportFrom):
            found |= set(ast.walk(node))
        if isinstance(node, ast.Expr) and node.value in found:
            found.add(node)
    return found


def mutants(path: Path) -> Iterator[Mutant]:
    """Yield each mutant of a module."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    ignored = _ignored(tree)
    for number, node in enumerate(ast.walk(tree)):
        if node in ignored:
            continue
        before = ast.unparse(node).partition("\n")[0]
        changed = copy.deepcopy(node)
        if _change(changed) is not None:
            after = ast.unparse(ast.fix_missing_locations(changed)).partition("\n")[0]
            yield Mutant(path, number, getattr(node, "lineno", 0), f"{before}  ->  {after}")


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module as its mutant."""

    def __init__(self, mutant: Mutant) -> None:
        relative = mutant.path.relative_to(ROOT).with_suffix("")
        parts = relative.parts[:-1] if relative.name == "__init__" else relative.parts
        self._name = ".".join(parts)
        self._mutant = mutant

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """See MetaPathFinder."""
        if name != self._name:
            return None
        locations = (
            [str(self._mutant.path.parent)] if self._mutant.path.stem == "__init__" else None
        )
        return importlib.util.spec_from_file_location(
            name, self._mutant.path, loader=self, submodule_search_locations=locations
        )

    def exec_module(self, module: ModuleType) -> None:
        """See Loader."""
        exec(self._mutant.code(), module.__dict__)


def _test(mutant: Mutant | None, tests: Sequence[str]) -> int:
    """Run the tests in this process, and return pytest's exit code."""
    if mutant is not None:
        sys.meta_path.insert(0, Finder(mutant))
    os.environ.setdefault("VIDERE_TEST_EXAMPLES", "0.3")  # what is rare has other tests
    null = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        os.dup2(null, number)
    options = [
        "-x",
        "-q",
        "-n",
        "0",
        "--assert=plain",
        "-p",
        "no:cacheprovider",
        "--fast",
        "--no-header",
    ]
    return int(pytest.main([*options, *tests]))


def survives(mutant: Mutant | None, tests: Sequence[str]) -> bool:
    """Return whether the tests pass on a mutant, or for None on the unchanged code."""
    if (child := os.fork()) == 0:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        code = 1
        with contextlib.suppress(BaseException):
            code = _test(mutant, tests)
        os._exit(code)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            if os.WIFSIGNALED(status):
                print(f"ended by {signal.Signals(os.WTERMSIG(status)).name}: {mutant}", flush=True)
            return status == 0
        time.sleep(0.05)
    print(f"endless: {mutant}", flush=True)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def files(patterns: Sequence[str], folder: Path) -> list[Path]:
    """Return the files and folders that match these patterns."""
    return sorted(path for pattern in patterns for path in folder.glob(pattern))


def main() -> int:
    """Run the requested mutants; return 1 if any survives."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("area", choices=AREAS)
    parser.add_argument("--sample", type=int, help="try this many, chosen at random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--skip", type=int, default=0, help="leave out this many first")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="then start no more")
    arguments = parser.parse_args()
    sources, tests = AREAS[arguments.area]
    paths = [
        path
        for found in files(sources, ROOT / "videre")
        for path in (sorted(found.rglob("*.py")) if found.is_dir() else [found])
    ]
    chosen = [mutant for path in paths for mutant in mutants(path)]
    total = len(chosen)
    if arguments.sample is not None:
        chosen = random.Random(arguments.seed).sample(chosen, min(total, arguments.sample))
    chosen = chosen[arguments.skip :]
    named = [str(path) for path in files(tests, ROOT / "tests")]
    assert survives(None, named), "the tests fail on the code as it is"
    started = time.monotonic()
    tried, left = 0, []
    for mutant in chosen:
        if time.monotonic() - started > arguments.seconds:
            break
        tried += 1
        if survives(mutant, named):
            left.append(mutant)
            print(f"survived: {mutant}", flush=True)
    killed = 100 * (tried - len(left)) / max(1, tried)
    print(f"{arguments.area}: {tried} of {total} mutants, {killed:.1f} % killed")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
