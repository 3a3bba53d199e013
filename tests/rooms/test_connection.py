"""The way to a client that comes back: what comes first, what waits, what passes."""

from __future__ import annotations

import pytest
from fakes import FakeConnection

from videre.rooms.returning import Returning


@pytest.fixture
def connection() -> FakeConnection:
    """Give a connection that nothing was sent to."""
    return FakeConnection()


@pytest.fixture
def returning(connection: FakeConnection) -> Returning:
    """Give the way to a client that comes back by it."""
    return Returning(connection, ("{", "}"))


def test_what_it_hears_first(returning: Returning, connection: FakeConnection) -> None:
    """The greeting, what was missed, and what was sent since the seat is its own: once, in order.

    Nothing before all of it is there: on an engine that is elsewhere the room goes on meanwhile.
    """
    returning.send("sent 1")
    returning.greeting += ["role", "welcome"]
    returning.send("sent 2")
    assert connection.sent == []
    returning.arrive(["missed 1", "missed 2"])
    assert connection.sent == ["role", "welcome", "missed 1", "missed 2", "sent 1", "sent 2"]


def test_a_close_passes(returning: Returning, connection: FakeConnection) -> None:
    """Who is removed while it comes back is told at once."""
    returning.close(4504, "why")
    assert connection.closes == [(4504, "why")]
