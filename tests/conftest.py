"""Shared by all tests: which of them run, and a store and a browser for each process.

A run without paths leaves out the tests marked `long`, unless it has `--long`. `--fast` leaves out
those marked `process`: they start a program such as the command, a browser, a store or an
installer. An unmarked test that starts one then fails.
"""

from __future__ import annotations

import gc
import re
import sys
from collections.abc import AsyncIterator, Generator, Iterator
from functools import cache
from pathlib import Path

import pytest
import pytest_asyncio
from browser import Browser, chromium
from engine_nodes import Nodes, nodes_on
from hypothesis import HealthCheck, settings
from patience import examples
from valkey_server import Valkey, valkey, valkey_cluster

# Machines are slow when they are busy: a test fails for what it finds, never for its time.
settings.register_profile(
    "ours",
    deadline=None,
    max_examples=examples(50),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("ours")

#: The marks that all tests of a module have.
MODULE_MARKS = re.compile(r"^pytestmark = (.*)$", re.MULTILINE)

#: New objects before a collection, and collections before one of the older objects.
GC_THRESHOLD = (50_000, 10, 10)

#: Python's names for starting a process (sys.addaudithook).
STARTS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn"}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --fast and --long."""
    parser.addoption("--fast", action="store_true", help="leave out tests that start a program")
    parser.addoption("--long", action="store_true", help="run the tests that take long, too")


def pytest_configure(config: pytest.Config) -> None:
    """Run long tests that are asked for by their path."""
    at_work = hasattr(config, "workerinput")  # of xdist: it has the options, and paths always
    if not at_work and config.args_source is pytest.Config.ArgsSource.ARGS:
        config.option.long = True


def left_out(config: pytest.Config) -> str | None:
    """Return the mark of the tests that do not run."""
    if config.getoption("--fast"):
        return "process"
    return None if config.getoption("--long") else "long"


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say what does not run."""
    mark = left_out(config)
    return None if mark is None else f"left out: tests marked {mark}; bin/test --long runs all"


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Rest the garbage collector: tests that are collected stay, and there is nothing to free."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out modules with that mark: they need not be imported."""
    mark = left_out(config)
    if mark is None or collection_path.suffix != ".py":
        return None
    marks = MODULE_MARKS.search(collection_path.read_text(encoding="utf-8"))
    return True if marks and re.search(rf"\bmark\.{mark}\b", marks[1]) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect single tests with that mark, and begin with what waits longest.

    Several tests of the protocol wait for real time. At the end of a run, one worker would wait
    alone.
    """
    items.sort(key=lambda item: item.path.parent.name != "wire")
    mark = left_out(config)
    if mark is None:
        return
    kept: list[pytest.Item] = []
    marked: list[pytest.Item] = []
    for item in items:
        (marked if item.get_closest_marker(mark) else kept).append(item)
    config.hook.pytest_deselected(items=marked)
    items[:] = kept


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Check that --fast starts no program."""
    if item.config.getoption("--fast"):
        _watch()


@cache
def _watch() -> None:
    sys.addaudithook(_refuse_to_start)  # for good: it cannot be removed


def _refuse_to_start(event: str, _arguments: object) -> None:
    if event in STARTS:
        raise AssertionError("a test that starts a program needs pytest.mark.process")


def pytest_collection_finish() -> None:
    """Let the garbage collector run less often, and not over the collected tests.

    Python's own limit of 700 new objects takes an eighth of the time of --fast. Tests that need a
    collection ask for one.
    """
    if "hypothesis" in sys.modules:
        _meet_hypothesis()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLD)


def _meet_hypothesis() -> None:
    """Have Hypothesis make its random generator now.

    It asks the collector whether anything refers to it, which sees nothing of what is frozen: on
    Python 3.14 Hypothesis then warns.
    """
    from hypothesis import given, settings, strategies

    @settings(max_examples=1, database=None)
    @given(strategies.none())
    def nothing(_: None) -> None:
        pass

    nothing()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Valkey]:
    """Give a Valkey that no test stops or disturbs; each test has its own namespace in it."""
    async with valkey(tmp_path_factory.mktemp("valkey")) as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def cluster_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """Give the URL of a cluster of three; a test that changes its configuration restores it."""
    async with valkey_cluster(tmp_path_factory.mktemp("cluster")) as url:
        yield url


@pytest.fixture
async def nodes(server: Valkey) -> AsyncIterator[Nodes]:
    """Give nodes that share a namespace."""
    async with nodes_on(server.url) as nodes:
        yield nodes


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_browser() -> AsyncIterator[Browser]:
    """Run one Chromium for all tests of this process."""
    async with chromium() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def browser(shared_browser: Browser) -> AsyncIterator[Browser]:
    """Give a Chromium without pages, whose pages may throw no error.

    It belongs to the session's event loop: tests that use it have `loop_scope="session"`.
    """
    shared_browser.faults.clear()
    shared_browser.console.clear()
    yield shared_browser
    await shared_browser.close()
    assert shared_browser.faults == []


@pytest.fixture(scope="module")
def frozen() -> None:
    """Freeze what earlier modules left: each look for garbage would take 0.2 s for it."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def nothing_is_left(frozen: None) -> Iterator[None]:
    """Let unclosed resources warn while the test can still fail for it."""
    yield
    gc.collect()
