"""What the command says about an unusable configuration."""

from __future__ import annotations

import functools
import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from oneshot import Done, run
from process import ROOT, START_SECONDS, self_signed


def refused(*args: str) -> str:
    """Run the command, which must exit with 2 and without a traceback; return its output."""
    done = run(*args)
    assert "Traceback" not in done.stderr, done.stderr
    assert (done.returncode, done.stdout) == (2, ""), done
    return done.stderr


@pytest.mark.process
def test_a_separate_process(tmp_path: Path) -> None:
    """Its exit code, output and errors equal those that other tests see in this process."""
    (tmp_path / "conf.json").write_text('{"Port": 70000}')
    for args in (["--version"], ["--config", str(tmp_path / "conf.json")]):
        command = [sys.executable, str(ROOT / "bin" / "signaller.py"), *args]
        done = subprocess.run(command, capture_output=True, text=True, timeout=START_SECONDS)
        assert run(*args) == Done(done.returncode, done.stdout, done.stderr)


def test_check(tmp_path: Path) -> None:
    """--check says whether a configuration is valid, and leaves nothing behind."""
    conf = tmp_path / "conf.json"
    conf.write_text('{"LogFile": "log/debug.log"}')
    done = run("--check", "--config", str(conf))
    assert (done.returncode, done.stdout) == (0, "The configuration is good.\n")
    conf.write_text('{"Port": 70000, "Nonsense": [1]}')
    said = refused("--check", "--config", str(conf))
    assert f"{conf}: Port: 70000: " in said and f"{conf}: Nonsense: unknown field" in said
    assert list(tmp_path.iterdir()) == [conf]


def test_ctrl_c_during_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends the command without a traceback, with the exit code of shells."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("videre.config.load", interrupted)
    assert run("--check") == Done(130, "", "")


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"ByteBurst": 2_000_000}, "ByteBurst: 2000000"),
        ({"MaxBacklogBytes": 4096}, "ByteBurst: 524288"),
        ({"BytesPerSecond": None}, "BytesPerSecond: null"),
    ],
)
def test_check_reports_bursts(tmp_path: Path, values: dict[str, Any], key: str) -> None:
    """--check exits with 2 and a reason if one member's burst can close other sessions."""
    conf = tmp_path / "conf.json"
    conf.write_text(json.dumps(values))
    said = refused("--check", "--config", str(conf))
    assert f": {key}: " in said and "MaxBacklogBytes" in said
    conf.write_text(json.dumps({**values, "MaxBacklogBytes": None}))
    done = run("--check", "--config", str(conf))
    assert (done.returncode, done.stdout) == (0, "The configuration is good.\n")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with a certificate, its key, another key, and a regular file."""
    path = tmp_path_factory.mktemp("faults")
    (path / "other").mkdir()
    for directory in (path, path / "other"):
        self_signed(directory)
    (path / "file").touch()
    return path


@pytest.fixture(scope="module")
def taken() -> Iterator[int]:
    """Give a port on which another process listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


MISMATCH = {"TLS": True, "Cert": "certificate.pem", "Key": "other/key.pem"}
FAULTS: dict[str, tuple[Any, list[str]]] = {
    "no object": ([], ["JSON object"]),
    "wrong types": ({"Port": "x", "Host": 5}, ['Port: "x"', "Host: 5"]),
    "no certificate": ({"TLS": True}, ["Cert: ", "Key: "]),
    "missing certificate": ({**MISMATCH, "Cert": "no.pem"}, ["Cert: ", "no.pem", "No such file"]),
    "other key": (MISMATCH, ["Key: ", "other/key.pem", "certificate.pem"]),
    "no host of ours": ({"Host": "192.0.2.7"}, ["Host: ", "192.0.2.7"]),
    "no name": ({"Host": "no name"}, ["Host: ", "no name"]),
    "no possible name": ({"Host": "a..b"}, ["Host: ", "a..b"]),
    "port in use": ({"Port": None}, ["Port: ", "in use"]),
    "log below a file": ({"LogFile": "file/debug.log"}, ["LogFile: ", "file/debug.log"]),
    "log is a folder": ({"LogFile": "other"}, ["LogFile: ", "other", "directory"]),
    "log is no path": ({"LogFile": "nul\0"}, ["LogFile: ", "nul"]),
}
LATE = list(FAULTS)[3:]  # faults that only show once the file is valid


@pytest.fixture(scope="module")
def said(folder: Path, taken: int) -> Callable[[str], str]:
    """Return a function that returns the command's message for a fault."""

    @functools.cache
    def said(fault: str) -> str:
        values = FAULTS[fault][0]
        if isinstance(values, dict):
            values = {"Host": "127.0.0.1", "Port": 0, **values}
            values["Port"] = taken if values["Port"] is None else values["Port"]
        (folder / "conf.json").write_text(json.dumps(values))
        return refused("--config", str(folder / "conf.json"))

    return said


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_the_file(fault: str, said: Callable[[str], str]) -> None:
    """An unusable configuration exits with 2, and names the key and the value."""
    assert [words for words in FAULTS[fault][1] if words not in said(fault)] == []


@pytest.mark.parametrize("fault", LATE)
def test_late_faults_name_the_file_too(
    fault: str, said: Callable[[str], str], folder: Path
) -> None:
    """A fault that only the operating system finds also names the configuration file."""
    assert f"{folder}/conf.json: " in said(fault)


def test_late_faults_name_the_option(taken: int) -> None:
    """A value that came from an option is reported with the option."""
    args = ("--host", "127.0.0.1", "--port", str(taken))
    assert re.search(rf"--port: Port: {taken}: .*in use", refused(*args))


def test_all_faults_are_reported_together(folder: Path) -> None:
    """An invalid port does not hide that the certificate is missing."""
    path = folder / "both.json"
    path.write_text(json.dumps({"Port": 70000, **MISMATCH, "Cert": "no.pem"}))
    said = refused("--config", str(path))
    assert "Port: 70000" in said and "no.pem" in said


@pytest.mark.parametrize("args", [("--port", "x"), ("--nonsense",)])
def test_faults_of_options(args: tuple[str, ...]) -> None:
    """An invalid option exits with 2, and the message names it."""
    assert args[0] in refused(*args)
