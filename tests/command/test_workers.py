"""Several workers on one machine: they share their rooms, and a dead one is restarted."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import forked
import pytest
from fakes import packet
from forked import Forked
from patience import WAIT_SECONDS as SECONDS
from ports import free_port
from process import LISTENING, ROOT, SIGNALLER, Signaller, signaller, supervised
from valkey_server import Valkey, valkey

from videre.command import worker, workers
from videre.command.listening import Ports
from videre.config import Config, load
from videre.errors import ConfigError

pytestmark = pytest.mark.process


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Valkey]:
    """Run a Valkey."""
    folder = tmp_path / "valkey"
    folder.mkdir()
    async with valkey(folder) as running:
        yield running


async def urls(server: Signaller, count: int) -> list[str]:
    """Return the workers' URLs, once this many listen."""
    async with asyncio.timeout(SECONDS):
        while True:
            found = [match for line in server.output if (match := LISTENING.search(line))]
            if len(found) >= count:
                return [f"{m[1]}://127.0.0.1:{m[3]}{m[4]}/websocket" for m in found]
            await asyncio.sleep(0.01)


async def ready(server: Signaller, count: int) -> list[str]:
    """Return the workers' URLs, once this many have told the parent that they serve.

    They do so after they have printed their URLs, and before they answer the first request. A
    worker that dies before all have is not restarted.
    """
    found = await urls(server, count)
    async with aiohttp.ClientSession() as http:
        for url in found:
            async with http.get(url.removesuffix("/websocket")) as greeting:
                assert greeting.status == 200
    return found


async def started(server: Signaller) -> int:
    """Return a worker's process id from the log, which may come after its URL."""
    async with asyncio.timeout(SECONDS):
        while True:
            for line in server.output:
                if match := re.search(r"pid=(\d+)", line):
                    return int(match[1])
            await asyncio.sleep(0.01)


async def member(stack: AsyncExitStack, url: str, user: str) -> Any:
    """Return a WebSocket whose user has a seat in the room."""
    http = await stack.enter_async_context(aiohttp.ClientSession())
    socket = await stack.enter_async_context(http.ws_connect(url))
    await socket.send_str(packet("connect", user, "room"))
    heard = await socket.receive_json(timeout=SECONDS)
    assert heard["Header"]["UserId"] == user, heard
    return socket


@pytest.mark.parametrize("ports", ["each", "shared"])
async def test_workers_share_their_rooms(store: Valkey, tmp_path: Path, ports: str) -> None:
    """Members meet whichever worker each is connected to."""
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


async def test_a_dead_worker_is_restarted(store: Valkey, tmp_path: Path) -> None:
    """It uses its old port; the other worker went on meanwhile."""
    settings = {"Engine": store.url, "Workers": 2}
    async with signaller(tmp=tmp_path, config=settings) as server, AsyncExitStack() as stack:
        found = await ready(server, 2)
        sockets = {url: await member(stack, url, f"user{n}") for n, url in enumerate(found)}
        os.kill(await started(server), signal.SIGKILL)
        dead = (await urls(server, 3))[2]
        (other,) = set(found) - {dead}
        await member(stack, dead, "user2")
        async with asyncio.timeout(SECONDS):
            while (await sockets[other].receive_json())["Header"]["UserId"] != "user2":
                pass


async def test_ctrl_c_ends_all_workers(store: Valkey, tmp_path: Path) -> None:
    """It works like SIGTERM, with which the other tests stop."""
    settings = {"Engine": store.url, "Workers": 3, "WorkerPorts": "shared"}
    async with signaller(tmp=tmp_path, config=settings) as server:
        await urls(server, 3)
        assert await server.stop(signal.SIGINT) == 0


