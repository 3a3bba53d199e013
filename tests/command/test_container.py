"""docs/Containerfile: what it copies is there, and each of its commands does what it should.

There is no container engine in the tests: its RUN lines are run in a virtual environment that is
new, its ENTRYPOINT and HEALTHCHECK as processes.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from asyncio.subprocess import PIPE
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from process import ROOT, START_SECONDS
from signalling import connect

from videre.command import http, server
from videre.config import environment, load
from videre.config.schema import SCHEMA
from videre.logs import writers
from videre.version import __version__

TEXT = (ROOT / "docs" / "Containerfile").read_text(encoding="utf-8")
INSTRUCTIONS = (
    {"FROM", "WORKDIR", "COPY", "RUN", "USER", "ENV", "EXPOSE", "STOPSIGNAL"}
    | {"HEALTHCHECK", "ENTRYPOINT"}
)  # fmt: skip
ENGINE_SECONDS = 10  # `podman stop` and `docker stop` kill after so long
AFTER_DRAIN = server.LAST_ANSWERS + http.SHUTDOWN + writers.END_SECONDS


def instructions() -> list[tuple[str, str]]:
    """Return the file's instructions, each with its arguments."""
    lines = [line for line in TEXT.splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    pairs = [line.partition(" ") for line in joined.splitlines() if line]
    return [(name, arguments) for name, _, arguments in pairs]


FOUND = instructions()
ENV = dict(pair.split("=", 1) for name, text in FOUND if name == "ENV" for pair in text.split())


def of(name: str) -> list[str]:
    """Return the arguments of each instruction of a kind."""
    return [arguments for found, arguments in FOUND if found == name]


def exec_form(text: str) -> list[str]:
    """Return a command that is given as a JSON array, without a shell."""
    command = json.loads(text)
    assert isinstance(command, list) and all(isinstance(word, str) for word in command)
    return command


def test_it_is_made_of_what_is_known() -> None:
    """Nothing is overlooked by the tests below; a stage is built before it is copied from."""
    assert {name for name, _ in FOUND} == INSTRUCTIONS
    build, last = of("FROM")
    base = r"python:3\.\d+-slim"
    assert re.fullmatch(rf"{base} AS build", build) and re.fullmatch(base, last)
    version = re.search(r"3\.(\d+)", last)
    assert version is not None and int(version[1]) >= 11


def test_what_is_copied_is_there() -> None:
    """Each source is in the repository; what setup.cfg reads is among them."""
    sources = [
        source
        for text in of("COPY")
        if not text.startswith("--from=build ")
        for source in text.split()[:-1]
    ]
    assert {"setup.cfg", "setup.py", "videre"} <= set(sources)
    assert all((ROOT / source).exists() for source in sources)
    settings = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    for file in re.findall(r"(?:file: |license_files = )(\S+)", settings):
        assert file in sources


def test_its_variables_are_keys_with_good_values() -> None:
    """None is a slip, and the drain ends before the engine loses its patience."""
    ours = {name for name in ENV if name.startswith(environment.PREFIX)}
    assert ours == set(ENV) and ours <= set(environment.VARIABLES)
    config = load(None, environment.read(ENV), ENV)
    assert config.log_file is None and config.log_format == "json"
    assert config.drain_seconds + AFTER_DRAIN < ENGINE_SECONDS
    assert of("EXPOSE") == [str(config.port)] == [str(SCHEMA["Port"]["default"])]


def test_it_does_not_run_as_root() -> None:
    """As a number, which Kubernetes can tell from 0; after the last command that installs."""
    (user,) = of("USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    names = [name for name, _ in FOUND]
    assert names.index("USER") > len(names) - 1 - names[::-1].index("RUN")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of commands of a new environment in which the RUN lines have been run."""
    folder = tmp_path_factory.mktemp("image")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    commands = folder / "venv" / "bin"
    (folder / "build").mkdir()
    for text in of("COPY"):
        if not text.startswith("--from"):
            *sources, target = text.split()
            for source in sources:
                copy(ROOT / source, folder / "build" / target)
    environ = {"PATH": f"{commands}:{os.defpath}", "HOME": str(folder)}
    for line in of("RUN"):
        done = subprocess.run(
            ["sh", "-ec", line.replace("/wheels", str(folder / "wheels"))],
            cwd=folder / "build",
            env=environ,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    return commands


def copy(source: Path, target: Path) -> None:
    """Do as COPY does: a file into a folder, a folder's contents into another."""
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def environ(installed: Path, **variables: str) -> dict[str, str]:
    """Return a container's environment: the image's variables, and those of who runs it."""
    return {"PATH": f"{installed}:{os.defpath}", **ENV, **variables}


def healthy(installed: Path, port: int) -> subprocess.CompletedProcess[str]:
    """Run the health check."""
    options, _, command = of("HEALTHCHECK")[0].partition(" CMD ")
    assert all(option.startswith("--") for option in options.split())
    return subprocess.run(
        exec_form(command),
        env=environ(installed, VIDERE_PORT=str(port)),
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
    )


def test_what_is_installed(installed: Path) -> None:
    """The version of the sources, with what it needs and the client of a Valkey."""
    done = subprocess.run(
        ["videre-server", "--version"], env=environ(installed), capture_output=True, text=True
    )
    assert done.stdout == f"videre-server {__version__}\n", done.stderr
    check = subprocess.run(
        ["python", "-m", "pip", "check"], env=environ(installed), capture_output=True, text=True
    )
    assert check.returncode == 0, check.stdout
    subprocess.run(["python", "-c", "import redis, videre"], env=environ(installed), check=True)


async def events(stream: asyncio.StreamReader, until: str) -> Sequence[dict[str, Any]]:
    """Return the lines of a log up to that of an event."""
    lines: list[dict[str, Any]] = []
    async with asyncio.timeout(START_SECONDS):
        while not lines or lines[-1]["event"] != until:
            lines.append(json.loads(await stream.readline()))
    return lines


async def test_it_runs(installed: Path, tmp_path: Path) -> None:
    """As the image would: it serves, is healthy, drains on its stop signal, logs in JSON alone."""
    (entry,), (stop,) = of("ENTRYPOINT"), of("STOPSIGNAL")
    process = await asyncio.create_subprocess_exec(
        *exec_form(entry),
        cwd=tmp_path,
        env=environ(installed, VIDERE_PORT="0", VIDERE_HOST="127.0.0.1"),
        stdout=PIPE,
        stderr=PIPE,
    )
    assert process.stdout is not None
    try:
        (url,) = (await events(process.stdout, "listen"))[-1]["urls"]
        port = int(re.findall(r":(\d+)/", url)[0])
        done = await asyncio.to_thread(healthy, installed, port)
        assert done.returncode == 0, done.stderr
        async with connect(url, "raw", user="user", room="room") as peer:
            assert (await peer.ask("connect"))["Payload"] == "true"
            process.send_signal(signal.Signals[stop])
            assert (await peer.receive())["Header"]["Event"] == "goaway"
        await events(process.stdout, "drain")
        assert (await events(process.stdout, "stop"))[-1]["event"] == "stop"
        assert await process.wait() == 0
        assert process.stderr is not None and await process.stderr.read() == b""
        gone = await asyncio.to_thread(healthy, installed, port)
        assert gone.returncode != 0
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
    assert os.listdir(tmp_path) == []  # noqa: PTH208
