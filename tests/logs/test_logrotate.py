"""A real logrotate, configured by docs/videre.logrotate, and a real server."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from process import ROOT, require, signaller
from signalling import connect
from test_logs_writing import read, until, visit

pytestmark = pytest.mark.process

CONF = (ROOT / "docs" / "videre.logrotate").read_text(encoding="utf-8")
FILES = "/var/log/videre/*.log"
TELL = "systemctl kill --signal=USR1 videre.service"


async def test_logrotate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It rotates twice, compresses the older file, and no line is lost."""
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:/usr/sbin")
    program = require("logrotate")
    folder = tmp_path / "log"
    log = folder / "videre.log"
    config = {"LogFile": str(log), "LogMaxBytes": 0, "PacketsPerSecond": None}
    async with (
        signaller(tmp=tmp_path, config=config) as server,
        connect(server.url, "raw", user="user", room="room") as peer,
    ):
        assert CONF.count(FILES) == CONF.count(TELL) == 1
        text = CONF.replace(FILES, f"{folder}/*.log")
        text = text.replace(TELL, f"kill -USR1 {server.process.pid}")
        (tmp_path / "logrotate.conf").write_text(text)
        for _ in range(2):
            await visit(peer, 10)
            await until(lambda: log.stat().st_size > 0)  # an empty one is left alone
            process = await asyncio.create_subprocess_exec(
                *(program, "--force", "--state", str(tmp_path / "state")),
                str(tmp_path / "logrotate.conf"),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            said, _ = await process.communicate()
            assert (process.returncode, said) == (0, b"")
            await until(log.exists)
        await visit(peer, 10)
    unpacked = await asyncio.create_subprocess_exec("gunzip", str(folder / "videre.log.2.gz"))
    assert await unpacked.wait() == 0
    lines = read(folder / "videre.log.2", folder / "videre.log.1", log)
    events = [line["event"] for line in lines]
    assert (events[0], events[-1], events.count("join")) == ("start", "stop", 30)