async def test_workers_end_with_their_parent(store: Valkey, tmp_path: Path) -> None:
    """They drain if the parent is killed, also one that was restarted; nothing is left behind."""
    settings = {"Engine": store.url, "Workers": 2, "DrainSeconds": 600, "LogFormat": "text"}
    async with signaller(tmp=tmp_path, config=settings) as server, AsyncExitStack() as stack:
        await ready(server, 2)
        os.kill(await started(server), signal.SIGKILL)
        one = await member(stack, (await urls(server, 3))[2], "user")
        try:
            await server.kill()
            assert (await one.receive_json(timeout=SECONDS))["Header"]["Event"] == "goaway"
            await one.close()
            async with asyncio.timeout(SECONDS):
                await server.ended()
        finally:
            for line in server.output:
                if match := re.search(r"pid=(\d+)", line):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(match[1]), signal.SIGKILL)
        assert sum("parent-gone" in line for line in server.output) == 2


SERVICE = """
import sys
from videre.command import cli, worker
worker.TOGETHER = 600.0  # so that a busy machine does not decide
sys.exit(cli.main(["--config", "conf.json", "--port", "0", "--host", "127.0.0.1"]))
"""


async def test_a_signal_to_the_whole_service(store: Valkey, tmp_path: Path) -> None:
    """systemd signals the workers, too: the signal that the parent hands on is no second one."""
    settings = {"Engine": store.url, "Workers": 2, "DrainSeconds": 600, "LogFormat": "text"}
    (tmp_path / "conf.json").write_text(json.dumps(settings))
    process = await forked.start(SERVICE, cwd=tmp_path, environ=os.environ)
    async with supervised(process) as server, AsyncExitStack() as stack:
        url = (await urls(server, 2))[0]
        one = await member(stack, url, "user")
        listed = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        children = (await asyncio.to_thread(listed.read_text)).split()
        assert len(children) == 2
        for pid in map(int, children):
            os.kill(pid, signal.SIGTERM)
        assert (await one.receive_json(timeout=SECONDS))["Header"]["Event"] == "goaway"
        process.terminate()
        for pid in map(int, children):
            with contextlib.suppress(ProcessLookupError):  # the idle worker has drained
                os.kill(pid, signal.SIGTERM)
        for _ in range(5):
            await one.send_str(packet("ping", "user", "room"))
            assert (await one.receive_json(timeout=SECONDS))["Header"]["Event"] == "ping"
        await one.close()
        assert await process.wait() == 0


ORPHANS = """
import ctypes, os, signal, socket, sys
from videre.command import workers
from videre.command.listening import Ports
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
    os.write(1, b"orphaned\\n")  # whole: two workers write
    signal.sigwait([signal.SIGTERM])
    return 0

sys.exit(workers.run(Config(workers=2, port=0), lambda config: socket.socket(), serve, list))
"""


async def test_the_parent_ignores_orphans() -> None:
    """In a container it inherits orphans, such as a health check's: they are no workers."""
    parent = await forked.start(ORPHANS, cwd=ROOT, environ=os.environ, stderr=PIPE)
    try:
        async with asyncio.timeout(SECONDS):
            assert parent.stdout is not None
            assert [await parent.stdout.readline() for _ in range(2)] == [b"orphaned\n"] * 2
            parent.terminate()
            out, errors = await parent.communicate()
    finally:
        parent.kill()
    assert (parent.returncode, out, errors) == (0, b"", b"")


EARLY = """
import os, signal, socket, sys
from videre.command import workers
from videre.command.listening import Ports
from videre.config import Config, load

def serve(config, listening):
    os.write(1, b".")
    signal.pause()

sys.exit(workers.run(Config(workers=2, port=0), lambda config: socket.socket(), serve, list))
"""


@pytest.mark.parametrize("number", worker.ENDING)
async def test_workers_stopped_while_they_start(number: int) -> None:
    """They die of the signal itself, which is no failure."""
    parent = await forked.start(EARLY, cwd=ROOT, environ=os.environ)
    try:
        async with asyncio.timeout(SECONDS):
            assert parent.stdout is not None
            assert await parent.stdout.readexactly(2) == b".."
            parent.send_signal(number)
            assert await parent.wait() == 0
    finally:
        parent.kill()


