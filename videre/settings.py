"""Every setting on one line: its default, unit and bounds, its key, and what it is for.

The cerberus schema, `Config`, the variables of the environment, the options of the command, the
keys that SIGHUP changes and the table of docs/configuration.md all follow from the fields below.
To add a setting, add a field.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from pathlib import Path

#: What happens when a user id joins a room that it is in: the old seat goes, or the newcomer.
Duplicate = Literal["replace", "reject"]

#: Whether workers have a port each, one after the other, or share one.
WorkerPorts = Literal["each", "shared"]

#: How lines for the terminal are written.
Form = Literal["text", "json"]

#: The log's levels, from the most lines to the fewest.
LEVELS = ("debug", "info", "warning", "error")

#: The engine that keeps the rooms in this process.
MEMORY = "memory://"

#: Seconds that a seat outlives its token: a client needs a moment to fetch a fresh one.
LEEWAY = 60.0

#: sockjs-client refuses an iframe page that loads another version than its own ("Incompatible
#: SockJS!"), so this names the current one; a site with another version sets its URL.
SOCKJS_URL = "https://cdn.jsdelivr.net/npm/sockjs-client@1.6.1/dist/sockjs.min.js"

#: Its hash (Subresource Integrity), of the file in the npm package: our origin is not the CDN's to
#: run scripts in.
SOCKJS_INTEGRITY = "sha384-svdnwiXBL+Js+yUneJSRFy24NgGiOfDM/vkQl/vCeVrcbYD6yW8EwPr1FnxTEZsR"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """What is known of one setting beside its default."""

    key: str  # as conf.json spells it
    meaning: str  # a sentence for docs/configuration.md, in Markdown
    rules: Mapping[str, Any]  # by which cerberus judges a value; a rule's name stands for a check
    unit: str = ""
    reloaded: bool = False  # whether SIGHUP changes it; all others need a restart
    shown: str | None = None  # the default in docs/configuration.md, where it is not its JSON


def setting(
    default: Any,
    key: str,
    meaning: str,
    *,
    unit: str = "",
    reloaded: bool = False,
    shown: str | None = None,
    repr: bool = True,
    **rules: Any,
) -> Any:
    """Return a dataclass field for a setting; `rules` are cerberus' own, but for the default."""
    known = Setting(
        key=key, meaning=meaning, rules=rules, unit=unit, reloaded=reloaded, shown=shown
    )
    return dataclasses.field(default=default, repr=repr, metadata={"setting": known})


