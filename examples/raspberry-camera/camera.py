"""Show a camera to everyone who enters its room: see README.md in this folder."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

from aiortc.contrib.media import MediaPlayer

from videre import VidereError
from videre.client import Call, Peer

log = logging.getLogger("camera")


def arguments() -> argparse.Namespace:
    """Return the options; each can also be set as an environment variable."""
    environ = os.environ
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default=environ.get("CAMERA_URL", "ws://localhost:1111/echo"))
    parser.add_argument("--room", default=environ.get("CAMERA_ROOM"), help="a secret")
    parser.add_argument("--user", default=environ.get("CAMERA_USER", "camera"))
    parser.add_argument(
        "--token-file",
        type=Path,
        default=environ.get("CAMERA_TOKEN_FILE"),
        help="file with the token, read again for each connection",
    )
    parser.add_argument(
        "--device",
        default=environ.get("CAMERA_DEVICE", "/dev/video0"),
        help="a Video4Linux device, or a film to show instead",
    )
    found = parser.parse_args()
    if not found.room:
        parser.error("--room or CAMERA_ROOM is required")
    return found


def open_camera(device: str) -> MediaPlayer:
    """Return a player for a device or a film."""
    if device.startswith("/dev/"):
        options = {"video_size": "640x480", "framerate": "15"}  # all that a Pi encodes in time
        return MediaPlayer(device, format="v4l2", options=options)
    # Without loop=True: aiortc 1.16 plays each repetition as fast as the machine can.
    return MediaPlayer(device)


async def show(options: argparse.Namespace) -> None:
    """Show the camera until the seat or the camera is lost, or until cancelled."""
    file = options.token_file
    call = Call(
        options.url,
        user=options.user,
        room=options.room,
        token=file and (lambda: Path(file).read_text(encoding="utf-8").strip() or None),
        receive=(),  # a camera does not watch
    )

    @call.on("state")
    def tell(peer: Peer) -> None:
        log.info("%s: %s", peer.user, peer.state)

    player = open_camera(options.device)
    if player.video is None:
        raise OSError(f"{options.device} has no pictures, only sound")
    lost = asyncio.Event()
    player.video.on("ended", lost.set)
    call.add_track(player.video)
    async with call:
        log.info("showing %s in the room", options.device)
        ends = [asyncio.create_task(each) for each in (call.ended(), lost.wait())]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if lost.is_set():
                raise OSError(f"{options.device} has no more pictures")
            await ends[0]
        finally:
            for each in ends:
                each.cancel()


async def main() -> int:
    """Return the exit code: 0 after a signal, 1 if systemd should restart us."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("aioice").setLevel(logging.WARNING)
    showing = asyncio.create_task(show(arguments()))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, showing.cancel)
    try:
        await showing
    except asyncio.CancelledError:
        return 0
    except (VidereError, ValueError, OSError) as error:
        log.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
