"""What the command prints when it listens: its URLs, a link to try, and what is not ready."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from videre import demo
from videre.config import Config

if TYPE_CHECKING:
    from videre.command.lan import Lan


def demo_link(config: Config, listening: Sequence[socket.socket], lan: Lan | None) -> str | None:
    """Return the demo's URL; None if no TCP socket shows a demo.

    It has the address and port of the first one that does or, with `lan`, this machine's address
    in the network.
    """
    if lan is not None:
        return lan.link(listening)
    names = [each.getsockname() for each in listening]
    links = (demo.link(config, *name[:2]) for name in names if isinstance(name, tuple))
    return next((link for link in links if link is not None), None)


def told(
    urls: Iterable[str],
    link: str | None,
    lan: Lan | None,
    admin_url: str | None,
    faults: Sequence[str],
) -> str:
    """Return everything as one text: print makes two writes when Python's output is unbuffered."""
    words = f"Listening on {', '.join(urls)}\n"
    if link is not None:
        words += f"Try a call: {link}\n"
        if lan is not None:
            words += lan.told(link)
    if admin_url is not None:
        words += f"Admin port on {admin_url}\n"
    return words + "".join(f"Not ready: {each}\n" for each in dict.fromkeys(faults))