def of(*classes: type) -> dict[str, tuple[dataclasses.Field[Any], Setting]]:
    """Return the settings that are fields of some dataclasses, by key, in their order."""
    return {
        field.metadata["setting"].key: (field, field.metadata["setting"])
        for each in classes
        for field in dataclasses.fields(each)
        if "setting" in field.metadata
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Process:
    """What concerns the process: listeners, TLS, the log, workers and the engine."""

    host: str | tuple[str, ...] = setting(
        "0.0.0.0",  # noqa: S104
        "Host",
        'address to listen on, or a list of them; `"*"` and `"::"` are all of IPv4 and IPv6, a '
        'name all of its addresses, `"unix:/run/videre.sock"` is a Unix socket, without `Port`',
        check_with="hosts",
    )
    port: int = setting(
        1111,
        "Port",
        "TCP port; 0 picks a free one and says which",
        type="integer",
        min=0,
        max=65535,
    )
    prefixes: tuple[str, ...] = setting(
        ("/echo",),
        "Prefix",
        "path, or list of paths; each is a namespace: two namespaces share no room",
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
        "JSON lines, one for each event; `null`: everything goes to the standard output. "
        'The shipped file has `"../log/debug.log"`',
        type="string",
        nullable=True,
        minlength=1,
    )
    log_level: str = setting(
        "info",
        "LogLevel",
        "`debug` adds each packet's header and size. The shipped file has `debug`",
        reloaded=True,
        type="string",
        allowed=list(LEVELS),
    )
    log_format: Form = setting(
        "text",
        "LogFormat",
        "format of lines outside of the file: `text` for people, or `json`",
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
        "how long clients are still served after SIGTERM, so that they can connect elsewhere; "
        "0: not at all",
        unit="seconds",
        reloaded=True,
        type="number",
        min=0,
        check_with="finite",
    )
    duplicate: Duplicate = setting(
        "replace",
        "Duplicate",
        "when a user id joins a room that it is in: `replace` the old seat, or `reject` the new",
        reloaded=True,
        type="string",
        allowed=list(get_args(Duplicate)),
    )
    engine: str = setting(
        MEMORY,
        "Engine",
        "where the rooms are kept; for several signallers a Valkey or Redis, see "
        "[cluster.md](cluster.md)",
        shown='`"memory://"`: this process',
        repr=False,  # it may hold a password
        type="string",
        check_with="engine",
    )
    node_timeout: float = setting(
        10.0,
        "NodeTimeout",
        "after which the others give up a signaller that has stopped answering",
        unit="seconds",
        type="number",
        min=1,
        check_with="finite",
    )
    workers: int = setting(
        1,
        "Workers",
        "processes; for more than one, `Engine` must be a Valkey or Redis",
        type="integer",
        min=1,
        max=256,
    )
    worker_ports: WorkerPorts = setting(
        "each",
        "WorkerPorts",
        "a port for `each` of them, from `Port` on, or one `shared` port, for WebSockets only",
        type="string",
        allowed=list(get_args(WorkerPorts)),
    )
    keep_alive: float = setting(
        75.0,
        "KeepAlive",
        "for which a connection is kept that waits for its next request: more than the proxy keeps "
        "it (60 for most, 600 for Google's load balancer), else its next request may be lost",
        unit="seconds",
        type="number",
        min=1,
        max=86400,
    )
    max_sockets: int | None = setting(
        None,
        "MaxSockets",
        "TCP connections of one process, sessions among them; more are refused. The command raises "
        "its limit of open files as far as it may, and keeps 200 of them for itself; `sockets` in "
        "the log's line `start` is what remains",
        reloaded=True,
        shown="`null`: what the limit of open files allows",
        type="integer",
        nullable=True,
        min=16,
    )
    max_sockets_per_address: int | None = setting(
        None,
        "MaxSocketsPerAddress",
        "TCP connections of one IPv4 address or IPv6 /64; `TrustedProxies` have no limit",
        reloaded=True,
        shown="`null`: six for each of `MaxConnectionsPerAddress`, 32 at least; without that no "
        "limit",
        type="integer",
        nullable=True,
        min=1,
    )
    admin_port: int | None = setting(
        None,
        "AdminPort",
        "port for [metrics, the status page and the API](operations.md#admin-port), apart from "
        "that of clients",
        type="integer",
        nullable=True,
        min=0,
        max=65535,
    )
    admin_host: str = setting(
        "127.0.0.1",
        "AdminHost",
        "the admin port's address; one that others reach needs a token",
        type="string",
        minlength=1,
    )
    demo: bool | None = setting(
        None,
        "Demo",
        "a page that makes calls, at `/demo`: `true` for everybody, `false` for nobody. By default "
        "the command shows it to browsers on its own machine, if it listens there and lets any "
        "page in without a token; an application (`create_app`) has it with `true` alone",
        shown="`null`: for this machine",
        type="boolean",
        nullable=True,
    )
    client_module: bool = setting(
        True,
        "ClientModule",
        "serve the [browser client](browser.md) below each prefix, as `/echo/videre.js`, to the "
        "pages that `Origins` lets in",
        type="boolean",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """What the rooms and sessions of a namespace may hold and send. None switches a limit off."""

    # No number of members fits every mesh.
    room_capacity: int | None = setting(
        None,
        "RoomCapacity",
        "members of a room, 2 for classic calls; one more is refused with `room-full`",
        reloaded=True,
        type="integer",
        nullable=True,
        min=1,
    )
    # Off: their number is bounded by that of the connections.
    max_rooms: int | None = setting(
        None,
        "MaxRooms",
        "rooms at a time; a join that would open a further one is refused with `room-full`",
        reloaded=True,
        type="integer",
        nullable=True,
        min=1,
    )
    # A call starts with an offer and up to 40 candidates for each peer: in a mesh of eight
    # 7 x 41 = 287 packets at once, and room for what a client sends again.
    packets_per_second: float | None = setting(
        50,
        "PacketsPerSecond",
        "packets of one session, pings counted apart; more are dropped (`rate-limited`), and in "
        "the end the session is closed (4003)",
        reloaded=True,
        type="number",
        nullable=True,
        min=0.001,
        check_with="finite",
    )
    packet_burst: int = setting(
        400,
        "PacketBurst",
        "packets that a session may send at once: an offer and 40 candidates to each of seven "
        "peers are 287",
        reloaded=True,
        type="integer",
        min=1,
    )
    # The same start is 7 x (6,000 + 40 x 300) = 126,000 bytes: a quarter of the burst. The burst is
    # half of what may wait for a reader (MaxBacklogBytes).
    bytes_per_second: float | None = setting(
        64 * 1024,
        "BytesPerSecond",
        "bytes that a session may cause: what it sends, answers that grow with its room, and its "
        "packet again for each eight further members who get it; more are dropped "
        "(`rate-limited`), and in the end the session is closed (4003)",
        unit="bytes",
        reloaded=True,
        shown="64 KiB",
        type="number",
        nullable=True,
        min=0.001,
        check_with="finite",
    )
    byte_burst: int = setting(
        512 * 1024,
        "ByteBurst",
        "bytes that a session may cause at once: an offer of 6 KB and 40 candidates of 300 bytes "
        "to each of seven peers are 126,000. `--check` complains of more than `MaxBacklogBytes`, "
        "with which one member could have others closed",
        unit="bytes",
        reloaded=True,
        shown="512 KiB",
        type="integer",
        min=1,
    )
    # A client that only holds a connection is no user.
    join_timeout: float | None = setting(
        10.0,
        "JoinTimeout",
        "in which a session must have entered a room, else it is closed (4004)",
        unit="seconds",
        reloaded=True,
        type="number",
        nullable=True,
        min=0.001,
        check_with="finite",
    )
    # A phone changes its network in less, and nobody waits much longer for somebody who is gone.
    grace: float = setting(
        20.0,
        "Grace",
        "for which the seat of a lost connection is kept, for a client that asked for a welcome; "
        "0: not at all",
        unit="seconds",
        type="number",
        min=0,
        check_with="finite",
    )
    # An office behind one address, or a proxy that TrustedProxies does not name, loses all of its
    # connections at once and comes back: more than most have, and some 2 MB.
    max_lost_seats_per_address: int | None = setting(
        1000,
        "MaxLostSeatsPerAddress",
        "such seats of one IPv4 address or IPv6 /64, where `MaxConnectionsPerAddress` sets no "
        "limit; of more, the one that was lost first is given up",
        reloaded=True,
        type="integer",
        nullable=True,
        min=1,
    )
    # A call's start is 40 KB in a mesh of six.
    max_resume_bytes: int | None = setting(
        256 * 1024,
        "MaxResumeBytes",
        "memory for what a room with such seats was told; a client that misses more joins afresh",
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
        """Return what a welcome says, for clients to pace themselves; what is off is left out."""
        told: dict[str, float] = {}
        if self.packets_per_second is not None:
            told |= {"PacketsPerSecond": self.packets_per_second, "PacketBurst": self.packet_burst}
        if self.bytes_per_second is not None:
            told |= {"BytesPerSecond": self.bytes_per_second, "ByteBurst": self.byte_burst}
        return told


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What concerns the transport of one mounted prefix. None, and 0 of a count, is no limit."""

    # Ten times the SDP of a common browser. Frames and bodies are bounded by multiples of it.
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
    )
    # A hundred offers.
    max_backlog_bytes: int | None = setting(
        1024 * 1024,
        "MaxBacklogBytes",
        "what may wait for a client that does not read before it is dropped (4002), one larger "
        "packet aside",
        unit="bytes",
        reloaded=True,
        shown="1 MiB",
        type="integer",
        nullable=True,
        min=4096,
    )
    max_connections: int = setting(
        0,
        "MaxConnections",
        "sessions in all; more are refused with 503",
        reloaded=True,
        shown="0: no limit",
        type="integer",
        nullable=True,
        min=0,
    )
    max_connections_per_address: int = setting(
        0,
        "MaxConnectionsPerAddress",
        "sessions of one IPv4 address or IPv6 /64",
        reloaded=True,
        shown="0: no limit",
        type="integer",
        nullable=True,
        min=0,
    )
    # Off: an office behind one address comes back all at once after a network failure.
    connects_per_second_per_address: float | None = setting(
        None,
        "ConnectsPerSecondPerAddress",
        "sessions that one address may open in a second, and at once; more are refused with 503. "
        "Off, because an office behind one address comes back all at once",
        reloaded=True,
        type="number",
        nullable=True,
        min=0.001,
        check_with="finite",
    )
    origins: tuple[str, ...] = setting(
        ("*",),
        "Origins",
        'pages that may connect: `["https://*.example.com"]`, `*` matching any part of a host; '
        "requests without an Origin pass. For SockJS's iframe transports, name the server's own "
        "origin too",
        reloaded=True,
        type="list",
        schema={"type": "string", "check_with": "origin"},
    )
    trusted_proxies: tuple[str, ...] = setting(
        (),
        "TrustedProxies",
        "addresses or networks whose word about their clients is believed, `unix:` for all who "
        "come by a Unix socket: [proxy.md](proxy.md)",
        reloaded=True,
        type="list",
        schema={"type": "string", "check_with": "network"},
    )
    client_address_header: str = setting(
        "X-Forwarded-For",
        "ClientAddressHeader",
        "the header in which they say it: `X-Forwarded-For`, `Forwarded` (RFC 7239), `X-Real-IP`, "
        "`CF-Connecting-IP`; it must be one that they set themselves",
        reloaded=True,
        type="string",
        regex=r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}\Z",
    )
    compression: bool = setting(
        False,
        "Compression",
        "permessage-deflate on WebSockets; costs some 40 KB a connection",
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
        "what SockJS's iframe page loads; must be the version that your pages use",
        shown="sockjs-client 1.6.1 on its CDN",
        type="string",
        regex=r"(https?://|/)[^\s\"<>]*\Z",
    )
    sockjs_integrity: str | None = setting(
        None,
        "SockJSIntegrity",
        "hash of the script at `SockJSUrl`, as `sha384-...`: a browser runs no other",
        shown="`null`: that of the default script, none for another URL",
        type="string",
        nullable=True,
        regex=r"sha(256-[A-Za-z0-9+/]{43}=|384-[A-Za-z0-9+/]{64}|512-[A-Za-z0-9+/]{86}==)\Z",
    )

    @property
    def integrity(self) -> str | None:
        """The hash that the script of the iframe page must have; None where any will do."""
        if self.sockjs_integrity is None and self.sockjs_url == SOCKJS_URL:
            return SOCKJS_INTEGRITY
        return self.sockjs_integrity

    # Set by applications and tests alone; no key stands for them.

    #: Seconds of silence after which a client is asked whether it lives; it is given up after 1.5
    #: times as long. 25 keeps the connections of proxies with timeouts of 30 s and more.
    heartbeat: float = 25.0
    #: Seconds for which a polling client may stay away between two polls (SockJS protocol: 5).
    disconnect_delay: float = 5.0
    #: Bytes after which a streaming response ends and the client asks again, so that its browser
    #: can free them (SockJS protocol: 128 KiB).
    streaming_limit: int = 128 * 1024
    websocket: bool = True

    @property
    def max_frame_bytes(self) -> int | None:
        """Longest WebSocket frame that is read at all; longer ones are refused by their length.

        Four times a packet: SockJS framing escapes quotes, and a packet that is a little too large
        shall get its error rather than lose its connection.
        """
        return None if self.max_packet_bytes is None else 4 * self.max_packet_bytes

    @property
    def max_body_bytes(self) -> int | None:
        """Longest body of an xhr_send: sockjs-client sends all packets that wait in one."""
        return None if self.max_packet_bytes is None else 16 * self.max_packet_bytes


@dataclasses.dataclass(frozen=True, kw_only=True)
class JoinPolicy:
    """On which terms a join is asked for; None is no limit."""

    replace: bool = True
    capacity: int | None = None  # members of the room, the new one included
    max_rooms: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Retention:
    """How long the seats of lost connections are kept, and with how much of what they miss."""

    grace: float = Limits.grace  # seconds
    max_bytes: int | None = Limits.max_resume_bytes  # of memory, for each room; None: no limit


#: Settings that are objects of ours once they are read: who builds each is in config/.
DOCUMENTS = (
    Setting(
        key="AdminToken",
        meaning="bearer token that admin clients must send; `AdminTokenFile` and "
        "`AdminTokenVariable` name where it is",
        rules={"type": "string", "nullable": True, "default": None},
        reloaded=True,
        shown="none",
    ),
    Setting(
        key="AdminTokenFile",
        meaning="file that holds it",
        rules={"type": "string", "nullable": True, "default": None, "minlength": 1},
        reloaded=True,
        shown="none",
    ),
    Setting(
        key="AdminTokenVariable",
        meaning="variable of the environment that holds it",
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
        shown="`null`: who knows a room may enter",
    ),
    Setting(
        key="IceServers",
        meaning="STUN and TURN servers for members: [turn.md](turn.md)",
        rules={"type": "list", "default": []},
        reloaded=True,
    ),
)
