"""The documentation's shell commands are carried out, in a separate checkout.

COMMANDS has each kind of command, and how the test checks its effect. Commands run as written,
except for what must not change here: ports are free ones, and /etc is a folder of the test. Nothing
is installed: the test only checks that a package exists.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import stat
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import jwt
import pytest
from documents import ROOT, Block, runs, runs_all
from fakes import packet
from packaging.requirements import Requirement
from patience import patient
from ports import free_port
from process import Signaller, execute, require, self_signed
from test_nginx import ERRORS, LOG, MAIN, replace
from test_workers import urls
from valkey_server import valkey

from videre.version import __version__

pytestmark = [pytest.mark.process, pytest.mark.long]

SECONDS = patient(60)  # for a command that ends by itself; none takes a tenth of it


class Checkout:
    """A copy of the repository for the commands, whose .venv is this environment."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / ".venv/bin").mkdir(parents=True)
        (path / "log").mkdir()
        (path / "path").mkdir()
        shutil.copytree(ROOT / "bin", path / "bin")
        shutil.copytree(ROOT / "docs", path / "docs")
        for name in ("videre", "tests", "benchmarks", "setup.cfg", "setup.py", "README.md"):
            (path / name).symlink_to(ROOT / name)
        self.program("bin/install", "true")  # already done for this environment
        self.program(".venv/bin/python", f'exec {shlex.quote(sys.executable)} "$@"')
        self.program("path/python", f'exec {shlex.quote(sys.executable)} "$@"')
        self.program(".venv/bin/videre-server", 'exec .venv/bin/python -m videre "$@"')
        self.program("path/videre-server", 'exec python -m videre "$@"')
        self.program("path/systemctl", 'echo "systemctl $*" >> systemctl.log')
        conf = json.loads((path / "bin/conf.json").read_text())
        (path / "bin/conf.json").write_text(json.dumps({**conf, "Port": 0}))

    def program(self, name: str, line: str) -> None:
        """Write a program of one line."""
        file = self.path / name
        file.unlink(missing_ok=True)
        file.write_text(f"#!/bin/sh\n{line}\n")
        file.chmod(file.stat().st_mode | stat.S_IXUSR)

    def environment(self) -> dict[str, str]:
        """Return the environment of its commands."""
        path = f"{self.path / 'path'}:/usr/local/bin:/usr/bin:/bin:/usr/sbin"
        return {"PATH": path, "HOME": str(self.path)}

    async def run(self, command: str) -> str:
        """Return the output of a command, which must end by itself and succeed."""
        process = await asyncio.create_subprocess_exec(
            *("bash", "-euo", "pipefail", "-c", command),
            cwd=self.path,
            env=self.environment(),
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
        )
        try:
            async with asyncio.timeout(SECONDS):
                output, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode == 0, f"{command}\n{output.decode()}"
        return output.decode()

    @asynccontextmanager
    async def serve(self, command: str) -> AsyncIterator[Signaller]:
        """Run a command that serves; SIGTERM must stop it cleanly."""
        process = await execute(*shlex.split(command), cwd=self.path, env=self.environment())
        server = Signaller(process)
        try:
            await server.listening()
            yield server
        except BaseException as error:
            error.add_note(str(server))
            raise
        finally:
            code = await server.stop()
        assert code == 0, str(server)


async def calls(url: str, ssl: bool = True) -> None:
    """Check that a server seats a user at this URL."""
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{url.replace('0.0.0.0', '127.0.0.1')}/websocket", ssl=ssl) as socket,
    ):
        await socket.send_str(packet("connect", "a", "room"))
        assert (await socket.receive_json(timeout=SECONDS))["Payload"] == "true"


async def _serves(checkout: Checkout, command: str) -> None:
    """A server listens where the options say, and seats a user."""
    path = re.search(r"--prefix (\S+)", command)
    command = re.sub(r"--port \d+", "--port 0", command)
    if "--cert" in command:
        certificate, key = self_signed(checkout.path)
        certificate.rename(checkout.path / "cert.pem")
        key.rename(checkout.path / "key.pem")
    async with checkout.serve(command) as server:
        assert server.url.startswith("https" if "--cert" in command else "http:")
        assert server.url.endswith(path[1] if path else "/echo")
        await calls(server.url, ssl=False)


