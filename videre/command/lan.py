"""`--lan`: serve the demo, over TLS, to the networks of this machine, and show the link.

Browsers allow a camera only on https and localhost, so a phone needs a certificate. This module
makes one for the machine's addresses, signed by a small CA of its own.
"""

from __future__ import annotations

import datetime
import io
import ipaddress
import os
import secrets
import socket
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from aiohttp import web

from videre import demo
from videre.command import own_ca
from videre.config import Config
from videre.config.schema import is_loopback
from videre.errors import ConfigError
from videre.transport.forwarded import unmapped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Address = ipaddress.IPv4Interface | ipaddress.IPv6Interface

#: What `--lan` needs besides the server's own dependencies.
MISSING = "--lan needs psutil and segno: run 'bin/install lan', or pip install psutil segno"


def folder(environment: Mapping[str, str]) -> Path:
    """Return where the certificate is kept: `videre/lan` in the user's state directory."""
    state = environment.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "videre" / "lan"


class Lan(NamedTuple):
    """This machine in its networks: its addresses, names and certificate."""

    addresses: tuple[Address, ...]
    names: tuple[str, ...]
    files: own_ca.Files

    def check(self, config: Config) -> None:
        """Raise ConfigError if the demo cannot work in the network with this configuration."""
        faults = []
        if all(is_loopback(host) for host in config.hosts):
            faults.append("--lan: Host is for this machine only: remove it, or use *")
        if config.auth.required:
            faults.append("--lan: the demo has no token, and Auth requires one")
        if "*" not in config.transport.origins:
            faults.append("--lan: Origins does not admit the demo's page")
        if demo.PATH in config.prefixes:
            faults.append(f"--lan: {demo.PATH} is also a Prefix")
        if faults:
            raise ConfigError(faults)

    def shows(self, request: web.Request) -> bool:
        """Tell whether to show the demo: to direct requests from our networks, under our own names.

        Not through a proxy, and not to a page whose name was made to resolve to us (DNS rebinding).
        """
        if not demo.is_direct(request):
            return False
        host = demo.host_of(request).lower()
        try:
            remote = ipaddress.ip_address((request.remote or "").partition("%")[0])
        except ValueError:  # a Unix socket has no address
            return False
        remote = unmapped(remote)
        own = {str(each.ip) for each in self.addresses}
        near = remote.is_loopback or any(remote in each.network for each in self.addresses)
        return near and (host in own or host in self.names)

    def link(self, listening: Sequence[socket.socket]) -> str | None:
        """Return the URL of a fresh room in the demo, for another machine in the network.

        None if no socket listens on one of our addresses.
        """
        for ip in (each.ip for each in self.addresses):
            for port in (each.getsockname()[1] for each in listening if _listens(each, ip)):
                host = f"[{ip}]" if ip.version == 6 else str(ip)
                return f"https://{host}:{port}{demo.PATH}#{secrets.token_urlsafe(16)}"
        return None

    def told(self, link: str) -> str:
        """Return the text for people: the link's QR code, and how to answer the warning."""
        return (
            f"{_qr_code(link)}Open the link here, and on a phone in the same network. Each browser "
            "warns once\nthat it does not trust the certificate: choose 'Advanced', then "
            "'Proceed'. To avoid\nthe warning, install this certificate on the phone:\n"
            f"{self.files.ca}\n"
        )


def prepare(environment: Mapping[str, str]) -> Lan:
    """Return this machine's networks, and a certificate that is valid in them today.

    Raises ConfigError if a package is missing, if the machine is in no network, or if the
    certificate's folder cannot be written.
    """
    addresses = _addresses()
    if not addresses:
        raise ConfigError(["--lan: this machine is not connected to a network"])
    names = _names()
    try:
        place = folder(environment)
    except RuntimeError:  # neither HOME nor an entry in the user database
        raise ConfigError(["--lan: there is no home folder: set XDG_STATE_HOME"]) from None
    try:
        files = own_ca.certificate(
            place,
            addresses=[each.ip for each in addresses],
            names=names,
            now=datetime.datetime.now(datetime.UTC),
        )
    except OSError as error:
        raise ConfigError([f"--lan: {place}: {error.strerror or error}"]) from None
    return Lan(tuple(addresses), names, files)


def _addresses() -> list[Address]:
    """Return the addresses for other machines, IPv4 first, which are easier to type on a phone."""
    try:
        import psutil
        import segno  # noqa: F401 (needed later: report now if it is missing)
    except ImportError:
        raise ConfigError([MISSING]) from None
    states = psutil.net_if_stats()
    found = [
        _interface(each.address.partition("%")[0], each.netmask)
        for card, addresses in psutil.net_if_addrs().items()
        if card not in states or states[card].isup
        for each in addresses
        if each.family in (socket.AF_INET, socket.AF_INET6) and each.netmask
    ]
    usable = [each for each in found if not (each.ip.is_loopback or each.ip.is_link_local)]
    return sorted(usable, key=lambda each: each.version)


def _interface(address: str, mask: str) -> Address:
    """Return an address with its network; `mask` has the form of an address, in IPv6 too."""
    bits = ipaddress.ip_address(mask)
    return ipaddress.ip_interface(f"{address}/{int(bits).bit_count()}")


def _listens(opened: socket.socket, ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Tell whether a listening socket accepts connections to an address of this machine."""
    name = opened.getsockname()
    if not isinstance(name, tuple):  # a Unix socket
        return False
    own = unmapped(ipaddress.ip_address(name[0]))
    if not own.is_unspecified:
        return own == ip
    if own.version == ip.version:
        return True
    # One that systemd passes may serve both families.
    return own.version == 6 and not opened.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)


def _names() -> tuple[str, ...]:
    """Return the machine's names, including its name in multicast DNS."""
    name = socket.gethostname().lower().partition(".")[0]
    names = dict.fromkeys(("localhost", name, f"{name}.local"))
    return tuple(each for each in names if each and each.isascii() and "_" not in each)


def _qr_code(link: str) -> str:
    """Return a link as a QR code for a terminal; "" if standard output is not a terminal."""
    import segno

    if not os.isatty(1):
        return ""
    out = io.StringIO()
    segno.make(link, error="l", micro=False).terminal(out, border=2, compact=True)
    return out.getvalue()


def options(lan: Lan, given: Sequence[str]) -> dict[str, str]:
    """Return the settings that `--lan` implies. Raises ConfigError if an option disagrees."""
    implied = {"Cert": str(lan.files.cert), "Key": str(lan.files.key)}
    if clash := [key for key in implied if key in given]:
        raise ConfigError([f"--lan makes its own certificate: remove --{clash[0].lower()}"])
    return implied
