"""Metrics of sessions, the log and the process: each event changes them by the exact amount."""

from __future__ import annotations

import asyncio
import errno
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from fakes import FakeClock, packet
from inprocess import serving
from metering import Meter, exposed, metered, values_in
from patience import WAIT_SECONDS
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain_text
from skipping import forward, hurry
from sockjs_client import Stream, ask, fresh, poll, send
from valkey_server import until
from websocket_client import Socket

import videre
from videre import logs, metrics
from videre.config import Config
from videre.limits import FAILURES
from videre.logs import writers
from videre.logs.handlers import Handler
from videre.logs.journal import BATCH_PACKETS
from videre.settings import Limits
from videre.tally import LAG_INTERVAL, TRANSPORTS, Lag
from videre.transport import Options, framing, manager
from videre.version import __version__

EVERY = Options(htmlfile=True, jsonp=True, disconnect_delay=20)


async def open_session(meter: Meter, transport: str) -> Callable[[], None]:
    """Open a session, and return a function that breaks its connection."""
    if transport.startswith("websocket"):
        session = "/echo" if transport == "websocket-raw" else fresh()
        socket = await Socket.open(meter.url, f"{session}/websocket")
        assert socket.head.status == 101
        return socket.wire.reset
    path, method = {
        "xhr-polling": ("xhr", "POST"),
        "xhr-streaming": ("xhr_streaming", "POST"),
        "eventsource": ("eventsource", "GET"),
        "htmlfile": ("htmlfile?c=x", "GET"),
        "jsonp-polling": ("jsonp?c=x", "GET"),
    }[transport]
    stream = await Stream.open(meter.url, method, f"{fresh()}/{path}")
    assert stream.head.status == 200
    return stream.wire.reset


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_sessions_by_transport(transport: str) -> None:
    """A session counts under its transport while it is open, and once in the total."""
    async with metered(transport=EVERY) as meter:
        async with meter.moves(sessions={transport: 2}, sessions_opened_total={transport: 2}):
            breaks = [await open_session(meter, transport) for _ in range(2)]
        gone = 2 if "polling" in transport else 1  # whose polls are over, and neither comes again
        async with meter.moves(sessions={transport: -gone}, sessions_opened_total={transport: 0}):
            breaks[0]()
            await forward(21, by=1.0)


async def test_refused_connections_by_reason() -> None:
    """Each limit, and a forbidden origin, is a reason."""
    raw = "/echo/websocket"
    options = Options(origins=("https://good.example",), max_connections_per_address=2)
    async with (
        metered(transport=options) as meter,
        meter.moves(
            connections_refused_total={"origin": 3, "connections-per-address": 2},
            sessions_opened_total={"websocket-raw": 2},
        ),
    ):
        evil = {"Origin": "https://evil.example"}
        assert (await Socket.open(meter.url, raw, evil)).head.status == 403
        assert (await ask(meter.url, "GET", "/echo/info", None, evil)).status == 403
        assert (await ask(meter.url, "POST", f"{fresh()}/xhr", b"", evil)).status == 403
        for status in (101, 101, 503):
            assert (await Socket.open(meter.url, raw)).head.status == status
        assert (await ask(meter.url, "POST", f"{fresh()}/xhr", b"")).status == 503
    for reason, options in (
        ("connections", Options(max_connections=1)),
        ("connects-per-second", Options(connects_per_second_per_address=0.001)),
    ):
        async with (
            metered(transport=options) as meter,
            meter.moves(connections_refused_total={reason: 1}),
        ):
            for status in (101, 503):
                assert (await Socket.open(meter.url, raw)).head.status == status


async def test_a_drain() -> None:
    """Every client gets a goaway, and new ones are refused."""
    async with metered() as meter:
        await meter.server.members("a", room="one")
        await meter.server.members("b", room="two")
        async with meter.moves(
            packets_total={"sent goaway": 2},
            connections_refused_total={"stopping": 1},
            sessions={"websocket-raw": -2},
            leaves_total={"closed-by-server": 2},
        ):
            draining = asyncio.create_task(meter.namespace.drain(0.5))
            await asyncio.sleep(0)
            assert (await Socket.open(meter.url, "/echo/websocket")).head.status == 503
            await draining