LATE = """
import os, signal, socket, sys
from videre.command import worker, workers
from videre.config import Config

def serve(config, listening):
    return 0

code = workers.run(Config(workers=2, port=0), lambda config: socket.socket(), serve, list)
for number in worker.SIGNALS:
    signal.signal(number, signal.SIG_DFL)  # as Python does at its end
    os.kill(os.getpid(), number)
sys.exit(code)
"""


async def test_a_late_signal_is_ignored() -> None:
    """When the last worker has ended, no signal turns a clean end into a failure."""
    parent = await forked.start(LATE, cwd=ROOT, environ=os.environ)
    async with asyncio.timeout(SECONDS):
        assert await parent.wait() == 0


SCRIPT = """
import os, signal, socket, sys, time
from pathlib import Path
from videre.command import systemd, worker, workers
from videre.config import Config

def serve(config, listening):
    number = config.log_file.name.split(".")[1]
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT])
    os.write(1, number.encode())
    {serve}
    systemd.notify("READY=1")
    {then}

settings, reloads = {{}}, []
listen = lambda config: socket.socket()
{before}
config = Config(workers=2, port=0, log_file=Path("log.txt"), **settings)
sys.exit(workers.run(config, listen, serve, lambda: reloads.append(None)))
"""
LASTING = "signal.sigwait([signal.SIGTERM, signal.SIGINT]); return 0"


class Scripted:
    """A parent whose two workers run lines of Python, with a service manager that records."""

    def __init__(self, process: Forked, manager: socket.socket, stdin: int) -> None:
        assert process.stdout is not None
        self.process = process
        self.manager = manager
        self.stdout = process.stdout
        self._stdin = stdin

    @classmethod
    async def start(cls, tmp: Path, serve: str, then: str = LASTING, before: str = "") -> Scripted:
        """Start the parent."""
        manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        manager.bind(str(tmp / "notify"))
        manager.setblocking(False)
        reader, stdin = os.pipe()
        process = await forked.start(
            SCRIPT.format(serve=serve, then=then, before=before),
            cwd=ROOT,
            environ={**os.environ, "NOTIFY_SOCKET": str(tmp / "notify")},
            stdin=reader,
            stderr=PIPE,
        )
        os.close(reader)
        return cls(process, manager, stdin)

    async def message(self) -> str:
        """Return the service manager's next message."""
        async with asyncio.timeout(SECONDS):
            return (await asyncio.get_running_loop().sock_recv(self.manager, 4096)).decode()

    def messages(self) -> list[str]:
        """Return the service manager's messages so far."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(self.manager.recv(4096).decode())
        return found

    async def read(self, count: int) -> bytes:
        """Return this many bytes that the workers wrote."""
        async with asyncio.timeout(SECONDS):
            return await self.stdout.readexactly(count)

    def give(self) -> None:
        """Give a byte to a worker that waits for one."""
        os.write(self._stdin, b"-")

    async def kill_worker(self) -> None:
        """Have a worker die that waits for a byte; return when one that lasts has written `-`."""
        self.give()
        while await self.read(1) != b"-":
            pass

    async def end(self, number: int | None = signal.SIGTERM) -> tuple[int, str]:
        """Stop it, with a signal if need be, and return its exit code and its errors."""
        if number is not None:
            self.process.send_signal(number)
        try:
            async with asyncio.timeout(SECONDS):
                _, errors = await self.process.communicate()
                code = await self.process.wait()
        finally:
            self.process.kill()
            found = self.messages()
            self.manager.close()
            os.close(self._stdin)
        assert number is not None or "READY=1" not in found
        return code, errors.decode()


async def test_the_parent_waits_until_all_are_ready(tmp_path: Path) -> None:
    """An early READY would bring clients too soon, or end the old service."""
    run = await Scripted.start(tmp_path, 'if number == "1": os.read(0, 1)')
    assert sorted(await run.read(2)) == sorted(b"01")
    assert run.messages() == []
    run.give()
    assert await run.message() == "READY=1"
    assert run.messages() == []
    assert await run.end() == (0, "")


async def test_the_watchdog_needs_all_workers(tmp_path: Path) -> None:
    """It notices a single worker whose event loop is blocked."""
    feeds = f"""
    for _ in range(3 if number == "0" else 0):
        systemd.notify("WATCHDOG=1")
    os.write(1, b"-")
    if number == "1":
        os.read(0, 1)
        systemd.notify("WATCHDOG=1")
    {LASTING}
    """
    run = await Scripted.start(tmp_path, "", feeds)
    assert sorted(await run.read(4)) == sorted(b"01--")
    assert await run.message() == "READY=1"
    assert run.messages() == []
    run.give()
    assert await run.message() == "WATCHDOG=1"
    assert await run.end() == (0, "")


@pytest.mark.parametrize(
    ("dies", "code", "words"),
    [
        ("return 5", 5, "worker 1 exited with 5 at the start, stopping all"),
        ("sys.exit(3)", 1, "SystemExit: 3"),
        ("1 / 0", 1, "ZeroDivisionError: division by zero"),
        ("os.kill(os.getpid(), 9)", 137, "worker 1 was killed by SIGKILL at the start"),
        ("os._exit(4)", 4, "worker 1 exited with 4 at the start"),
    ],
)
async def test_a_worker_that_cannot_start_ends_all(
    tmp_path: Path, dies: str, code: int, words: str
) -> None:
    """The parent exits with the worker's message and code, restarts nothing and sends no READY."""
    run = await Scripted.start(tmp_path, f'if number == "1": {dies}')
    ended, errors = await run.end(None)
    assert ended == code
    assert words in errors
    assert errors.count("worker 1 ") == errors.count("at the start") == 1


