"""Hooks are functions of the application, which harm nobody, whatever they do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest
from fakes import run

from videre.rooms.hooks import Hooks


@pytest.fixture
def failures() -> list[Exception]:
    """Give the list of what failing hooks raise."""
    return []


@pytest.fixture
def hooks(failures: list[Exception]) -> Hooks:
    """Give hooks without any functions; async ones run at once."""
    return Hooks(run, failures.append)


def both(hooks: Hooks) -> None:
    """Let a user join and leave."""
    hooks.joined("room", "a")
    hooks.left("room", "a", "why")


def test_without_a_hook_nothing_happens(hooks: Hooks, failures: list[Exception]) -> None:
    """No hook means no error."""
    both(hooks)
    assert failures == []


@pytest.mark.parametrize("later", [False, True])
def test_each_hook_is_called(hooks: Hooks, later: bool) -> None:
    """Sync and async hooks run in the given order, with room, user and reason."""
    heard: list[tuple[Any, ...]] = []

    def hook(number: int) -> Any:
        def at_once(*event: str) -> None:
            heard.append((number, *event))

        async def soon(*event: str) -> None:
            await asyncio.sleep(0)  # one step, needs no loop
            heard.append((number, *event))

        return soon if later else at_once

    hooks.on_join += [hook(1), hook(2)]
    hooks.on_leave += [hook(3), hook(4)]
    both(hooks)
    assert heard == [
        (1, "room", "a"),
        (2, "room", "a"),
        (3, "room", "a", "why"),
        (4, "room", "a", "why"),
    ]


def test_any_awaitable_is_awaited(hooks: Hooks) -> None:
    """A plain function may return one; any other result is ignored."""
    done: list[str] = []

    class Job:
        def __await__(self) -> Any:
            done.append("job")
            yield

    hooks.on_join += [lambda *_: Job(), lambda *_: "nothing", lambda *_: iter(())]
    hooks.joined("room", "a")
    assert done == ["job"]


def test_a_failing_hook_harms_nobody(hooks: Hooks, failures: list[Exception]) -> None:
    """Its caller and later hooks go on; each failure is reported with its exception."""
    heard: list[tuple[str, ...]] = []
    first, second = ValueError("first"), KeyError("second")

    def at_once(*_: str) -> None:
        raise first

    async def soon(*_: str) -> None:
        await asyncio.sleep(0)
        raise second

    def witness(*event: str) -> None:
        heard.append(event)

    for each in (hooks.on_join, hooks.on_leave):
        each += [at_once, soon, lambda: None, witness]  # type: ignore[list-item, misc, operator]
    both(hooks)
    assert heard == [("room", "a"), ("room", "a", "why")]
    assert failures[:2] == failures[3:5] == [first, second]
    assert [type(each) for each in failures[2::3]] == [TypeError] * 2


def test_an_async_hook_does_not_block(failures: list[Exception]) -> None:
    """It is handed to a runner, and the server goes on."""
    jobs: list[Awaitable[Any]] = []
    hooks = Hooks(jobs.append, failures.append)
    heard: list[tuple[str, ...]] = []

    async def soon(*event: str) -> None:
        heard.append(event)

    hooks.on_join.append(soon)
    hooks.joined("room", "a")
    assert (len(jobs), heard) == (1, [])
    run(jobs[0])
    assert heard == [("room", "a")]
