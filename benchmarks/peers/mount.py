"""Shared by the Python relays: an application with `/_tasks`, served at port 0 until SIGTERM.

BENCH_CERT and BENCH_KEY: serve TLS. BENCH_ROOMS: how many rooms exist before the first client.
"""

import asyncio
import os
import signal
import ssl

from aiohttp import web

STANDING = int(os.environ.get("BENCH_ROOMS", "0"))


async def tasks(request: web.Request) -> web.Response:
    """Answer how many asyncio tasks there are now, this request's own included."""
    return web.Response(text=str(len(asyncio.all_tasks())))


def tls() -> ssl.SSLContext | None:
    """Return the context of BENCH_CERT and BENCH_KEY, or None without them."""
    if not os.environ.get("BENCH_CERT"):
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(os.environ["BENCH_CERT"], os.environ["BENCH_KEY"])
    return context


async def serve(app: web.Application) -> None:
    """Serve `app` on a free port, print the line that `bin/bench` waits for, end on SIGTERM."""
    app.router.add_get("/_tasks", tasks)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    context = tls()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    host, port = runner.addresses[0][:2]
    print(f"Listening on {'https' if context else 'http'}://{host}:{port}/echo", flush=True)
    await stopped.wait()
    os._exit(0)  # thousands of sessions are open, and none needs an orderly close