async def test_the_inboxes() -> None:
    """Packets waiting behind a delayed connect count until the session ends."""
    async with metered() as meter:
        for _ in range(FAILURES + 5):  # 16 s
            meter.namespace.context.penalties.record("127.0.0.1", time.monotonic())
        client = await meter.server.client()
        await client.send("connect", "a", "room")
        text = packet("broadcast", "a", "room", "x" * 1000)
        await client.say(text)
        waiting = 0.0
        async with asyncio.timeout(WAIT_SECONDS):
            while waiting < len(text):
                waiting = (await meter.values())["inbox_bytes"]
        async with meter.moves(inbox_bytes=-waiting):
            await hurry(client.close())


async def test_sessions_are_counted_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tasks run in between, and the sum equals that of one walk."""
    monkeypatch.setattr("videre.app.SIBLINGS_AFTER", 3600.0)  # its task ends between two counts
    async with metered() as meter:
        await meter.server.members("a", "b", "c", "d", "e")
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        running = asyncio.create_task(others())
        registry = metrics.registry([meter.namespace])
        with monkeypatch.context() as patched:
            patched.setattr(manager, "COUNTED_AT_ONCE", 2)
            for number, session in enumerate(meter.namespace.sessions.websockets):
                patched.setattr(session, "_tcp", Full(10**number))
            in_slices = values_in((await registry.measured())[0].decode())
            at_once = values_in(metrics.exposition(registry)[0].decode())
            tasks = len(asyncio.all_tasks())
        running.cancel()
        assert turns >= 3
        assert in_slices["backlog_bytes"] == at_once["backlog_bytes"] == 11111
        assert in_slices["event_loop_tasks"] == at_once["event_loop_tasks"] == tasks


class Full:
    """A connection with so many bytes in its buffer."""

    def __init__(self, size: int) -> None:
        self._size = size

    def get_write_buffer_size(self) -> int:
        """Return that."""
        return self._size


@pytest.mark.parametrize("polls", [False, True])
async def test_slow_consumers_that_are_dropped(polls: bool) -> None:
    """A client that does not read is dropped at MaxBacklogBytes, and counts once."""
    options = Options(max_backlog_bytes=20_000, max_packet_bytes=1 << 20)
    async with metered(transport=options) as meter:
        (speaker,) = await meter.server.members("a")
        if polls:
            session = fresh()
            await poll(meter.url, session)
            await send(meter.url, session, packet("connect", "slow", "room"))
        else:
            socket = await Socket.open(meter.url, "/echo/websocket", receive_buffer=4096)
            socket.wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
            socket.send(packet("connect", "slow", "room"))
        await speaker.heard()
        async with meter.moves(
            slow_consumers_dropped_total=1, leaves_total={"closed-by-server": 1}
        ):
            for _ in range(10):
                await speaker.send("broadcast", "a", "room", "x" * 900_000)


async def test_the_backlog_of_a_client_that_polls() -> None:
    """The bytes waiting for its next poll, exactly."""
    async with metered() as meter:
        (speaker,) = await meter.server.members("a")
        session = fresh()
        await poll(meter.url, session)
        text = packet("broadcast", "a", "room", "ä" * 100)
        await send(meter.url, session, packet("connect", "b", "room"))
        echo = await speaker.text()
        assert (
            await poll(meter.url, session) == framing.messages_frame([framing.quote(echo)]) + "\n"
        )
        async with meter.moves(backlog_bytes=2 * len(framing.quote(text))):
            await speaker.say(text)
            await speaker.say(text)
        async with meter.moves(backlog_bytes=-2 * len(framing.quote(text))):
            await poll(meter.url, session)


async def test_the_backlog_of_a_websocket() -> None:
    """The bytes that the kernel has not accepted, until the client reads."""
    async with metered(
        transport=Options(max_packet_bytes=1 << 24, max_backlog_bytes=None)
    ) as meter:
        (speaker,) = await meter.server.members("a")
        socket = await Socket.open(meter.url, "/echo/websocket", receive_buffer=4096)
        socket.send(packet("connect", "b", "room"))
        await socket.text()
        await speaker.heard()
        socket.wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        sent = 12_000_000  # more than the kernel buffers on loopback
        await speaker.send("broadcast", "a", "room", "x" * sent)
        await speaker.quiet()
        waiting = (await meter.values())["backlog_bytes"]
        assert 0 < waiting < sent + 200
        async with meter.moves(backlog_bytes=-waiting):
            socket.wire.writer.transport.resume_reading()  # type: ignore[attr-defined]
            await socket.text()


# The log.


async def test_packets_that_the_log_leaves_out() -> None:
    """At debug, packets beyond a batch are not logged, but counted."""
    async with metered() as meter:
        meter.log.logger.setLevel(logging.DEBUG)
        journal = meter.namespace.journal
        journal.flush()
        async with meter.moves(log_records_dropped_total={"sampled journal": 7}):
            for _ in range(BATCH_PACKETS + 7):
                journal.packet("/echo", "ping", "a", "room", 1)


def test_lines_that_were_not_written(tmp_path: Path) -> None:
    """A full disk and a full queue are counted separately, by target; as metrics, too."""
    logging_ = logs.Logging("info", Path("/dev/full"))
    logger = logging.getLogger("videre")
    journal = logs.Journal(logger)
    try:
        file = next(
            each.writer
            for each in logger.handlers
            if isinstance(each, Handler) and each.target == "file"
        )
        assert journal.losses == {
            ("journal", "sampled"): 0,
            **{(target, reason): 0 for target in ("terminal", "file") for reason in writers.LOSSES},
        }
        journal.record(logging.INFO, "one", {})
        journal.record(logging.INFO, "two", {})
    finally:
        logging_.end()
    assert file.losses == {"queue-full": 0, "unwritable": 2}


def test_lines_beyond_the_queue() -> None:
    """They are counted as they arrive."""

    class Stuck:
        """A disk that accepts nothing until a test releases it."""

        name = "stuck"

        def __init__(self) -> None:
            self.written = threading.Event()
            self.go_on = threading.Event()

        def write(self, lines: list[str]) -> None:
            """See Target.write."""
            self.written.set()
            self.go_on.wait(WAIT_SECONDS)
            raise OSError(errno.EIO, "broken")

        def close(self) -> None:
            """See Target.close."""

    target = Stuck()
    writer = writers.Writer(cast(Any, target), str)
    writer.start()
    writer.put(lambda: "first\nof two", 2)
    assert target.written.wait(WAIT_SECONDS)
    for _ in range(writers.QUEUE_LINES + 5):
        writer.put(lambda: "more")
    writer.put(lambda: "a batch", 3)
    assert writer.losses == {"queue-full": 8, "unwritable": 0}
    target.go_on.set()
    writers.end([writer])
    assert writer.losses == {"queue-full": 8, "unwritable": 2 + writers.QUEUE_LINES}


async def test_namespaces_that_share_a_log_count_its_losses_once() -> None:
    """Losses of separate logs are added up."""
    journal = logs.Journal(logging.getLogger("videre.shared"))
    journal.left_out = 5
    app = videre.create_app(Config(prefixes=("/a", "/b")), journal=journal)
    other = videre.setup(app, prefix="/c")
    other.journal.left_out = 2
    shared = [videre.setup(app, prefix=prefix, journal=journal) for prefix in ("/d", "/e")]
    registry = metrics.registry([*shared, other])
    text = metrics.exposition(registry)[0].decode()
    assert values_in(text)["log_records_dropped_total sampled journal"] == 7


# The event loop, and the process.


def test_the_lag_is_how_late_a_timer_is() -> None:
    """It is sampled twice a second, from start to stop."""
    clock = FakeClock()
    lag = Lag(clock, clock.later)
    clock.advance(10)
    assert lag.seconds.count == 0
    lag.start()
    clock.advance(LAG_INTERVAL)
    assert (lag.seconds.count, lag.seconds.sum) == (1, 0)
    (timer,) = clock.waiting
    timer.cancel()
    clock.now += LAG_INTERVAL + 0.75  # the loop hangs
    timer.call()
    assert (lag.seconds.count, lag.seconds.sum) == (2, pytest.approx(0.75))  # type: ignore[comparison-overlap]
    assert lag.seconds.counts[lag.seconds.bounds.index(1.0)] == 1
    lag.stop()
    lag.stop()
    clock.advance(10)
    assert lag.seconds.count == 2


async def test_the_lag_of_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is sampled while the application runs, once for all its namespaces."""
    monkeypatch.setattr("videre.tally.LAG_INTERVAL", 0.01)
    async with metered() as meter:
        lag = meter.namespace.lag

        async def sampled() -> bool:
            return (await meter.values())["event_loop_lag_seconds_count"] >= 3

        await until(sampled)
    assert lag._timer is None
    app = videre.create_app(Config(prefixes=("/a", "/b")))
    assert videre.setup(app, prefix="/c").lag is videre.setup(app, prefix="/d").lag


