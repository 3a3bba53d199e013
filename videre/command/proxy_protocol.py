"""The PROXY protocol, versions 1 and 2: a proxy says first whose bytes follow.

See HAProxy's doc/proxy-protocol.txt. It is believed from trusted proxies alone, who must send it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket

# Seconds in which it must have come: the proxy sends it at once.
SECONDS = 5.0

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_LONGEST_LINE = 107  # of version 1, its end included
_LONGEST = 2048  # of version 2, after its first 16 bytes: addresses, and what else it may say
_ADDRESSES = {0x11: 4, 0x21: 16}  # TCP over IPv4 and IPv6: the bytes of an address
_FAMILIES = {b"TCP4": 4, b"TCP6": 6}


async def read(connection: socket.socket) -> str | None:
    """Read what a connection begins with; return the client's address, None for the proxy itself.

    Raises ValueError for what is not the protocol, OSError or TimeoutError for what does not come.
    """
    async with asyncio.timeout(SECONDS):
        start = await _exactly(connection, 12)
        if start == _SIGNATURE:
            return await _read_binary(connection)
        if not start.startswith(b"PROXY "):
            raise ValueError("no PROXY protocol")
        line = bytearray(start)
        while not line.endswith(b"\r\n"):  # not a byte more than the line: the next is not ours
            if len(line) >= _LONGEST_LINE:
                raise ValueError("the line of the PROXY protocol is too long")
            line += await _exactly(connection, 1)
    return _of_line(bytes(line[:-2]))


def _of_line(line: bytes) -> str | None:
    words = line.split(b" ")
    if words[1] == b"UNKNOWN":
        return None
    if len(words) != 6 or words[1] not in _FAMILIES:
        raise ValueError("the line of the PROXY protocol is broken")
    address = ipaddress.ip_address(words[2].decode("ascii"))
    if address.version != _FAMILIES[words[1]]:
        raise ValueError("the line of the PROXY protocol is broken")
    return str(address)


async def _read_binary(connection: socket.socket) -> str | None:
    command, family, *size = await _exactly(connection, 4)
    length = int.from_bytes(bytes(size), "big")
    if command not in (0x20, 0x21) or length > _LONGEST:
        raise ValueError("the header of the PROXY protocol is broken")
    rest = await _exactly(connection, length)
    if command == 0x20 or family not in _ADDRESSES:  # LOCAL: a check of the proxy's own
        return None
    if length < 2 * _ADDRESSES[family] + 4:
        raise ValueError("the header of the PROXY protocol is too short")
    return str(ipaddress.ip_address(rest[: _ADDRESSES[family]]))


async def _exactly(connection: socket.socket, size: int) -> bytes:
    loop, found = asyncio.get_running_loop(), b""
    while len(found) < size:
        some = await loop.sock_recv(connection, size - len(found))
        if not some:
            raise ConnectionError("ended within the PROXY protocol")
        found += some
    return found
