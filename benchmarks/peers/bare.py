"""A bare aiohttp WebSocket relay: `send_str` to each member, raw packets only, no validation.

BENCH_COMPRESS=1: accept permessage-deflate when it is offered, as aiohttp does by default.
"""

import asyncio
import json
import os

from aiohttp import WSMsgType, web
from mount import serve  # type: ignore[import-not-found]
from relay import Peer, Relay  # type: ignore[import-not-found]

COMPRESS = os.environ.get("BENCH_COMPRESS") == "1"
relay = Relay()


async def deliver(receivers: list[Peer], text: str) -> None:
    for receiver in list(receivers):
        try:
            await receiver.send(text)
        except ConnectionError:
            continue


async def websocket(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(compress=COMPRESS)
    await socket.prepare(request)
    peer = Peer(socket.send_str)
    try:
        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                continue
            packet = json.loads(message.data)
            if packet["Header"]["Event"] == "connect":
                await deliver(*relay.leave(peer))
                await deliver(*relay.connect(peer, packet))
            else:
                await deliver(*relay.receive(peer, packet, message.data))
    finally:
        await deliver(*relay.leave(peer))
    return socket


def build() -> web.Application:
    app = web.Application()
    app.router.add_get("/echo/websocket", websocket)
    return app


if __name__ == "__main__":
    asyncio.run(serve(build()))
