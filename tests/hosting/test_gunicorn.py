"""docs/hosting.md's chapter on gunicorn: a real one with two workers, and members of both."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import forked
import pytest
from documents import claim
from forked import Forked
from patience import WAIT_SECONDS
from process import START_SECONDS
from signalling import Closed, Signalling, connect
from valkey_server import Valkey, valkey

pytestmark = pytest.mark.process

SITE = claim("docs/hosting.md", "import videre\n\napp = videre.create_app")
COMMAND = claim("docs/hosting.md", "gunicorn --workers")

GUNICORN = "import runpy; runpy.run_module('gunicorn', run_name='__main__', alter_sys=True)"

OF_EACH = 3  # members of each worker

LISTENING = re.compile(r"Listening at: (http://\S+) \(\d+\)")
BOOTING = re.compile(r"Booting worker with pid: (\d+)")


class Gunicorn:
    """A running gunicorn; `workers` are the process ids of the workers started so far."""

    def __init__(self, process: Forked) -> None:
        self.process = process
        self.output: list[str] = []
        self.url = ""
        self.workers: list[int] = []
        self._changed = asyncio.Condition()
        self.reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for raw in self.process.stdout:
            line = raw.decode().rstrip()
            async with self._changed:
                self.output.append(line)
                if found := LISTENING.search(line):
                    self.url = found[1]
                if found := BOOTING.search(line):
                    self.workers.append(int(found[1]))
                self._changed.notify_all()

    async def says(self, pattern: str) -> str:
        """Return the first line that matches."""
        async with asyncio.timeout(WAIT_SECONDS), self._changed:
            await self._changed.wait_for(lambda: any(re.search(pattern, x) for x in self.output))
        return next(line for line in self.output if re.search(pattern, line))

    async def has_begun(self, workers: int) -> None:
        """Return when this many workers have been started in all."""
        async with asyncio.timeout(START_SECONDS), self._changed:
            await self._changed.wait_for(lambda: self.url and len(self.workers) >= workers)

    @asynccontextmanager
    async def only(self, worker: int) -> AsyncIterator[None]:
        """Freeze all workers but one, so that it gets new connections."""
        others = [pid for pid in self.workers if pid != worker]
        for pid in others:
            os.kill(pid, signal.SIGSTOP)
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                yield
        finally:
            for pid in others:
                os.kill(pid, signal.SIGCONT)


@asynccontextmanager
async def gunicorn(
    folder: Path, engine: str, *options: str, workers: int = 2
) -> AsyncIterator[Gunicorn]:
    """Run the documented command on the documented site, with another engine and port."""
    # A frozen worker is no dead one, however long another one takes to start meanwhile.
    given = f"engine={engine!r}, node_timeout={2 * WAIT_SECONDS}"
    site = SITE.text.replace('engine="redis://127.0.0.1:6379"', given)
    assert site != SITE.text
    (folder / "calls.py").write_text(site, encoding="utf-8")
    command = COMMAND.text.splitlines()[-1].removeprefix(".venv/bin/")
    command = command.replace("127.0.0.1:8080", "127.0.0.1:0")
    command = command.replace("--workers 2", f"--workers {workers}")
    program, *given_options, _ = command.split()
    assert program == "gunicorn"
    arguments = [*given_options, *options, "calls:app"]
    environ = {**os.environ, "XDG_RUNTIME_DIR": str(folder)}  # all of a user share a control socket
    process = await forked.start(GUNICORN, arguments, cwd=folder, environ=environ)
    running = Gunicorn(process)
    try:
        await running.has_begun(workers)
        yield running
    except BaseException as error:
        error.add_note("\n".join(running.output))
        raise
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            raise
        await running.reading
    assert not any("Traceback" in line for line in running.output), "\n".join(running.output)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Valkey]:
    """Run a Valkey."""
    (folder := tmp_path / "valkey").mkdir()
    async with valkey(folder) as server:
        yield server


async def hears(member: Signalling, events: int) -> list[tuple[str, Any]]:
    """Return the sender and content of a member's next broadcasts."""
    found: list[tuple[str, Any]] = []
    async with asyncio.timeout(WAIT_SECONDS):
        while len(found) < events:
            packet = await member.receive()
            event = packet["Header"]["Event"]
            assert event in ("connect", "broadcast"), packet
            if event == "broadcast":
                found.append((packet["Header"]["UserId"], packet["Payload"]))
    return found


async def meet(running: Gunicorn, workers: list[int], room: str) -> None:
    """Check that members of all workers hear each other, once each, and that pings list all."""
    async with AsyncExitStack() as stack:
        members: list[Signalling] = []
        for number, worker in enumerate(workers):
            async with running.only(worker):
                for each in range(OF_EACH):
                    user = f"u{number}{each}"
                    joining = connect(f"{running.url}/echo", "raw", user=user, room=room)
                    members.append(await stack.enter_async_context(joining))
        for member in members:
            role = await member.ask("connect")
            assert (role["Header"]["Event"], role["Payload"]) == (
                "connect",
                "true" if member is members[0] else "false",
            )
        users = {member.user for member in members}
        for text in ("once", "again"):  # a duplicate would come before the next one
            for member in members:
                await member.send(member.packet("broadcast", text))
            for member in members:
                heard = await hears(member, len(members) - 1)
                assert sorted(heard) == sorted((user, text) for user in users - {member.user})
        for member in members:
            answer = await member.ask("ping")
            assert {*json.loads(answer["Payload"])} == users


WORKERS = ["aiohttp.GunicornWebWorker", "aiohttp.GunicornUVLoopWebWorker"]


@pytest.mark.parametrize("worker", WORKERS)
@pytest.mark.parametrize("preload", [[], ["--preload"]], ids=["each-imports", "preload"])
async def test_members_of_two_workers_meet(
    tmp_path: Path, store: Valkey, worker: str, preload: list[str]
) -> None:
    """This includes a worker that replaces a killed one."""
    options = [*preload, "--worker-class", worker]
    async with gunicorn(tmp_path, store.url, *options) as running:
        one, two = running.workers
        await meet(running, [one, two], "before")
        running.workers.remove(two)
        os.kill(two, signal.SIGKILL)
        await running.has_begun(2)
        await meet(running, running.workers, "after")


async def test_workers_without_a_store_say_so(tmp_path: Path) -> None:
    """Each worker that finds another one does so."""
    async with gunicorn(tmp_path, "memory://", "--preload") as running:
        line = await running.says("memory:// keeps the rooms in this process only")
        found = re.search(r"but process (\d+) listens on the same socket", line)
        assert found and int(found[1]) in running.workers
        assert line.endswith("set Engine to a Redis or Valkey")


async def test_the_end(tmp_path: Path) -> None:
    """A single worker over memory:// logs no warning; SIGTERM closes its clients properly."""
    async with gunicorn(tmp_path, "memory://", workers=1) as running:
        async with connect(f"{running.url}/echo", "raw", user="a", room="room") as member:
            assert (await member.ask("connect"))["Payload"] == "true"
            running.process.send_signal(signal.SIGTERM)
            with pytest.raises(Closed) as closed:
                await asyncio.wait_for(member.receive(), WAIT_SECONDS)
            assert closed.value.code == 1001
        assert await running.process.wait() == 0
    assert not any("memory://" in line for line in running.output)
