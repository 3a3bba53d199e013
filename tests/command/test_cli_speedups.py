"""The garbage collector: its runs are short, and sessions leave no reference cycles."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator

import pytest
from aiohttp import web
from alive import Alive
from fakes import packet
from inprocess import serving
from sockjs_client import Wire
from test_seam_requests import own
from websocket_client import CLOSE, Socket

import videre
from videre.command import speedups
from videre.command.speedups import Collector


class Thing:
    """An object that refers to itself."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def collector() -> Iterator[Collector]:
    """Give a collector, and restore Python's own afterwards."""
    threshold = gc.get_threshold()
    made = Collector()
    made.start()
    yield made
    made.stop()
    gc.set_threshold(*threshold)
    gc.unfreeze()
    gc.freeze()  # as conftest.py did


def test_many_objects_are_frozen(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """Survivors of a run are not examined again; without references they are freed."""
    monkeypatch.setattr(speedups, "FEW_BLOCKS", 1000)
    before = gc.get_freeze_count()
    much = [[number] for number in range(10_000)]
    gc.collect(0)
    gc.collect(1)
    assert gc.get_freeze_count() - before >= 10_000
    assert not gc.get_objects(generation=2)
    del much
    assert gc.get_freeze_count() - before < 10_000


def test_frozen_objects_are_thawed_when_few_remain(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frozen cycle is freed then, and not before."""
    monkeypatch.setattr(speedups, "FEW_BLOCKS", 1000)
    thing = Thing()
    alive = weakref.ref(thing)
    much = [[number] for number in range(10_000)]
    gc.collect(1)
    del thing
    gc.collect()
    collector.thaw()
    assert alive() is not None
    del much
    collector.thaw()
    assert alive() is None


def test_few_objects_are_not_frozen(collector: Collector) -> None:
    """A small process is collected as usual."""
    before = gc.get_freeze_count()
    thing = Thing()
    alive = weakref.ref(thing)
    gc.collect(1)
    assert gc.get_freeze_count() <= before
    del thing
    gc.collect()
    assert alive() is None


async def test_sessions_leave_no_cycles() -> None:
    """Without the collector, a session's objects are gone soon after its end."""
    async with serving(videre.create_app()) as server:
        # one visit beforehand, so that objects made only once do not count as a leak
        for _ in range(2):
            made = Alive(_is_a_session)
            gc.disable()
            try:
                alive = await _visit(server.url, made)
                for _ in range(200):
                    if not any(ref() is not None for ref in alive):
                        break
                    await asyncio.sleep(0.01)
                left = [ref() for ref in alive if ref() is not None]
            finally:
                gc.enable()
        assert len(alive) >= 4 and left == []
        await Wire.hang_up()


def _is_a_session(kind: type) -> bool:
    return kind.__name__ == "WebSocketSession" and kind.__module__.startswith("videre.")


async def _visit(url: str, made: Alive) -> list[weakref.ref[object]]:
    """Let sessions come and go, and return weak references to their objects."""
    sockets = [await Socket.open(url, "/echo/websocket") for _ in range(4)]
    for number, socket in enumerate(sockets):
        socket.send(packet("connect", f"u{number}", "room"))
        await socket.text()
    found = [weakref.ref(each) for each in made()]
    for number, socket in enumerate(sockets):
        if number % 2:
            socket.wire.reset()
        else:
            socket.send(b"\x03\xe8", CLOSE)
            await socket.goodbye()
            await socket.wire.close()
    return found


REFUSED = [
    ("POST", "/nowhere", {"Content-Encoding": "gzip"}, 415),
    ("POST", "/nowhere", {}, 404),
    ("GET", "/echo/0/a.b/xhr", {}, 404),
    ("PUT", "/echo", {}, 405),
]


async def test_refused_requests_leave_no_cycles() -> None:
    """They would keep their partly received bodies alive, 64 KB each."""
    async with own() as runner:
        alive = Alive(lambda kind: kind is web.Request)
        gc.disable()
        try:
            for method, path, headers, status in REFUSED:
                wire = await Wire.open("http://{}:{}".format(*runner.addresses[0][:2]))
                wire.say(method, path, b"x" * 50_000, headers)
                assert (await wire.head()).status == status
                wire.reset()
            for _ in range(200):
                if not alive():
                    break
                await asyncio.sleep(0.01)
            assert alive() == []
        finally:
            gc.enable()
