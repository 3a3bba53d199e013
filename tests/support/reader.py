"""A reader who follows a document literally on a bare machine."""

from __future__ import annotations

import asyncio
import re
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bare import CLONE, SECONDS, Machine
from documents import ROOT, Block

_MARK = "reader-line-has-ended: "
_SERVES = r"(bin/serve\b|\.venv/bin/(gunicorn|python site\.py))[^&]*$"
_INSTALLS = r"\bapt-get |\bbin/install\b|\bpip install\b"


class Reader:
    """Follows a document: writes its files, and runs its lines one by one in a shell.

    It answers yes to apt-get, opens another terminal for commands that serve, and has the network
    for those that install.
    """

    def __init__(self, machine: Machine, process: Process, folder: str) -> None:
        self._machine = machine
        self._process = process
        self._folder = folder
        self._done: asyncio.Queue[int] = asyncio.Queue()
        self._reading = asyncio.create_task(self._read())
        self.output = ""

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for raw in self._process.stdout:
            line = raw.decode(errors="replace")
            before, mark, code = line.partition(_MARK)
            self.output += before
            if mark:
                self._done.put_nowait(int(code))

    async def line(self, line: str) -> None:
        """Run a line, which must succeed."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\necho {_MARK}$?\n".encode())
        async with asyncio.timeout(SECONDS):
            code = await self._done.get()
        assert code == 0, f"{line} ended with {code}\n{self.output}"

    async def follow(self, block: Block) -> None:
        """Follow a block: run it, or write the file named in the words before it."""
        if block.language == "shell":
            for line in block.text.replace("\\\n", "").splitlines():
                await self._follow_line(line)
        elif (name := file_of(block)) is not None:
            path = name if name.startswith("/") else f"{self._folder}/{name}"
            await self._machine.write(path, block.text)

    async def _follow_line(self, line: str) -> None:
        if re.search(_INSTALLS, line):
            command = f"cd {self._folder} && {line}"
            self.output += await self._machine.run(command, network=True, answers="y\n")
        else:
            await self.line(f"{line} &" if re.match(_SERVES, line) else line)

    async def end(self) -> None:
        """End the shell, which leads the session, and all that it has started."""
        await self._machine.run("pkill -KILL --session $(cat /tmp/reader)")
        async with asyncio.timeout(SECONDS):
            await self._process.wait()  # and until all of its output is closed
            await self._reading


def file_of(block: Block) -> str | None:
    """Return the file that the paragraph before a block tells the reader to write, if any."""
    lines = (ROOT / block.document).read_text(encoding="utf-8").splitlines()[: block.line - 1]
    paragraph = " ".join("\n".join(lines).rstrip().rpartition("\n\n")[2].split())
    found = re.findall(r"`(/?[\w./-]+\.(?:json|conf|py|html))`", paragraph)
    return found[0] if found and paragraph.endswith((":", ",")) else None


@asynccontextmanager
async def reader(machine: Machine, folder: str = CLONE) -> AsyncIterator[Reader]:
    """Run a shell for a reader; its processes end with it."""
    await machine.run(f"mkdir -p {folder}")
    found = Reader(machine, await machine.start("setsid", "--wait", "bash"), folder)
    try:
        await found.line("echo $$ > /tmp/reader")
        await found.line(f"cd {folder}")
        yield found
    except BaseException as error:
        error.add_note(found.output)
        raise
    finally:
        await found.end()
