"""Pages in a real Chromium, and a connection to the server that a test can cut."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from patience import WAIT_SECONDS, patient
from process import LINE_BYTES, NODE, node_modules, require

ANSWER_SECONDS = WAIT_SECONDS + patient(10)  # longer than a page waits for anything


class Page:
    """A page that runs a test's code."""

    def __init__(self, browser: Browser, name: str) -> None:
        self._browser = browser
        self.name = name

    async def run(self, code: str, arg: Any = None) -> Any:
        """Run the body of an async function with `arg`, and return its result."""
        return await self._browser.command("run", page=self.name, code=code, arg=arg)

    async def drive(self, code: str, arg: Any = None) -> Any:
        """Run the body of an async function in node, with Playwright's `page` and `arg`."""
        return await self._browser.command("drive", page=self.name, code=code, arg=arg)

    async def close(self) -> None:
        """Close the page, as a user does."""
        await self._browser.command("close", page=self.name)


class Browser:
    """A Chromium; `faults` are the uncaught errors of its pages."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._ids = itertools.count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._names = itertools.count(1)
        self.faults: list[str] = []
        self.console: list[str] = []
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._listen())]

    async def command(self, op: str, **more: Any) -> Any:
        """Carry out an operation of browser.mjs."""
        number = next(self._ids)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"id": number, "op": op, **more}).encode() + b"\n")
        async with asyncio.timeout(ANSWER_SECONDS):
            return await future

    async def open(
        self,
        url: str,
        *,
        devices: bool = True,
        own: dict[str, Any] | None = None,
        init: str = "",
        ready: bool = True,
    ) -> Page:
        """Open a page whose user allows camera and microphone, or does not.

        With `own` it has its own context and so its own process, with these options of
        Playwright's. With `ready` it sets a global variable of that name, for which this waits.
        """
        name = f"page{next(self._names)}"
        options = {"devices": devices, "own": own, "init": init, "ready": ready}
        await self.command("open", page=name, url=url, **options)
        return Page(self, name)

    async def close(self) -> None:
        """Close all pages."""
        await self.command("closeAll")

    async def stop(self) -> None:
        """End the browser."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._process.wait()
        finally:
            if self._process.returncode is None:
                self._process.kill()
                await self._process.wait()
            await asyncio.gather(*self._tasks)

    async def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            async for line in self._process.stdout:
                self._take(json.loads(line))
        finally:  # it has ended, or a line is longer than LINE_BYTES
            for future in self._waiting.values():
                future.cancel()

    def _take(self, answer: dict[str, Any]) -> None:
        if "fault" in answer:
            self.faults.append(f"{answer['page']}: {answer['fault']}")
            return
        future = self._waiting.pop(answer["id"])
        if future.done():
            return
        if "error" in answer:
            future.set_exception(AssertionError(answer["error"]))
        else:
            future.set_result(answer["result"])

    async def _listen(self) -> None:
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            self.console.append(line.decode(errors="replace").rstrip())


@asynccontextmanager
async def chromium(*flags: str) -> AsyncIterator[Browser]:
    """Run a Chromium with extra flags, whose pages may throw no error.

    Each takes as much CPU as three tests: use the fixture `browser`, unless flags matter.
    """
    path = require("chromium")
    node_modules()
    process = await asyncio.create_subprocess_exec(
        *(require("node"), str(NODE / "browser.mjs"), path, *flags),
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        limit=LINE_BYTES,
    )
    browser = Browser(process)
    try:
        yield browser
    except BaseException as error:
        error.add_note("\n".join(browser.console))
        raise
    finally:
        await browser.stop()
    assert browser.faults == []


class Wire:
    """A port that forwards to another one until it is cut."""

    def __init__(self) -> None:
        self.target = 0  # the port that it forwards to
        self.port = 0
        self.whole = True  # else nobody gets through
        self.deaf = False  # to what clients say: it is lost without a word
        self.dead = False  # both ways
        self._breaks = 0  # how often all connections were broken
        self._server: asyncio.Server | None = None
        self._ends: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def break_(self) -> None:
        """Break all connections, also those that are being made; new ones get through."""
        self._breaks += 1
        for end in self._ends:
            end.transport.abort()

    def cut(self) -> None:
        """Break all connections, and let none through until `mend`."""
        self.whole = False
        self.break_()

    def mend(self) -> None:
        """Let connections through again."""
        self.whole = True

    async def stop(self) -> None:
        """Stop listening."""
        assert self._server is not None
        self._server.close()
        self.break_()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.whole:
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        breaks = self._breaks
        try:
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        if breaks != self._breaks:
            for end in (writer, to_writer):
                end.transport.abort()
            return
        self._ends |= {writer, to_writer}
        await asyncio.gather(
            _pump(reader, to_writer, lambda: self.deaf or self.dead),
            _pump(to_reader, writer, lambda: self.dead),
        )
        self._ends -= {writer, to_writer}


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, deaf: Callable[[], bool]
) -> None:
    """Forward bytes until one side ends, then end the other; while deaf, drop them."""
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            if not deaf():
                writer.write(data)
                await writer.drain()
    writer.close()
