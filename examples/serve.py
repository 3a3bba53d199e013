"""Serve a folder of pages, and signalling at /echo: serve.py FOLDER [PORT]."""

import sys
from pathlib import Path

from aiohttp import web

import videre


def main(folder: str, port: str = "8000") -> None:
    """Serve until Ctrl-C."""
    pages = Path(folder)

    async def index(_request: web.Request) -> web.FileResponse:
        return web.FileResponse(pages / "index.html")

    site = web.Application()
    videre.setup(site, prefix="/echo")
    site.router.add_get("/", index)
    site.router.add_static("/", pages)
    web.run_app(site, host="localhost", port=int(port))


if __name__ == "__main__":
    main(*sys.argv[1:])
