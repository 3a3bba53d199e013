"""Run the real server, and the programs that drive it, as processes."""

from __future__ import annotations

import asyncio
import fcntl
import ipaddress
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import forked
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from forked import Forked
from patience import patient

ROOT = Path(__file__).resolve().parents[2]
NODE = ROOT / "tests" / "node"
#: For the tests' own programs, which use the modules in this folder.
WITH_SUPPORT = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests' / 'support'}"}
SCRIPT = ROOT / "bin" / "signaller.py"
#: Code for `forked.start`.
SIGNALLER = f"import runpy; runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
LINE_BYTES = forked.LINE_BYTES
LISTENING = re.compile(r"Listening on .*?(https?)://([^/ ]+):(\d+)(/[^\s,]*)?")

START_SECONDS = patient(60)  # a loaded machine imports slowly
STOP_SECONDS = patient(30)  # far longer than a shutdown takes; after it the process hangs
#: Tests that are done do not wait for their clients.
NO_DRAIN = {**os.environ, "VIDERE_DRAIN_SECONDS": "0"}


class Signaller:
    """A server process that listens at `url` and writes the lines in `output`."""

    def __init__(self, process: Process | Forked) -> None:
        self.process = process
        self.output: list[str] = []
        self.url = ""
        self.port = 0
        self.code = 0  # the expected exit code
        self._listening = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    def __str__(self) -> str:
        return f"signaller {self.process.pid}:\n" + "\n".join(self.output)

    async def listening(self) -> None:
        """Return when the process prints its address; fail if it ends before that."""
        async with asyncio.timeout(START_SECONDS):
            await self._listening.wait()
        if not self.url:
            pytest.fail("The signaller ended before it listened")

    async def ended(self) -> None:
        """Return when no process is left that could write to its output."""
        await asyncio.shield(self._reading)

    async def kill(self) -> None:
        """Kill it, which then is no fault."""
        self.code = -signal.SIGKILL
        self.process.kill()
        await self.process.wait()

    async def stop(self, sign: int = signal.SIGTERM) -> int:
        """Send `sign` unless it has ended, and return its exit code; kill it if it hangs."""
        if self.process.returncode is None:
            self.process.send_signal(sign)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                code = await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()
            pytest.fail(f"Signal {sign} did not stop it in {STOP_SECONDS} s, {self}")
        finally:
            await self._reading
        return code

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.output.append(line.decode(errors="replace").rstrip())
            found = LISTENING.search(self.output[-1])
            if found and not self.url:
                scheme, host, port, path = found.groups()
                self.url, self.port = f"{scheme}://{host}:{port}{path or ''}", int(port)
                self._listening.set()
        self._listening.set()  # at the end of the output no waiting test need go on


@asynccontextmanager
async def signaller(
    *args: str,
    tmp: Path,
    config: Mapping[str, Any] | None = None,
    host: str | None = "127.0.0.1",
    within: Sequence[str] = (),
    code: str = SIGNALLER,
) -> AsyncIterator[Signaller]:
    """Run `bin/signaller.py` in `tmp` on a free port; at the end it must stop cleanly.

    `within` is a command to run it with, such as `ip netns exec`; without one it is forked, which
    is cheaper (see forked.py), and only then may run other `code`, which changes a constant first.

    `config` is written to `tmp/conf.json`; without one the shipped configuration is used, but with
    its log in `tmp`. A clean stop is exit code 0, with no traceback in the output, unless killed.
    """
    options = ["--port", "0"]
    options += ["--host", host] if host is not None else []  # None: as configured
    if config is None:
        options += ["--log-file", str(tmp / "debug.log")]
    else:
        path = tmp / "conf.json"
        path.write_text(json.dumps(config), encoding="utf-8")
        options += ["--config", str(path)]
    environ = dict(os.environ) if config and "DrainSeconds" in config else NO_DRAIN
    process = await _started(code, [*options, *args], tmp, environ, within)
    async with supervised(process) as running:
        yield running


async def _started(
    code: str, options: list[str], cwd: Path, environ: dict[str, str], within: Sequence[str]
) -> Process | Forked:
    if not within:
        return await forked.start(code, options, cwd=cwd, environ=environ)
    assert code == SIGNALLER
    return await execute(*within, sys.executable, SCRIPT, *options, cwd=cwd, env=environ)


async def execute(
    *command: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> Process:
    """Start a command without input; its output, errors included, may have long lines."""
    return await asyncio.create_subprocess_exec(
        *command, cwd=cwd, env=env, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, limit=LINE_BYTES
    )


@asynccontextmanager
async def supervised(process: Process | Forked) -> AsyncIterator[Signaller]:
    """Give a server once it listens; at the end it must stop cleanly, see `signaller`."""
    running = Signaller(process)
    try:
        await running.listening()
        yield running
    except BaseException as error:
        await running.stop()
        error.add_note(str(running))
        raise
    assert await running.stop() == running.code, str(running)
    assert not any("Traceback" in line for line in running.output), str(running)


def self_signed(tmp: Path, *, days: int = 0) -> tuple[Path, Path]:
    """Write a certificate for localhost and 127.0.0.1 and its key; return their paths.

    It is valid for a day, from a time `days` after now, or an hour before now for 0.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    since = datetime.now(UTC) + (timedelta(days=days) if days else -timedelta(hours=1))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(since + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost"), address]), False)
        .sign(key, hashes.SHA256())
    )
    paths = tmp / "certificate.pem", tmp / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths


def missing(what: str) -> None:
    """Skip the test, or fail it if VIDERE_TEST_ALL=1 forbids skipping."""
    if os.environ.get("VIDERE_TEST_ALL") == "1":
        pytest.fail(what)
    pytest.skip(what)


def require(program: str) -> str:
    """Return the path of `program`; skip the test where it is not installed."""
    path = shutil.which(program)
    if path is None:
        missing(f"{program} is not installed")
    assert path is not None
    return path


def node_modules(folder: Path = NODE) -> Path:
    """Return a folder's node_modules, installed by its lock file; skip where that fails."""
    require("node")
    npm = require("npm")
    lock, installed = folder / "package-lock.json", folder / "node_modules" / ".package-lock.json"
    directory = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)  # two test runs must not install at once
        if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
            command = [npm, "ci", "--ignore-scripts", "--omit=optional"]  # as in bin/bench
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
            if done.returncode:
                missing(f"npm ci failed: {done.stderr}")
    finally:
        os.close(directory)
    return folder / "node_modules"


async def node(script: str, *args: str) -> list[dict[str, Any]]:
    """Run a script of tests/node and return the JSON lines it printed; fail if it failed."""
    process = await asyncio.create_subprocess_exec(
        require("node"), str(NODE / script), *args, stdout=PIPE, stderr=PIPE
    )
    try:
        output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        pytest.fail(f"{script} {' '.join(args)}: {errors.decode()}{output.decode()}")
    return [json.loads(line) for line in output.splitlines()]


def scenarios(script: str, *args: str) -> dict[str, Any]:
    """Run a script of tests/node that plays scenarios; return what each found, by its name."""
    return {line["scenario"]: line["found"] for line in asyncio.run(node(script, *args))}