async def test_a_worker_without_its_log_ends_all(tmp_path: Path) -> None:
    """As with any unusable configuration, the exit code is 2, and the fault is printed."""
    (tmp_path / "debug.1.log").mkdir()
    conf = tmp_path / "conf.json"
    settings = {"Engine": "redis://127.0.0.1:1", "Workers": 2, "LogFile": "debug.log", "Port": 0}
    conf.write_text(json.dumps({**settings, "Host": "127.0.0.1"}))
    process = await forked.start(
        SIGNALLER, ["--config", str(conf)], cwd=ROOT, environ=os.environ, stderr=PIPE
    )
    async with asyncio.timeout(SECONDS):
        _, errors = await process.communicate()
    assert process.returncode == 2
    told = [line for line in errors.decode().splitlines() if line.startswith("videre-server:")]
    assert len(told) == 2 and "LogFile" in told[0] and "Is a directory" in told[0]
    assert "worker 1 exited with 2 at the start" in told[1]


def test_how_a_worker_ended() -> None:
    """Most real-time signals have no name."""
    assert worker.how(3) == "exited with 3"
    assert worker.how(-signal.SIGKILL) == "was killed by SIGKILL"
    assert worker.how(-40) == "was killed by signal 40"


BUSY = """
catch_up = workers._Parent._catch_up

def busy(parent):
    catch_up(parent)
    if [each.ready for each in parent._workers] == [True, False]:  # it has just heard so
        os.write(1, b"b")
        os.waitid(os.P_PID, parent._workers[1].pid, os.WEXITED | os.WNOWAIT)

workers._Parent._catch_up = busy
"""


async def test_a_worker_that_dies_as_soon_as_all_are_ready(tmp_path: Path) -> None:
    """It is restarted, although its parent, being busy, hears so only after its death."""
    serve = 'number == "1" and os.read(0, 1)'
    dies = f"""
    if number == "1" and not os.path.exists({str(tmp_path / "died")!r}):
        Path({str(tmp_path / "died")!r}).touch()
        os._exit(7)
    {LASTING}
    """
    run = await Scripted.start(tmp_path, serve, dies, BUSY + QUICK)
    assert sorted(await run.read(3)) == sorted(b"01b")
    run.give()
    assert await run.message() == "READY=1"
    assert await run.read(1) == b"1"  # the next one
    run.give()
    code, errors = await run.end()
    assert code == 0
    assert errors == "videre-server: worker 1 exited with 7, restarting it in 0.01 s\n"


