"""The Python client's packets and seat, without any connection."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
from aiohttp import WSMessage, WSMsgType

from videre import errors
from videre.client import Client, Joined, Left, Message, Role, wire
from videre.client.connection import Connection
from videre.client.seat import Seat


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("ws://host:1111/echo", "ws://host:1111/echo/websocket"),
        ("http://host/echo/", "ws://host/echo/websocket"),
        ("https://host", "wss://host/websocket"),
        ("wss://host/a/b/websocket", "wss://host/a/b/websocket"),
        ("wss://host/echo/websocket/", "wss://host/echo/websocket"),
        ("ws://[::1]:80/echo?key=a%26b", "ws://[::1]:80/echo/websocket?key=a%26b"),
    ],
)
def test_addresses(url: str, address: str) -> None:
    """A server's URL, in any form, leads to its WebSocket."""
    assert str(wire.address(url)) == str(wire.URL(address))  # type: ignore[attr-defined]


@pytest.mark.parametrize("url", ["", "host:1111", "/echo", "ftp://host/echo", "ws:///echo"])
def test_invalid_addresses(url: str) -> None:
    """Creating the client raises the error."""
    with pytest.raises(ValueError, match="must be a ws, wss, http or https URL"):
        Client(url, user="a", room="room")


def deepest() -> list[Any]:
    """Return the deepest payload that a client can write."""
    value: list[Any] = []
    while True:
        try:
            wire.broadcast("a", "room", [value], {})
        except TypeError:
            return value
        value = [value]


@pytest.mark.parametrize("payload", [deepest(), '},"Payload":', 2**64 - 1, 1e300, None, "\0\u00e9"])
def test_a_broadcast_gets_another_id(payload: Any) -> None:
    """Nothing else changes, and the first id remains known."""
    make = wire.broadcast('a},"Payload":', "room", payload, {"To": ['{"', '},"Payload":']})
    text = wire.renumber(wire.renumber(make(1), 2), 3)
    assert wire.first_id(text) == wire.first_id(make(1)) == 1
    again, before = json.loads(text), json.loads(make(1))
    before["Header"] |= {"Id": 3, "Again": 1}
    assert again == before


def test_each_error_has_its_class() -> None:
    """The class follows from the server's code; an unknown code gets a generic one."""
    for kind in errors.PeerError.__subclasses__():
        told = {"Code": kind.code, "Message": "Why", "Retry": kind.retry}
        text = wire.write("error", "a", "room", json.dumps(told), Id=7)
        error = wire.error_of(wire.read(text))
        assert type(error) is kind
        assert (str(error), error.packet_id) == ("Why", 7)
    text = wire.write("error", "a", "room", '{"Code":"new","Message":"Why","Retry":true}')
    error = wire.error_of(wire.read(text))
    assert isinstance(error, errors.PeerError)
    assert (error.code, error.retry, str(error), error.packet_id) == ("new", True, "Why", None)


def packet(event: str, user: str, payload: str = "") -> wire.Packet:
    """Return a packet from the server."""
    return wire.read(wire.write(event, user, "room", payload))


def test_a_seat_follows_the_room() -> None:
    """Members in joining order, the initiator, and the number of packets received."""
    seat = Seat("me")
    welcome = {"Initiator": "a", "Users": ["a", "me"], "Resume": "s", "IceServers": None}
    assert seat.welcome(welcome) is False
    assert seat.asks() == {"Welcome": True, "Resume": "s", "Received": 0}
    assert seat.apply(packet("connect", "b", "false")) == Joined("b")
    assert seat.apply(packet("connect", "me", "false")) is None  # the answer to a fresh token
    assert seat.apply(packet("disconnect", "a")) == Left("a")
    assert seat.initiator is None
    assert seat.apply(packet("connect", "me", "true")) == Role("me")
    assert seat.apply(packet("connect", "me", "true")) is None
    assert isinstance(seat.apply(packet("broadcast", "b")), Message)
    assert seat.apply(packet("weather", "b")) is None
    assert (list(seat.users), seat.initiator, seat.received) == (["me", "b"], "me", 6)  # type: ignore[comparison-overlap]


@pytest.mark.parametrize("payload", ["plain", "é😀"])
@pytest.mark.parametrize("kind", [WSMsgType.TEXT, WSMsgType.BINARY])
async def test_a_packet_has_the_size_that_the_server_counts(payload: str, kind: WSMsgType) -> None:
    """Bytes of UTF-8, not characters."""
    head = {"Event": "ping", "UserId": "a", "RoomId": "r"}
    text = json.dumps({"Header": head, "Payload": payload}, ensure_ascii=False)
    data = text if kind is WSMsgType.TEXT else text.encode()

    class Socket:
        async def receive(self) -> WSMessage:
            return WSMessage(kind, data, None)

    received, size = await Connection(cast(Any, Socket())).receive()
    assert received.payload == payload and size == len(text.encode())