async def _checks(checkout: Checkout, command: str) -> None:
    """The command checks a configuration."""
    file = re.search(r"--config /(\S+)", command)
    assert file
    path = checkout.path / file[1]
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"Port": 1111}))
    command = command.replace(f"/{file[1]}", str(path))
    assert "is good" in await checkout.run(command)
    path.write_text(json.dumps({"Prot": 1111}))
    with pytest.raises(AssertionError, match="Prot"):
        await checkout.run(command)


async def _mints(checkout: Checkout, command: str) -> None:
    """It prints a token signed with the previous line's secret."""
    auth = {"Auth": {"SecretFiles": ["secret"]}}
    (checkout.path / "conf.json").write_text(json.dumps(auth))
    token = (await checkout.run(command)).strip()
    secret = (checkout.path / "secret").read_text().strip()
    claims = jwt.decode(token, secret, algorithms=["HS256"])
    options = re.findall(r"--(user|room|ttl) (\S+)", command)
    assert dict(options) == {
        "user": claims["sub"],
        "room": claims["room"],
        "ttl": str(claims["exp"] - claims["iat"]),
    }


async def _makes_a_secret(checkout: Checkout, command: str) -> None:
    """The file has a secret long enough for tokens and for TURN."""
    await checkout.run(command)
    assert len((checkout.path / command.split()[-1]).read_text().strip()) >= 32


async def _tests(checkout: Checkout, command: str) -> None:
    """The tests are collected, but not run: this is one of them."""
    narrow = "" if "tests/" in command else " tests/house/test_limits.py"
    output = await checkout.run(f"{command}{narrow} -n 0 -p no:cacheprovider --collect-only -q")
    assert re.search(r"tests? collected", output), output


async def _lints(checkout: Checkout, command: str) -> None:
    """CI runs it."""
    gate = (ROOT / ".ci/run").read_text()
    assert command in [line.strip() for line in gate.splitlines()]
    assert os.access(checkout.path / command, os.X_OK)


async def _measures(checkout: Checkout, command: str) -> None:
    """The cases exist; nothing is measured."""
    require("npm")
    _copy_benchmarks(checkout)
    assert "ours" in await checkout.run(f"{command} --list")


async def _tabulates(checkout: Checkout, command: str) -> None:
    """The stored results give the tables in the document."""
    _copy_benchmarks(checkout)
    document = checkout.path / "docs/scale.md"
    there = document.read_text()
    document.write_text(re.sub(r"(?<=```text\n).*?(?=```)", "", there, flags=re.DOTALL))
    await checkout.run(f"{command.rpartition(' ')[0]} docs/scale.json")
    assert document.read_text() == there


def _copy_benchmarks(checkout: Checkout) -> None:
    folder = checkout.path / "benchmarks"
    if folder.is_symlink():
        folder.unlink()
        ignored = shutil.ignore_patterns("node_modules", "results", "__pycache__")
        shutil.copytree(ROOT / "benchmarks", folder, ignore=ignored)
        (folder / "peers/node_modules").mkdir()
        (folder / "peers/node_modules/.package-lock.json").touch()  # bin/bench --smoke runs npm ci


async def _installs(checkout: Checkout, command: str) -> None:
    """pip would install this package, with existing extras."""
    metadata = await checkout.run(
        "python setup.py --quiet egg_info --egg-base path && cat path/*.egg-info/PKG-INFO"
    )
    program, *words = shlex.split(command)
    if program == "bin/install":
        assert os.access(checkout.path / program, os.X_OK)
        words = [f"videre-server[{','.join(words)}]"]
    for word in words[1:] if program == "pip" else words:
        wanted = Requirement(word) if word != "." else Requirement("videre-server")
        assert f"\nName: {wanted.name}\nVersion: {__version__}\n" in metadata
        assert all(f"\nProvides-Extra: {extra}\n" in metadata for extra in wanted.extras)


async def _configures_nginx(checkout: Checkout, command: str) -> None:
    """nginx accepts the copied file; then systemd would reload nginx."""
    etc = checkout.path / "etc/nginx"
    (etc / "conf.d").mkdir(parents=True)
    main = MAIN.format(tmp=checkout.path, user="")
    include = f"include {checkout.path}/videre.conf;"
    (etc / "nginx.conf").write_text(replace(main, include, f"include {etc}/conf.d/*.conf;"))
    conf = checkout.path / "docs/nginx.conf"
    text = replace(conf.read_text(), LOG, str(checkout.path / "access.log"))
    text = replace(text, ERRORS, str(checkout.path / "error.log"))
    conf.write_text(replace(text, "listen 80;", f"listen 127.0.0.1:{free_port()};"))
    options = f"-p {checkout.path} -c {etc}/nginx.conf"
    checkout.program("path/nginx", f'exec {require("nginx")} {options} "$@"')
    output = await checkout.run(command.replace("/etc/", f"{checkout.path}/etc/"))
    assert "test is successful" in output
    assert (checkout.path / "systemctl.log").read_text() == "systemctl reload nginx\n"


