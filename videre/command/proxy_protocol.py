"""The PROXY protocol, versions 1 and 2: a header in which a proxy names its client.

See HAProxy's doc/proxy-protocol.txt. Only trusted proxies may send it, and they must.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket

# Seconds to wait for the header: proxies send it at once.
SECONDS = 5.0

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_LONGEST_LINE = 107  # bytes of version 1's line, including CRLF
_LONGEST = 2048  # bytes of version 2 after its first 16: addresses and extensions
_ADDRESSES = {0x11: 4, 0x21: 16}  # bytes of an address, for TCP over IPv4 and over IPv6
_FAMILIES = {b"TCP4": 4, b"TCP6": 6}


async def read(connection: socket.socket) -> str | None:
    """Read the header; return the client's address, or None if the header names none.

    With None, the connection counts as the proxy's own. Raises ValueError for an invalid header;
    OSError or TimeoutError if it does not arrive.
    """
    async with asyncio.timeout(SECONDS):
        start = await _exactly(connection, 12)
        if start == _SIGNATURE:
            return await _read_binary(connection)
        if not start.startswith(b"PROXY "):
            raise ValueError("the connection does not begin with the PROXY protocol")
        line = bytearray(start)
        while not line.endswith(b"\r\n"):  # bytewise: what follows the line is not ours
            if len(line) >= _LONGEST_LINE:
                raise ValueError("the line of the PROXY protocol is too long")
            line += await _exactly(connection, 1)
    return _of_line(bytes(line[:-2]))


def _of_line(line: bytes) -> str | None:
    words = line.split(b" ")
    if words[1] == b"UNKNOWN":
        return None
    if len(words) != 6 or words[1] not in _FAMILIES:
        raise ValueError("the line of the PROXY protocol is invalid")
    address = ipaddress.ip_address(words[2].decode("ascii"))
    if address.version != _FAMILIES[words[1]]:
        raise ValueError("the line of the PROXY protocol is invalid")
    return str(address)


async def _read_binary(connection: socket.socket) -> str | None:
    command, family, *size = await _exactly(connection, 4)
    length = int.from_bytes(bytes(size), "big")
    if command not in (0x20, 0x21) or length > _LONGEST:
        raise ValueError("the header of the PROXY protocol is invalid")
    rest = await _exactly(connection, length)
    if command == 0x20 or family not in _ADDRESSES:  # LOCAL: the proxy's health check
        return None
    if length < 2 * _ADDRESSES[family] + 4:
        raise ValueError("the header of the PROXY protocol is too short")
    return str(ipaddress.ip_address(rest[: _ADDRESSES[family]]))


async def _exactly(connection: socket.socket, size: int) -> bytes:
    loop, found = asyncio.get_running_loop(), b""
    while len(found) < size:
        some = await loop.sock_recv(connection, size - len(found))
        if not some:
            raise ConnectionError("the connection ended within the PROXY protocol")
        found += some
    return found
