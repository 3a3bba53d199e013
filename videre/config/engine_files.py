"""Check what an engine's URL depends on: a package, and the files that the URL names."""

from __future__ import annotations

import importlib.util
import ssl
from pathlib import Path

from videre import engine_url
from videre.settings import MEMORY


def fault(url: str) -> str | None:
    """Return why a valid engine URL cannot work on this machine; None if it can."""
    if url == MEMORY:
        return None
    if importlib.util.find_spec("redis") is None:
        return "needs the package redis: bin/install redis in a clone, else pip install redis"
    options = engine_url.read(url).ssl
    for name in engine_url.FILES:
        if name in options:
            try:
                Path(options[name]).read_bytes()
            except (OSError, ValueError) as error:
                return f"{name}: cannot be read: {getattr(error, 'strerror', None) or error}"
    return _unusable(**{name: options.get(name) for name in engine_url.FILES})


def _unusable(
    *, ssl_ca_certs: str | None, ssl_certfile: str | None, ssl_keyfile: str | None
) -> str | None:
    """Return which of the files OpenSSL rejects, and why; None if none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    name = "ssl_ca_certs"
    try:
        if ssl_ca_certs is not None:
            context.load_verify_locations(ssl_ca_certs)
        if ssl_certfile is not None:
            name = "ssl_certfile and ssl_keyfile"
            context.load_cert_chain(ssl_certfile, ssl_keyfile, password=str)
    except ssl.SSLError as error:
        return f"{name}: not a usable PEM file: {error.reason or error}"
    except OSError as error:  # a file that was removed a moment ago
        return f"{name}: cannot be read: {error.strerror}"
    return None
