"""Our own connections to a store: pipelining, matching of answers, and losses."""

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
from skipping import skip
from valkey_server import redis_tls, until, valkey

from videre import engine_url
from videre.engines.redis.channels import Channels
from videre.engines.redis.servers import Script, Servers

GREETING = {"HELLO": b"%1\r\n+proto\r\n:3\r\n", "CLIENT": b"+OK\r\n"}
NO_SCRIPT = b"-NOSCRIPT No matching script.\r\n"

#: Returns what the server answers to a command; "" for nothing.
Say = Callable[[list[str]], bytes]


class Fake:
    """A scripted server that keeps its commands, and the number of chunks they came in."""

    def __init__(self) -> None:
        self.say: Say = lambda words: b"+OK\r\n"
        self.asked: list[list[str]] = []  # without those of the greeting
        self.pieces = 0
        self.writers: list[asyncio.StreamWriter] = []
        self.serving: list[asyncio.Task[None]] = []
        self.port = 0

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
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
        """Return once this many commands have arrived."""

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
    """Run a scripted server on this loop."""
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
    """Give a node's connections to a server."""
    servers = Servers(engine_url.read(f"redis://127.0.0.1:{port}"), seconds)
    try:
        yield servers
    finally:
        await servers.close()


def echo(words: list[str]) -> bytes:
    """Return the command's last word."""
    return f"+{words[-1]}\r\n".encode()


async def test_calls_of_one_turn_are_sent_together(fake: Fake) -> None:
    """They go out in one write, and each gets its own answer."""
    fake.say = echo
    async with servers_at(fake.port) as servers:
        assert await servers.call("key", ("ECHO", "first")) == "first"
        before = fake.pieces
        calls = [servers.call("key", ("ECHO", str(number))) for number in range(100)]
        assert await asyncio.gather(*calls) == [str(number) for number in range(100)]
        assert fake.pieces == before + 1
        assert len(fake.writers) == 1


async def test_a_cancelled_call_gets_no_answer(fake: Fake) -> None:
    """The other calls still get theirs."""
    fake.say = lambda words: b"" if words[-1] != "3" else b"+1\r\n+2\r\n+3\r\n"
    async with servers_at(fake.port) as servers:
        asked = [asyncio.ensure_future(servers.call("key", ("ECHO", n))) for n in ("1", "2")]
        await fake.has_heard(2)
        asked[0].cancel()
        assert await servers.call("key", ("ECHO", "3")) == "3"
        assert await asked[1] == "2"


async def test_an_error_reaches_its_caller_only(fake: Fake) -> None:
    """Neither a server's error nor its push message costs the connection."""
    fake.say = lambda words: b"-ERR no\r\n" if words[-1] == "bad" else b">1\r\n+news\r\n+fine\r\n"
    async with servers_at(fake.port) as servers:
        bad, good = await asyncio.gather(
            servers.call("key", ("ECHO", "bad")),
            servers.call("key", ("ECHO", "good")),
            return_exceptions=True,
        )
        assert isinstance(bad, ResponseError) and good == "fine"  # type: ignore[has-type]
        assert len(fake.writers) == 1


async def test_a_call_that_may_have_been_carried_out_is_not_repeated(fake: Fake) -> None:
    """If the server closes in the middle, the calls fail, and the next one opens a connection."""
    fake.say = lambda words: b""
    async with servers_at(fake.port) as servers:
        asked = [asyncio.ensure_future(servers.call("key", ("STEP", str(n)))) for n in range(3)]
        await fake.has_heard(3)
        fake.writers[0].close()
        for found in await asyncio.gather(*asked, return_exceptions=True):
            assert isinstance(found, RedisConnectionError)
        fake.say = echo
        assert await servers.call("key", ("STEP", "new")) == "new"
        assert [words[-1] for words in fake.asked] == ["0", "1", "2", "new"]
        assert len(fake.writers) == 2


async def test_a_server_that_hangs_costs_the_connection(fake: Fake) -> None:
    """All waiting calls fail in time, and those not sent yet are never sent."""
    fake.say = lambda words: b""
    async with servers_at(fake.port) as servers:
        asked = [asyncio.ensure_future(servers.call("key", ("STEP", str(n)))) for n in range(3)]
        await fake.has_heard(3)
        skip(WAIT_SECONDS)
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(each, RedisTimeout) for each in found), found
        fake.say = echo
        assert await servers.call("key", ("STEP", "new")) == "new"
        assert len(fake.writers) == 2


async def test_a_demoted_primary_is_left(fake: Fake) -> None:
    """A primary that became a replica refuses; the node looks for the new primary."""
    fake.say = lambda words: b"-READONLY You can't write against a read only replica.\r\n"
    async with servers_at(fake.port) as servers:
        with pytest.raises(ReadOnlyError):
            await servers.call("key", ("STEP", "1"))
        fake.say = echo
        assert await servers.call("key", ("STEP", "2")) == "2"
        assert len(fake.writers) == 2


