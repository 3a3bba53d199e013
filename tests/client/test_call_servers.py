"""The ICE servers of a call are requested again in time."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from skipping import forward

from videre.client import Client
from videre.client.call.servers import Servers


class Room:
    """A client whose requests for servers fail until the third."""

    connected = True

    def __init__(self, ttl: float) -> None:
        self.ice_ttl = ttl
        self.asked: list[float] = []

    async def ice(self) -> list[dict[str, Any]]:
        """Note the time of the request."""
        self.asked.append(asyncio.get_running_loop().time())
        if len(self.asked) < 3:
            raise TimeoutError("No answer")
        return []


@pytest.mark.parametrize(
    ("ttl", "times"),
    [(1000, [800, 810, 820, 1620]), (5, [4, 8, 12, 16]), (0, [1, 2, 3, 4, 5])],
    ids=str,
)
async def test_a_failed_request_is_repeated_soon(ttl: float, times: list[float]) -> None:
    """The credentials would expire long before the regular request."""
    room, errors = Room(ttl), list[Exception]()
    begin = asyncio.get_running_loop().time()
    keeping = asyncio.create_task(Servers(cast(Client, room), []).keep_valid(errors.append))
    await forward(times[-1] + 2, by=0.5)
    keeping.cancel()
    assert [asked - begin for asked in room.asked[: len(times)]] == pytest.approx(times, abs=2)
    assert [str(error) for error in errors] == ["No answer"] * 2
