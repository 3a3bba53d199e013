"""The command line: read the configuration, then serve until a signal stops us.

Exits with 0 after a signal, with 2 if the configuration is unusable, and with 130 after a Ctrl-C
that comes before the server handles signals.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videre import config as configuration
from videre import logs
from videre.command import mint, signals, speedups, streams, workers
from videre.command.certificates import Certificates
from videre.command.listening import Ports, listen
from videre.command.reloading import Load, Newest
from videre.command.server import serve
from videre.config import Config, environment
from videre.config.schema import SCHEMA
from videre.engine_url import without_secrets
from videre.engines import choice
from videre.errors import ConfigError
from videre.settings import LEVELS
from videre.version import __version__

if TYPE_CHECKING:
    from videre.command.lan import Lan

# Seconds for the event loop to close once the server has stopped. It waits for its threads, and the
# look-up of a name that no DNS server answers, or a file on a dead server, can hold up one of them.
CLOSING = 1.0

#: The settings that are also options: their help, and arguments for argparse.
OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "Host": ("address to listen on; * is IPv4 and IPv6", {"metavar": "ADDRESS"}),
    "Port": ("TCP port; 0 picks a free one", {"type": int, "metavar": "N"}),
    "Prefix": ("serve below this path; may be repeated", {"action": "append", "metavar": "PATH"}),
    "Workers": (
        "number of processes; more than one needs a Redis or Valkey as Engine",
        {"type": int, "metavar": "N"},
    ),
    "AdminHost": ("the admin port's address", {"metavar": "ADDRESS"}),
    "AdminPort": (
        "metrics, the status page and the API; 0 picks a free one",
        {"type": int, "metavar": "N"},
    ),
    "Cert": ("serve TLS with this certificate", {"metavar": "FILE"}),
    "Key": ("the certificate's key", {"metavar": "FILE"}),
    "LogFile": ("file for JSON lines", {"metavar": "FILE"}),
    "LogLevel": ("log events of this level and above", {"choices": LEVELS}),
}


def _option(key: str) -> str:
    """Return the option for a key: `--admin-port` for `AdminPort`."""
    return "--" + "-".join(environment.words(key)).lower()


def _parser(default_config: Path | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="videre-server",
        description="A WebRTC signalling server. Options override environment variables "
        "(VIDERE_PORT), which override the configuration file, which overrides the defaults.",
        epilog="videre-server token --help explains how to mint a token.",
    )
    for key, (help_, rest) in OPTIONS.items():
        default = SCHEMA[key]["default"]
        text = f"{help_} (default: {'none' if default is None else default})"
        parser.add_argument(_option(key), help=text.replace("%", "%%"), **rest)
    parser.add_argument(
        "--config",
        type=Path,
        default=environment.config(os.environ) or default_config,
        metavar="FILE",
        help=f"the configuration, a JSON file; {environment.CONFIG} may name it instead "
        f"(default: {default_config or 'none'})".replace("%", "%%"),
    )
    parser.add_argument(
        "--lan",
        action="store_true",
        help="show the demo to this machine's networks, over TLS with a certificate made for it",
    )
    parser.add_argument("--check", action="store_true", help="check the configuration and exit")
    parser.add_argument(
        "--connect", action="store_true", help="let the check connect to the Engine too"
    )
    parser.add_argument("--version", action="version", version=f"videre-server {__version__}")
    return parser


def main(argv: Sequence[str] | None = None, *, default_config: Path | None = None) -> int:
    """Run the command with `argv` (by default sys.argv's arguments) and return its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    streams.fill()
    streams.complain(*environment.slips(os.environ))
    try:
        if argv[:1] == ["token"]:
            return mint.main(argv[1:], default_config=default_config)
        return _serve_command(argv, default_config)
    except ConfigError as error:
        streams.complain(*error.faults)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _serve_command(argv: Sequence[str], default_config: Path | None) -> int:
    parser = _parser(default_config)
    arguments = vars(parser.parse_args(argv))
    if arguments["connect"] and not arguments["check"]:
        parser.error("--connect requires --check")
    signals.hold(signals.CHANGES)
    options: dict[str, tuple[str, Any]] = {
        key: (_option(key), value)
        for key in OPTIONS
        if (value := arguments[_option(key)[2:].replace("-", "_")]) is not None
    }
    variables = environment.read(os.environ)
    lan = _lan(options) if arguments["lan"] else None
    if "Cert" in options or "Key" in options:
        variables.pop("TLS", None)  # the option implies TLS

    def load() -> Config:
        return configuration.load(arguments["config"], {**variables, **options})

    config = load()
    if lan is not None:
        lan.check(config)
    certificates = Certificates(config)
    complaints = config.complaints()
    if arguments["connect"]:
        complaints = [*complaints, *_refusals(config)]
    streams.complain(*complaints)
    if arguments["check"]:
        if complaints:
            return 2
        streams.tell("The configuration is good.\n")
        return 0
    if config.workers > 1:
        newest = Newest(load, certificates)
        return workers.run(
            config,
            listen,
            lambda own, ports: _run(own, certificates, ports, load, lan, newest.config),
            newest.reload,
        )
    return _run(config, certificates, listen(config), load, lan)


def _lan(options: dict[str, tuple[str, Any]]) -> Lan:
    """Prepare `--lan`, and add the settings that it implies to the options."""
    from videre.command import lan  # it imports what makes a certificate, which few need

    prepared = lan.prepare(os.environ)
    implied = lan.options(prepared, tuple(options))
    options.update({key: ("--lan", value) for key, value in implied.items()})
    return prepared


def _refusals(config: Config) -> list[str]:
    """Try to connect to each prefix's engine; return the errors."""

    async def reasons() -> list[str]:
        namespaces = [prefix.rstrip("/") for prefix in config.prefixes]
        url, timeout = config.engine, config.node_timeout
        return await asyncio.gather(*(choice.attempt(url, each, timeout) for each in namespaces))

    where = without_secrets(config.engine)
    return [
        fault
        for reason in dict.fromkeys(asyncio.run(reasons()))
        if reason
        for fault in config.error("Engine", where, f"cannot be used: {reason}").faults
    ]


def _run(
    config: Config,
    certificates: Certificates,
    ports: Ports,
    load: Load,
    lan: Lan | None,
    newest: Config | None = None,
) -> int:
    try:
        log = logs.Logging(
            config.log_level,
            config.log_file,
            form=config.log_format,
            max_bytes=config.log_max_bytes,
            backups=config.log_backups,
        )
    except (OSError, ValueError) as error:
        ports.close()
        raise config.error(
            "LogFile", config.log_file, getattr(error, "strerror", None) or str(error)
        ) from None

    leaving = _leaving(log)

    async def serve_to_the_end() -> None:
        try:
            await serve(config, certificates, ports, log, load, lan, newest)
            leaving.start()
        finally:
            # The loop removes its handlers next; a late signal would then kill us.
            signals.hold((signal.SIGTERM, signal.SIGINT, *signals.CHANGES))

    try:
        with asyncio.Runner(loop_factory=speedups.loop_factory()) as runner:
            runner.run(serve_to_the_end())
    finally:
        leaving.cancel()
        log.end()
    return 0


def _leaving(log: logs.Logging) -> threading.Timer:
    """Return a timer that, once started, ends the process after CLOSING seconds."""

    def leave() -> None:
        log.end()
        os._exit(0)

    timer = threading.Timer(CLOSING, leave)
    timer.daemon = True
    return timer
