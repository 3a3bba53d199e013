"""Read and check the URL of an engine.

A fault repeats no part of the URL that may be a secret.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Callable
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote, urlencode

from videre.settings import MEMORY

#: What a URL leads to: one server, a cluster, Sentinels that know the server, or a Unix socket.
Kind = Literal["server", "cluster", "sentinel", "unix"]

#: The schemes, each with whether it means TLS.
SCHEMES = {"redis": False, "rediss": True, "valkey": False, "valkeys": True}
KINDS: dict[str, Kind] = {"": "server", "cluster": "cluster", "sentinel": "sentinel"}

# The longest path of a Unix socket, in bytes; see unix(7).
MAX_SOCKET = 107

# The default ports of servers and Sentinels.
SERVER_PORT, SENTINEL_PORT = 6379, 26379

_FORMS = (
    "must be memory://, redis://host:port, redis+cluster://host:port,host:port, "
    "redis+sentinel://host:port,host:port/service (each with rediss for TLS), or unix:///path"
)
_SCHEME = re.compile(r"([a-z]+)(?:\+([a-z]+))?://(.*)", re.DOTALL)
_NAME = re.compile(r"[A-Za-z0-9._-]+")
# A host's name: labels of up to 63 characters, of which others cannot even be looked up.
_HOST = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")
_DIGITS = re.compile(r"\d{1,9}", re.ASCII)
_HALF_ENCODED = re.compile(r"%(?![0-9A-Fa-f]{2})")
# Characters that end a login, or that other readers of the URL interpret differently.
_RESERVED = re.compile(r"[/?#\[\]@\s\x00-\x1f\x7f]")

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


def _boolean(text: str) -> bool:
    values = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    return values[text.lower()]  # KeyError for anything else


def _cert_reqs(text: str) -> str:
    return {each: each for each in ("required", "optional", "none")}[text.lower()]


def _database(text: str) -> int:
    return int(_whole(_DIGITS, text))


def _text(text: str) -> str:
    return _whole(re.compile(r".+", re.DOTALL), text)


#: The options, each with its parser and a description of its values. The first five are redis-py's.
OPTIONS: dict[str, tuple[Callable[[str], Any], str]] = {
    "ssl_ca_certs": (_text, "a file"),
    "ssl_certfile": (_text, "a file"),
    "ssl_keyfile": (_text, "a file"),
    "ssl_cert_reqs": (_cert_reqs, "required, optional or none"),
    "ssl_check_hostname": (_boolean, "true or false"),
    "db": (_database, "a number"),
    "sentinel_username": (_text, "a name"),
    "sentinel_password": (_text, "a password"),
    "sentinel_tls": (_boolean, "true or false"),
}
#: The options that name files.
FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EngineURL:
    """The decoded URL of a Redis or Valkey."""

    kind: Kind
    tls: bool = False
    servers: tuple[tuple[str, int], ...] = ()  # host without brackets, port; () for a Unix socket
    path: str = ""  # of a Unix socket
    service: str = ""  # the server's name in the Sentinels
    database: int = 0
    username: str | None = dataclasses.field(default=None, repr=False)
    password: str | None = dataclasses.field(default=None, repr=False)
    #: The ssl_... options of redis-py.
    ssl: dict[str, Any] = dataclasses.field(default_factory=dict)
    #: The login of the Sentinels; None: the server's, if they require one.
    sentinel_login: tuple[str | None, str] | None = dataclasses.field(default=None, repr=False)
    sentinel_tls: bool = False


def shown(url: str) -> str:
    """Return a URL for a fault: whole, unless a part of it may be a secret."""
    scheme, mark, rest = url.partition("://")
    if not re.search(r"[:@?#=]", rest if mark else url):
        return url
    return f"{scheme}://..." if mark and re.fullmatch(r"[a-z+]{1,20}", scheme) else "..."


def fault(url: str) -> str | None:
    """Return what is wrong with an engine's URL; None if it is valid."""
    try:
        if url != MEMORY:
            read(url)
    except ValueError as error:
        return str(error)
    return None


def read(url: str) -> EngineURL:
    """Parse any URL but memory://; raises ValueError with an explanation."""
    parts = _SCHEME.fullmatch(url)
    if parts is None:
        raise ValueError(_FORMS)
    scheme, kind, rest = parts[1], parts[2] or "", parts[3]
    unix = (scheme, kind) == ("unix", "")
    if not unix and (scheme not in SCHEMES or kind not in KINDS):
        raise ValueError(_FORMS)
    login, at, rest = _login(rest)
    where, asked, query = rest.partition("?")
    servers, slash, path = where.partition("/")
    tls = SCHEMES.get(scheme, False)
    if unix:
        found = EngineURL(kind="unix", path=_socket(servers, slash + path))
    elif kind == "sentinel":
        service, database = _service(path)
        addresses = _servers(servers, SENTINEL_PORT)
        found = EngineURL(
            kind="sentinel", tls=tls, servers=addresses, service=service, database=database
        )
    else:
        addresses = _servers(servers, SERVER_PORT)
        found = EngineURL(
            kind=KINDS[kind], tls=tls, servers=addresses, database=_path_database(path)
        )
    if at:
        found = dataclasses.replace(found, **_user_and_password(login))
    return _checked(_with_options(found, _options(query) if asked else {}))