async def test_the_build_and_the_process() -> None:
    """The version, and the usual process metrics."""
    async with metered() as meter:
        values = await meter.values()
        assert values[f"build_info {__version__}"] == 1
        assert values["process_cpu_seconds_total"] > 0
        assert values["process_open_fds"] > 3
        assert "python_gc_collections_total 2" in values


# The exposition.


async def test_each_prefix_has_its_own() -> None:
    """Two namespaces share no series; the root's prefix is `/`."""
    config = Config(limits=Limits(join_timeout=None))
    app = videre.create_app(config)
    namespaces = [videre.setup(app, prefix=prefix, config=config) for prefix in ("/a", "/b/", "/")]
    app.add_routes(metrics.routes(metrics.registry(namespaces)))
    async with serving(app) as server:
        client = await server.client(prefix="/b")
        await client.join("x")
        text, _ = await exposed(f"{server.url}/metrics")
    assert 'videre_joins_total{prefix="/a"} 0.0' in text
    assert 'videre_joins_total{prefix="/b"} 1.0' in text
    assert 'videre_joins_total{prefix="/"} 0.0' in text


async def test_registries_share_nothing() -> None:
    """Two sites in one process have separate registries; the library's global one stays empty."""
    import prometheus_client

    async with metered() as one, metered() as two:
        await one.server.members("a")
        assert (await one.values())["joins_total"] == 1
        assert (await two.values())["joins_total"] == 0
    assert b"videre" not in prometheus_client.generate_latest(prometheus_client.REGISTRY)


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/html, */*", "text/plain; version=0.0.4; charset=utf-8"),
        (
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        ),
        ("application/openmetrics-text;version=x", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/plain;version=" + "9" * 5000, "text/plain; version=1.0.0; charset=utf-8"),
        ("," * 8000, "text/plain; version=0.0.4; charset=utf-8"),
    ],
)
async def test_the_format_is_what_is_asked_for(accept: str, content_type: str) -> None:
    """Prometheus' text or OpenMetrics; both are valid and not cached."""
    async with metered() as meter:
        await meter.server.members("a", "b")
        url = f"{meter.url}/metrics"
        text, told = await exposed(url, accept)
        assert told.startswith(content_type)
        parse = open_metrics if "openmetrics" in content_type else plain_text
        assert {family.name for family in parse(text)} >= {"videre_joins", "videre_packets"}
        async with meter.server.http.get(url) as answer:
            assert answer.headers["Cache-Control"] == "no-store"


async def test_names_and_units_are_conventional() -> None:
    """Prefix, base units, `_total`, a help sentence, and labels from a small set."""
    async with metered() as meter:
        await meter.server.members("a")
        text, _ = await exposed(
            f"{meter.url}/metrics", "application/openmetrics-text; version=1.0.0"
        )
    labels = {"prefix", "transport", "reason", "event", "direction", "code", "result", "step"}
    labels |= {"target", "version", "le"}
    ours = [family for family in open_metrics(text) if family.name.startswith("videre_")]  # type: ignore[no-untyped-call]
    assert len(ours) > 20
    for family in ours:
        assert family.documentation.endswith("."), family.name
        assert family.type != "unknown"
        assert not family.name.endswith(("_total", "_count", "_sum", "_info"))
        assert not any(unit in family.name for unit in ("_ms", "milli", "_kb", "_kilo"))
        if family.type == "histogram":
            assert family.name.endswith("_seconds")
        for sample in family.samples:
            assert sample.labels.keys() <= labels, sample
            assert (family.type == "counter") == sample.name.endswith("_total"), sample
