"""Call through relays only: python relayed_call.py URL RELAY.

Two members call each other at URL. RELAY is the address of a TURN server's container, whose port is
published on loopback, as a container engine does. The last line of output has the members' kinds of
addresses, and their messages.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Any

import aiohttp
import aioice.ice
from patience import patient

from videre.client import Call, Peer

SECONDS = patient(30)  # a safety net: a call takes less than a second
TURN = ("127.0.0.1", 3478)
BINDING = bytes.fromhex("0001 0000 2112a442") + b"is it there?"  # a STUN request


class Way(asyncio.DatagramProtocol):
    """A client's path from the published port to the container and back."""

    def __init__(self, front: Published, client: Any) -> None:
        self._front = front
        self._client = client

    def datagram_received(self, data: bytes, _: Any) -> None:
        """Return an answer to the client."""
        self._front.transport.sendto(data, self._client)


class Published(asyncio.DatagramProtocol):
    """A UDP port on loopback that leads to a container's port."""

    transport: asyncio.DatagramTransport

    def __init__(self, container: str) -> None:
        self._container = container
        self._ways: dict[Any, asyncio.Task[Any]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: Any) -> None:
        """Keep the port."""
        self.transport = transport

    def datagram_received(self, data: bytes, client: Any) -> None:
        """Forward a datagram, from a port for this client."""
        if client not in self._ways:
            opening = asyncio.get_running_loop().create_datagram_endpoint(
                lambda: Way(self, client), remote_addr=(self._container, TURN[1])
            )
            self._ways[client] = asyncio.ensure_future(opening)
        task = asyncio.ensure_future(self._pass_on(data, client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _pass_on(self, data: bytes, client: Any) -> None:
        transport, _ = await self._ways[client]
        transport.sendto(data)


def kinds(peer: Peer) -> str:
    """Return the types of the addresses that an end has sent to the other."""
    sdp = peer.connection.localDescription.sdp
    lines = [line.split() for line in sdp.splitlines() if line.startswith("a=candidate:")]
    return " ".join(sorted({line[line.index("typ") + 1] for line in lines}))


async def relay() -> None:
    """Return when the relay answers STUN."""
    loop = asyncio.get_running_loop()
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.setblocking(False)
            client.connect(TURN)
            try:
                async with asyncio.timeout(0.2):
                    await loop.sock_sendall(client, BINDING)
                    await loop.sock_recv(client, 2048)
                    return
            except TimeoutError:
                continue
            except ConnectionRefusedError:  # it does not listen yet
                await asyncio.sleep(0.05)


async def main(url: str, container: str) -> None:
    """Load the demo's page, then call."""
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(lambda: Published(container), local_addr=TURN)
    await relay()
    aioice.ice.get_host_addresses = lambda **_: []
    async with aiohttp.ClientSession() as http, http.get(f"{url}/demo") as page:
        assert page.status == 200, page.status
    heard: asyncio.Queue[Any] = asyncio.Queue()
    async with (
        Call(f"{url}/echo", user="a", room="room") as a,
        Call(f"{url}/echo", user="b", room="room") as b,
    ):
        b.on("message", lambda value, _peer: heard.put_nowait(value))
        states: asyncio.Queue[str] = asyncio.Queue()
        a.on("state", lambda peer: states.put_nowait(peer.state))
        while await states.get() != "connected":
            pass
        await a.send("Do you see me?")
        print(f"{kinds(a.peers['b'])}, {kinds(b.peers['a'])}: {await heard.get()}")


if __name__ == "__main__":
    asyncio.run(asyncio.wait_for(main(*sys.argv[1:]), SECONDS))
