"""Containerfile: its sources exist, and each of its commands works.

The tests have no container engine: they run its RUN lines with a virtual environment of their own,
and its ENTRYPOINT and HEALTHCHECK as its USER, on a read-only root file system.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from asyncio.subprocess import PIPE
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from documents import Block, runs
from process import ROOT, START_SECONDS, missing, require
from signalling import connect
from wheelhouse import wheelhouse

from videre.command import http, server
from videre.config import environment, load
from videre.config.schema import SCHEMA
from videre.logs import writers
from videre.version import __version__

TEXT = (ROOT / "Containerfile").read_text(encoding="utf-8")
INSTRUCTIONS = (
    {"FROM", "WORKDIR", "COPY", "RUN", "LABEL", "USER", "ENV", "EXPOSE", "STOPSIGNAL"}
    | {"HEALTHCHECK", "ENTRYPOINT"}
)  # fmt: skip
ENGINE_SECONDS = 10  # `podman stop` and `docker stop` kill after this time
AFTER_DRAIN = server.LAST_ANSWERS + http.SHUTDOWN + writers.END_SECONDS


def instructions() -> list[tuple[str, str]]:
    """Return the file's instructions, each with its arguments."""
    lines = [line for line in TEXT.splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    pairs = [line.partition(" ") for line in joined.splitlines() if line]
    return [(name, arguments) for name, _, arguments in pairs]


FOUND = instructions()
TARGET = "/opt/videre"  # where the image has it
LABEL = {"title": "videre-server", "licenses": "MIT"}
ENV = dict(pair.split("=", 1) for name, text in FOUND if name == "ENV" for pair in text.split())


def of(name: str) -> list[str]:
    """Return the arguments of each instruction of a kind."""
    return [arguments for found, arguments in FOUND if found == name]


def exec_form(text: str) -> list[str]:
    """Return a command given as a JSON array, without a shell."""
    command = json.loads(text)
    assert isinstance(command, list) and all(isinstance(word, str) for word in command)
    return command


def test_all_instructions_are_known() -> None:
    """The tests below overlook none; a stage is built before files are copied from it."""
    assert {name for name, _ in FOUND} == INSTRUCTIONS
    build, last = of("FROM")
    base = r"python:3\.\d+-slim"
    assert re.fullmatch(rf"{base} AS build", build) and re.fullmatch(base, last)
    version = re.search(r"3\.(\d+)", last)
    assert version is not None and int(version[1]) >= 11


@pytest.mark.process
def test_it_passes_hadolint() -> None:
    """It finds what a container engine would refuse, and bad practice."""
    done = subprocess.run(
        [require(str(Path(sys.executable).with_name("hadolint"))), ROOT / "Containerfile"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert done.stdout == ""


def test_nothing_else_is_sent_to_the_engine() -> None:
    """The build context has only the copied files, without .git and the folder's secrets."""
    ignored = (ROOT / ".containerignore").read_text(encoding="utf-8")
    lines = [line for line in ignored.splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*" and lines[-1] == "**/__pycache__"
    assert {line.removeprefix("!") for line in lines[1:-1]} == set(sources())
    assert (ROOT / ".dockerignore").read_text(encoding="utf-8") == ignored  # docker's name for it


@runs("docs/containers.md", "podman build")
def test_the_commands_of_the_documentation(block: Block) -> None:
    """They are those at the top of the file; the variable is a key with this value."""
    words = shlex.split(block.text)
    lines = [line for line in TEXT.splitlines() if line.startswith("#   ")]
    assert shlex.split("\n".join(line[1:] for line in lines).replace("\\\n", "")) == words
    given = dict(words[n + 1].split("=", 1) for n, word in enumerate(words) if word == "-e")
    assert load(None, environment.read(given), given).transport.origins == (
        "https://www.example.com",
    )


def test_its_labels() -> None:
    """They describe the image, without an invented address."""
    labels = dict(pair.split("=", 1) for text in of("LABEL") for pair in shlex.split(text))
    prefix = "org.opencontainers.image."
    assert all(name.startswith(prefix) for name in labels)
    assert (
        LABEL.items() <= {key.removeprefix(prefix): value for key, value in labels.items()}.items()
    )


def sources() -> list[str]:
    """Return the files copied from the repository."""
    return [
        source
        for text in of("COPY")
        if not text.startswith("--from=build ")
        for source in text.split()[:-1]
    ]


def test_the_copied_files_exist() -> None:
    """Each source is in the repository, including all that setup.cfg reads."""
    found = sources()
    assert {"setup.cfg", "setup.py", "videre"} <= set(found)
    assert all((ROOT / source).exists() for source in found)
    settings = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    for file in re.findall(r"(?:file: |license_files = )(\S+)", settings):
        assert file in found


def test_its_variables_are_keys_with_good_values() -> None:
    """No variable is misspelled, and the drain ends before the engine kills."""
    ours = {name for name in ENV if name.startswith(environment.PREFIX)}
    assert set(ENV) - ours == {"PATH", "PYTHONDONTWRITEBYTECODE"}
    assert ENV["PATH"] == f"{TARGET}/bin:$PATH"
    assert ours <= set(environment.VARIABLES)
    config = load(None, environment.read(ENV), ENV)
    assert config.log_file is None and config.log_format == "json"
    assert config.drain_seconds + AFTER_DRAIN < ENGINE_SECONDS
    assert of("EXPOSE") == [str(config.port)] == [str(SCHEMA["Port"]["default"])]


def test_the_port_of_a_hosting_platform() -> None:
    """PORT is used, because the image sets no port."""
    variables = {**ENV, environment.HOSTED_PORT: "8080"}
    assert load(None, environment.read(variables), variables).port == 8080


def test_it_does_not_run_as_root() -> None:
    """The user is a number, which Kubernetes can compare with 0, set after the last install."""
    (user,) = of("USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    names = [name for name, _ in FOUND]
    assert names.index("USER") > len(names) - 1 - names[::-1].index("RUN")


@pytest.fixture(scope="module")
def installed() -> Iterator[Path]:
    """Give the commands' folder of the environment that the RUN lines make, from our wheels.

    Everybody may read it, as in an image.
    """
    with tempfile.TemporaryDirectory(prefix="videre-image-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        target = folder / "videre"
        (folder / "build").mkdir()
        for text in of("COPY"):
            if not text.startswith("--from"):
                *found, to = text.split()
                for source in found:
                    copy(ROOT / source, folder / "build" / to)
        assert f"--from=build {TARGET} {TARGET}" in of("COPY")
        # An older pip builds with the package "wheel".
        wanted = ("videre-server[redis]", "setuptools", "packaging")
        wheels = wheelhouse(folder / "wheels", *wanted, absent=("wheel",))
        path = f"{Path(sys.executable).parent}:{os.defpath}"
        environ = {"PATH": path, "HOME": name, **wheels}
        for line in of("RUN"):
            done = subprocess.run(
                ["sh", "-ec", line.replace(TARGET, str(target))],
                cwd=folder / "build",
                env=environ,
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, done.stdout + done.stderr
        # In the image pip has compiled all modules. Here the command's, which start five times.
        compiled = [str(target / "bin/videre-server"), "--version"]
        subprocess.run(compiled, env={"PATH": path}, check=True, stdout=subprocess.DEVNULL)
        yield target / "bin"


def copy(source: Path, target: Path) -> None:
    """Copy like COPY: a file into a folder, a folder's contents into another."""
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def environ(installed: Path, **variables: str) -> dict[str, str]:
    """Return a container's environment: the image's variables, and the operator's."""
    return {**ENV, **variables, "PATH": f"{installed}:{os.defpath}"}


def contained(*command: str) -> list[str]:
    """Return a command that runs another one as the image's user, with nothing writable.

    The root file system is read-only, no capability is left, and none can be gained.
    """
    if os.geteuid() != 0:
        missing("only root can make the file system read-only")
    user, group = of("USER")[0].split(":")
    cage = [require("setpriv"), f"--reuid={user}", f"--regid={group}", "--clear-groups"]
    cage += ["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", "--"]
    remount = "mount -o remount,bind,ro / && ! touch /tmp/videre-writes 2>/dev/null && exec "
    line = remount + shlex.join([*cage, *command])
    return [require("unshare"), "--mount", "sh", "-ec", line]


def healthy(
    installed: Path, port: int, name: str = "VIDERE_PORT"
) -> subprocess.CompletedProcess[str]:
    """Run the health check; a variable has the port. It ignores the proxy of the surroundings."""
    options, _, command = of("HEALTHCHECK")[0].partition(" CMD ")
    assert all(option.startswith("--") for option in options.split())
    return subprocess.run(
        exec_form(command),
        env=environ(installed, http_proxy="http://127.0.0.1:9", **{name: str(port)}),
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
    )


@pytest.mark.process
@pytest.mark.long
def test_the_installed_packages(installed: Path) -> None:
    """The sources' version, its dependencies, and the client for a Valkey."""
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
    """Return the lines of a log up to an event."""
    lines: list[dict[str, Any]] = []
    async with asyncio.timeout(START_SECONDS):
        while not lines or lines[-1]["event"] != until:
            lines.append(json.loads(await stream.readline()))
    return lines


@pytest.mark.process
@pytest.mark.long
async def test_it_runs(installed: Path) -> None:
    """As in the image it serves, is healthy, drains on its stop signal, and logs JSON only.

    Contained, it is not root and can write to no file.
    """
    (entry,), (stop,) = of("ENTRYPOINT"), of("STOPSIGNAL")
    process = await asyncio.create_subprocess_exec(
        *contained(*exec_form(entry)),
        cwd="/",
        env=environ(installed, VIDERE_PORT="0", VIDERE_HOST="127.0.0.1"),
        stdout=PIPE,
        stderr=PIPE,
    )
    assert process.stdout is not None
    try:
        (url,) = (await events(process.stdout, "listen"))[-1]["urls"]
        port = int(re.findall(r":(\d+)/", url)[0])
        for name in ("VIDERE_PORT", environment.HOSTED_PORT):
            done = await asyncio.to_thread(healthy, installed, port, name)
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
