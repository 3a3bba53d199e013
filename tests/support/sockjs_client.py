"""Clients for the transport tests: a raw HTTP/1 connection, and a body read as a stream.

They send exactly what a test says and answer nothing by themselves, so that a test can misbehave on
purpose. Every wait is limited to `WAIT_SECONDS` seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from multidict import CIMultiDict
from patience import WAIT_SECONDS
from yarl import URL

FORM = {"Content-Type": "application/x-www-form-urlencoded"}

Headers = Mapping[str, str]


def fresh(service: str = "/echo") -> str:
    """Return the path of a session that does not exist yet."""
    return f"{service}/000/{uuid.uuid4()}"


def array(*messages: str) -> bytes:
    """Return the body with which a client sends these messages."""
    return json.dumps(messages).encode()


@dataclass(frozen=True)
class Answer:
    """One HTTP response; `body` is empty until it has been read."""

    status: int
    version: str
    headers: CIMultiDict[str]
    body: bytes = b""

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def content_type(self) -> str:
        return self.headers.get("Content-Type", "").replace(" ", "").lower()


class Wire:
    """One TCP connection for HTTP/1, a request and an answer at a time."""

    opened: ClassVar[list[Wire]] = []

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.host = "{}:{}".format(*writer.get_extra_info("peername")[:2])
        self.opened.append(self)

    @classmethod
    async def open(cls, base: str, *, source: str | None = None, receive_buffer: int = 0) -> Self:
        """Connect, from the address `source`, with a small receive buffer if wanted."""
        url = URL(base)
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if source:
            sock.bind((source, 0))
        host = "127.0.0.1" if url.host == "localhost" else url.host
        try:
            await asyncio.get_running_loop().sock_connect(sock, (host, url.port))
            return cls(*await asyncio.open_connection(sock=sock))
        except BaseException:  # even if nobody waits for it any more
            sock.close()
            raise

    def say(
        self,
        method: str,
        target: str,
        body: bytes | None = None,
        headers: Headers | None = None,
        *,
        version: str = "1.1",
    ) -> None:
        """Write a request; a body of None has no Content-Length."""
        lines = [f"{method} {target} HTTP/{version}", f"Host: {self.host}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + (body or b""))

    async def head(self) -> Answer:
        """Read a response up to its body."""
        async with asyncio.timeout(WAIT_SECONDS):
            block = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status, *lines = block.rstrip("\r\n").split("\r\n")
        version, code, *_ = status.removeprefix("HTTP/").split(" ", 2)
        pairs = (line.split(":", 1) for line in lines)
        return Answer(int(code), version, CIMultiDict((k, v.strip()) for k, v in pairs))

    async def answer(self, *, bodiless: bool = False) -> Answer:
        """Read a whole response; `bodiless` for one to HEAD."""
        head = await self.head()
        if bodiless or head.status in (101, 204, 304):
            return head
        body = await Stream(self, head).rest()
        return Answer(head.status, head.version, head.headers, body)

    async def ask(
        self,
        method: str,
        target: str,
        body: bytes | None = None,
        headers: Headers | None = None,
        *,
        version: str = "1.1",
    ) -> Answer:
        """Write a request and read its whole response."""
        self.say(method, target, body, headers, version=version)
        return await self.answer(bodiless=method == "HEAD")

    async def ended(self) -> bool:
        """Return whether the server ends the connection without another byte."""
        async with asyncio.timeout(WAIT_SECONDS):
            try:
                return await self.reader.read(1) == b""
            except ConnectionError:
                return True

    def reset(self) -> None:
        """Break the connection with a RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def close(self) -> None:
        """End the connection with a FIN."""
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()

    @classmethod
    async def hang_up(cls) -> None:
        """Close the connections that a test left open."""
        while cls.opened:
            cls.opened[-1].writer.transport.abort()
            await cls.opened.pop().close()


class Stream:
    """The body of one response, read piece by piece in any framing."""

    def __init__(self, wire: Wire, head: Answer) -> None:
        self.wire = wire
        self.head = head
        self.chunked = head.headers.get("Transfer-Encoding", "").lower() == "chunked"
        self.left = int(head.headers.get("Content-Length", -1))
        self.buffer = b""

    @classmethod
    async def open(
        cls,
        base: str,
        method: str,
        target: str,
        headers: Headers | None = None,
        *,
        version: str = "1.1",
        source: str | None = None,
        receive_buffer: int = 0,
    ) -> Self:
        """Send a request on its own connection and read up to the body."""
        wire = await Wire.open(base, source=source, receive_buffer=receive_buffer)
        body = b"" if method == "POST" else None
        wire.say(method, target, body, headers, version=version)
        return cls(wire, await wire.head())

    async def until(self, end: str = "\n") -> str:
        """Return the text up to and including `end`, or the rest at the body's end."""
        mark = end.encode()
        while mark not in self.buffer and (more := await self.chunk()):
            self.buffer += more
        cut = self.buffer.find(mark) + len(mark) if mark in self.buffer else len(self.buffer)
        found, self.buffer = self.buffer[:cut], self.buffer[cut:]
        return found.decode()

    async def rest(self) -> bytes:
        """Return everything up to the body's end."""
        while more := await self.chunk():
            self.buffer += more
        return self.buffer

    async def chunk(self) -> bytes:
        """Return the next piece as the server framed it; empty at the body's end."""
        async with asyncio.timeout(WAIT_SECONDS):
            if self.chunked:
                return await self._framed()
            if self.left < 0:
                return await self.wire.reader.read(1 << 16)
            piece = await self.wire.reader.readexactly(self.left)
            self.left = 0
            return piece

    async def _framed(self) -> bytes:
        reader = self.wire.reader
        size = int(await reader.readuntil(b"\r\n"), 16)
        piece = (await reader.readexactly(size + 2))[:-2]
        if not size:
            self.chunked, self.left = False, 0
        return piece


async def ask(
    base: str,
    method: str,
    target: str,
    body: bytes | None = None,
    headers: Headers | None = None,
    *,
    source: str | None = None,
) -> Answer:
    """Send one request on its own connection and return the answer."""
    wire = await Wire.open(base, source=source)
    try:
        return await wire.ask(method, target, body, headers)
    finally:
        await wire.close()


async def poll(base: str, session: str, *, source: str | None = None) -> str:
    """Return the result of one xhr poll of this session."""
    answer = await ask(base, "POST", f"{session}/xhr", b"", source=source)
    assert answer.status == 200, answer
    return answer.text


async def send(base: str, session: str, *messages: str, source: str | None = None) -> Answer:
    """Send messages by xhr_send."""
    return await ask(base, "POST", f"{session}/xhr_send", array(*messages), source=source)