UNFORKED = """
import errno
made, fork = [], os.fork

def refuse():
    made.append(None)
    if len(made) in {refused}:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return fork()

os.fork = refuse
"""


async def test_a_worker_that_cannot_be_forked_at_the_start(tmp_path: Path) -> None:
    """The first one does not stay behind alone: it would keep the output open."""
    run = await Scripted.start(tmp_path, "", before=UNFORKED.format(refused=[2]))
    code, errors = await run.end(None)
    assert code == 1
    words = "could not be forked (Resource temporarily unavailable) at the start, stopping all"
    assert errors == f"videre-server: worker 1 {words}\n"


def dies_once(tmp_path: Path) -> str:
    """Return the code of workers of which the second dies once, when it is told to."""
    died = str(tmp_path / "died")
    return f"""
    if number == "1" and not os.path.exists({died!r}):
        Path({died!r}).touch()
        os.read(0, 1)
        os._exit(7)
    number == "1" and os.write(1, b"-")
    {LASTING}
    """


async def test_a_worker_that_cannot_be_forked_again(tmp_path: Path) -> None:
    """The parent tries until it can, and keeps the others."""
    before = f"{UNFORKED.format(refused=[3, 4])}\n{QUICK}"
    run = await Scripted.start(tmp_path, "", dies_once(tmp_path), before)
    assert await run.message() == "READY=1"
    await run.kill_worker()
    code, errors = await run.end()
    assert code == 0
    unforked = "could not be forked (Resource temporarily unavailable)"
    assert errors.splitlines() == [
        f"videre-server: worker 1 {why}, restarting it in {wait:g} s"
        for why, wait in (("exited with 7", 0.01), (unforked, 0.02), (unforked, 0.04))
    ]


async def test_the_parent_reloads_before_it_restarts_a_worker(tmp_path: Path) -> None:
    """After a SIGHUP, the configuration with which the parent started is no longer in force."""
    path = str(tmp_path / "died")
    dies = f"""
    if number == "1":
        if os.path.exists({path!r}):
            os.write(1, b"%d" % len(reloads))
        else:
            Path({path!r}).touch()
            signal.sigwait([signal.SIGHUP])
            os._exit(7)
    {LASTING}
    """
    run = await Scripted.start(tmp_path, "", dies, QUICK)
    assert await run.message() == "READY=1"
    assert sorted(await run.read(2)) == sorted(b"01")
    run.process.send_signal(signal.SIGHUP)
    assert await run.read(2) == b"11"
    assert (await run.end())[0] == 0


async def test_a_restarted_worker_goes_by_the_last_valid_configuration(
    store: Valkey, tmp_path: Path
) -> None:
    """Neither by that of the start, nor by a file that nobody has reloaded, nor by a broken one."""
    old, new, newer = (f"https://{name}.example" for name in ("old", "new", "newer"))
    settings = {"Engine": store.url, "Workers": 2, "LogFormat": "text", "Origins": [old]}
    settings |= {"AdminPort": 0, "AdminToken": "the-first-admin-token"}
    conf = tmp_path / "conf.json"

    async def said(words: str, count: int) -> list[str]:
        async with asyncio.timeout(SECONDS):
            while True:
                if len(found := [line for line in server.output if words in line]) == count:
                    return found
                await asyncio.sleep(0.01)

    async with signaller(tmp=tmp_path, config=settings) as server, AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        await ready(server, 2)
        changed = {**settings, "Origins": [new], "AdminToken": "the-second-admin-token"}
        conf.write_text(json.dumps(changed))
        server.process.send_signal(signal.SIGHUP)
        await said(" reload ", 2)
        conf.write_text("{")
        server.process.send_signal(signal.SIGHUP)
        await said(" reload-refused ", 2)
        conf.write_text(json.dumps({**settings, "Origins": [newer]}))
        os.kill(await started(server), signal.SIGKILL)
        url = (await urls(server, 3))[2].removesuffix("/websocket") + "/info"
        statuses = {}
        for origin in (old, new, newer):
            async with http.get(url, headers={"Origin": origin}) as answer:
                statuses[origin] = answer.status
        assert statuses == {old: 403, new: 200, newer: 403}
        page = (await said("Admin port on ", 3))[2].split()[-1] + ".json"
        for token, status in (("first", 401), ("second", 200)):
            bearer = {"Authorization": f"Bearer the-{token}-admin-token"}
            async with http.get(page, headers=bearer) as answer:
                assert answer.status == status


