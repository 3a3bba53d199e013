"""Our own connections to a store: what leaves together, whose answer it is, what is lost."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import hiredis
import pytest
import uvloop
from patience import WAIT_SECONDS, patient
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeout
from valkey_server import redis_tls, until, valkey

from videre import engine_url
from videre.engines.redis.channels import Channels
from videre.engines.redis.servers import Script, Servers

GREETING = {"HELLO": b"%1\r\n+proto\r\n:3\r\n", "CLIENT": b"+OK\r\n"}
NO_SCRIPT = b"-NOSCRIPT No matching script.\r\n"

#: Returns what a server says to a command; "": nothing.
Say = Callable[[list[str]], bytes]


class Fake:
    """A server that says what a test wants; it keeps what it was asked, and in how many pieces."""

    def __init__(self) -> None:
        self.say: Say = lambda words: b"+OK\r\n"
        self.asked: list[list[str]] = []  # without the greetings
        self.pieces = 0
        self.writers: list[asyncio.StreamWriter] = []
        self.serving: list[asyncio.Task[None]] = []
        self.port = 0

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Begin to answer on one connection."""
        self.writers.append(writer)
        self.serving.append(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = hiredis.Reader(encoding="utf-8")
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(1 << 20):
                self.pieces += 1
                parser.feed(piece)
                while (words := parser.gets()) is not False:
                    if words[0] in GREETING:
                        writer.write(GREETING[words[0]])
                        continue
                    self.asked.append(words)
                    writer.write(self.say(words))
        writer.close()

    async def has_heard(self, count: int) -> None:
        """Return once so many commands have come."""

        async def heard() -> bool:
            return len(self.asked) >= count

        await until(heard)


@pytest.fixture
async def fake() -> AsyncIterator[Fake]:
    """Run a server."""
    async with fake_server() as fake:
        yield fake


@contextlib.asynccontextmanager
async def fake_server() -> AsyncIterator[Fake]:
    """Run a server, on this loop."""
    fake = Fake()
    server = await asyncio.start_server(fake.accept, "127.0.0.1", 0)
    fake.port = server.sockets[0].getsockname()[1]
    yield fake
    server.close()
    for writer in fake.writers:
        writer.close()
    await asyncio.gather(*fake.serving)


@contextlib.asynccontextmanager
async def servers_at(port: int, seconds: float = WAIT_SECONDS) -> AsyncIterator[Servers]:
    """Give a way to a server."""
    servers = Servers(engine_url.read(f"redis://127.0.0.1:{port}"), seconds)
    try:
        yield servers
    finally:
        await servers.close()


def echo(words: list[str]) -> bytes:
    """Say the last word again."""
    return f"+{words[-1]}\r\n".encode()


async def test_calls_of_one_turn_leave_together(fake: Fake) -> None:
    """In one piece, and each gets its own answer."""
    fake.say = echo
    async with servers_at(fake.port) as servers:
        assert await servers.call("key", ("ECHO", "first")) == "first"
        before = fake.pieces
        calls = [servers.call("key", ("ECHO", str(number))) for number in range(100)]
        assert await asyncio.gather(*calls) == [str(number) for number in range(100)]
        assert fake.pieces == before + 1
        assert len(fake.writers) == 1


async def test_who_does_not_wait_any_more_gets_no_answer(fake: Fake) -> None:
    """The others still get theirs."""
    fake.say = lambda words: b"" if words[-1] != "3" else b"+1\r\n+2\r\n+3\r\n"
    async with servers_at(fake.port) as servers:
        asked = [asyncio.create_task(servers.call("key", ("ECHO", n))) for n in ("1", "2")]
        await fake.has_heard(2)
        asked[0].cancel()
        assert await servers.call("key", ("ECHO", "3")) == "3"
        assert await asked[1] == "2"


async def test_an_error_is_the_callers_alone(fake: Fake) -> None:
    """An error that the server answers costs no connection, nor does a notice of its own."""
    fake.say = lambda words: b"-ERR no\r\n" if words[-1] == "bad" else b">1\r\n+news\r\n+fine\r\n"
    async with servers_at(fake.port) as servers:
        bad, good = await asyncio.gather(
            servers.call("key", ("ECHO", "bad")),
            servers.call("key", ("ECHO", "good")),
            return_exceptions=True,
        )
        assert isinstance(bad, ResponseError) and good == "fine"
        assert len(fake.writers) == 1


async def test_what_may_have_been_done_is_not_sent_again(fake: Fake) -> None:
    """The server closes in the middle: the calls fail, and the next one has a new connection."""
    fake.say = lambda words: b""
    async with servers_at(fake.port) as servers:
        asked = [asyncio.create_task(servers.call("key", ("STEP", str(n)))) for n in range(3)]
        await fake.has_heard(3)
        fake.writers[0].close()
        for found in await asyncio.gather(*asked, return_exceptions=True):
            assert isinstance(found, RedisConnectionError)
        fake.say = echo
        assert await servers.call("key", ("STEP", "new")) == "new"
        assert [words[-1] for words in fake.asked] == ["0", "1", "2", "new"]
        assert len(fake.writers) == 2


async def test_a_server_that_hangs_costs_the_connection(fake: Fake) -> None:
    """What waits fails in time, also what has not left yet, which never does."""
    fake.say = lambda words: b""
    async with servers_at(fake.port, patient(0.3)) as servers:
        found = await asyncio.gather(
            *(servers.call("key", ("STEP", str(n))) for n in range(3)), return_exceptions=True
        )
        assert all(isinstance(each, RedisTimeout) for each in found), found
        fake.say = echo
        assert await servers.call("key", ("STEP", "new")) == "new"
        assert len(fake.writers) == 2


async def test_a_replica_is_left(fake: Fake) -> None:
    """A primary that has become one refuses; whoever is the primary now is looked for."""
    fake.say = lambda words: b"-READONLY You can't write against a read only replica.\r\n"
    async with servers_at(fake.port) as servers:
        with pytest.raises(ReadOnlyError):
            await servers.call("key", ("STEP", "1"))
        fake.say = echo
        assert await servers.call("key", ("STEP", "2")) == "2"
        assert len(fake.writers) == 2


async def test_a_script_is_sent_once(fake: Fake, tmp_path: Path) -> None:
    """However many calls find that the server does not have it."""
    (tmp_path / "script.lua").write_text("return 1")
    known = False

    def say(words: list[str]) -> bytes:
        nonlocal known
        if words[0] == "EVALSHA" and not known:
            return NO_SCRIPT
        known = True
        return b":1\r\n"

    fake.say = say
    async with servers_at(fake.port) as servers:
        script = Script(servers, tmp_path / "script.lua")
        found = await asyncio.gather(*(script(("key",), str(n)) for n in range(20)))
        assert found == [1] * 20
        sent = [words for words in fake.asked if words[0] == "EVAL"]
        assert len(sent) == 1 and sent[0][1] == "return 1"


async def test_a_server_that_cannot_be_reached(fake: Fake) -> None:
    """All that wait for the one attempt hear why; the next call tries again."""
    async with servers_at(1) as servers:
        for _ in range(2):
            found = await asyncio.gather(
                *(servers.call("key", ("STEP", str(n))) for n in range(3)), return_exceptions=True
            )
            assert all(isinstance(each, RedisConnectionError) for each in found), found


@pytest.mark.process
async def test_what_is_closed_while_it_connects(tmp_path: Path) -> None:
    """Nothing stays open: neither redis-py's connection nor ours (ResourceWarning is an error)."""
    async with valkey(tmp_path) as server:
        for turns in range(12):
            async with servers_at(server.port) as servers:
                asked = asyncio.create_task(servers.call("key", ("PING",)))
                for _ in range(turns):
                    await asyncio.sleep(0)
            found = (await asyncio.gather(asked, return_exceptions=True))[0]
            assert found == "PONG" or isinstance(found, (OSError, asyncio.CancelledError))
            gc.collect()

        async def alone() -> bool:
            clients = await server.ask("INFO", "clients")
            return bool(clients["connected_clients"] == 1)

        await until(alone)


@pytest.mark.process
async def test_what_redis_py_hands_over(tmp_path: Path) -> None:
    """Of redis-py's connection we take `_reader` and `_writer`, which are private to it.

    Afterwards it must know of no connection: when it is garbage, it would close ours.
    """
    async with valkey(tmp_path) as server, servers_at(server.port) as servers:
        made: list[Any] = []
        make = servers.client.connection_pool.make_connection

        def kept() -> Any:
            made.append(make())
            return made[-1]

        servers.client.connection_pool.make_connection = kept
        assert await servers.call("key", ("PING",)) == "PONG"
        (connection,) = made
        assert not connection.is_connected
        made.clear()
        del connection
        gc.collect()
        assert await servers.call("key", ("PING",)) == "PONG"
        name = await servers.call("key", ("CLIENT", "LIST", "ID", await client_id(servers)))
        assert "lib-name=redis-py" in name and "resp=3" in name


async def client_id(servers: Servers) -> str:
    """Return the id of our connection at the server."""
    return str(await servers.call("key", ("CLIENT", "ID")))


# Messages.


class Ears:
    """The channels of a server, and what is heard on them."""

    def __init__(self, servers: Servers, timeout: float) -> None:
        self._servers = servers
        self.heard: list[tuple[str, str]] = []
        self.broken = asyncio.Event()
        self.channels = Channels(
            take=lambda channel, text: self.heard.append((channel, text)),
            broken=self.broken.set,
            timeout=timeout,
        )

    async def subscribe(self, channel: str) -> None:
        """Subscribe to a sharded channel."""
        await self.channels.subscribe(channel, "", self._servers.client, True)


@contextlib.asynccontextmanager
async def ears_at(port: int, seconds: float = WAIT_SECONDS) -> AsyncIterator[Ears]:
    """Give ears at a server."""
    async with servers_at(port, seconds) as servers:
        ears = Ears(servers, seconds)
        try:
            yield ears
        finally:
            await ears.channels.end()


def subscribed(words: list[str]) -> bytes:
    """Confirm a subscription, and answer a ping."""
    if words[0] == "SSUBSCRIBE":
        return f">3\r\n+ssubscribe\r\n+{words[1]}\r\n:1\r\n".encode()
    return b"+PONG\r\n"


async def quiet_server() -> None:
    """As long as it answers it is believed; then the subscriptions are lost, once."""
    async with fake_server() as fake:
        fake.say = subscribed
        async with ears_at(fake.port, patient(0.2)) as ears:
            await asyncio.gather(ears.subscribe("a"), ears.subscribe("b"))
            await fake.has_heard(2 + 5)
            assert [words[0] for words in fake.asked[2:]] == ["PING"] * len(fake.asked[2:])
            assert not ears.broken.is_set() and len(fake.writers) == 1
            fake.say = lambda words: b""
            await asyncio.wait_for(ears.broken.wait(), WAIT_SECONDS)


async def test_a_quiet_server_is_asked_whether_it_is_there() -> None:
    """On asyncio's loop."""
    await quiet_server()


def test_a_quiet_server_on_uvloop() -> None:
    """Its clock counts milliseconds: an answer comes at the time at which it was asked for."""
    uvloop.run(quiet_server())


@pytest.mark.process
def test_tls_on_uvloop(tmp_path: Path) -> None:
    """Its transports are handed over like asyncio's, with TLS too."""

    async def calls() -> None:
        async with redis_tls(tmp_path) as server:
            servers = Servers(engine_url.read(server.url), WAIT_SECONDS)
            try:
                asked = [servers.call("key", ("ECHO", str(n) * 1000)) for n in range(200)]
                assert await asyncio.gather(*asked) == [str(n) * 1000 for n in range(200)]
                ears = Ears(servers, WAIT_SECONDS)
                await ears.subscribe("a")
                await servers.call("a", ("SPUBLISH", "a", "text"))
                await until(lambda: is_so(ears.heard == [("a", "text")]))
                await ears.channels.end()
            finally:
                await servers.close()

    uvloop.run(calls())


async def is_so(met: bool) -> bool:
    """Return a condition, for `until`."""
    return met


async def test_a_channel_that_has_gone_to_another_server(fake: Fake) -> None:
    """A server says so by itself: the subscriptions are lost."""
    fake.say = subscribed
    async with ears_at(fake.port) as ears:
        await ears.subscribe("a")
        fake.writers[0].write(
            b">3\r\n+smessage\r\n+a\r\n+text\r\n>3\r\n+sunsubscribe\r\n+a\r\n:0\r\n"
        )
        await asyncio.wait_for(ears.broken.wait(), WAIT_SECONDS)
        assert ears.heard == [("a", "text")]


async def test_a_subscription_that_is_refused(fake: Fake) -> None:
    """Whoever subscribes gets the error of the server."""
    fake.say = lambda words: b"-NOPERM No permissions\r\n"
    async with ears_at(fake.port) as ears:
        with pytest.raises((ResponseError, ConnectionError)):
            await ears.subscribe("a")
        assert ears.broken.is_set()
