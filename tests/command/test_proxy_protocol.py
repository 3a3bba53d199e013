"""The PROXY protocol, as bytes and from a real HAProxy: client addresses, and forged headers."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from asyncio.subprocess import DEVNULL
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from ports import free_port
from process import require, signaller
from valkey_server import until

from videre.command import proxy_protocol

V2 = b"\r\n\r\n\0\r\nQUIT\n"
FOUR = socket.inet_aton("192.0.2.1") * 2 + b"\0\1\0\2"
SIX = socket.inet_pton(socket.AF_INET6, "2001:db8::1") * 2 + b"\0\1\0\2"


def binary(command: int, family: int, rest: bytes) -> bytes:
    """Return a header of version 2."""
    return V2 + bytes((command, family)) + len(rest).to_bytes(2, "big") + rest


GOOD: dict[bytes, str | None] = {
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n": "192.0.2.1",
    b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n": "2001:db8::1",
    b"PROXY UNKNOWN\r\n": None,
    b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n": None,
    binary(0x21, 0x11, FOUR): "192.0.2.1",
    binary(0x21, 0x21, SIX): "2001:db8::1",
    binary(0x21, 0x11, FOUR + b"\4\0\1x"): "192.0.2.1",
    binary(0x20, 0x00, b""): None,
    binary(0x21, 0x00, b""): None,
}
BAD = [
    b"GET / HTTP/1.1\r\n",
    b"PROXY TCP4 192.0.2.1\r\n        ",
    b"PROXY TCP4 2001:db8::1 ::1 1 2\r\n",
    b"PROXY TCP4 \xff.0.2.1 192.0.2.2 1 2\r\n",
    b"PROXY TCP4 " + b"1" * 200,
    binary(0x31, 0x11, FOUR),
    binary(0x21, 0x11, FOUR[:8]),
    V2 + b"\x21\x11\xff\xff",
]


async def read(text: bytes) -> tuple[str | None, bytes]:
    """Return the client that a header names, and the bytes after the header."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.sendall(text + b"rest")
        return await proxy_protocol.read(ours), ours.recv(100)


@pytest.mark.parametrize("text", GOOD)
async def test_valid_headers(text: bytes) -> None:
    """They name the client, or nobody for the proxy itself; the connection's bytes follow."""
    assert await read(text) == (GOOD[text], b"rest")


@pytest.mark.parametrize("text", BAD)
async def test_invalid_headers(text: bytes) -> None:
    """Everything else is refused."""
    with pytest.raises(ValueError, match=r"PROXY|appear|decode"):
        await read(text)


CONF = """
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
listen videre
    bind 127.0.0.1:{port}
    source 127.0.0.2
    server one 127.0.0.1:{server} {send}
"""


@pytest.mark.process
@pytest.mark.parametrize("send", ["send-proxy", "send-proxy-v2"])
async def test_behind_haproxy(send: str, tmp_path: Path) -> None:
    """Each client has its own address; only the trusted proxy needs the protocol."""
    config: dict[str, Any] = {
        "ProxyProtocol": True, "TrustedProxies": ["127.0.0.2"], "MaxConnectionsPerAddress": 1,
        "AdminPort": 0,
    }  # fmt: skip
    async with signaller(tmp=tmp_path, config=config) as server:
        port = free_port()
        conf = tmp_path / "haproxy.cfg"
        conf.write_text(CONF.format(port=port, server=server.port, send=send), encoding="utf-8")
        process = await asyncio.create_subprocess_exec(
            *(require("haproxy"), "-db", "-f", str(conf)), stdout=DEVNULL, stderr=DEVNULL
        )
        try:

            async def opens(address: str, to: int) -> bool:
                connector = aiohttp.TCPConnector(local_addr=(address, 0))
                async with aiohttp.ClientSession(connector=connector) as http:
                    try:
                        held = await http.ws_connect(f"http://127.0.0.1:{to}/echo/websocket")
                    except aiohttp.WSServerHandshakeError as error:
                        assert error.status == 503
                        return False
                    async with held:
                        if address == "127.0.0.3":  # while this connection is open
                            assert await opens("127.0.0.4", port)
                            assert not await opens(address, server.port)
                        return True

            async def listens() -> bool:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return True

            await until(listens)
            assert await opens("127.0.0.3", port)
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", server.port, local_addr=("127.0.0.2", 0)
            )
            writer.write(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
            with contextlib.suppress(ConnectionResetError):  # its data was not read
                assert await reader.read() == b""  # the proxy must use the protocol
            writer.close()
            (line,) = [each for each in server.output if each.startswith("Admin port on ")]
            admin = int(line.removesuffix("/status").rpartition(":")[2])
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", admin, local_addr=("127.0.0.2", 0)
            )
            writer.write(b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            answer = await reader.read()
            assert answer.startswith(b"HTTP/1.1 200 ")  # but not to the admin port
            writer.close()
        finally:
            process.terminate()
            await process.wait()
