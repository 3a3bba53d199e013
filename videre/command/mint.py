"""The subcommand `token`: mint a token, for tests and for sites without code of their own."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from videre import config as configuration
from videre.auth import TokenAuth, sign
from videre.config import environment
from videre.errors import ConfigError
from videre.packets import MAX_ROOM_ID, MAX_USER_ID


def _name(longest: int) -> Callable[[str], str]:
    def name(text: str) -> str:
        if not 1 <= len(text) <= longest:
            raise argparse.ArgumentTypeError(f"must have 1 to {longest} characters")
        return text

    return name


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < 1e9:
        raise argparse.ArgumentTypeError("must be a number of seconds above 0")
    return seconds


def _members(text: str) -> int:
    members = int(text)
    if members < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return members


def main(argv: Sequence[str], *, default_config: Path | None = None) -> int:
    """Print a token signed with the configuration's first shared secret; return 0.

    The configuration comes from a file and the environment, as for the server. Raises ConfigError
    if it is invalid or has no secret.
    """
    parser = argparse.ArgumentParser(prog="videre-server token", description="Mint a token.")
    parser.add_argument(
        "--user", required=True, type=_name(MAX_USER_ID), help="the UserId it is for"
    )
    parser.add_argument(
        "--room",
        required=True,
        action="append",
        type=_name(MAX_ROOM_ID),
        help="a RoomId, or prefix*; may be repeated",
    )
    parser.add_argument("--ttl", type=_seconds, default=3600, help="seconds (default: 3600)")
    parser.add_argument("--max", type=_members, help="the room's capacity (default: as configured)")
    named = environment.config(os.environ) or default_config
    parser.add_argument("--config", type=Path, default=named, help="the configuration")
    arguments = parser.parse_args(argv)
    config = configuration.load(arguments.config, environment.read(os.environ))
    auth = config.auth
    if not isinstance(auth, TokenAuth) or (key := auth.signing_key) is None:
        source = config.sources.get("Auth", arguments.config or "default")
        raise ConfigError([f"{source}: Auth: a secret is needed to sign with"])
    room = arguments.room[0] if len(arguments.room) == 1 else arguments.room
    claims = {
        name: value
        for name, value in (
            ("max", arguments.max),
            ("iss", auth.issuer),
            ("aud", auth.audience),
        )
        if value is not None
    }
    print(sign(key, arguments.user, room, now=time.time(), ttl=arguments.ttl, **claims))
    return 0
