"""The architecture: imports point one way, rules know no I/O, and all is explained."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "videre"
FILES = sorted(PACKAGE.rglob("*.py"))
MAX_LINES = 350

#: What each folder or top-level module may import of ours beside itself.

ARROWS: dict[str, set[str]] = {
    "errors": set(),
    "interfaces": set(),
    "limits": {"settings"},
    "settings": set(),
    "auth": {"errors", "settings"},
    "ice": set(),
    "payload": set(),
    "packets": {"errors", "payload"},
    "tally": {"errors", "packets"},
    "lag": {"interfaces", "tally"},
    "engine_url": {"settings"},
    "engines": {"engine_url", "errors", "interfaces", "settings", "tally"},
    "rooms": {"engines", "errors", "interfaces", "packets", "settings", "tally"},
    "peers": {"auth", "engines", "errors", "interfaces", "limits", "packets", "payload", "rooms"}
    | {"settings", "tally"},
    "transport": {"errors", "jobs", "limits", "settings", "tally"},
    "logs": {"settings"},
    "config": {"auth", "engine_url", "errors", "ice", "settings"},
    "version": set(),
    "health": set(),
    "jobs": set(),
    "siblings": set(),
    "demo": {"browser_files", "config"},
    "browser_files": {"transport"},
    "client": {"errors"},
}
#: These put the application or the process together, and may import anything.
ROOTS = {"", "__main__", "admin", "app", "command", "metrics", "namespace"}

#: Modules that know no I/O, no clock and no chance: these come in as arguments.
PURE = (
    "errors",
    "payload",
    "packets",
    "limits",
    "auth",
    "ice",
    "settings",
    "interfaces",
    "tally",
    "lag",
    "engine_url",
    "peers.connect_options",
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
    """What the tests below look at is there: a walk that finds nothing would pass them all."""
    assert {"engines", "errors", "rooms.replica"} <= ours("rooms.rooms")
    assert {"cerberus", "orjson"} <= packages("packets")
    assert "sockjs" in packages("transport.session")
    assert "app" in ours("")
    assert "app" not in ours("", typing=False)


def test_imports_point_one_way() -> None:
    """A folder imports of ours what its row says, at the most."""
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
