"""Change the code in one small way at a time, and see whether a test fails: a mutation run.

    python tests/support/mutants.py limits            # every mutant of videre/limits.py
    python tests/support/mutants.py transport --sample 60 --seed 1 | tee survivors
    python tests/support/mutants.py transport --again survivors  # after tests were added

The areas are in AREAS, each with the tests that should fail. A first run records which lines each
test executes; on a mutant only those run that execute a changed line, the shortest first. Nothing
is written: a mutant is compiled from memory, in a process forked from one that has imported the
libraries. The program prints each surviving mutant, and a line of figures. A mutant that runs too
long counts as killed, and is printed, too: on a busy machine that may be wrong.
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
import pickle
import random
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, ModuleType

import aiohttp.web
import coverage
import hypothesis
import jwt
import orjson
import pytest

ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = (aiohttp.web, hypothesis, jwt, orjson, pytest)  # imported once, for all mutants
CPU_SECONDS = 120  # for the tests of one mutant: several times what they need
SECONDS, TIMES = 60.0, 3.0  # in all, and times what the tests took: a mutant may wait for ever

#: Tests of what an operator sees, and over sockets.
OBSERVED = ("logs", "metrics/test_metrics*.py", "wire/test_protocol*.py")

#: By name: modules of videre, and the tests to run on their mutants.
AREAS: dict[str, tuple[list[str], list[str]]] = {
    "limits": (["limits.py"], ["house/test_limits.py", "peers"]),
    "packets": (
        ["packets/*.py", "payload.py"],
        ["wire/test_*packets*.py", "wire/test_payload.py", "peers/test_peer_[bpt]*.py"],
    ),
    "auth": (["auth.py"], ["house/test_auth*.py", "peers/test_peer_tokens.py"]),
    "peers": (["peers"], ["peers", "rooms", *OBSERVED]),
    "rooms": (["rooms"], ["rooms", "peers", *OBSERVED]),
    "engines": (
        ["engines/*.py"],
        ["engines/test_engine_[hmnosv]*.py", "engines/test_leases.py", "rooms", "peers", *OBSERVED],
    ),
    "transport": (
        ["transport"],
        [
            "transport",
            "hostile",
            "hosting/test_site_*.py",
            "metrics/test_metrics*.py",
            "wire/test_wire_habits.py",
            "wire/test_protocol_limits.py",
        ],
    ),
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
    lines: range
    what: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.lines.start}: {self.what}"

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
        for name in ("annotation", "returns"):
            if (part := getattr(node, name, None)) is not None:
                found |= set(ast.walk(part))
        for decorator in getattr(node, "decorator_list", ()):
            found |= set(ast.walk(decorator))
        is_log = isinstance(node, ast.Call) and "log" in ast.unparse(node.func)
        is_slots = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__slots__"
        if is_log or is_slots or isinstance(node, ast.ImportFrom):
            found |= set(ast.walk(node))
    # A statement is walked before its expression.
    statements = (node for node in ast.walk(tree) if isinstance(node, ast.Expr))
    return found | {node for node in statements if node.value in found}


def _called(tree: ast.Module) -> set[ast.AST]:
    """Return the nodes that run with each call of a function: not once, for all tests."""
    return {
        node
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        and not any("cache" in ast.unparse(each) for each in function.decorator_list)
        for statement in function.body
        for node in ast.walk(statement)
    }


def mutants(path: Path) -> Iterator[Mutant]:
    """Yield each mutant of a module."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    ignored, called = _ignored(tree), _called(tree)
    for number, node in enumerate(ast.walk(tree)):
        if node in ignored:
            continue
        before = ast.unparse(node).partition("\n")[0]
        changed = copy.deepcopy(node)
        if _change(changed) is not None:
            after = ast.unparse(ast.fix_missing_locations(changed)).partition("\n")[0]
            where = node.test if isinstance(node, ast.If) else node
            assert isinstance(where, ast.expr | ast.stmt) and where.end_lineno
            end = where.end_lineno + 1 if node in called else where.lineno
            yield Mutant(path, number, range(where.lineno, end), f"{before}  ->  {after}")


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


