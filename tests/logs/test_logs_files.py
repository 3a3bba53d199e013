"""The log file when rotating, reopening or writing fails: no line is lost without being counted."""

from __future__ import annotations

import errno
import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from patience import patient
from process import ROOT

from videre.logs import EventLog, Journal, writers
from videre.logs.files import File
from videre.logs.formatters import TextFormatter
from videre.logs.handlers import Handler
from videre.logs.writers import Unwritten, Writer

LINE = "x" * 99  # and a newline
OLD = [f"backup {number}\n" for number in range(1, 4)]


class Kept:
    """A File of 1000 bytes, and what it complained of."""

    def __init__(self, path: Path, **options: int) -> None:
        self.path = path
        self.told: list[str] = []
        limits = {"max_bytes": 1000, "backups": 3, **options}
        self.file = File(path, tell=self.told.append, **limits)

    def write(self, count: int = 1) -> None:
        """Write so many lines, one by one."""
        for _ in range(count):
            self.file.write([LINE])

    def lines(self, path: Path | None = None) -> int:
        """Return the number of lines in a file, each of which must be whole."""
        read = (path or self.path).read_text().splitlines()
        assert set(read) <= {LINE}
        return len(read)

    def backups(self) -> list[Path]:
        """Make three older files, and return them."""
        made = [Path(f"{self.path}.{number}") for number in range(1, 4)]
        for path, text in zip(made, OLD, strict=True):
            path.write_text(text)
        return made


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    """Return a file in a folder of its own."""
    (tmp_path / "log").mkdir()
    return Kept(tmp_path / "log" / "videre.log")


def refusing(error: int) -> Callable[..., Any]:
    """Return a function that raises an OSError."""

    def refuse(*_: object, **__: object) -> Any:
        raise OSError(error, os.strerror(error))

    return refuse


