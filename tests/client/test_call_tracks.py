"""The tracks that a call sends, and who reads them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError
from patience import WAIT_SECONDS

from videre.client.call.tracks import Tracks


class Fed(MediaStreamTrack):
    """A track whose frames a test puts into a queue."""

    kind = "video"

    def __init__(self) -> None:
        super().__init__()
        self.frames: asyncio.Queue[Any] = asyncio.Queue()

    async def recv(self) -> Any:
        """Return the next frame."""
        return await self.frames.get()

    async def gives(self, frame: int) -> None:
        """Give a frame to the one who has waited longest."""
        self.frames.put_nowait(frame)
        while not self.frames.empty():  # noqa: ASYNC110
            await asyncio.sleep(0)


async def test_a_removed_track_is_read_no_more() -> None:
    """Its frames are the application's again, but for the one that is being read."""
    tracks, track = Tracks(), Fed()
    tracks.add(track)
    copy: Any = tracks.copy(track)
    watching = asyncio.create_task(copy.recv())
    await track.gives(1)
    assert await watching == 1
    tracks.remove(track)
    copy.stop()  # as each peer does
    assert track.readyState == "live"
    await track.gives(2)
    reading = asyncio.create_task(track.recv())
    await asyncio.sleep(0)  # it waits
    await track.gives(3)
    assert reading.done() and await reading == 3


async def test_a_stopped_track_is_read_no_more() -> None:
    """Not even if it gives no further frame: the relay's task would wait for ever."""
    tracks, track = Tracks(), Fed()
    before = asyncio.all_tasks()
    tracks.add(track)
    copy: Any = tracks.copy(track)
    watching = asyncio.create_task(copy.recv())
    await track.gives(1)
    assert await watching == 1
    tracks.stop()
    assert track.readyState == "ended"
    await asyncio.wait(asyncio.all_tasks() - before, timeout=WAIT_SECONDS)
    assert asyncio.all_tasks() == before
    with pytest.raises(MediaStreamError):
        await copy.recv()
