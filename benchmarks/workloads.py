"""The cases to measure: their traffic, their servers, and the goals for ours."""

from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.servers import Setting

REAL_RATE = 2800  # packets/s of 5,000 real clients; 89 % are pings, one every 2 s each
CALLERS = ("ours", "original", "ws")
NODES = ("node1", "node2", "node4")
OURS = ("ours", "plain", "fresh", *NODES)  # this server, with any clients

# Limits raised in the shipped configuration because the load exceeds them; none is switched off.
_PACKETS = {
    "PacketsPerSecond": 1_000_000,
    "PacketBurst": 1_000_000,
    "BytesPerSecond": 1_000_000_000,
    "ByteBurst": 1_000_000,
}
_WAIT = {"JoinTimeout": 600}  # for connections that never join, as long as they are measured
LIMITS: dict[str, dict[str, Any]] = {
    "relay": _PACKETS,
    "tls": _PACKETS,
    "storm": _PACKETS,
    "joins": _PACKETS,
    "idle": _WAIT,
    "seam": _PACKETS | _WAIT,
    "client": _PACKETS,
    "scale": _PACKETS | _WAIT,
}
PEERSERVER_LIMITS = {"concurrent_limit": 20000}  # 5,000 by default


@dataclass(frozen=True, slots=True)
class Goal:
    """Our figure should be at most (or at least) `ratio` times the peer's."""

    peer: str
    ratio: float
    figure: str = "cpu"
    least: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """One group of lines in the table: a pattern of `drive.py` with its sizes, and its servers."""

    workload: str
    name: str
    pattern: str
    framing: str
    peers: tuple[str, ...]
    spec: dict[str, Any]
    headline: str = "cpu"  # the figure for the ratio: cpu, rate, memory or client
    setting: Setting = field(default_factory=Setting)
    goals: tuple[Goal, ...] = ()
    most: float = 0  # an absolute goal for the headline; 0: none

    def specification(self, peer: str) -> dict[str, Any]:
        """Return the spec for `drive.py`, without the address."""
        framing = {"peer": "peerjs", "bare": "raw", "floor": "raw"}.get(peer, self.framing)
        base = {"pattern": self.pattern, "framing": framing, "tls": self.setting.tls, "peer": peer}
        return {"deflate": False, "warmup": 1.0, "settle": 2.0, **base, **self.spec}

    def setting_of(self, peer: str) -> Setting:
        """Return the server's setting for this case."""
        limits: dict[str, Any] = {}
        if peer in OURS:
            limits = LIMITS.get(self.workload, {})
        elif peer == "peer" and self.spec.get("peers", 0) > 4000:
            limits = PEERSERVER_LIMITS
        return replace(self.setting, limits=tuple(limits.items()))


def relay(seconds: float, sizes: tuple[tuple[int, int], ...]) -> list[Case]:
    """Rooms of two, 200 B, closed loop."""
    goals = (Goal("original", 0.30), Goal("ws", 1.0))
    return [
        Case(
            "relay",
            f"relay {framing}, {rooms} rooms x {window}",
            "relay",
            framing,
            (*CALLERS, "bun", *(("peer", "bare", "floor") if framing == "raw" else ("stock",))),
            {"rooms": rooms, "window": window, "seconds": seconds},
            goals=(*goals, Goal("peer", 1.0)) if framing == "raw" else goals,
        )
        for framing in ("raw", "sockjs")
        for rooms, window in sizes
    ]


def mix(seconds: float, peers: int, rate: int) -> list[Case]:
    """The real client's traffic at a fixed rate, in its framing."""
    goals = (Goal("original", 0.35), Goal("original", 1.0, "p99"))
    spec = {"peers": peers, "rate": rate, "seconds": seconds}
    name = f"mix sockjs, {peers} peers, {rate}/s"
    return [Case("mix", name, "mix", "sockjs", (*CALLERS, "bun", "stock"), spec, goals=goals)]


