"""The architecture: imports point one way, rules know no I/O, everything public is documented."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "videre"
FILES = sorted(PACKAGE.rglob("*.py"))
MAX_LINES = 300

#: What each folder or top-level module may import of ours beside itself.

ARROWS: dict[str, set[str]] = {
    "errors": set(),
    "ids": set(),
    "interfaces": {"ids"},
    "limits": {"settings"},
    "settings": set(),
    "auth": {"errors", "ids", "settings"},
    "ice": {"ids"},
    "payload": set(),
    "reasons": {"errors"},
    "packets": {"errors", "ids", "payload"},
    "tally": {"errors", "interfaces", "packets", "reasons"},
    "engine_url": {"settings"},
    "engines": {"engine_url", "errors", "ids", "interfaces", "jobs", "reasons"}
    | {"settings", "tally"},
    "rooms": {"engines", "errors", "ids", "interfaces", "packets", "reasons", "settings", "tally"},
    "peers": {"auth", "engines", "errors", "ids", "interfaces", "limits", "packets", "payload"}
    | {"reasons", "rooms", "settings", "tally"},
    "transport": {"answers", "errors", "jobs", "limits", "reasons", "settings", "tally"},
    "logs": {"settings"},
    "config": {"auth", "engine_url", "errors", "ice", "settings"},
    "version": set(),
    "answers": set(),
    "health": {"answers"},
    "jobs": set(),
    "siblings": set(),
    "demo": {"browser_files", "config"},
    "front": {"config", "demo", "version"},
    "browser_files": {"answers", "transport"},
    "client": {"errors"},
}
#: These put the application or the process together, and may import anything.
ROOTS = {"", "__main__", "admin", "app", "command", "metrics", "namespace"}

#: Modules that know no I/O, no clock and no chance: these come in as arguments.
PURE = (
    "errors",
    "ids",
    "payload",
    "packets",
    "packets.decoder",
    "packets.schema",
    "packets.writing",
    "reasons",
    "limits",
    "auth",
    "ice",
    "settings",
    "interfaces",
    "tally",
    "engine_url",
    "engines.events",
    "engines.state",
    "peers.connect_options",
    "rooms.hearing",
    "rooms.room",
    "rooms.returning",
)
IMPURE = {"asyncio", "aiohttp", "sockjs", "redis", "time", "random", "os", "socket", "secrets"}
IMPURE |= {"threading", "subprocess", "pathlib", "io", "logging"}
#: The rules of rooms and peers see the world through two protocols, Engine and Connection.
RULES = ("rooms", "peers")
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


def packages(module: str, *, typing: bool = True) -> set[str]:
    """Return the top-level names of all that a module imports."""
    return {name.split(".")[0] for name in imported(module, typing=typing)}


def test_the_walk_sees_the_imports() -> None:
    """Guard the tests below: a walk that found nothing would pass them all."""
    assert {"engines", "reasons", "rooms.replica"} <= ours("rooms.rooms")
    assert {"orjson"} <= packages("packets.decoder")
    assert "sockjs" in packages("transport.session")
    assert "app" in ours("")
    assert "app" not in ours("", typing=False)


def test_imports_point_one_way() -> None:
    """A folder imports at most what its row allows."""
    tops = {module.split(".")[0] for module in TREES}
    assert tops == ARROWS.keys() | ROOTS, "a folder or module without a row, or a row without one"
    wrong = [
        f"{module} imports {name}"
        for module in TREES
        if (top := module.split(".")[0]) in ARROWS
        for name in ours(module)
        if name.split(".")[0] not in ARROWS[top] | {top}
    ]
    assert not wrong


def test_engines_know_nothing_of_each_other() -> None:
    """An engine imports the protocol and what all engines share, never another engine."""
    shared = {"engines", "engines.events", "engines.histories", "engines.history"}
    shared |= {"engines.names", "engines.nodes", "engines.state"}
    shared |= {"engine_url", "errors", "ids", "interfaces", "jobs", "reasons", "settings", "tally"}
    wrong = [
        f"{module} imports {name}"
        for module in TREES
        if module.startswith("engines.") and module != "engines.choice"
        for name in ours(module) - shared
        if not name.startswith(".".join(module.split(".")[:2]))
    ]
    assert not wrong


def test_pure_modules_know_no_io() -> None:
    """Clocks and ids are arguments, and no file is opened."""
    for module in PURE:
        assert not packages(module, typing=False) & IMPURE, module
        calls = [node for node in ast.walk(TREES[module]) if isinstance(node, ast.Call)]
        assert not [c for c in calls if ast.unparse(c.func) in ("open", "print", "input")], module
        coroutines = [n for n in ast.walk(TREES[module]) if isinstance(n, ast.AsyncFunctionDef)]
        assert not coroutines, module


def test_rules_see_only_two_protocols() -> None:
    """Rooms and peers know neither sockets nor clocks nor tasks."""
    wrong = {
        module: beyond
        for module in TREES
        if module.split(".")[0] in RULES and (beyond := packages(module) & BEYOND_RULES)
    }
    assert not wrong


def test_a_library_is_known_in_one_place() -> None:
    """Only transport knows sockjs; only metrics knows prometheus_client."""
    for module in TREES:
        top = module.split(".")[0]
        assert "sockjs" not in packages(module) or top == "transport", module
        assert "prometheus_client" not in packages(module) or top == "metrics", module
        assert "metrics" not in ours(module) or top in ("admin", "command"), module


def test_packets_stand_on_two_libraries() -> None:
    """Cerberus validates, orjson parses."""
    modules = [module for module in TREES if module.split(".")[0] == "packets"]
    foreign = set[str]().union(*map(packages, modules)) - {"videre", "__future__"}
    standard = {"enum", "math", "re", "unicodedata", "collections", "typing"}
    assert foreign - standard == {"cerberus", "orjson"}


def circle(graph: Mapping[str, set[str]]) -> str:
    """Return a circle of imports, as "a -> b -> a"; "" if there is none."""
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> str:
        if module in path:
            return " -> ".join((*path[path.index(module) :], module))
        if module in done:
            return ""
        found = next(
            filter(None, (visit(each, (*path, module)) for each in sorted(graph[module]))), ""
        )
        done.add(module)
        return found

    return next(filter(None, (visit(module, ()) for module in graph)), "")


def test_a_circle_is_found() -> None:
    """A circle of any length is found; two paths to one module are not a circle."""
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == "b -> c -> b"
    assert circle({"a": {"b", "c"}, "b": {"d"}, "c": {"d"}, "d": set()}) == ""


def test_no_import_goes_round_in_a_circle() -> None:
    """No module imports itself through others, not even for types only."""
    assert circle({module: ours(module) for module in TREES}) == ""


def test_the_configuration_knows_no_adapter() -> None:
    """Neither directly nor through other modules: settings flow from it, never back."""
    reached, new = set[str](), {module for module in TREES if module.split(".")[0] == "config"}
    while new:
        reached |= new
        new = set().union(*map(ours, new)) - reached
    adapters = ("admin", "client", "command", "demo", "engines", "logs", "metrics", "transport")
    assert len(reached) > 10
    assert not [module for module in reached if module.split(".")[0] in adapters]


def test_no_module_is_long() -> None:
    """A longer module holds more than one noun."""
    lines = {name_of(file): len(file.read_text().splitlines()) for file in FILES}
    del lines["settings"]  # a table
    assert not {name: count for name, count in lines.items() if count > MAX_LINES}


def undocumented(tree: ast.AST, path: str = "") -> Iterator[str]:
    """Yield the public functions, classes and methods without a docstring."""
    for node in ast.iter_child_nodes(tree):
        if is_typing(node):
            continue
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if node.name.startswith("_"):
                continue  # private, or special: what it does is known
            if any(ast.unparse(each) == "overload" for each in node.decorator_list):
                continue  # what it overloads says it
            if ast.get_docstring(node) is None:
                yield f"{path}{node.name}"
            if isinstance(node, ast.ClassDef):
                yield from undocumented(node, f"{path}{node.name}.")


def test_all_that_is_public_has_a_docstring() -> None:
    """Every module, and every public function, class and method, says what the caller gets."""
    missing = [module for module in TREES if not ast.get_docstring(TREES[module])]
    missing += [f"{module}: {name}" for module in TREES for name in undocumented(TREES[module])]
    assert not missing
