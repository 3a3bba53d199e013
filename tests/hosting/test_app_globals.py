"""Hosting: the process's globals and other libraries are left alone."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import threading
import types
import warnings
import weakref
from typing import Any

import pytest
from aiohttp import web_app
from signalling import connect
from sockjs_client import Wire, fresh, poll
from test_app import URL, WAYS, Mount, make_site, role, serving

from videre import app


def shallow(value: Any) -> Any:
    """Return a value that changes when a container does, and the identity of anything else."""
    if isinstance(value, dict | types.MappingProxyType):
        return {key: id(inner) for key, inner in value.items()}
    return [id(inner) for inner in value] if isinstance(value, list | set) else id(value)


def names(*packages: str) -> dict[str, Any]:
    """Return all globals of these packages' modules, and the attributes of their classes."""
    found = {}
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] not in packages:
            continue
        for key, value in vars(module).items():
            found[f"{name}.{key}"] = shallow(value)
            if isinstance(value, type):
                for inner, attribute in vars(value).items():
                    found[f"{name}.{key}.{inner}"] = shallow(attribute)
    caches = ("_cached_", "._abc_", ".__abstract")  # caches of aiohttp and abc
    return {key: value for key, value in found.items() if not any(map(key.__contains__, caches))}


def policy() -> object:
    """Return the loop's policy; Python 3.14 still has it, and warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return asyncio.get_event_loop_policy()


def globals_of_the_process() -> dict[str, Any]:
    """Return the globals that a library must not change, and those it must not keep."""
    loggers = [
        logging.getLogger(name or None)
        for name in ("", "videre", "videre.transport", "aiohttp", "aiohttp.server", "asyncio")
    ]
    return {
        **names("videre", "sockjs", "aiohttp"),
        "loggers": [
            (log.name, log.level, log.propagate, log.disabled, [*log.handlers], [*log.filters])
            for log in loggers
        ],
        "logging": (logging.getLoggerClass(), logging.getLogRecordFactory()),
        "loops": (policy(), asyncio.get_running_loop()),
        "loop": asyncio.get_running_loop().get_exception_handler(),
        "warnings": list(warnings.filters),
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "hooks": (sys.excepthook, sys.unraisablehook, threading.excepthook),
        "environment": (dict(os.environ), list(sys.path)),
    }


def changes(before: dict[str, Any]) -> list[str]:
    """Return the differences."""
    now = globals_of_the_process()
    return sorted(key for key in {*before, *now} if before.get(key) != now.get(key))


async def session_of_each_kind(base: str) -> None:
    """Open sessions and leave them open."""
    await poll(base, fresh(URL))
    wire = await Wire.open(base)
    wire.say("POST", f"{fresh(URL)}/xhr_streaming", b"")
    await wire.head()


@pytest.mark.parametrize("mount", WAYS)
async def test_nothing_global_is_touched(mount: Mount) -> None:
    """Logging, signals, warnings, the loop's policy, sockjs and aiohttp stay as they are."""
    async with serving(make_site(mount)) as base:  # things imported or cached at the first use
        await session_of_each_kind(base)
    before = globals_of_the_process()
    site = make_site(mount)
    assert changes(before) == []
    async with serving(site) as base, connect(base + URL, "raw", user="a", room="r") as peer:
        assert await role(peer) == "true"
        await session_of_each_kind(base)
        assert changes(before) == []
    assert changes(before) == []


@pytest.mark.parametrize("mount", WAYS)
async def test_nothing_is_left_of_it(mount: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the cleanup there are no tasks, threads or open sockets, and the site is freed."""
    # A site that lives for a second looks for others like it, in a thread of the loop's.
    monkeypatch.setattr(app, "SIBLINGS_AFTER", 3600.0)
    tasks, threads = asyncio.all_tasks(), threading.enumerate()
    site = make_site(mount)
    async with serving(site) as base, connect(base + URL, "raw", user="a", room="r") as peer:
        assert await role(peer) == "true"
        await session_of_each_kind(base)
    assert asyncio.all_tasks() == tasks and threading.enumerate() == threads
    gone = weakref.ref(site)
    del site, peer
    # aiohttp keeps the last 1,024 handlers of applications with middlewares, ours included.
    web_app._cached_build_middleware.cache_clear()
    gc.collect()  # this also reports unclosed sockets
    assert gone() is None
