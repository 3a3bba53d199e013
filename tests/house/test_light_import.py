"""Imports: the client loads no server code, the command loads only what it uses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from process import ROOT, signaller

import videre

pytestmark = pytest.mark.process

#: All that `import videre.client` may load of ours,
CLIENT = {"", "version", "errors", "client"} | {
    f"client.{path.stem}"
    for path in (ROOT / "videre" / "client").glob("*.py")
    if path.stem != "__init__"
}
#: and of others beside Python's own: aiohttp with what it stands on, and orjson.
LIBRARIES = {"aiohttp", "orjson"} | {
    *("aiohappyeyeballs", "aiosignal", "attr", "frozenlist", "idna", "multidict", "propcache"),
    *("typing_extensions", "yarl", "backports", "brotli", "brotlicffi", "aiodns", "pycares"),
}
#: What the command loads when its configuration asks for it.
ON_DEMAND = {"jwt", "cryptography", "prometheus_client", "redis", "videre.admin", "videre.metrics"}


def loaded(statement: str) -> set[str]:
    """Return the modules that a fresh Python loads for a statement, beyond those of its start."""
    script = f"import json, sys; before = set(sys.modules); {statement}; "
    script += "print(json.dumps(sorted(set(sys.modules) - before)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    return set(json.loads(done.stdout))


def ours(modules: set[str]) -> set[str]:
    """Return the modules of the package, by their names in it."""
    names = {name for name in modules if name.split(".")[0] == "videre"}
    return {name.removeprefix("videre").removeprefix(".") for name in names}


def libraries(modules: set[str]) -> set[str]:
    """Return the installed packages among modules; Cython's own modules belong to none."""
    tops = {name.split(".")[0] for name in modules} - set(sys.stdlib_module_names) - {"videre"}
    return {name for name in tops if not name.startswith(("_cython", "cython"))}


def test_the_package_loads_nothing() -> None:
    """`import videre` loads only its version."""
    modules = loaded("import videre; dir(videre)")
    assert ours(modules) == {"", "version"}
    assert libraries(modules) == set()


def test_the_client_loads_nothing_of_the_server() -> None:
    """Neither our server modules nor the libraries that only they need."""
    modules = loaded("import videre.client")
    assert ours(modules) <= CLIENT
    assert libraries(modules) <= LIBRARIES
    assert not {name for name in modules if name.startswith("aiohttp.web")}


def test_every_name_of_the_package_is_there() -> None:
    """Each name is found and listed by `dir`; any other raises an AttributeError."""
    assert set(videre.__all__) <= set(dir(videre))
    for name in videre.__all__:
        assert getattr(videre, name) is not None
    with pytest.raises(AttributeError, match="'videre' has no attribute 'Setup'"):
        getattr(videre, "Setup")  # noqa: B009 (a name for a type checker to refuse)
    assert ours(loaded("from videre import Config")) >= {"config"}


@pytest.mark.parametrize(
    ("config", "more"),
    [
        ({}, set()),
        ({"Auth": {"Secrets": ["x" * 32]}}, {"jwt", "cryptography"}),
        (
            {"AdminPort": 0},
            {"prometheus_client", "videre.admin", "videre.metrics"},
        ),
    ],
    ids=["as shipped", "with tokens", "with an admin port"],
)
async def test_the_command_loads_what_it_uses(
    config: dict[str, object], more: set[str], tmp_path: Path
) -> None:
    """A running server has loaded tokens' and metrics' libraries only if configured."""
    profiled = ["env", "PYTHONPROFILEIMPORTTIME=1"]
    async with signaller(tmp=tmp_path, config=config, within=profiled) as server:
        lines = [line for line in server.output if line.startswith("import time:")]
    modules = {line.rpartition("|")[2].strip() for line in lines}
    assert "videre.command.server" in modules
    found = {
        name for name in ON_DEMAND if any(f"{each}.".startswith(f"{name}.") for each in modules)
    }
    assert found == more
