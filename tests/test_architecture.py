"""The architecture: imports point one way, rules know no I/O, and all is explained."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "videre"
FILES = sorted(PACKAGE.rglob("*.py"))
MAX_LINES = 350

#: What of ours a module may import, itself and its own folder apart; a folder stands for all in it.
#: What is not listed may import anything: app, cli and what comes above the rules.
ARROWS: dict[str, set[str]] = {
    "errors": set(),
    "packets": {"errors"},
    "limits": set(),
    "auth": {"errors"},
    "ice": set(),
    "timers": set(),
    "tally": {"errors", "packets"},
    "lag": {"tally", "timers"},
    "engines": {"errors", "tally", "timers"},
    "connect_options": {"errors"},
    "connection": set(),
    "hooks": set(),
    "room": {"packets", "connection"},
    "replica": {"connection", "engines", "errors", "hooks", "packets", "room", "tally"},
    "rooms": {"connection", "engines", "errors", "hooks", "packets", "replica", "room", "tally"},
    "service": {"packets", "replica", "rooms", "auth", "limits", "tally", "timers"},
    "deadline": {"auth", "errors", "room", "service", "timers"},
    "entry": {"auth", "connect_options", "connection", "deadline", "engines", "errors"}
    | {"packets", "room", "service"},
    "peer": {"packets", "connection", "entry", "room", "service", "deadline", "limits", "errors"}
    | {"tally"},
    "transport": {"errors", "limits", "tally"},
    "logs": {"formatters", "writers"},
    "formatters": set(),
    "writers": set(),
    "version": set(),
    "health": set(),
    "demo": {"config", "schema"},
    "systemd": set(),
    "client": {"errors"},
}

#: Modules that know no I/O, no clock and no chance: these come in as arguments.
PURE = (
    "errors",
    "packets",
    "limits",
    "auth",
    "ice",
    "connect_options",
    "connection",
    "room",
    "timers",
    "tally",
    "lag",
)
IMPURE = {"asyncio", "aiohttp", "sockjs", "redis", "time", "random", "os", "socket", "secrets"}
IMPURE |= {"threading", "subprocess", "pathlib", "io", "logging"}
#: The rules of rooms and peers see the world through two protocols, Engine and Connection.
RULES = ("rooms", "replica", "hooks", "deadline", "entry", "peer")
BEYOND_RULES = {"aiohttp", "sockjs", "asyncio", "time", "random", "os", "socket", "logging"}


def name_of(file: Path) -> str:
    """Return a file's module, below the package: "" for the package, `engines.memory`."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


TREES = {name_of(file): ast.parse(file.read_text(), str(file)) for file in FILES}


def is_typing(node: ast.AST) -> bool:
    """Tell whether a statement is `if TYPE_CHECKING`."""
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def nodes(tree: ast.AST, *, typing: bool) -> Iterator[ast.AST]:
    """Yield all nodes; with `typing` also what only a type checker sees."""
    for node in ast.iter_child_nodes(tree):
        if is_typing(node) and not typing:
            continue
        yield node
        yield from nodes(node, typing=typing)


def imported(module: str, *, typing: bool = True) -> set[str]:
    """Return the full names of what a module imports, anywhere in it."""
    found: set[str] = set()
    for node in nodes(TREES[module], typing=typing):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import"
            assert node.module is not None
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                is_module = full.removeprefix("videre.") in TREES
                found.add(full if is_module else node.module)
    return found


def ours(module: str, *, typing: bool = True) -> set[str]:
    """Return the modules of ours that a module imports."""
    names = {name for name in imported(module, typing=typing) if name.split(".")[0] == "videre"}
    return {name.removeprefix("videre").removeprefix(".") for name in names}


def packages(module: str) -> set[str]:
    """Return the top-level names of all that a module imports."""
    return {name.split(".")[0] for name in imported(module)}


def test_the_walk_sees_the_imports() -> None:
    """What the tests below look at is there: a walk that finds nothing would pass them all."""
    assert {"engines", "errors", "replica"} <= ours("rooms")
    assert {"cerberus", "orjson"} <= packages("packets")
    assert "sockjs" in packages("transport.session")
    assert "transport.manager" in ours("transport.session")
    assert "transport.manager" not in ours("transport.session", typing=False)


