"""A call's path that is lost."""

from __future__ import annotations

import pytest

from videre.client.call.route import Route


def lose(route: Route | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lose all datagrams of an ICE connection, both ways, without an error."""
    assert route is not None
    for protocol in route._protocols:
        monkeypatch.setattr(protocol, "datagram_received", lambda *_: None)
        monkeypatch.setattr(protocol.transport, "sendto", lambda *_: None)