@dataclass
class Reach:
    """A plugin of pytest that records which tests execute which lines, and how long they take."""

    seconds: dict[str, float] = field(default_factory=dict)
    lines: dict[Path, dict[int, list[str]]] = field(default_factory=dict)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Record a test."""
        cover = coverage.Coverage.current()
        assert cover is not None
        cover.switch_context(item.nodeid)
        began = time.monotonic()
        try:
            return (yield)
        finally:
            self.seconds[item.nodeid] = time.monotonic() - began
            cover.switch_context("")

    def tests(self, mutant: Mutant) -> list[str]:
        """Return the tests that execute a changed line, or all if none is known to."""
        lines = self.lines.get(mutant.path, {})
        found = {test for line in mutant.lines for test in lines.get(line, ()) if test}
        return self.ordered(found or self.seconds)

    def ordered(self, tests: Iterable[str]) -> list[str]:
        """Return these tests, the shortest first."""
        return sorted(tests, key=self.seconds.__getitem__)


@dataclass
class Only:
    """A plugin of pytest that runs these tests alone, in this order."""

    tests: Sequence[str]

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Choose."""
        named = {item.nodeid: item for item in items}
        items[:] = [named[test] for test in self.tests if test in named]


def reach(paths: Sequence[Path], tests: Sequence[str]) -> Reach:
    """Run the tests, and return what they execute of these files."""
    with tempfile.NamedTemporaryFile() as found:
        if (child := os.fork()) == 0:
            cover = coverage.Coverage(data_file=None, include=[str(path) for path in paths])
            recorded = Reach()
            with cover.collect():
                _pytest(tests, recorded)
            data = cover.get_data()
            recorded.lines = {path: data.contexts_by_lineno(str(path)) for path in paths}
            Path(found.name).write_bytes(pickle.dumps(recorded))
            os._exit(0)
        os.waitpid(child, 0)
        read = pickle.loads(Path(found.name).read_bytes())
        assert isinstance(read, Reach)
        return read


def _test(mutant: Mutant | None, tests: Sequence[str]) -> int:
    """Run the tests in this process, and return pytest's exit code."""
    if mutant is not None:
        sys.meta_path.insert(0, Finder(mutant))
    files = dict.fromkeys(str(ROOT / test.partition("::")[0]) for test in tests)
    return _pytest(["-x", *files], Only(tests))


def _pytest(arguments: Sequence[str], *plugins: object) -> int:
    os.environ.setdefault("VIDERE_TEST_EXAMPLES", "0.3")  # what is rare has other tests
    null = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        os.dup2(null, number)
    options = [
        "-q",
        "-n",
        "0",
        "--assert=plain",
        "-p",
        "no:cacheprovider",
        "--fast",
        "--no-header",
    ]
    return int(pytest.main([*options, *arguments], plugins))


def survives(mutant: Mutant | None, tests: Sequence[str], *, within: float) -> bool:
    """Return whether these tests, by id, pass on a mutant, or for None on the unchanged code.

    They fail if they take longer than `within`, in seconds.
    """
    if (child := os.fork()) == 0:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        code = 1
        with contextlib.suppress(BaseException):
            code = _test(mutant, tests)
        os._exit(code)
    end = time.monotonic() + within
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
    parser.add_argument("--again", type=Path, help="try those that this output names")
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
    if arguments.again is not None:
        lines = arguments.again.read_text(encoding="utf-8").splitlines()
        chosen = [mutant for mutant in chosen if f"survived: {mutant}" in lines]
    named = [str(path) for path in files(tests, ROOT / "tests")]
    reached = reach(paths, named)
    unchanged = survives(None, reached.ordered(reached.seconds), within=3600.0)
    assert unchanged, "the tests fail on the code as it is"
    started = time.monotonic()
    tried, left = 0, []
    for mutant in chosen:
        if time.monotonic() - started > arguments.seconds:
            break
        tried += 1
        able = reached.tests(mutant)
        took = sum(map(reached.seconds.__getitem__, able))
        if survives(mutant, able, within=SECONDS + TIMES * took):
            left.append(mutant)
            print(f"survived: {mutant}", flush=True)
        if tried % 20 == 0:
            print(f"{tried} tried", flush=True)
    killed = 100 * (tried - len(left)) / max(1, tried)
    print(f"{arguments.area}: {tried} of {total} mutants, {killed:.1f} % killed")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
