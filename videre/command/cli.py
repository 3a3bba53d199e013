"""The command: read the configuration, serve until a signal says stop.

Exit code 0 after a signal, 2 for a configuration that cannot be used.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from videre import config as configuration
from videre import logs
from videre.command import mint, speedups, workers
from videre.command.certificates import Certificates
from videre.command.listening import Ports, listen
from videre.command.server import CHANGES, Load, serve
from videre.config import Config, environment
from videre.config.schema import SCHEMA
from videre.errors import ConfigError
from videre.settings import LEVELS
from videre.version import __version__


def _parser(default_config: Path | None) -> argparse.ArgumentParser:
    default = {key: rules.get("default") for key, rules in SCHEMA.items()}
    parser = argparse.ArgumentParser(
        prog="videre-server",
        description="A WebRTC signalling server. Options beat variables of the environment "
        "(VIDERE_PORT), which beat the configuration file, which beats the defaults.",
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
        default=environment.config(os.environ) or default_config,
        metavar="FILE",
        help=f"the configuration, JSON; or {environment.CONFIG} names it "
        f"(default: {default_config or 'none'})",
    )
    option(
        "--workers",
        type=int,
        metavar="N",
        help="so many processes, for which Engine must be a Redis or Valkey "
        f"(default: {default['Workers']})",
    )
    option(
        "--admin-host",
        metavar="ADDRESS",
        help=f"the admin port's address (default: {default['AdminHost']})",
    )
    option(
        "--admin-port",
        type=int,
        metavar="N",
        help="metrics, the status page and the API; 0 picks a free one (default: none)",
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
    "admin_host": "AdminHost",
    "admin_port": "AdminPort",
    "cert": "Cert",
    "key": "Key",
    "log_file": "LogFile",
    "log_level": "LogLevel",
}


def main(argv: Sequence[str] | None = None, *, default_config: Path | None = None) -> int:
    """Run the command with `argv` (the process's own unless given) and return its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    for sentence in environment.slips(os.environ):
        print(f"videre-server: {sentence}", file=sys.stderr)
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
    variables = environment.read(os.environ)
    if "Cert" in options or "Key" in options:
        variables.pop("TLS", None)  # the option says that a certificate is to be used

    def load() -> Config:
        return configuration.load(arguments["config"], {**variables, **options})

    config = load()
    certificates = Certificates(config)
    if arguments["check"]:
        print("The configuration is good.")
        return 0
    signal.pthread_sigmask(signal.SIG_BLOCK, CHANGES)
    if config.workers > 1:
        return workers.run(config, listen, lambda own, ports: _run(own, certificates, ports, load))
    return _run(config, certificates, listen(config), load)


def _run(config: Config, certificates: Certificates, ports: Ports, load: Load) -> int:
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

    async def serve_to_the_end() -> None:
        try:
            await serve(config, certificates, ports, log, load)
        finally:
            # The loop gives its handlers up next: a late signal shall not end us with its number.
            signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))

    try:
        with asyncio.Runner(loop_factory=speedups.loop_factory()) as runner:
            runner.run(serve_to_the_end())
    finally:
        log.end()
    return 0
