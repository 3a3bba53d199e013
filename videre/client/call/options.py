"""Checks the options of a call that its Client does not have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from videre.client.call.servers import usable
from videre.client.call.values import MAX_SIZE
from videre.client.options import wrong_type

KINDS = ("audio", "video")


def kinds(value: Any) -> frozenset[str]:
    """Return the kinds of media; raise TypeError or ValueError if invalid."""
    if not isinstance(value, Iterable) or isinstance(value, str | bytes):
        raise wrong_type("receive", value, "a collection of 'audio' and 'video'")
    found = frozenset(value)
    if wrong := found - set(KINDS):
        raise ValueError(f"receive may hold 'audio' and 'video', not {sorted(map(repr, wrong))}")
    return found


def size(value: Any) -> int:
    """Return the size limit of values in bytes; raise TypeError or ValueError if invalid."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong_type("max_bytes", value, "an int")
    if not 0 < value <= MAX_SIZE:
        raise ValueError(f"max_bytes must be 1 to {MAX_SIZE}, not {value}")
    return value


def servers(value: Any) -> list[Mapping[str, Any]]:
    """Return the ICE servers; raise TypeError or ValueError if invalid."""
    if not isinstance(value, Iterable) or isinstance(value, str | bytes | Mapping):
        raise wrong_type("ice_servers", value, "a list of dicts")
    found = list(value)
    for server in found:
        urls = server.get("urls") if isinstance(server, Mapping) else None
        texts = [urls] if isinstance(urls, str) else urls
        if not isinstance(texts, list) or not all(isinstance(each, str) for each in texts):
            raise TypeError("ice_servers must hold dicts with 'urls', a string or a list of them")
        usable([server], strict=True)
    return found
