"""The media of a call: the tracks to send to every peer, and what becomes of unwanted ones.

Only this module touches `_queue` of aiortc's RemoteStreamTrack.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiortc import MediaStreamTrack, RTCPeerConnection
from aiortc.contrib.media import MediaRelay
from aiortc.mediastreams import MediaStreamError

from videre.client.options import wrong_type


class _Source(MediaStreamTrack):
    """A track as the relay reads it.

    Stopping this one ends the relay's reading, which nothing else but the track's own end does.
    """

    def __init__(self, track: MediaStreamTrack) -> None:
        super().__init__()
        self.kind = track.kind
        self.track = track
        self._reader: asyncio.Task[Any] | None = None

    async def recv(self) -> Any:
        """Return the track's next frame; raise MediaStreamError if it has ended or is stopped."""
        self._reader = asyncio.current_task()
        try:
            frame = await self.track.recv()
        except asyncio.CancelledError:
            if self.readyState == "live":
                raise
            raise MediaStreamError from None
        if self.readyState != "live":
            raise MediaStreamError
        return frame

    def end(self) -> None:
        """Stop the track, and the relay's reading at once: no frame may come any more."""
        self.track.stop()
        self.stop()
        if self._reader is not None:
            self._reader.cancel()


class Tracks:
    """The tracks to send. Each peer gets copies, because each encodes at its own pace."""

    def __init__(self) -> None:
        self._sources: dict[str, _Source] = {}  # by the id of their track
        self._relay = MediaRelay()

    def __len__(self) -> int:
        return len(self._sources)

    def add(self, track: MediaStreamTrack) -> None:
        """Add a track; raise TypeError if it is not one, ValueError if it was added already."""
        if not isinstance(track, MediaStreamTrack):
            raise wrong_type("track", track, "an aiortc.MediaStreamTrack")
        if track.id in self._sources:
            raise ValueError("track is sent already")
        self._sources[track.id] = _Source(track)

    def remove(self, track: MediaStreamTrack) -> None:
        """Remove a track; raise ValueError if it was not added."""
        source = self._sources.pop(getattr(track, "id", ""), None)
        if source is None:
            raise ValueError("track is not sent")
        source.stop()

    def copies(self) -> list[MediaStreamTrack]:
        """Return a copy of each track."""
        return [self.copy(source.track) for source in self._sources.values()]

    def copy(self, track: MediaStreamTrack) -> MediaStreamTrack:
        """Return a copy for one peer; `source_id` is the id of the original."""
        # A slow peer misses video frames, but no sound.
        copy: Any = self._relay.subscribe(self._sources[track.id], buffered=track.kind == "audio")
        copy.source_id = track.id
        found: MediaStreamTrack = copy
        return found

    def stop(self) -> None:
        """Stop all tracks, so that no camera stays on."""
        for source in self._sources.values():
            source.end()


def source_id(track: MediaStreamTrack) -> str:
    """Return the id of the track that a copy was made from."""
    source: str = getattr(track, "source_id", track.id)
    return source


async def close(connection: RTCPeerConnection) -> None:
    """Close a connection, and end its tracks in both directions.

    aiortc ends no received track whose connection was never made: who reads it would wait for ever.
    """
    for sender in connection.getSenders():
        if sender.track is not None:
            sender.track.stop()
    await connection.close()
    for receiver in connection.getReceivers():
        if receiver.track is not None:
            received: Any = receiver.track
            received._queue.put_nowait(None)


async def discard(track: MediaStreamTrack) -> None:
    """Throw a track's media away, until it raises MediaStreamError: unread media would pile up."""
    while True:
        await track.recv()
