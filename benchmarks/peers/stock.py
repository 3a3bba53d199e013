"""A first version: the stock sockjs plugin, one cerberus validator, json, a send to each."""

import asyncio
import json

import cerberus
import sockjs
from aiohttp import web
from mount import serve  # type: ignore[import-not-found]
from relay import Peer, Relay  # type: ignore[import-not-found]

SCHEMA = {
    "Header": {
        "type": "dict",
        "required": True,
        "allow_unknown": True,
        "schema": {
            "Event": {
                "type": "string",
                "required": True,
                "allowed": ["connect", "broadcast", "ping", "disconnect"],
            },
            "UserId": {"type": "string", "required": True, "minlength": 1, "maxlength": 128},
            "RoomId": {"type": "string", "required": True, "minlength": 1, "maxlength": 256},
        },
    },
    "Payload": {},
}
validator = cerberus.Validator(SCHEMA, allow_unknown=True)
relay = Relay()


def deliver(receivers: list[Peer], text: str) -> None:
    for receiver in receivers:
        receiver.send(text)


async def handler(
    manager: sockjs.SessionManager, session: sockjs.Session, message: sockjs.SockjsMessage
) -> None:
    if message.type is sockjs.MsgType.OPEN:
        session.peer = Peer(session.send)
    elif message.type is sockjs.MsgType.MESSAGE:
        packet = json.loads(message.data)
        if not validator.validate(packet, normalize=False):
            return
        if packet["Header"]["Event"] == "connect":
            deliver(*relay.leave(session.peer))
            deliver(*relay.connect(session.peer, packet))
        else:
            deliver(*relay.receive(session.peer, packet, message.data))
    else:
        deliver(*relay.leave(session.peer))


def build() -> web.Application:
    app = web.Application()
    sockjs.add_endpoint(app, handler, name="echo", prefix="/echo")
    return app


if __name__ == "__main__":
    asyncio.run(serve(build()))
