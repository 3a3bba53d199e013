"""The tracks that a call sends, and who reads them."""

from __future__ import annotations

import asyncio
from typing import Any

from aiortc import MediaStreamTrack

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