def storm(seconds: float, peers: int) -> list[Case]:
    """One room, one speaker, 300 B."""
    goals = (Goal("original", 0.8), Goal("ws", 1.0))
    spec = {"peers": peers, "seconds": seconds}
    return [
        Case(
            "storm",
            f"storm {framing}, a room of {peers}",
            "storm",
            framing,
            (*CALLERS, "bare" if framing == "raw" else "stock"),
            spec,
            goals=goals,
        )
        for framing in ("raw", "sockjs")
    ]


def joins(seconds: float, peers: int, rooms: int) -> list[Case]:
    """All peers come back at once; peers move between fresh rooms while few or many rooms stand."""
    goal = (Goal("original", 2.0, "rate", least=True),)
    everyone = (*CALLERS, "bun", "peer", "bare", "floor")
    spec = {"peers": peers}
    back = Case("joins", f"reconnect of {peers}", "reconnect", "raw", everyone, spec, "rate")
    hops = [
        Case(
            "joins",
            f"joins while {standing} rooms exist",
            "hops",
            "raw",
            CALLERS,
            {"peers": 100, "seconds": seconds},
            "rate",
            Setting(rooms=standing),
            goal,
        )
        for standing in (10, rooms)
    ]
    enter = Case(
        "joins",
        f"connect and join of {peers // 5}",
        "reconnect",
        "raw",
        everyone,
        {"peers": peers // 5},
        goals=(Goal("ws", 1.0),),
    )
    return [enter, replace(back, goals=goal), *hops]


def idle(peers: int, settle: float) -> list[Case]:
    """Connections that offer deflate, as every browser does, and then stay idle."""
    spec = {"peers": peers, "deflate": True, "settle": settle}
    setting = Setting(compress=True)  # aiohttp's default
    return [
        Case(
            "idle",
            f"idle {framing}, {peers} offering deflate",
            "idle",
            framing,
            (*CALLERS, "bun", *(("peer", "bare", "floor") if framing == "raw" else ("stock",))),
            spec,
            "memory",
            setting,
            (Goal("original", 1.0, "memory"), Goal("ws", 1.0, "memory")),
            5 * 1024,
        )
        for framing in ("raw", "sockjs")
    ]


def tls(seconds: float, sizes: tuple[tuple[int, int], ...]) -> list[Case]:
    """The raw relay over TLS."""
    return [
        Case(
            "tls",
            f"tls relay raw, {rooms} rooms x {window}",
            "relay",
            "raw",
            (*CALLERS, "bun", "peer", "bare"),
            {"rooms": rooms, "window": window, "seconds": seconds},
            setting=Setting(tls=True),
        )
        for rooms, window in sizes
    ]


def seam(seconds: float, peers: int, room: int, settle: float) -> list[Case]:
    """The cost of the SockJS seam: the stock plugin, ours and a bare aiohttp WebSocket."""
    who = ("ours", "stock", "bare")
    cases = []
    for deflate in (False, True):
        offer = "offering deflate" if deflate else "without deflate"
        spec = {"peers": peers, "deflate": deflate, "settle": settle, "tasks": True}
        setting = Setting(mounted=True, compress=deflate)
        name = f"seam idle, {peers} {offer}"
        cases.append(Case("seam", name, "idle", "sockjs", who, spec, "memory", setting))
    setting = Setting(mounted=True)
    spec = {"peers": peers}
    name = f"seam reconnect of {peers}"
    cases.append(Case("seam", name, "reconnect", "sockjs", who, spec, "rate", setting))
    spec = {"peers": room, "seconds": seconds}
    name = f"seam fan-out, a room of {room}"
    cases.append(Case("seam", name, "storm", "sockjs", who, spec, setting=setting))
    return cases


def client(
    seconds: float, sizes: tuple[tuple[int, int], ...], peers: int, turns: int
) -> list[Case]:
    """`videre.client`: relaying compared to a bare client, and resuming to joining."""
    cases = [
        Case(
            "client",
            f"client relay, {rooms} rooms x {window}",
            "client",
            "raw",
            ("ours", "plain"),
            {"rooms": rooms, "window": window, "seconds": seconds},
            "client",
        )
        for rooms, window in sizes
    ]
    spec = {"peers": peers, "turns": turns, "warmup": 0.3}
    back = Case("client", f"client resume of {peers}", "resume", "raw", ("ours", "fresh"), spec)
    return [*cases, back]


def scale(
    seconds: float,
    sizes: tuple[tuple[int, int], ...],
    mixes: tuple[tuple[int, int], ...],
    rooms: int,
    nodes: tuple[str, ...] = NODES,
) -> list[Case]:
    """Nodes on one Valkey, compared to a single process; a room's members are on two nodes.

    A mix has a number of peers and packets a second: few show the added latency, many show the cost
    of a packet on busy nodes.
    """
    who = ("ours", *nodes)

    def case(name: str, pattern: str, spec: dict[str, Any], peers: tuple[str, ...] = who) -> Case:
        headline = "store_cpu" if pattern in ("seats", "notes") else "cpu"
        return Case("scale", f"scale {name}", pattern, "raw", peers, spec, headline)

    cases = [
        case(
            f"relay, {count} rooms x {window}",
            "relay",
            {"rooms": count, "window": window, "seconds": seconds},
        )
        for count, window in sizes
    ]
    cases.append(case("joins", "hops", {"peers": 50, "seconds": seconds}))
    for peers, rate in mixes:
        spec = {"peers": peers, "rate": rate, "seconds": max(0.5, 2 * seconds)}
        cases.append(case(f"mix, {peers} peers, {rate}/s", "mix", spec))
    for size, welcome in ((2, False), (2, True), (8, False)):
        kind = ", who may come back" if welcome else ""
        spec = {"rooms": rooms, "size": size, "welcome": welcome, "settle": 0.5}
        cases.append(case(f"seats, {rooms} rooms of {size}{kind}", "seats", spec, nodes[:1]))
    return [*cases, case("notes", "notes", {"notes": 2 * rooms}, nodes[:1])]


def full() -> list[Case]:
    """Return the cases of `bin/bench`."""
    four = ((50, 1), (50, 8), (500, 1), (500, 8))
    cases = relay(4, four) + mix(10, 5000, REAL_RATE) + storm(4, 500) + joins(4, 5000, 100_000)
    cases += idle(10_000, 2) + tls(4, ((50, 1), (50, 8))) + seam(4, 2000, 500, 1)
    cases += client(4, ((50, 1), (50, 8)), 200, 10)
    return cases + scale(4, ((50, 1), (50, 8)), ((1000, 400), (2000, 1500)), 500)


def quick() -> list[Case]:
    """Return the cases of `--quick`: about a minute with one round and four peers."""
    cases = relay(1, ((50, 8), (500, 1)))[:3] + mix(2, 1000, REAL_RATE) + storm(1, 500)
    cases += joins(1, 500, 100_000)[:2] + idle(1000, 0.3)[:1] + tls(1, ((50, 8),))
    cases += client(1, ((50, 8),), 200, 3) + scale(1, ((50, 8),), ((400, 200),), 200)
    return [replace(case, spec={**case.spec, "warmup": 0.4}) for case in cases]


def smoke() -> list[Case]:
    """Return one tiny case of everything, to see that it works, not how fast."""
    cases = relay(0.1, ((2, 8),)) + mix(0.3, 20, 200) + storm(0.1, 10) + joins(0.1, 20, 100)
    cases += idle(20, 0.05) + tls(0.1, ((2, 1),)) + seam(0.1, 20, 10, 0.05)
    cases += client(0.1, ((2, 8),), 20, 2)
    cases += scale(0.1, ((2, 1),), ((20, 200),), 10, ("node2",))
    return [replace(case, spec={**case.spec, "warmup": 0.05}) for case in cases]
