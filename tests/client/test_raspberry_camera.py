"""examples/raspberry-camera: the program, its unit, and its README's commands."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import subprocess
import sys
import time
import wave
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from pathlib import Path

import pytest
from aiortc import MediaStreamTrack
from film import make_film
from inprocess import serving
from patience import patient
from process import ROOT, require
from tokens import SECRET

import videre
from videre.auth import TokenAuth, secret_key, sign
from videre.client import Call
from videre.config import Config

pytestmark = [pytest.mark.process, pytest.mark.long]

EXAMPLE = ROOT / "examples" / "raspberry-camera"
README = (EXAMPLE / "README.md").read_text(encoding="utf-8")
SECONDS = patient(40)


async def camera(*options: str, **variables: str) -> asyncio.subprocess.Process:
    """Run the camera."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, str(EXAMPLE / "camera.py"), *options),
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=STDOUT,
        env={**os.environ, **variables},
    )


async def test_it_is_seen_and_stops_cleanly(tmp_path: Path) -> None:
    """It has a token from its file, and runs until SIGTERM."""
    film = make_film(tmp_path / "film.mp4")
    key = secret_key(SECRET)
    token = tmp_path / "token"
    token.write_text(sign(key, "camera", "room", now=time.time(), ttl=3600) + "\n")
    app = videre.create_app(Config(auth=TokenAuth([key])))
    frames = asyncio.Event()
    async with asyncio.timeout(SECONDS), serving(app) as server:
        url = f"{server.url}/echo"
        mine = sign(key, "ann", "room", now=time.time(), ttl=3600)
        variables = {"CAMERA_URL": url, "CAMERA_TOKEN_FILE": str(token)}
        process = await camera("--room", "room", "--device", str(film), **variables)
        try:
            async with Call(url, user="ann", room="room", token=mine) as ann:

                @ann.on("track")
                async def watch(track: MediaStreamTrack, _peer: object) -> None:
                    for _ in range(10):
                        await track.recv()
                    frames.set()

                await frames.wait()
                assert list(ann.peers) == ["camera"]
                process.send_signal(signal.SIGTERM)
                output, _ = await process.communicate()
                assert process.returncode == 0, output.decode()
            assert "ann: connected" in output.decode()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


@pytest.mark.parametrize(
    ("options", "words", "code"),
    [
        ((), "--room or CAMERA_ROOM is required", 2),
        (("--room", "r", "--url", "ftp://h"), "ftp://h: must be a ws, wss, http or https URL", 1),
        (("--room", "r", "--device", "/nowhere.mp4"), "/nowhere.mp4", 1),
        (("--room", "r", "--url", "ws://127.0.0.1:1/echo"), "127.0.0.1:1", 1),
    ],
)
async def test_faults_are_reported(
    options: tuple[str, ...], words: str, code: int, tmp_path: Path
) -> None:
    """They are one line, with an exit code for systemd."""
    film = ("--device", str(make_film(tmp_path / "film.mp4"))) if "--device" not in options else ()
    process = await camera(*film, *options)
    async with asyncio.timeout(SECONDS):
        output, _ = await process.communicate()
    text = output.decode()
    assert (process.returncode, words in text) == (code, True), text
    assert "Traceback" not in text


async def test_a_film_without_pictures(tmp_path: Path) -> None:
    """It is a fault like the others."""
    with wave.open(str(tmp_path / "song.wav"), "wb") as song:
        song.setparams((1, 2, 8000, 0, "NONE", ""))
        song.writeframes(bytes(16000))
    process = await camera("--room", "r", "--device", str(tmp_path / "song.wav"))
    async with asyncio.timeout(SECONDS):
        output, _ = await process.communicate()
    text = output.decode()
    assert (process.returncode, "has no pictures" in text) == (1, True), text
    assert "Traceback" not in text


async def test_a_lost_camera(tmp_path: Path) -> None:
    """It ends the program, so that systemd restarts it."""
    async with asyncio.timeout(SECONDS), serving(videre.create_app()) as server:
        film = make_film(tmp_path / "film.mp4", seconds=1)
        url = f"{server.url}/echo"
        async with Call(url, user="ann", room="room"):
            process = await camera("--url", url, "--room", "room", "--device", str(film))
            output, _ = await process.communicate()
    assert (process.returncode, "no more pictures" in output.decode()) == (1, True), output


def test_the_unit(tmp_path: Path) -> None:
    """Systemd finds no fault in it, except that /opt/videre does not exist here."""
    unit = (EXAMPLE / "camera.service").read_text(encoding="utf-8")
    for name in ("python", "examples/raspberry-camera/camera.py"):
        assert name in unit
    (tmp_path / "camera.service").write_text(
        unit.replace("/opt/videre/.venv/bin/python", sys.executable)
    )
    done = subprocess.run(
        [require("systemd-analyze"), "verify", "./camera.service"],
        cwd=tmp_path,
        env={**os.environ, "SYSTEMD_EMOJI": "0", "SYSTEMD_LOG_TARGET": "console"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_commands_of_its_readme() -> None:
    """They name existing files, options and variables; its script runs what this module tests."""
    script = (EXAMPLE / "run").read_text(encoding="utf-8")
    assert os.access(EXAMPLE / "run", os.X_OK)
    assert "camera.py" in script and "bin/install call" in script
    program = (EXAMPLE / "camera.py").read_text(encoding="utf-8")
    unit = (EXAMPLE / "camera.service").read_text(encoding="utf-8")
    for word in ("--room", "--device", "CAMERA_URL", "CAMERA_ROOM"):
        assert word in README and word in program
    for path in ("/etc/videre-camera/environment", "/etc/videre-camera/token"):
        assert path in README and path in unit
    lines = [line for line in README.splitlines() if line.startswith("examples/")]
    assert [shlex.split(line)[0] for line in lines] == ["examples/raspberry-camera/run"]
