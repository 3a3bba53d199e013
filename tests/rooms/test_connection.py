"""The connection to a resuming client: what is sent first, what waits, and what passes."""

from __future__ import annotations

import pytest
from fakes import FakeConnection

from videre.rooms.returning import Returning


@pytest.fixture
def connection() -> FakeConnection:
    """Give a connection that has received nothing."""
    return FakeConnection()


@pytest.fixture
def returning(connection: FakeConnection) -> Returning:
    """Give the wrapper of that connection for a resuming client."""
    return Returning(connection)


def test_what_a_client_hears_first(returning: Returning, connection: FakeConnection) -> None:
    """It hears the greeting, the missed packets, then those sent since it took the seat, once each.

    It hears nothing before all of these are there: on a remote engine the room goes on meanwhile.
    """
    returning.send("sent 1")
    returning.greeting += ["role", "welcome"]
    returning.send("sent 2")
    assert connection.sent == []
    returning.arrive(["missed 1", "missed 2"])
    assert connection.sent == ["role", "welcome", "missed 1", "missed 2", "sent 1", "sent 2"]


def test_a_close_passes(returning: Returning, connection: FakeConnection) -> None:
    """A client that is removed while it resumes is closed at once."""
    returning.close(4504, "why")
    assert connection.closes == [(4504, "why")]