QUICK = "worker.FIRST_RESTART = 0.01; worker.LONGEST_RESTART = 0.04"


SHARED = """
import threading
from videre.command import listening as ports
from videre.errors import ConfigError

settings = {{"host": "127.0.0.1", "worker_ports": "shared"}}
opened = []

def listen(config):
    opened.append(config.port)
    if len(opened) in {refused}:
        raise ConfigError(["Port: it is taken"])
    return ports.listen(config)

def answer(listening):
    while True:
        listening.accept()[0].send(b"-")
"""
#: The second worker dies after a byte; the first one says its port, and answers clients.
DIES = """
    died = Path({folder!r}, "died")
    if number == "0":
        Path({folder!r}, "port").write_text(str(listening.public.getsockname()[1]))
        threading.Thread(target=answer, args=[listening.public], daemon=True).start()
    elif not died.exists():
        died.touch()
        systemd.notify("READY=1")
        os.read(0, 1)
        os._exit(7)
"""


async def test_clients_do_not_wait_for_a_dead_worker(tmp_path: Path) -> None:
    """On a shared port, the living workers get all clients until it is restarted."""
    before = SHARED.format(refused=[]) + "worker.FIRST_RESTART = 600.0"
    run = await Scripted.start(tmp_path, DIES.format(folder=str(tmp_path)), LASTING, before)
    assert await run.message() == "READY=1"
    run.give()
    async with asyncio.timeout(SECONDS):
        assert run.process.stderr is not None
        line = await run.process.stderr.readline()
        assert line == b"videre-server: worker 1 exited with 7, restarting it in 600 s\n"
        port = int((tmp_path / "port").read_text())
        for _ in range(30):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await reader.readexactly(1) == b"-"
            writer.close()
    assert await run.end() == (0, "")


async def test_a_restarted_worker_shares_the_port_again(tmp_path: Path) -> None:
    """If its port cannot be opened, the parent says why, and tries again later."""
    lasts = f"""
    if number == "1":
        port = Path({str(tmp_path)!r}, "port").read_text()
        os.write(1, b"-" if str(listening.public.getsockname()[1]) == port else b"x")
    {LASTING}
    """
    before = SHARED.format(refused=[3]) + QUICK
    run = await Scripted.start(tmp_path, DIES.format(folder=str(tmp_path)), lasts, before)
    assert await run.message() == "READY=1"
    await run.kill_worker()
    code, errors = await run.end()
    assert code == 0
    assert errors.splitlines() == [
        "videre-server: worker 1 exited with 7, restarting it in 0.01 s",
        "videre-server: worker 1 could not listen (Port: it is taken), restarting it in 0.02 s",
    ]


FULL = """
reader, writer = os.pipe()
os.set_blocking(writer, False)
try:
    while True:
        os.write(writer, b"-")
except BlockingIOError:
    os.set_blocking(writer, True)
os.dup2(writer, 2)
"""


async def test_a_full_standard_error(tmp_path: Path) -> None:
    """The parent restarts a worker although nobody reads why, and it can be stopped."""
    run = await Scripted.start(tmp_path, "", dies_once(tmp_path), FULL + QUICK)
    assert await run.message() == "READY=1"
    await run.kill_worker()
    assert await run.end() == (0, "")


