"""What can be set of the seam, with units, and the reason for each default."""

from __future__ import annotations

import dataclasses

#: sockjs-client refuses an iframe page that loads another version than its own ("Incompatible
#: SockJS!"), so this names the current one; a site with another version sets its URL.
SOCKJS_URL = "https://cdn.jsdelivr.net/npm/sockjs-client@1.6.1/dist/sockjs.min.js"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The settings of one mounted prefix."""

    #: Longest packet in bytes; frames and bodies are bounded by multiples of it (see below).
    max_packet_bytes: int | None = 64 * 1024
    #: Bytes that may wait for a client that does not read, before it is dropped: a hundred offers.
    max_backlog_bytes: int | None = 1024 * 1024
    #: Allowed origins, `*` matching any part of a host; requests without an Origin pass.
    origins: tuple[str, ...] = ("*",)
    #: Addresses or networks whose X-Forwarded-For and -Proto count.
    trusted_proxies: tuple[str, ...] = ()
    #: Sessions in all and for each address; 0 is no limit.
    max_connections: int = 0
    max_connections_per_address: int = 0
    #: Sessions that one address may open in a second, and at once. Off: an office behind one
    #: address comes back all at once after a network failure.
    connects_per_second_per_address: float | None = None
    #: Seconds of silence after which a client is asked whether it lives; it is given up after 1.5
    #: times as long. 25 keeps the connections of proxies with timeouts of 30 s and more.
    heartbeat: float = 25.0
    #: Seconds for which a polling client may stay away between two polls (SockJS protocol: 5).
    disconnect_delay: float = 5.0
    #: Bytes after which a streaming response ends and the client asks anew, so that its browser
    #: can free them (SockJS protocol: 128 KiB).
    streaming_limit: int = 128 * 1024
    #: Whether a JSESSIONID cookie is set, for load balancers that route by it.
    cookie: bool = False
    websocket: bool = True
    #: Transports for browsers that no longer exist, off unless asked for.
    htmlfile: bool = False
    jsonp: bool = False
    #: Whether WebSocket frames are deflated. Costs some 40 KB for each connection that uses it.
    compression: bool = False
    #: Where the iframe page loads sockjs-client from.
    sockjs_url: str = SOCKJS_URL

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