@pytest.mark.parametrize("error", [errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY])
def test_a_file_that_cannot_be_rotated(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """It keeps growing, reported once, until it can be rotated; no backup is lost."""
    backups = kept.backups()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", refusing(error))
        kept.write(50)
    assert kept.lines() == 50
    assert [path.read_text() for path in backups] == OLD
    (said,) = kept.told
    assert "cannot rotate the log" in said and os.strerror(error) in said
    kept.write()
    assert (kept.lines(), kept.lines(backups[0])) == (1, 50)
    assert [path.read_text() for path in backups[1:]] == OLD[:2]
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", refusing(error))
        kept.write(20)
    assert len(kept.told) == 2, "another time, it is said again"


def test_a_rotation_that_stops_half_way(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeated attempts lose only the oldest backup."""
    backups = kept.backups()
    replace = Path.replace

    def refuse_the_log(path: Path, target: Path) -> Path:
        if path == kept.path:
            raise PermissionError(errno.EACCES, "denied")
        return replace(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", refuse_the_log)
        kept.write(50)
    assert not backups[0].exists()
    assert [path.read_text() for path in backups[1:]] == OLD[:2]
    kept.write()
    assert (kept.lines(), kept.lines(backups[0])) == (1, 50)


def test_a_backup_that_is_a_folder(kept: Kept) -> None:
    """A file cannot replace it: the log goes on."""
    for path in kept.backups():
        path.unlink()
        path.mkdir()
        (path / "file").touch()
    kept.write(50)
    assert kept.lines() == 50 and len(kept.told) == 1


@pytest.mark.parametrize("error", [errno.EACCES, errno.ENOSPC, errno.EMFILE, errno.EROFS])
@pytest.mark.parametrize("why", ["rotation", "signal"])
def test_a_new_file_that_cannot_be_made(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, why: str, error: int
) -> None:
    """The renamed old one is used until a new one can be made: nothing is lost."""
    old = Path(f"{kept.path}.1")
    kept.write(10)
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refusing(error))
        if why == "signal":
            kept.path.replace(old)
            kept.file.reopen()
        kept.write(25)
    assert kept.lines(old) == 35
    (said,) = kept.told
    assert "cannot open the log" in said and os.strerror(error) in said
    kept.write(2)
    assert (kept.lines(), kept.lines(old)) == (2, 35)


@pytest.mark.parametrize("backups", [0, 3])
def test_a_file_that_is_removed(tmp_path: Path, backups: int) -> None:
    """The next line creates it again: lines in a file without a name would be lost."""
    kept = Kept(tmp_path / "videre.log", backups=backups)
    kept.write(2)
    kept.path.unlink()
    kept.write(3)
    assert kept.lines() == 3 and kept.told == []


def test_a_pipe_is_not_rotated(tmp_path: Path) -> None:
    """Renaming /dev/stdout or /dev/null, which root may, would harm the whole machine."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        for backups in (0, 3):
            kept = Kept(path, backups=backups)
            kept.write(20)
            assert os.read(reader, 65536).decode() == f"{LINE}\n" * 20
            kept.file.close()
            assert kept.told == [] and list(tmp_path.iterdir()) == [path]
    finally:
        os.close(reader)


@pytest.mark.parametrize("backups", [0, 3])
@pytest.mark.parametrize("how", ["/dev/fd", "a link", "a link to a link", "a linked folder"])
def test_a_redirected_output_is_not_rotated(tmp_path: Path, how: str, backups: int) -> None:
    """/dev/stdout may lead to a regular file: root would rename the link itself."""
    with (tmp_path / "redirected").open("w") as output:
        path = Path(f"/dev/fd/{output.fileno()}")
        if how == "a linked folder":
            (tmp_path / "folder").symlink_to("/dev/fd")
            path = tmp_path / "folder" / path.name
        for number in range({"a link": 1, "a link to a link": 2}.get(how, 0)):
            link = tmp_path / f"link{number}"
            link.symlink_to(path)
            path = Path(os.path.relpath(link)) if number else link
        before = sorted(tmp_path.iterdir())
        kept = Kept(path, backups=backups)
        kept.write(20)
        kept.file.close()
    assert kept.lines(tmp_path / "redirected") == 20
    assert sorted(tmp_path.iterdir()) == before and kept.told == []


@pytest.mark.parametrize("target", ["data/real.log", "../data/real.log"])
def test_a_link_to_a_file(tmp_path: Path, target: str) -> None:
    """What it leads to is rotated, in its own folder; the link stays."""
    data, link = tmp_path / "data", tmp_path / "log" / "videre.log"
    data.mkdir()
    link.parent.mkdir()
    link.symlink_to(tmp_path / target if target.startswith("data") else target)
    kept = Kept(link)
    kept.write(25)
    assert (kept.lines(), kept.lines(data / "real.log.1")) == (5, 10)
    assert sorted(path.name for path in data.iterdir()) == [
        "real.log",
        "real.log.1",
        "real.log.2",
    ]
    assert list(link.parent.iterdir()) == [link] and link.is_symlink()


def test_a_pipe_without_a_reader(tmp_path: Path) -> None:
    """The server says so at its start, in place of waiting for one."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    told: list[str | None] = []

    def open_it() -> None:
        try:
            File(path, max_bytes=0, backups=0).close()
        except OSError as error:
            told.append(error.strerror)

    opening = threading.Thread(target=open_it)
    opening.start()
    opening.join(patient(10))
    os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))  # lets it go if it waits
    opening.join()
    assert told == ["is a pipe that no process reads"]


def test_a_pipe_that_is_full(tmp_path: Path) -> None:
    """A write waits for the reader: no line is lost or torn."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reader, True)
    kept = Kept(path)
    writing = threading.Thread(target=kept.write, args=(2000,))  # more than a pipe holds
    writing.start()
    with os.fdopen(reader) as pipe:
        lines = [pipe.readline() for _ in range(2000)]
    writing.join()
    kept.file.close()
    assert set(lines) == {f"{LINE}\n"} and kept.told == []


def test_a_pipe_whose_reader_comes_back(tmp_path: Path) -> None:
    """What is written meanwhile is counted as lost, or waits for the reader."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    kept = Kept(path)
    os.close(reader)
    with pytest.raises(Unwritten) as error:
        kept.write()
    assert (error.value.errno, error.value.left) == (errno.EPIPE, 1)
    writing = threading.Thread(target=kept.write, args=(3,))
    writing.start()
    with path.open() as pipe:
        assert [pipe.readline() for _ in range(3)] == [f"{LINE}\n"] * 3
    writing.join()
    kept.file.close()


def test_a_folder_that_is_removed(kept: Kept) -> None:
    """Lost lines are counted, and the log goes on when the folder is back."""
    kept.write()
    kept.path.unlink()
    kept.path.parent.rmdir()
    for _ in range(2):
        with pytest.raises(Unwritten) as error:
            kept.file.write([LINE] * 3)
        assert error.value.left == 3
    kept.path.parent.mkdir()
    kept.write(2)
    assert kept.lines() == 2


def test_a_file_that_was_moved_away_is_not_emptied(tmp_path: Path) -> None:
    """Even without backups: the moved file is logrotate's."""
    kept = Kept(tmp_path / "videre.log", backups=0)
    kept.write(10)
    kept.path.replace(tmp_path / "taken")
    kept.write(3)
    assert (kept.lines(), kept.lines(tmp_path / "taken")) == (3, 10)


@pytest.mark.parametrize("took", [0, 50, 100, 150, 299])
def test_a_disk_that_takes_a_part(kept: Kept, monkeypatch: pytest.MonkeyPatch, took: int) -> None:
    """Only whole lines stay, and their number is known."""
    write = os.write
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", lambda file, data: write(file, data[:took]))
        with pytest.raises(Unwritten) as error:
            kept.file.write([LINE] * 3)
    assert error.value.errno == errno.ENOSPC
    assert kept.lines() == 3 - error.value.left == took // 100
    kept.write()
    assert kept.lines() == took // 100 + 1


def test_a_full_disk_that_others_share(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines that another worker has written to the same file stay."""
    kept.write(1)
    other = File(kept.path, max_bytes=0, backups=0)
    other.write([LINE] * 5)
    other.close()
    write = os.write
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", lambda file, data: write(file, data[:150]))
        with pytest.raises(Unwritten):
            kept.file.write([LINE] * 3)
    assert kept.lines() == 1 + 5 + 1


class Stubborn:
    """A target that takes some lines of each write only; None: all of them."""

    name = "stubborn target"

    def __init__(self, *takes: int | None) -> None:
        self._takes = list(takes)
        self.lines: list[str] = []

    def write(self, lines: list[str]) -> None:
        """See Target.write."""
        takes = self._takes.pop(0) if self._takes else None
        self.lines += lines[:takes]
        if takes is not None and takes < len(lines):
            raise Unwritten(OSError(errno.ENOSPC, "full"), len(lines) - takes)

    def reopen(self) -> None:
        """See Target.reopen."""

    def close(self) -> None:
        """See Target.close."""


@pytest.mark.parametrize(
    ("takes", "told", "losses"),
    [
        ((0, None), ["lost 3", "d"], 3),
        ((1, None), ["a", "lost 2", "d"], 2),
        ((0, 0, None), ["lost 4"], 4),  # the line that tells of a loss is none
        ((0, 1, None), ["lost 3", "lost 1"], 4),
        ((2, 1, None), ["a", "b", "lost 1", "lost 1"], 2),
        ((None, None), ["a", "b", "c", "d"], 0),
    ],
)
def test_losses_are_told_to_the_line(
    takes: tuple[int | None, ...], told: list[str], losses: int
) -> None:
    """Each once, in its place, as soon as anything can be written."""
    target = Stubborn(*takes)
    writer = Writer(target, lambda count: f"lost {count}")
    for text in "abc":
        writer.put(lambda text=text: text)  # type: ignore[misc]
    writer._write()
    writer.put(lambda: "d")
    writer._write()
    writer.start()
    writers.end([writer])
    assert not writer.is_alive()
    assert target.lines == told
    assert writer.losses["unwritable"] == losses


def burst(writer: Writer, packets: int) -> None:
    """Log a join and packets in one batch, with a handler that writes only the join."""
    handler = Handler("terminal", writer, TextFormatter())
    handler.setLevel(logging.INFO)
    logger = logging.Logger("videre", logging.DEBUG)
    logger.addHandler(handler)
    journal = Journal(logger, batched=True)
    log = EventLog(journal, "")
    assert log.trace is not None
    journal._flush_due = True  # until we flush
    log("join", user="a")
    for _ in range(packets):
        log.trace("ping", "a", "room", 10)
    journal.flush()


def test_only_lines_meant_for_the_target_are_lost() -> None:
    """Packets at debug are for the file: a terminal that cannot be written has not lost them."""
    target = Stubborn(0, None)
    writer = Writer(target, lambda count: f"lost {count}")
    for _ in range(4):
        burst(writer, 400)
    writer._write()
    assert writer.losses == {"queue-full": 0, "unwritable": 4}
    writer._write()
    assert target.lines == ["lost 4"]


def test_only_lines_meant_for_the_target_fill_its_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does the queue hold others, which are dropped from memory with the batch."""
    monkeypatch.setattr(writers, "QUEUE_LINES", 3)
    target = Stubborn()
    writer = Writer(target, lambda count: f"lost {count}")
    for _ in range(5):
        burst(writer, 400)
    writer._write()
    assert writer.losses == {"queue-full": 2, "unwritable": 0}
    assert len(target.lines) == 4 and target.lines[-1] == "lost 2"


def test_a_loss_is_told_without_another_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quiet server reports it when it can, not only at the next event."""
    monkeypatch.setattr(writers, "RETRY", 0.01)
    target = Stubborn(0, 0)
    writer = Writer(target, lambda count: f"lost {count}")
    writer.put(lambda: "a")
    writer.start()
    while not target.lines:
        writer.join(0.01)
    assert target.lines == ["lost 1"]
    writers.end([writer])


NOBODY = 65534
DENIED = """
import json, os, sys
from pathlib import Path
from videre.logs.files import File

path = Path(sys.argv[1])
file = File(path, max_bytes=2000, backups=5)
path.parent.chmod(0o555)
if os.getuid() == 0:
    os.chown(path, 65534, 65534)
    os.setgid(65534)
    os.setuid(65534)
for number in range(200):
    file.write([f"line {number} " + "x" * 40])
file.reopen()
file.write(["last"])
print(json.dumps(path.read_text().splitlines()))
"""


@pytest.mark.process
def test_a_folder_that_may_not_be_written() -> None:
    """As an unprivileged user: the system itself refuses."""
    # Not tmp_path: pytest closes the folder above it to other users, now and at each start.
    with tempfile.TemporaryDirectory() as name:
        may_not_be_written(Path(name))


def may_not_be_written(folder: Path) -> None:
    """Write into a folder that is closed meanwhile, and check what is there then."""
    path = folder / "videre.log"
    ran = subprocess.run(
        [sys.executable, "-c", DENIED, str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    folder.chmod(0o755)
    assert ran.returncode == 0, ran.stderr
    lines = json.loads(ran.stdout)
    assert (len(lines), lines[-1]) == (201, "last")
    assert ran.stderr.count("cannot rotate the log") == 1
    assert ran.stderr.count("\n") == 1