@pytest.mark.parametrize("module", TREES)
def test_imports_point_one_way(module: str) -> None:
    """A module imports of ours what the architecture says, at the most."""
    top = module.split(".")[0]
    if top not in ARROWS:
        assert top in (
            "",
            "app",
            "cli",
            "config",
            "keyring",
            "turn",
            "schema",
            "speedups",
            "workers",
            "mint",
            "admin",
            "__main__",
            "metrics",
            "certificates",
            "environment",
            "listening",
            "namespace",
            "server",
        ), "not placed"
        return
    assert {name.split(".")[0] for name in ours(module)} - {top} <= ARROWS[top]


@pytest.mark.parametrize("module", [module for module in TREES if module.startswith("engines.")])
def test_engines_know_nothing_of_each_other(module: str) -> None:
    """An engine knows the protocol and the errors."""
    if module == "engines.choice":
        return
    above = {
        name
        for name in ours(module)
        if name not in ("engines", "engines.history", "errors", "tally", "timers")
    }
    assert all(name.startswith(".".join(module.split(".")[:2])) for name in above)


@pytest.mark.parametrize("module", [module for module in PURE if module in TREES])
def test_pure_modules_know_no_io(module: str) -> None:
    """Clocks and ids are arguments, and nothing is opened."""
    assert not packages(module) & IMPURE
    calls = [node for node in ast.walk(TREES[module]) if isinstance(node, ast.Call)]
    assert not [call for call in calls if ast.unparse(call.func) in ("open", "print", "input")]
    assert not any(isinstance(node, ast.AsyncFunctionDef) for node in ast.walk(TREES[module]))


@pytest.mark.parametrize("module", RULES)
def test_rules_see_only_two_protocols(module: str) -> None:
    """Rooms and peers know neither sockets nor clocks nor tasks."""
    assert not packages(module) & BEYOND_RULES


@pytest.mark.parametrize("module", [module for module in TREES if module])
def test_only_the_transport_knows_sockjs(module: str) -> None:
    """The plugin is behind a seam."""
    assert "sockjs" not in packages(module) or module.split(".")[0] == "transport"


@pytest.mark.parametrize("module", [module for module in TREES if module])
def test_only_the_metrics_know_prometheus(module: str) -> None:
    """What serves packets counts, and makes no metrics."""
    assert "prometheus_client" not in packages(module) or module == "metrics"
    assert "metrics" not in ours(module) or module.split(".")[0] in ("admin", "cli")


def test_packets_stand_on_two_libraries() -> None:
    """Cerberus judges, orjson reads."""
    foreign = packages("packets") - {"videre", "__future__"}
    standard = {"enum", "math", "re", "unicodedata", "collections", "typing"}
    assert foreign - standard == {"cerberus", "orjson"}


def test_no_import_goes_round_in_a_circle() -> None:
    """Nothing imports what imports it, at any distance; only types may name each other."""
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path, module))
        if module in done:
            return
        for other in sorted(ours(module, typing=False)):
            visit(other, (*path, module))
        done.add(module)

    for module in TREES:
        visit(module, ())


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_no_module_is_long(file: Path) -> None:
    """What is longer is more than one noun."""
    assert len(file.read_text().splitlines()) <= MAX_LINES


def undocumented(tree: ast.AST, path: str = "") -> Iterator[str]:
    """Yield the public functions, classes and methods without a docstring."""
    for node in ast.iter_child_nodes(tree):
        if is_typing(node):
            continue
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if node.name.startswith("_"):
                continue  # private, or special: what it does is known
            if ast.get_docstring(node) is None:
                yield f"{path}{node.name}"
            if isinstance(node, ast.ClassDef):
                yield from undocumented(node, f"{path}{node.name}.")


@pytest.mark.parametrize("module", TREES)
def test_all_that_is_public_has_a_docstring(module: str) -> None:
    """Every module, and every public function, class and method, says what the caller gets."""
    assert ast.get_docstring(TREES[module]), "the module"
    assert list(undocumented(TREES[module])) == []
