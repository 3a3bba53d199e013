"""Several workers on one machine: their rooms are one, and one that dies is started again."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from fakes import packet
from process import LISTENING, ROOT, Signaller, signaller
from valkey_server import Valkey, valkey

from videre.command import workers
from videre.config import Config, load
from videre.errors import ConfigError

SECONDS = 30  # a safety net


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Valkey]:
    """Run a Valkey."""
    folder = tmp_path / "valkey"
    folder.mkdir()
    async with valkey(folder) as running:
        yield running


async def urls(server: Signaller, count: int) -> list[str]:
    """Return where the workers listen, once so many do."""
    async with asyncio.timeout(SECONDS):
        while True:
            found = [match for line in server.output if (match := LISTENING.search(line))]
            if len(found) >= count:
                return [f"{m[1]}://127.0.0.1:{m[3]}{m[4]}/websocket" for m in found]
            await asyncio.sleep(0.01)


async def started(server: Signaller) -> int:
    """Return the process id of a worker: the log says it, maybe after it says where it listens."""
    async with asyncio.timeout(SECONDS):
        while True:
            for line in server.output:
                if match := re.search(r"pid=(\d+)", line):
                    return int(match[1])
            await asyncio.sleep(0.01)


async def member(stack: AsyncExitStack, url: str, user: str) -> Any:
    """Return a WebSocket whose user sits in the room."""
    http = await stack.enter_async_context(aiohttp.ClientSession())
    socket = await stack.enter_async_context(http.ws_connect(url))
    await socket.send_str(packet("connect", user, "room"))
    heard = await socket.receive_json(timeout=SECONDS)
    assert heard["Header"]["UserId"] == user, heard
    return socket


@pytest.mark.parametrize("ports", ["each", "shared"])
async def test_workers_have_one_room(store: Valkey, tmp_path: Path, ports: str) -> None:
    """Whichever worker a member is connected to."""
    settings = {"Engine": store.url, "Workers": 2, "WorkerPorts": ports}
    async with signaller(tmp=tmp_path, config=settings) as server, AsyncExitStack() as stack:
        found = await urls(server, 2)
        assert len(set(found)) == (2 if ports == "each" else 1)
        members = [
            await member(stack, url, f"user{number}") for number, url in enumerate(found * 3)
        ]
        await members[-1].send_str(packet("ping", "user5", "room"))
        heard = await members[-1].receive_json(timeout=SECONDS)
        assert json.loads(heard["Payload"]) == [f"user{number}" for number in range(6)]


async def test_a_worker_that_dies_is_started_again(store: Valkey, tmp_path: Path) -> None:
    """On its port; the other one has gone on meanwhile."""
    settings = {"Engine": store.url, "Workers": 2}
    async with signaller(tmp=tmp_path, config=settings) as server, AsyncExitStack() as stack:
        found = await urls(server, 2)
        sockets = {url: await member(stack, url, f"user{n}") for n, url in enumerate(found)}
        os.kill(await started(server), signal.SIGKILL)
        dead = (await urls(server, 3))[2]
        (other,) = set(found) - {dead}
        await member(stack, dead, "user2")
        async with asyncio.timeout(SECONDS):
            while (await sockets[other].receive_json())["Header"]["UserId"] != "user2":
                pass


async def test_ctrl_c_ends_all(store: Valkey, tmp_path: Path) -> None:
    """As SIGTERM does, with which the other tests end."""
    settings = {"Engine": store.url, "Workers": 3, "WorkerPorts": "shared"}
    async with signaller(tmp=tmp_path, config=settings) as server:
        await urls(server, 3)
        assert await server.stop(signal.SIGINT) == 0


ORPHANS = """
import ctypes, os, signal, socket, sys
from videre.command import workers
from videre.config import Config, load

PR_SET_CHILD_SUBREAPER = 36
ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # as the first process of a container

def serve(config, listening):
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # not to be missed
    reader, writer = os.pipe()
    if os.fork() == 0:
        if os.fork() == 0:
            os.read(reader, 1)  # until its own parent has ended
            os._exit(3)
        os._exit(0)
    os.wait()
    os.write(writer, b"-")
    print("orphaned", flush=True)
    signal.sigwait([signal.SIGTERM])
    return 0

sys.exit(workers.run(Config(workers=2, port=0), lambda config: socket.socket(), serve))
"""


def test_the_end_of_another_ones_child_is_nothing_to_the_parent() -> None:
    """In a container it is given orphans, as of a health check: they are no workers."""
    with subprocess.Popen(
        [sys.executable, "-c", ORPHANS],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        assert [parent.stdout.readline() for _ in range(2)] == ["orphaned\n"] * 2
        parent.terminate()
        try:
            out, errors = parent.communicate(timeout=SECONDS)
        finally:
            parent.kill()
    assert (parent.returncode, out, errors) == (0, "", "")


EARLY = """
import os, signal, socket, sys
from videre.command import workers
from videre.config import Config, load

def serve(config, listening):
    os.write(1, b".")
    signal.pause()

sys.exit(workers.run(Config(workers=2, port=0), lambda config: socket.socket(), serve))
"""


@pytest.mark.parametrize("number", workers.ENDING)
def test_workers_that_are_stopped_as_they_start(number: int) -> None:
    """They end by the signal itself, as they were told to: that is no failure."""
    with subprocess.Popen(
        [sys.executable, "-c", EARLY], cwd=ROOT, stdout=subprocess.PIPE
    ) as parent:
        try:
            assert parent.stdout is not None
            assert parent.stdout.read(2) == b".."
            parent.send_signal(number)
            assert parent.wait(SECONDS) == 0
        finally:
            parent.kill()


def test_each_worker_has_its_port_and_log() -> None:
    """One after the other; a free port is found by each, unless they share one."""
    many = Config(workers=3, port=1111, log_file=Path("log/debug.log"))
    each = workers.configs(many)
    assert [one.port for one in each] == [1111, 1112, 1113]
    assert [str(one.log_file) for one in each] == [f"log/debug.{n}.log" for n in range(3)]
    shared = workers.configs(Config(workers=2, port=1111, worker_ports="shared"))
    assert [one.port for one in shared] == [1111, 1111]
    assert [one.port for one in workers.configs(Config(workers=2, port=0))] == [0, 0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"Workers": 2}, "--workers: Workers: 2: more than one worker needs Engine"),
        ({"Workers": 2, "Engine": "redis://h", "Port": 65535}, "not so many ports after Port"),
    ],
)
def test_what_workers_need(options: dict[str, Any], words: str) -> None:
    """It is said what is missing, before a port is opened."""
    given = {key: (f"--{key.lower()}", value) for key, value in options.items()}
    with pytest.raises(ConfigError, match=words):
        load(None, given)


async def test_a_port_that_is_taken(store: Valkey, tmp_path: Path) -> None:
    """Nothing is started: the fault names the port."""
    # Below the ports that the system gives to others, by this process's id.
    port = 10_000 + os.getpid() % 10_000 * 2
    taken = await asyncio.start_server(lambda *_: None, "127.0.0.1", port + 1)
    try:
        conf = tmp_path / "conf.json"
        conf.write_text(json.dumps({"Engine": store.url, "Workers": 2, "Host": "127.0.0.1"}))
        command = ["bin/signaller.py", "--config", str(conf), "--port", str(port)]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *command), cwd=ROOT, stderr=asyncio.subprocess.PIPE
        )
        _, errors = await process.communicate()
        assert process.returncode == 2
        assert errors.decode().startswith(f"videre-server: --port: Port: {port + 1}: ")
    finally:
        taken.close()