async def test_a_script_is_sent_once(fake: Fake, tmp_path: Path) -> None:
    """This holds however many calls find that the server lacks the script."""
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
    """All calls that wait for one attempt get its error; the next call tries again."""
    async with servers_at(1) as servers:
        for _ in range(2):
            found = await asyncio.gather(
                *(servers.call("key", ("STEP", str(n))) for n in range(3)), return_exceptions=True
            )
            assert all(isinstance(each, RedisConnectionError) for each in found), found


@pytest.mark.process
async def test_closing_while_connecting(tmp_path: Path) -> None:
    """Neither redis-py's connection nor ours stays open (ResourceWarning is an error)."""
    async with valkey(tmp_path) as server:
        for turns in range(12):
            async with servers_at(server.port) as servers:
                asked = asyncio.ensure_future(servers.call("key", ("PING",)))
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
async def test_what_we_take_from_redis_py(tmp_path: Path) -> None:
    """We take `_reader` and `_writer`, private attributes of redis-py's connection.

    It must hold neither afterwards: when it is collected, it would close our connection.
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
    """Return the id of our connection on the server."""
    return str(await servers.call("key", ("CLIENT", "ID")))


# Messages.


class Ears:
    """The channels of a server, and the messages heard on them."""

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
    """Give the channels of a server."""
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
    """Pings keep its subscriptions alive while it answers; then they are lost, once."""
    async with fake_server() as fake:
        fake.say = subscribed
        async with ears_at(fake.port, patient(0.2)) as ears:
            await asyncio.gather(ears.subscribe("a"), ears.subscribe("b"))
            await fake.has_heard(2 + 5)
            assert [words[0] for words in fake.asked[2:]] == ["PING"] * len(fake.asked[2:])
            assert not ears.broken.is_set() and len(fake.writers) == 1
            fake.say = lambda words: b""
            await asyncio.wait_for(ears.broken.wait(), WAIT_SECONDS)


async def test_a_quiet_server_is_pinged() -> None:
    """This is the case on asyncio's loop."""
    await quiet_server()


def test_a_quiet_server_on_uvloop() -> None:
    """uvloop's clock counts milliseconds, so an answer may have the same time as its ping."""
    uvloop.run(quiet_server())


@pytest.mark.process
def test_tls_on_uvloop(tmp_path: Path) -> None:
    """uvloop's transports are handed over like asyncio's, with TLS too."""

    async def calls() -> None:
        async with redis_tls(tmp_path) as server:
            servers = Servers(engine_url.read(server.url), WAIT_SECONDS)
            try:
                asked = [servers.call("key", ("ECHO", str(n) * 1000)) for n in range(200)]
                assert await asyncio.gather(*asked) == [str(n) * 1000 for n in range(200)]
                ears = Ears(servers, WAIT_SECONDS)
                await ears.subscribe("a")
                await servers.call("a", ("SPUBLISH", "a", "text"))
                await until(lambda: as_coroutine(ears.heard == [("a", "text")]))
                await ears.channels.end()
            finally:
                await servers.close()

    uvloop.run(calls())


async def as_coroutine(met: bool) -> bool:
    """Return a condition as a coroutine, for `until`."""
    return met


async def test_a_channel_that_moved_to_another_server(fake: Fake) -> None:
    """The server says so, and the subscriptions count as lost."""
    fake.say = subscribed
    async with ears_at(fake.port) as ears:
        await ears.subscribe("a")
        fake.writers[0].write(
            b">3\r\n+smessage\r\n+a\r\n+text\r\n>3\r\n+sunsubscribe\r\n+a\r\n:0\r\n"
        )
        await asyncio.wait_for(ears.broken.wait(), WAIT_SECONDS)
        assert ears.heard == [("a", "text")]


async def test_a_refused_subscription(fake: Fake) -> None:
    """The subscriber gets the server's error."""
    fake.say = lambda words: b"-NOPERM No permissions\r\n"
    async with ears_at(fake.port) as ears:
        with pytest.raises((ResponseError, ConnectionError)):
            await ears.subscribe("a")
        assert ears.broken.is_set()


async def test_a_subscription_without_an_answer(
    fake: Fake, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says why the subscriptions are lost; the error itself has no text."""
    fake.say = lambda words: b""
    async with ears_at(fake.port, patient(0.2)) as ears:
        with pytest.raises((TimeoutError, RedisTimeout)):
            await ears.subscribe("a")
    assert caplog.messages == ["lost the subscription to the store: no answer in time"]