def _login(rest: str) -> tuple[str, str, str]:
    """Return a URL's login, the `@` after it, and the rest; "" for no login."""
    login, at, rest = rest.rpartition("@")
    if (reserved := _RESERVED.search(login)) is not None:
        code = "".join(f"%{byte:02X}" for byte in reserved[0].encode())
        shown = reserved[0] if reserved[0].isprintable() and reserved[0] != " " else "white space"
        raise ValueError(f"percent-encode {shown} in the user, the password or an option as {code}")
    if "#" in rest:
        raise ValueError("must have no #; in a password or an option it is %23")
    if re.search(r"[\s\x00-\x1f\x7f]", rest):
        raise ValueError("must have no white space")
    return login, at, rest


def _user_and_password(login: str) -> dict[str, Any]:
    """Return the fields of a login; an empty one, `:@`, as templates leave it, counts as none."""
    user, _, password = login.partition(":")
    if user and not password:
        raise ValueError("has a user without a password; a login is user:password@ or :password@")
    parts = {"username": (user, "the user"), "password": (password, "the password")}
    return {name: _decoded(text, where) for name, (text, where) in parts.items() if text}


def _decoded(text: str, where: str) -> str:
    if _HALF_ENCODED.search(text):
        raise ValueError(f"percent-encode % in {where} as %25")
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ValueError(f"{where} must be UTF-8, percent-encoded") from None


def _servers(text: str, port: int) -> tuple[tuple[str, int], ...]:
    return tuple(_server(each, port) for each in text.split(","))


def _server(text: str, port: int) -> tuple[str, int]:
    bracketed = re.fullmatch(r"\[([^\[\]]*)\](?::(.*))?", text)
    host, _, number = text.partition(":") if bracketed is None else (bracketed[1], "", "")
    number = (bracketed[2] or "") if bracketed is not None else number
    if bracketed is None and re.fullmatch(r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*", text):
        raise ValueError("an IPv6 address needs brackets, as [::1]:6379")
    if not host:
        raise ValueError("names no host; a login ends with @, as in redis://:password@host:6379")
    if bracketed is not None:
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise ValueError("has no IPv6 address in the brackets") from None
    elif not _HOST.fullmatch(host):
        raise ValueError("has a host that is neither a name nor an address")
    if text.endswith(":"):
        raise ValueError("has a : without a port after it")
    if number and (not _DIGITS.fullmatch(number) or not 0 < int(number) < 65536):
        raise ValueError("a port must be a number from 1 to 65535")
    return host, int(number) if number else port


def _service(path: str) -> tuple[str, int]:
    service, _, database = path.removesuffix("/").partition("/")
    if not _NAME.fullmatch(service):
        raise ValueError("must end with the service's name, as /mymaster")
    return service, _path_database(database)


def _path_database(path: str) -> int:
    path = path.removesuffix("/")
    if path and not _DIGITS.fullmatch(path):
        raise ValueError("the part after the last / must be the number of a database")
    return int(path or 0)


def _socket(host: str, path: str) -> str:
    if host or not path.strip("/"):
        raise ValueError("a Unix socket needs three slashes and a path, as unix:///run/valkey.sock")
    found = _decoded(path, "the path")
    if len(found.encode()) > MAX_SOCKET or "\0" in found:
        raise ValueError(f"a Unix socket's path has at most {MAX_SOCKET} bytes, none of them zero")
    return found


def _options(query: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for each in query.split("&"):
        name, _, text = each.partition("=")
        if name not in OPTIONS:
            shown = f" {name}" if re.fullmatch(r"[a-z_]{1,40}", name) else ""
            known = ", ".join(OPTIONS)
            raise ValueError(f"has an unknown option{shown}; known are: {known}")
        if name in found:
            raise ValueError(f"has the option {name} twice")
        parse, words = OPTIONS[name]
        try:
            found[name] = parse(_decoded(text, f"the option {name}"))
        except KeyError:
            raise ValueError(f"the option {name} must be {words}") from None
    return found


def _with_options(url: EngineURL, options: dict[str, Any]) -> EngineURL:
    """Return a URL with its options; raises ValueError for options that do not apply to it."""
    sentinel_tls = options.pop("sentinel_tls", None)
    password = options.pop("sentinel_password", None)
    username = options.pop("sentinel_username", None)
    if url.kind != "sentinel" and not (sentinel_tls is password is username is None):
        raise ValueError("options of Sentinels need redis+sentinel://")
    if username is not None and password is None:
        raise ValueError("sentinel_username needs sentinel_password")
    if "db" in options:
        if url.database:
            raise ValueError("names the database twice")
        url = dataclasses.replace(url, database=options.pop("db"))
    found = dataclasses.replace(
        url,
        ssl=options,
        sentinel_tls=url.tls if sentinel_tls is None else sentinel_tls,
        sentinel_login=None if password is None else (username, password),
    )
    if options and not (found.tls or found.sentinel_tls):
        raise ValueError("options of TLS (ssl_...) need rediss://")
    return found


def _checked(url: EngineURL) -> EngineURL:
    """Return a URL; raises ValueError if its parts contradict each other."""
    if url.kind == "server" and len(url.servers) > 1:
        raise ValueError("names several servers, which only +cluster and +sentinel may have")
    if url.kind == "cluster" and url.database:
        raise ValueError("a cluster has no database but 0")
    if ("ssl_keyfile" in url.ssl) and ("ssl_certfile" not in url.ssl):
        raise ValueError("ssl_keyfile needs ssl_certfile")
    return url


def _whole(pattern: re.Pattern[str], text: str) -> str:
    if not pattern.fullmatch(text):
        raise KeyError(text)
    return text