#: How to carry out a command, by its form: the first match applies.
COMMANDS: list[tuple[str, Callable[[Checkout, str], Awaitable[None]]]] = [
    (r"bin/serve token .*", _mints),
    (r"bin/serve .*--check", _checks),
    (r"bin/serve( --(port|prefix|cert|key) \S+)*", _serves),
    (r"bin/test( .*)?", _tests),
    (r"bin/lint", _lints),
    (r"bin/bench( .*)?", _measures),
    (r"\.venv/bin/python -m benchmarks\.million \S+", _tabulates),
    (r"head -c 32 /dev/urandom \| base64 > \S+", _makes_a_secret),
    (r"pip install \S+", _installs),
    (r"bin/install( \w+)*", _installs),
    (r"cp docs/nginx.conf \S+ && nginx -t && systemctl reload nginx", _configures_nginx),
]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """Give a checkout."""
    return Checkout(tmp_path)


async def carry_out(checkout: Checkout, line: str) -> None:
    """Carry out a line of a block."""
    command = re.sub(r"\s+#.*", "", line)
    for pattern, how in COMMANDS:
        if re.fullmatch(pattern, command):
            await how(checkout, command)
            return
    pytest.fail(f"nothing in COMMANDS is {command}")


@runs_all("shell")
async def test_shell(block: Block, checkout: Checkout) -> None:
    """Each line is a command that has its intended effect."""
    for line in block.text.splitlines():
        await carry_out(checkout, line)


@runs("README.md", "Listening on")
async def test_what_the_first_command_prints(block: Block, checkout: Checkout) -> None:
    """The output equals the document's, except for the port and the random room name."""
    async with checkout.serve("bin/serve") as server:
        port = str(server.port)
    told = block.text.splitlines()
    lines = [line for line in server.output if not re.match(r"\d\d:\d\d:\d\d ", line)]  # no log
    seen = [line.replace(port, "1111") for line in lines]
    room = re.compile(r"(?<=/demo#)[\w-]{22}$")
    assert [room.sub("", line) for line in seen] == [room.sub("", line) for line in told]
    assert room.search(told[-1]) and room.search(seen[-1])


@runs("docs/cluster.md", '"Port": 1111', name="conf")
@runs("docs/cluster.md", "videre-server --config", name="start")
@runs("docs/cluster.md", "--workers", name="workers")
async def test_a_cluster(conf: Block, start: Block, workers: Block, checkout: Checkout) -> None:
    """Two servers with that configuration share a room, and so do the workers of one."""
    lines = start.text.splitlines()
    one, two = [line for line in lines if "videre-server" in line]
    (nginx,) = [line for line in lines if line.startswith("cp docs/nginx.conf ")]
    await carry_out(checkout, nginx)
    folder = checkout.path / "valkey"
    folder.mkdir()
    async with valkey(folder) as store, AsyncExitStack() as stack:
        text = replace(conf.text, "redis://127.0.0.1:6379", store.url)
        (checkout.path / "etc/videre").mkdir(parents=True)
        shared = json.loads(replace(text, '"Port": 1111', '"Port": 0'))
        (checkout.path / "etc/videre/conf.json").write_text(json.dumps(shared))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        before: list[str] = []
        for command in (one.removesuffix(" &"), two.removesuffix(" &"), workers.text.strip()):
            command = command.replace("/etc/", f"{checkout.path}/etc/").replace(" 1112", " 0")
            server = await stack.enter_async_context(checkout.serve(command))
            socket = await stack.enter_async_context(http.ws_connect(f"{server.url}/websocket"))
            user = f"user{len(before)}"
            await socket.send_str(packet("connect", user, "room"))
            await socket.receive_json(timeout=SECONDS)
            await socket.send_str(packet("ping", user, "room"))
            before.append(user)
            heard = await socket.receive_json(timeout=SECONDS)
            assert json.loads(heard["Payload"]) == before
        assert len({*await urls(server, 4)}) == 4  # the last command's, one port for each worker
