"""The URL of an engine without its secrets."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlencode

# Parts of a URL's query that are not secret: paths of certificates, and how they are checked.
_SHOWN = re.compile(r"ssl_(?:ca|cert|check|keyfile)\w*|db|protocol")


def without_secrets(url: str) -> str:
    """Return an engine's URL without its user and password.

    Of its query, only parts known not to be secret remain.
    """
    scheme, _, rest = url.partition("://")
    place, _, query = rest.partition("?")
    if "@" in query:  # an unescaped ? in a password, or an @ in a parameter
        return f"{scheme}://***"
    shown = urlencode([pair for pair in parse_qsl(query) if _SHOWN.fullmatch(pair[0])], safe="/")
    return f"{scheme}://{place.rpartition('@')[2]}" + (f"?{shown}" if shown else "")
