"""Checks the options of a client before it opens anything."""

from __future__ import annotations

import math
import unicodedata
from ssl import SSLContext
from typing import Any

from aiohttp import ClientSession

from videre.client import wire
from videre.client.backoff import Backoff

# Characters in a user or room name (protocol.md, 2).
MAX_USER, MAX_ROOM = 128, 256


def wrong_type(option: str, value: object, wanted: str) -> TypeError:
    """Return the TypeError for an option that is not `wanted`, a phrase."""
    return TypeError(f"{option} must be {wanted}, not {type(value).__name__}")


def check(
    *,
    url: Any,
    user: Any,
    room: Any,
    token: Any,
    ssl: Any,
    welcome: Any,
    heartbeat: Any,
    backoff: Any,
    session: Any,
    give_up_after: Any,
    header: Any,
) -> None:
    """Raise TypeError or ValueError for the first invalid option of a Client."""
    if not isinstance(url, str):
        raise wrong_type("url", url, "a string")
    wire.address(url)
    _check_name("user", user, MAX_USER)
    _check_name("room", room, MAX_ROOM)
    if not (token is None or isinstance(token, str) or callable(token)):
        raise wrong_type("token", token, "a string, a function that returns one, or None")
    if not isinstance(welcome, bool):
        raise wrong_type("welcome", welcome, "a bool")
    if not (header is None or callable(header)):
        raise wrong_type("header", header, "a function that returns a dict, or None")
    for option, value, kind, wanted in (
        ("ssl", ssl, SSLContext, "an ssl.SSLContext or None"),
        ("backoff", backoff, Backoff, "a videre.client.Backoff or None"),
        ("session", session, ClientSession, "an aiohttp.ClientSession or None"),
    ):
        if not (value is None or isinstance(value, kind)):
            raise wrong_type(option, value, wanted)
    _check_seconds("heartbeat", heartbeat)
    if heartbeat == 0:
        raise ValueError("heartbeat must be more than 0 seconds, or None for no pings")
    _check_seconds("give_up_after", give_up_after)


def _check_seconds(option: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong_type(option, value, "a number of seconds or None")
    if not (value >= 0 and math.isfinite(value)):
        raise ValueError(f"{option} must be 0 or more seconds, not {value}")


def _check_name(option: str, value: Any, most: int) -> None:
    if not isinstance(value, str):
        raise wrong_type(option, value, "a string")
    if not 1 <= len(value) <= most:
        raise ValueError(f"{option} must have 1 to {most} characters, not {len(value)}")
    if any(unicodedata.category(each) in ("Cc", "Cs") for each in value):
        raise ValueError(f"{option} must have no control characters and no lone surrogates")