async def test_a_worker_that_keeps_dying(tmp_path: Path) -> None:
    """It is restarted after growing delays, each of which is logged."""
    folder = tmp_path / "deaths"
    folder.mkdir()
    # The first one dies when all are ready, five more at once, and the seventh lasts.
    dies = f"""
    deaths = len(list(Path({str(folder)!r}).iterdir()))
    if number == "1" and deaths < 6:
        deaths or os.read(0, 1)
        Path({str(folder)!r}, str(deaths)).touch()
        os._exit(7)
    number == "1" and os.write(1, b"-")
    {LASTING}
    """
    run = await Scripted.start(tmp_path, "", dies, QUICK)
    assert await run.message() == "READY=1"
    await run.kill_worker()
    code, errors = await run.end()
    assert code == 0
    waits = [0.01, 0.02, 0.04, 0.04, 0.04, 0.04]
    assert errors.splitlines() == [
        f"videre-server: worker 1 exited with 7, restarting it in {wait:g} s" for wait in waits
    ]


def test_a_worker_that_served_long_restarts_soon() -> None:
    """Delays grow only for workers that die soon; long service resets them."""
    one = worker.Worker(0, (Config(), Ports(socket.socket())))
    waits = []
    for _ in range(8):
        one.began = 1000.0
        waits.append(one.put_off(1000.0 + worker.SOUND - 1))
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    one.began = 2000.0
    assert one.put_off(2000.0 + worker.SOUND) == 1
    one.served[1].close()


def test_each_worker_has_its_own_port_and_log() -> None:
    """They are numbered; with port 0 each finds a free one, unless they share a port."""
    many = Config(workers=3, port=1111, log_file=Path("log/debug.log"))
    each = workers.configs(many)
    assert [one.port for one in each] == [1111, 1112, 1113]
    assert [str(one.log_file) for one in each] == [f"log/debug.{n}.log" for n in range(3)]
    shared = workers.configs(Config(workers=2, port=1111, worker_ports="shared"))
    assert [one.port for one in shared] == [1111, 1111]
    assert [one.port for one in workers.configs(Config(workers=2, port=0))] == [0, 0]


@pytest.mark.parametrize("kind", ["device", "pipe", "link", "folder"])
def test_workers_share_a_log_that_is_no_file(kind: str, tmp_path: Path) -> None:
    """A file beside it, such as /dev/stdout.0, would take the log where nobody looks for it."""
    path = {"device": Path("/dev/null"), "link": Path("/dev/stdout")}.get(kind, tmp_path / "log")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()  # an error, which names it
    assert [one.log_file for one in workers.configs(Config(workers=2, log_file=path))] == [path] * 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"Workers": 2}, "--workers: Workers: 2: several workers need an Engine"),
        ({"Workers": 2, "Engine": "redis://h", "Port": 65535}, "not enough ports after Port"),
    ],
)
def test_requirements_of_workers(options: dict[str, Any], words: str) -> None:
    """A missing one is reported before any port is opened."""
    given = {key: (f"--{key.lower()}", value) for key, value in options.items()}
    with pytest.raises(ConfigError, match=words):
        load(None, given)


async def test_a_taken_port(tmp_path: Path) -> None:
    """Nothing is started, and the fault names the port."""
    port = free_port(2)
    taken = await asyncio.start_server(lambda *_: None, "127.0.0.1", port + 1)
    try:
        conf = tmp_path / "conf.json"
        engine = "redis://127.0.0.1:1"
        conf.write_text(json.dumps({"Engine": engine, "Workers": 2, "Host": "127.0.0.1"}))
        options = ["--config", str(conf), "--port", str(port)]
        process = await forked.start(SIGNALLER, options, cwd=ROOT, environ=os.environ, stderr=PIPE)
        _, errors = await process.communicate()
        assert process.returncode == 2
        assert errors.decode().startswith(f"videre-server: --port: Port: {port + 1}: ")
    finally:
        taken.close()
