"""The URL of an engine as people may see it."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlencode

# Parts of a URL's query that hold no secret: where the certificates are, and how they are judged.
_SHOWN = re.compile(r"ssl_(?:ca|cert|check|keyfile)\w*|db|protocol")


def without_secrets(url: str) -> str:
    """Return an engine's URL without its user and password.

    Of its query remains what is known to hold no secret.
    """
    scheme, _, rest = url.partition("://")
    place, _, query = rest.partition("?")
    if "@" in query:  # an unescaped ? in a password, or an @ in a parameter
        return f"{scheme}://***"
    shown = urlencode([pair for pair in parse_qsl(query) if _SHOWN.fullmatch(pair[0])], safe="/")
    return f"{scheme}://{place.rpartition('@')[2]}" + (f"?{shown}" if shown else "")
