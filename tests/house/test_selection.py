"""Which tests run: with --fast, with --long, with neither, and with a path."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import cast

import pytest
from conftest import left_out, pytest_configure, pytest_ignore_collect, pytest_report_header

SOURCES = pytest.Config.ArgsSource
MODULES = {
    "process": "pytestmark = pytest.mark.process\n",
    "long": "pytestmark = [pytest.mark.process, pytest.mark.long, pytest.mark.asyncio()]\n",
    "none": "pytestmark = pytest.mark.asyncio()\n# not pytest.mark.long\n",
}


def config(
    *options: str, source: SOURCES = SOURCES.TESTPATHS, worker: bool = False
) -> pytest.Config:
    """Return a configuration with these options, as far as conftest.py reads it."""
    option = Namespace(fast="--fast" in options, long="--long" in options)
    made = Namespace(
        option=option, args_source=source, getoption=lambda name: getattr(option, name[2:])
    )
    if worker:
        made.workerinput = {}
    return cast(pytest.Config, made)


@pytest.mark.parametrize(
    ("options", "mark", "modules"),
    [
        ([], "long", ["long"]),
        (["--long"], None, []),
        (["--fast"], "process", ["process", "long"]),
        (["--fast", "--long"], "process", ["process", "long"]),
    ],
)
def test_what_is_left_out(
    tmp_path: Path, options: list[str], mark: str | None, modules: list[str]
) -> None:
    """A mark of single tests, and the modules that have it as a whole."""
    made = config(*options)
    pytest_configure(made)
    assert left_out(made) == mark
    said = pytest_report_header(made)
    assert said is None if mark is None else f"marked {mark};" in str(said)
    for name, text in MODULES.items():
        path = tmp_path / f"test_{name}.py"
        path.write_text(f"import pytest\n\n{text}")
        assert pytest_ignore_collect(path, made) is (True if name in modules else None)
    assert pytest_ignore_collect(tmp_path / "data.txt", made) is None


@pytest.mark.parametrize(("worker", "mark"), [(False, None), (True, "long")])
def test_what_is_named_runs(worker: bool, mark: str | None) -> None:
    """Whoever gives a path means it; a worker of xdist always has paths, and its options."""
    made = config(source=SOURCES.ARGS, worker=worker)
    pytest_configure(made)
    assert left_out(made) == mark
