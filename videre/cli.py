"""The command: read the configuration, serve until a signal says stop.

Exit code 0 after a signal, 2 for a configuration that cannot be used.
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import logging
import os
import signal
import socket
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from videre import config as configuration
from videre import demo, logs, mint, speedups, workers
from videre.app import create_app
from videre.config import Config
from videre.errors import ConfigError
from videre.schema import LEVELS, SCHEMA
from videre.version import __version__

# Seconds that a connection without a request may stay open: more than the 60 s of common proxies.
KEEP_ALIVE = 75.0
# Milliseconds after which the kernel gives up a connection that takes nothing of what was written:
# longer than the 37 s after which a silent WebSocket is given up.
UNREAD_MS = 60_000
# Seconds in which requests must end once all sessions are closed, by a shutdown.
SHUTDOWN = 1.0


def _parser(default_config: Path | None) -> argparse.ArgumentParser:
    default = {key: rules.get("default") for key, rules in SCHEMA.items()}
    parser = argparse.ArgumentParser(
        prog="videre-server",
        description="A WebRTC signalling server. Options beat the configuration file, which beats "
        "the defaults.",
        epilog="videre-server token --help tells how to mint a token.",
    )

    def option(*names: str, help: str, **rest: Any) -> None:
        parser.add_argument(*names, help=help.replace("%", "%%"), **rest)

    option("--host", metavar="ADDRESS", help=f"listen here (default: {default['Host']})")
    option("--port", type=int, metavar="N", help=f"0 picks a free one (default: {default['Port']})")
    option(
        "--prefix",
        action="append",
        metavar="PATH",
        help=f"serve below this path; may be repeated (default: {default['Prefix']})",
    )
    option(
        "--config",
        type=Path,
        default=default_config,
        metavar="FILE",
        help=f"the configuration, JSON (default: {default_config or 'none'})",
    )
    option(
        "--workers",
        type=int,
        metavar="N",
        help="so many processes, for which Engine must be a Redis or Valkey "
        f"(default: {default['Workers']})",
    )
    option("--cert", metavar="FILE", help="serve TLS with this certificate (default: none)")
    option("--key", metavar="FILE", help="the certificate's key (default: none)")
    option("--log-file", metavar="FILE", help=f"JSON lines (default: {default['LogFile']})")
    option(
        "--log-level",
        choices=LEVELS,
        help=f"what the log file holds (default: {default['LogLevel']})",
    )
    option("--check", action="store_true", help="check the configuration and exit")
    parser.add_argument("--version", action="version", version=f"videre-server {__version__}")
    return parser


_KEYS = {
    "host": "Host",
    "port": "Port",
    "prefix": "Prefix",
    "workers": "Workers",
    "cert": "Cert",
    "key": "Key",
    "log_file": "LogFile",
    "log_level": "LogLevel",
}


def main(argv: Sequence[str] | None = None, *, default_config: Path | None = None) -> int:
    """Run the command with `argv` (the process's own unless given) and return its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        if argv[:1] == ["token"]:
            return mint.main(argv[1:], default_config=default_config)
        return _serve_command(argv, default_config)
    except ConfigError as error:
        for fault in error.faults:
            print(f"videre-server: {fault}", file=sys.stderr)
        return 2


def _serve_command(argv: Sequence[str], default_config: Path | None) -> int:
    arguments = vars(_parser(default_config).parse_args(argv))
    options: dict[str, tuple[str, Any]] = {
        key: (f"--{name.replace('_', '-')}", arguments[name])
        for name, key in _KEYS.items()
        if arguments[name] is not None
    }
    config = configuration.load(arguments["config"], options)
    context = config.ssl_context()
    if arguments["check"]:
        print("The configuration is good.")
        return 0
    if config.workers > 1:
        return workers.run(config, _listen, lambda own, port: _run(own, context, port))
    return _run(config, context, _listen(config))


def _run(config: Config, context: ssl.SSLContext | None, listening: socket.socket) -> int:
    try:
        end_log = logs.configure(
            config.log_level,
            config.log_file,
            max_bytes=config.log_max_bytes,
            backups=config.log_backups,
        )
    except (OSError, ValueError) as error:
        listening.close()
        raise config.error(
            "LogFile", config.log_file, getattr(error, "strerror", None) or str(error)
        ) from None
    try:
        with asyncio.Runner(loop_factory=speedups.loop_factory()) as runner:
            runner.run(_serve(config, context, listening))
    finally:
        end_log()
    return 0


def _listen(config: Config) -> socket.socket:
    """Return a socket that listens; raises ConfigError where the address cannot be had."""
    try:
        found = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, _, _, _, address = found[0]
        shared = config.workers > 1 and config.worker_ports == "shared"
        listening = socket.create_server(
            address[:2], family=family, backlog=1024, reuse_port=shared
        )
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; connections have it from the listener
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_MS)
        return listening
    except OSError as error:
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            raise config.error("Host", config.host, error.strerror or str(error)) from None
        raise config.error("Port", config.port, error.strerror or str(error)) from None
    except UnicodeError as error:  # a host name that cannot be one
        raise config.error("Host", config.host, str(error)) from None


async def _serve(config: Config, context: ssl.SSLContext | None, listening: socket.socket) -> None:
    journal = logs.Journal(logging.getLogger("videre"), batched=True)
    log = logs.EventLog(journal, "")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _on_signal, stop, log, number)
    log("start", version=__version__, pid=os.getpid())
    app = create_app(config, journal=journal)
    if demo.wanted_locally(config):
        demo.mount(app, config, local=True)
    runner = web.AppRunner(
        app,
        access_log=None,  # a URL holds a session id
        keepalive_timeout=KEEP_ALIVE,
        shutdown_timeout=SHUTDOWN,
        logger=_http_logger(),
    )
    await runner.setup()
    try:
        await web.SockSite(runner, listening, ssl_context=context).start()
        urls = _urls(config, listening)
        log("listen", urls=urls)
        log.flush()
        # One write: print makes two of it when Python's output is unbuffered.
        link = demo.link(config, *listening.getsockname()[:2])
        told = f"Listening on {', '.join(urls)}\n" + (f"Try a call: {link}\n" if link else "")
        sys.stdout.write(told)
        sys.stdout.flush()
        speedups.tune_garbage_collection()
        await stop.wait()
    finally:
        await runner.cleanup()
        log("stop")
        log.flush()


def _on_signal(stop: asyncio.Event, log: logs.EventLog, number: int) -> None:
    if stop.is_set():
        os._exit(0)  # asked twice: at once, whatever is still going on
    log("signal", signal=signal.Signals(number).name)
    stop.set()


def _urls(config: Config, listening: socket.socket) -> list[str]:
    host, port = listening.getsockname()[:2]
    if ":" in host:
        host = f"[{host}]"
    scheme = "https" if config.tls else "http"
    return [f"{scheme}://{host}:{port}{prefix}" for prefix in config.prefixes]


def _http_logger() -> logging.Logger:
    """Return aiohttp's logger, to which a stranger's broken request is one line, no traceback."""
    logger = logging.getLogger("aiohttp.server")

    def shorten(record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            record.exc_info = None
            record.levelno, record.levelname = logging.INFO, "INFO"
        return True

    logger.addFilter(shorten)
    return logger
