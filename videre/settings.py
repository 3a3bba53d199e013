"""Every setting in one place: its default, unit, bounds, key and meaning.

The fields below define the cerberus schema, `Config`, the environment variables, the keys that
SIGHUP reloads and the table in docs/configuration.md. To add a setting, add a field. The settings
that are also command-line options are listed in command/cli.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from pathlib import Path

#: If a user id joins a room that it is already in: replace the old seat, or reject the newcomer.
Duplicate = Literal["replace", "reject"]

#: Whether workers have a port each (consecutive numbers) or share one.
WorkerPorts = Literal["each", "shared"]

#: The format of lines on the terminal.
Form = Literal["text", "json"]

#: The log's levels, most verbose first.
LEVELS = ("debug", "info", "warning", "error")

#: The URL of the engine that keeps rooms in this process.
MEMORY = "memory://"

#: Seconds that a seat outlives its token, so that the client can fetch a fresh one.
LEEWAY = 60.0

#: The current sockjs-client. It refuses an iframe page that loads another version than its own
#: ("Incompatible SockJS!"); a site that uses another version must set its URL.
SOCKJS_URL = "https://cdn.jsdelivr.net/npm/sockjs-client@1.6.1/dist/sockjs.min.js"

#: Its Subresource Integrity hash, computed from the npm package, so that the CDN cannot run other
#: scripts in our origin.
SOCKJS_INTEGRITY = "sha384-svdnwiXBL+Js+yUneJSRFy24NgGiOfDM/vkQl/vCeVrcbYD6yW8EwPr1FnxTEZsR"


#: The largest number of a setting without a bound of its own: every reader of JSON keeps it, and no
#: clock, timer or counter overflows.
LARGEST = 2**53 - 1

#: The first release.
FIRST = "0.1"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """The metadata of a setting: everything but its default."""

    key: str  # its name in conf.json
    meaning: str  # a sentence for docs/configuration.md, in Markdown
    rules: Mapping[str, Any]  # cerberus rules; `check_with` names a function in config/checks.py
    unit: str = ""
    reloaded: bool = False  # whether SIGHUP changes it; all others need a restart
    shown: str | None = None  # the default in docs/configuration.md, if not as JSON
    since: str = FIRST  # the release that brought it


def setting(
    default: Any,
    key: str,
    meaning: str,
    *,
    unit: str = "",
    reloaded: bool = False,
    shown: str | None = None,
    since: str = FIRST,
    repr: bool = True,
    **rules: Any,
) -> Any:
    """Return a dataclass field for a setting; `rules` are cerberus' rules without the default.

    A number is finite and at most LARGEST, unless its rules say otherwise.
    """
    if rules.get("type") in ("integer", "number"):
        rules = {"max": LARGEST, "check_with": "finite", **rules}
    known = Setting(
        key=key,
        meaning=meaning,
        rules=rules,
        unit=unit,
        reloaded=reloaded,
        shown=shown,
        since=since,
    )
    return dataclasses.field(default=default, repr=repr, metadata={"setting": known})


def of(*classes: type) -> dict[str, tuple[dataclasses.Field[Any], Setting]]:
    """Return the settings among the fields of `classes`, by key, in order of definition."""
    return {
        field.metadata["setting"].key: (field, field.metadata["setting"])
        for each in classes
        for field in dataclasses.fields(each)
        if "setting" in field.metadata
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Process:
    """Settings of the process: listeners, TLS, the log, workers and the engine."""

    host: str | tuple[str, ...] = setting(
        "0.0.0.0",  # noqa: S104
        "Host",
        'address to listen on, or a list of them. `"*"` or `"::"` stands for all addresses, IPv4 '
        'and IPv6, a name for all of its addresses; `"unix:/run/videre.sock"` is a Unix socket, '
        "without `Port`",
        check_with="hosts",
    )
    port: int = setting(
        1111,
        "Port",
        "TCP port; 0 picks a free one and prints it",
        type="integer",
        min=0,
        max=65535,
    )
    prefixes: tuple[str, ...] = setting(
        ("/echo",),
        "Prefix",
        "path, or list of paths. Each is a namespace: two prefixes never share a room",
        shown='`"/echo"`',
        check_with="prefixes",
    )
    tls: bool = setting(
        False, "TLS", "serve https and wss (TLS 1.2 or newer) with `Cert` and `Key`", type="boolean"
    )
    cert: Path | None = setting(
        None,
        "Cert",
        "PEM file: the certificate with its chain",
        reloaded=True,
        type="string",
        nullable=True,
    )
    key: Path | None = setting(
        None,
        "Key",
        "PEM file: the certificate's key, not encrypted",
        reloaded=True,
        type="string",
        nullable=True,
    )
    log_file: Path | None = setting(
        None,
        "LogFile",
        "file for JSON lines, one per event; `null`: everything goes to standard output. The "
        'shipped conf.json sets `"../log/debug.log"`',
        type="string",
        nullable=True,
        minlength=1,
    )
    log_level: str = setting(
        "info",
        "LogLevel",
        "`debug` adds each packet's header and size. The shipped conf.json sets `debug`",
        reloaded=True,
        type="string",
        allowed=list(LEVELS),
    )
    log_format: Form = setting(
        "text",
        "LogFormat",
        "format of lines outside the file: `text` for people, or `json`",
        type="string",
        allowed=list(get_args(Form)),
    )
    log_max_bytes: int = setting(
        10 * 1024 * 1024,
        "LogMaxBytes",
        "size at which the log file is rotated; 0: never",
        unit="bytes",
        shown="10 MiB",
        type="integer",
        min=0,
    )
    log_backups: int = setting(
        5, "LogBackups", "rotated files to keep", type="integer", min=0, max=1000
    )
    drain_seconds: float = setting(
        30.0,
        "DrainSeconds",
        "how long clients are served after SIGTERM while they move to another server; 0: not "
        "at all",
        unit="seconds",
        reloaded=True,
        type="number",
        min=0,
    )
    duplicate: Duplicate = setting(
        "replace",
        "Duplicate",
        "when a user id joins a room that it is already in: `replace` the old seat, or "
        "`reject` the newcomer",
        reloaded=True,
        type="string",
        allowed=list(get_args(Duplicate)),
    )
    engine: str = setting(
        MEMORY,
        "Engine",
        "where the rooms are kept. Several servers need a Valkey or Redis, see "
        "[cluster.md](cluster.md)",
        shown='`"memory://"`: this process',
        repr=False,  # it may contain a password
        type="string",
        check_with="engine",
    )
    node_timeout: float = setting(
        10.0,
        "NodeTimeout",
        "time after which the others declare an unresponsive server dead",
        unit="seconds",
        type="number",
        min=1,
    )
    workers: int = setting(
        1,
        "Workers",
        "number of processes; more than one needs a Valkey or Redis as `Engine`",
        type="integer",
        min=1,
        max=256,
    )
    worker_ports: WorkerPorts = setting(
        "each",
        "WorkerPorts",
        "`each`: every worker has its own port, from `Port` up; `shared`: one port for all, "
        "for WebSockets only",
        type="string",
        allowed=list(get_args(WorkerPorts)),
    )
    proxy_protocol: bool = setting(
        False,
        "ProxyProtocol",
        "each connection of one of the `TrustedProxies` must begin with the PROXY protocol "
        "(version 1 or 2), which names its client: [proxy.md](proxy.md)",
        type="boolean",
    )
    keep_alive: float = setting(
        75.0,
        "KeepAlive",
        "how long an idle connection waits for its next request. Set it longer than the "
        "proxy's own limit (60 for most, 600 for Google's load balancer); otherwise the "
        "proxy's next request may be lost",
        unit="seconds",
        type="number",
        min=1,
        max=86400,
    )
    max_sockets: int | None = setting(
        None,
        "MaxSockets",
        "TCP connections of one process, including sessions; more are refused. The command "
        "raises its limit of open files as far as it may, and reserves 200 of them (a quarter, if "
        "that is less); `sockets` in the log line `start` is the rest",
        reloaded=True,
        shown="`null`: what the limit of open files allows",
        type="integer",
        nullable=True,
        min=16,
    )
    max_sockets_per_address: int | None = setting(
        None,
        "MaxSocketsPerAddress",
        "TCP connections of one IPv4 address or IPv6 /64; no limit for `TrustedProxies`",
        reloaded=True,
        shown="`null`: six for each of `MaxConnectionsPerAddress`, at least 32; else no limit",
        type="integer",
        nullable=True,
        min=1,
    )
    admin_port: int | None = setting(
        None,
        "AdminPort",
        "separate port for [metrics, the status page and the API](operations.md#admin-port)",
        type="integer",
        nullable=True,
        min=0,
        max=65535,
    )
    admin_host: str = setting(
        "127.0.0.1",
        "AdminHost",
        "address of the admin port; one that others can reach needs a token",
        type="string",
        minlength=1,
        check_with="tcp_host",
    )
    demo: bool | None = setting(
        None,
        "Demo",
        "a page that makes calls, at `/demo`: `true` for everybody, `false` for nobody. By "
        "default the command shows it to browsers on its own machine, if it listens there and"
        " admits any page without a token; an application (`create_app`) serves it only with "
        "`true`",
        shown="`null`: for this machine",
        type="boolean",
        nullable=True,
    )
    front_page: bool = setting(
        True,
        "FrontPage",
        "show at `GET /` what runs here: the version, the prefixes and the browser client; as a "
        "page for browsers, as JSON for programs",
        type="boolean",
    )
    client_module: bool = setting(
        True,
        "ClientModule",
        "serve the [browser client](browser.md) below each prefix, for example as "
        "`/echo/videre.js`, to the pages that `Origins` allows",
        type="boolean",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of a namespace's rooms and sessions. None switches a limit off."""

    # Off: no one capacity suits every mesh.
    room_capacity: int | None = setting(
        None,
        "RoomCapacity",
        "members of a room (2 for classic calls); further joins are refused with `room-full`",
        reloaded=True,
        type="integer",
        nullable=True,
        min=1,
    )
    # Off: the limit of connections also bounds the number of rooms.
    max_rooms: int | None = setting(
        None,
        "MaxRooms",
        "rooms at a time; a join that would open another is refused with `room-full`",
        reloaded=True,
        type="integer",
        nullable=True,
        min=1,
    )
    # A call starts with an offer and up to 40 candidates per peer: in a mesh of eight 7 x 41 = 287
    # packets at once. The burst leaves room for retries.
    packets_per_second: float | None = setting(
        50,
        "PacketsPerSecond",
        "packets per second of one session; pings count separately. The excess is dropped "
        "(`rate-limited`); a session that does not slow down is closed (4003)",
        reloaded=True,
        type="number",
        nullable=True,
        min=0.001,
    )
    packet_burst: int = setting(
        400,
        "PacketBurst",
        "packets that a session may send at once. An offer and 40 candidates to each of seven"
        " peers are 287",
        reloaded=True,
        type="integer",
        min=1,
    )
    # The same start is 7 x (6,000 + 40 x 300) = 126,000 bytes, a quarter of the burst. The burst is
    # half of MaxBacklogBytes.
    bytes_per_second: float | None = setting(
        64 * 1024,
        "BytesPerSecond",
        "bytes per second that a session may cause: its packets, answers that grow with its "
        "room, and its packet once more for every eight receivers after the first eight. The "
        "excess is dropped (`rate-limited`); a session that does not slow down is closed (4003)",
        unit="bytes",
        reloaded=True,
        shown="64 KiB",
        type="number",
        nullable=True,
        min=0.001,
    )
    byte_burst: int = setting(
        512 * 1024,
        "ByteBurst",
        "bytes that a session may cause at once. An offer of 6 KB and 40 candidates of 300 "
        "bytes to each of seven peers are 126,000. `--check` complains if it exceeds "
        "`MaxBacklogBytes`, because one member could then get others closed",
        unit="bytes",
        reloaded=True,
        shown="512 KiB",
        type="integer",
        min=1,
    )
    # The original's client connects first and joins once its user has allowed the camera, which may
    # take a minute or two. A waiting connection counts against its address and holds a few KB.
    join_timeout: float | None = setting(
        120.0,
        "JoinTimeout",
        "time in which a session must enter a room; otherwise it is closed (4004)",
        unit="seconds",
        reloaded=True,
        type="number",
        nullable=True,
        min=0.001,
    )
    # A phone changes networks in less time, and people do not wait much longer for a lost peer.
    grace: float = setting(
        20.0,
        "Grace",
        "how long the seat of a lost connection is kept, if the client asked for a welcome; "
        "0: not at all",
        unit="seconds",
        type="number",
        min=0,
    )
    # An office behind one address, or a proxy missing from TrustedProxies, loses all connections at
    # once and then reconnects. 1000 seats are more than most have, and take about 4 MB, each in a
    # room of its own. What their rooms keep for them is bounded apart: engines/histories.py.
    max_lost_seats_per_address: int | None = setting(
        1000,
        "MaxLostSeatsPerAddress",
        "lost seats that are kept for one IPv4 address or IPv6 /64, if "
        "`MaxConnectionsPerAddress` sets no limit; beyond that, the seat lost first is given "
        "up",
        reloaded=True,
        type="integer",
        nullable=True,
        min=1,
    )
    # The start of a call in a mesh of six is 40 KB.
    max_resume_bytes: int | None = setting(
        256 * 1024,
        "MaxResumeBytes",
        "memory per room for packets that lost clients missed; a client that missed more "
        "joins as new. With `memory://`, all rooms of a prefix may take 64 MiB together; beyond "
        "that, those that take the most drop their oldest packets",
        unit="bytes",
        shown="256 KiB",
        type="integer",
        nullable=True,
        min=0,
    )

    def at_once(self, max_packet_bytes: int | None) -> int | None:
        """Return the bytes that a session may send at once; None: no limit."""
        if self.bytes_per_second is not None:
            return self.byte_burst
        if self.packets_per_second is None or max_packet_bytes is None:
            return None
        return self.packet_burst * max_packet_bytes

    def told(self) -> dict[str, float]:
        """Return a welcome's `Limits`, so that clients pace themselves; omit those that are off."""
        told: dict[str, float] = {}
        if self.packets_per_second is not None:
            told |= {"PacketsPerSecond": self.packets_per_second, "PacketBurst": self.packet_burst}
        if self.bytes_per_second is not None:
            told |= {"BytesPerSecond": self.bytes_per_second, "ByteBurst": self.byte_burst}
        return told


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of the transport of one prefix. None means no limit; in a count, so does 0."""

    # Ten times the SDP of a common browser. Frames and bodies are limited to multiples of it.
    max_packet_bytes: int | None = setting(
        64 * 1024,
        "MaxPacketBytes",
        "longest packet: ten times the SDP of a common browser",
        unit="bytes",
        reloaded=True,
        shown="64 KiB",
        type="integer",
        nullable=True,
        min=256,
        max=256
        * 1024
        * 1024,  # aiohttp counts the bytes of a frame, four times as many, in 32 bits
    )
    # A hundred offers.
    max_backlog_bytes: int | None = setting(
        1024 * 1024,
        "MaxBacklogBytes",
        "bytes that may wait for a client that does not read, plus one larger packet; beyond "
        "that it is closed (4002)",
        unit="bytes",
        reloaded=True,
        shown="1 MiB",
        type="integer",
        nullable=True,
        min=4096,
        max=2**31 - 1,  # see transport.writing
    )
    max_connections: int = setting(
        0,
        "MaxConnections",
        "sessions in total, of one prefix in one process; more are refused with 503",
        reloaded=True,
        shown="0: no limit",
        type="integer",
        nullable=True,
        min=0,
    )
    max_connections_per_address: int = setting(
        0,
        "MaxConnectionsPerAddress",
        "sessions of one IPv4 address or IPv6 /64, of one prefix in one process",
        reloaded=True,
        shown="0: no limit",
        type="integer",
        nullable=True,
        min=0,
    )
    # Off: after a network failure, an office behind one address reconnects all at once.
    connects_per_second_per_address: float | None = setting(
        None,
        "ConnectsPerSecondPerAddress",
        "sessions that one address may open per second, and at once; more are refused with "
        "503. Off by default, because all clients of an office behind one address reconnect "
        "at once",
        reloaded=True,
        type="number",
        nullable=True,
        min=0.001,
    )
    origins: tuple[str, ...] = setting(
        ("*",),
        "Origins",
        'pages that may connect: `["https://*.example.com"]`; `*` matches any part of a host. '
        "Write origins as browsers send them: without a default port, an international name as "
        "`xn--...`, and `file://` for a Cordova app."
        " Requests without an Origin are allowed. For SockJS's iframe transports, add the "
        "server's own origin",
        reloaded=True,
        type="list",
        schema={"type": "string", "check_with": "origin"},
    )
    trusted_proxies: tuple[str, ...] = setting(
        (),
        "TrustedProxies",
        "addresses or networks of proxies whose statements about their clients are believed; "
        "`unix:` for connections over a Unix socket: [proxy.md](proxy.md)",
        reloaded=True,
        type="list",
        schema={"type": "string", "check_with": "network"},
    )
    client_address_header: str = setting(
        "X-Forwarded-For",
        "ClientAddressHeader",
        "the header in which these proxies name the client: `X-Forwarded-For`, `Forwarded` "
        "(RFC 7239), `X-Real-IP`, `CF-Connecting-IP`. The proxies must set it themselves",
        reloaded=True,
        type="string",
        regex=r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}\Z",
    )
    subprotocols: tuple[str, ...] = setting(
        ("videre",),
        "Subprotocols",
        "WebSocket subprotocols to choose first, in this order; otherwise the first that a client "
        "offers, because a client that gets no answer hangs up",
        type="list",
        schema={"type": "string", "regex": r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z"},
    )
    compression: bool = setting(
        False,
        "Compression",
        "permessage-deflate on WebSockets; costs about 40 KB per connection",
        reloaded=True,
        type="boolean",
    )
    cookie: bool = setting(
        False,
        "SessionCookie",
        "set the `JSESSIONID` cookie that some load balancers route by",
        type="boolean",
    )
    htmlfile: bool = setting(
        False,
        "HTMLFile",
        "a SockJS transport for browsers that no longer exist",
        type="boolean",
    )
    jsonp: bool = setting(
        False, "JSONP", "another SockJS transport for browsers that no longer exist", type="boolean"
    )
    sockjs_url: str = setting(
        SOCKJS_URL,
        "SockJSUrl",
        "script that SockJS's iframe page loads; must be the version that your pages use",
        shown="sockjs-client 1.6.1 on its CDN",
        type="string",
        regex=r"(https?://|/)[^\s\"<>]*\Z",
    )
    sockjs_integrity: str | None = setting(
        None,
        "SockJSIntegrity",
        "hash of the script at `SockJSUrl`, as `sha384-...`: browsers refuse any other script",
        shown="`null`: that of the default script, none for another URL",
        type="string",
        nullable=True,
        regex=r"sha(256-[A-Za-z0-9+/]{43}=|384-[A-Za-z0-9+/]{64}|512-[A-Za-z0-9+/]{86}==)\Z",
    )

    @property
    def integrity(self) -> str | None:
        """The hash that the iframe page requires of its script; None for any script."""
        if self.sockjs_integrity is None and self.sockjs_url == SOCKJS_URL:
            return SOCKJS_INTEGRITY
        return self.sockjs_integrity

    # For applications and tests only; these have no keys.

    #: Seconds of silence after which to ping a client; after 1.5 times as long it is dropped. 25
    #: keeps connections alive through proxies with timeouts of 30 s or more.
    heartbeat: float = 25.0
    #: Seconds that a polling client may take between two polls (SockJS protocol: 5).
    disconnect_delay: float = 5.0
    #: Bytes after which a streaming response ends and the client opens the next one, so that its
    #: browser can free the memory (SockJS protocol: 128 KiB).
    streaming_limit: int = 128 * 1024
    websocket: bool = True

    @property
    def max_frame_bytes(self) -> int | None:
        """Longest WebSocket frame to read; longer ones are refused by the length in their header.

        Four times a packet: SockJS framing escapes quotes, and a slightly too large packet should
        get its error instead of losing its connection.
        """
        return None if self.max_packet_bytes is None else 4 * self.max_packet_bytes

    @property
    def max_body_bytes(self) -> int | None:
        """Longest body of an xhr_send: sockjs-client sends all waiting packets in one."""
        return None if self.max_packet_bytes is None else 16 * self.max_packet_bytes


@dataclasses.dataclass(frozen=True, kw_only=True)
class JoinPolicy:
    """The rules for joins; None means no limit."""

    replace: bool = True
    capacity: int | None = None  # members of the room, including the new one
    max_rooms: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Retention:
    """How long to keep the seats of lost connections, and how much of what they miss."""

    grace: float = Limits.grace  # seconds
    max_bytes: int | None = Limits.max_resume_bytes  # of memory per room; None: no limit


#: Settings that config/ turns into objects of ours.
DOCUMENTS = (
    Setting(
        key="AdminToken",
        meaning="bearer token that admin clients must send; alternatively, set one of the next two "
        "keys",
        rules={"type": "string", "nullable": True, "default": None},
        reloaded=True,
        shown="none",
    ),
    Setting(
        key="AdminTokenFile",
        meaning="file that contains the token",
        rules={"type": "string", "nullable": True, "default": None, "minlength": 1},
        reloaded=True,
        shown="none",
    ),
    Setting(
        key="AdminTokenVariable",
        meaning="environment variable that contains the token",
        rules={
            "type": "string",
            "nullable": True,
            "default": None,
            "minlength": 1,
            "regex": "[A-Za-z_][A-Za-z0-9_]*",
        },
        reloaded=True,
        shown="none",
    ),
    Setting(
        key="Auth",
        meaning="who may enter which room: [tokens.md](tokens.md)",
        rules={"type": "dict", "nullable": True, "default": None},
        reloaded=True,
        shown="`null`: anyone who knows a room may enter",
    ),
    Setting(
        key="IceServers",
        meaning="STUN and TURN servers for members: [turn.md](turn.md)",
        rules={"type": "list", "default": []},
        reloaded=True,
    ),
)
