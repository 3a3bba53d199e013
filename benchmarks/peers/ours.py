"""videre-server mounted in an application of ours: for `/_tasks`, and for rooms that exist already.

    ours.py conf.json

The configuration is used as the command uses it: its log, its event loop, its garbage collector.
"""

import asyncio
import logging
import sys
from pathlib import Path

from aiohttp import web
from mount import STANDING, serve  # type: ignore[import-not-found]

import videre
from videre import config, logs
from videre.command import speedups


class Nobody:
    """The connection of a member of a standing room."""

    def send(self, text: str) -> None:
        """Drop it."""

    def close(self, code: int, reason: str) -> None:
        """Stay."""


def build(path: Path) -> web.Application:
    settings = config.load(path)
    logs.Logging(
        settings.log_level,
        settings.log_file,
        max_bytes=settings.log_max_bytes,
        backups=settings.log_backups,
    )
    app = web.Application()
    journal = logs.Journal(logging.getLogger("videre"), batched=True)
    namespace = videre.setup(app, prefix="/echo", config=settings, journal=journal)

    async def seat(_app: web.Application) -> None:
        packet = '{"Header":{"Event":"connect","UserId":"nobody","RoomId":"standing-%d"},"Payload":'
        for i in range(STANDING):
            await namespace.rooms.join("nobody", f"standing-{i}", Nobody(), (packet % i, "}"))  # type: ignore[arg-type]
        speedups.tune_garbage_collection()

    app.on_startup.append(seat)
    return app


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=speedups.loop_factory()) as runner:
        runner.run(serve(build(Path(sys.argv[1]))))
