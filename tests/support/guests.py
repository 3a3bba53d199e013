"""Clients that use extensions: a welcome, and resuming."""

from __future__ import annotations

import json
from typing import Any

from fakes import FakeClient, World, brief, packet

Welcome = dict[str, Any]


def ask(client: FakeClient, user: str, room: str = "room", **options: Any) -> None:
    """Send a connect with these options; with `Resume`, `Received` counts all packets so far."""
    if "Resume" in options:
        options = {"Received": client.world.received(options["Resume"]), **options}
    client.say(packet("connect", user, room, options))


def welcome_of(text: str) -> Welcome:
    """Return the Payload of a welcome."""
    event, *_, payload = brief(text)
    assert event == "welcome", text
    welcome: Welcome = json.loads(payload)
    return welcome


def answer(client: FakeClient) -> tuple[str, Welcome, list[Any]]:
    """Return a connect's answer: role, welcome, and later packets in short form."""
    role, welcome, *rest = client.texts()
    assert brief(role)[0] == "connect"
    return brief(role)[3], welcome_of(welcome), [brief(text) for text in rest]


def guest(world: World, user: str, room: str = "room") -> tuple[FakeClient, str]:
    """Return a member with a welcome, and its secret."""
    client = world.client()
    ask(client, user, room, Welcome=True)
    _, welcome, rest = answer(client)
    assert rest == []
    return client, welcome["Resume"]


def back(
    world: World, user: str, secret: str, room: str = "room", **options: Any
) -> tuple[FakeClient, str, Welcome, list[Any]]:
    """Return a new client that has shown this resume secret, and the answer it got."""
    client = world.client()
    ask(client, user, room, Resume=secret, **options)
    return client, *answer(client)


def say(client: FakeClient, user: str, payload: Any, room: str = "room", **head: Any) -> None:
    """Send a broadcast."""
    client.say(packet("broadcast", user, room, payload, **head))


def users(world: World, room: str = "room") -> str:
    """Return the users of a room, as an outsider's ping shows them."""
    client = world.client()
    client.say(packet("ping", "outsider", room))
    ((event, *_, payload),) = client.heard()
    assert event == "ping"
    return str(payload)


def initiator(world: World, room: str = "room") -> str:
    """Return the initiator of a room, as a visitor's welcome says."""
    visitor = world.client()
    ask(visitor, "visitor", room, Welcome=True)
    _, welcome, _ = answer(visitor)
    visitor.say(packet("disconnect", "visitor", room))
    return str(welcome["Initiator"])
