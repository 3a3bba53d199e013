"""A client of any transport that listens, sends, and leaves as impolitely as a test wants."""

from __future__ import annotations

import json
from typing import Self

from fakes import COUNTED, event_in
from sockjs_client import Stream, Wire, fresh, send
from websocket_client import Socket

WEBSOCKETS = ("websocket", "raw")
STREAMS = ("xhr_streaming", "eventsource")
TRANSPORTS = (*WEBSOCKETS, "xhr", *STREAMS)


class Visitor:
    """One client with its session, and at most one receiving connection."""

    def __init__(self, base: str, transport: str, source: str | None, receive_buffer: int) -> None:
        self.base = base
        self.transport = transport
        self.session = fresh()
        self.socket: Socket | None = None
        self.stream: Stream | None = None
        self.counted = 0  # packets since the last welcome that count for a resume
        self._source = source
        self._receive_buffer = receive_buffer

    @classmethod
    async def enter(
        cls, base: str, transport: str, *, source: str | None = None, receive_buffer: int = 0
    ) -> Self:
        """Open a session with this transport; a polling one waits in its second poll."""
        visitor = cls(base, transport, source, receive_buffer)
        await visitor.connect()
        if transport != "raw":
            assert await visitor.frame() == "o"
        return visitor

    @property
    def wire(self) -> Wire:
        """This client's receiving connection."""
        connection = self.socket or self.stream
        assert connection is not None
        return connection.wire

    @property
    def websocket(self) -> Socket:
        """The WebSocket of a client that has one."""
        assert self.socket is not None
        return self.socket

    async def connect(self) -> None:
        """Open the receiving connection."""
        if self.transport in WEBSOCKETS:
            path = "/echo/websocket" if self.transport == "raw" else f"{self.session}/websocket"
            self.socket = await Socket.open(
                self.base, path, source=self._source, receive_buffer=self._receive_buffer
            )
            assert self.socket.head.status == 101, self.socket.head
            return
        method = "GET" if self.transport == "eventsource" else "POST"
        path = f"{self.session}/{self.transport}"
        self.stream = await Stream.open(
            self.base, method, path, source=self._source, receive_buffer=self._receive_buffer
        )
        assert self.stream.head.status == 200, self.stream.head
        if self.transport in STREAMS:
            await self.stream.until("\r\n" if self.transport == "eventsource" else "\n")

    async def frame(self) -> str:
        """Return the next frame (raw: the next text), "" at the end of a streaming response."""
        if self.socket is not None:
            return await self.socket.text()
        assert self.stream is not None
        if self.transport == "eventsource":
            event = await self.stream.until("\r\n\r\n")
            return event.removeprefix("data: ").removesuffix("\r\n\r\n")
        if self.transport == "xhr_streaming":
            return (await self.stream.until()).removesuffix("\n")
        text = (await self.stream.rest()).decode().removesuffix("\n")
        if not text.startswith("c"):
            await self.connect()
        return text

    async def hear(self) -> list[str]:
        """Return the next messages, with a new request where a response has ended."""
        texts = await self._hear()
        for text in texts:
            event = event_in(text)
            self.counted = 0 if event == "welcome" else self.counted + (event in COUNTED)
        return texts

    async def _hear(self) -> list[str]:
        while True:
            frame = await self.frame()
            if self.transport == "raw":
                return [frame]
            if frame.startswith("a"):
                texts: list[str] = json.loads(frame[1:])
                return texts
            assert frame in ("", "h"), frame
            if not frame:
                await self.connect()

    async def say(self, text: str) -> None:
        """Send one message."""
        if self.socket is None:
            answer = await send(self.base, self.session, text, source=self._source)
            assert answer.status == 204, answer
        else:
            self.socket.send(text if self.transport == "raw" else json.dumps([text]))

    async def goodbye(self) -> tuple[int, str]:
        """Return the code and reason of the server's close."""
        if self.transport == "raw":
            assert self.socket is not None
            return await self.socket.goodbye()
        while not (frame := await self.frame()).startswith("c"):
            assert frame, "the response has ended without a goodbye"
        if self.socket is not None:
            await self.socket.goodbye()
        code, reason = json.loads(frame[1:])
        return code, reason
