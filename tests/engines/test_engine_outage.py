"""A store that cannot be used: the log, `/ready` and the command say why."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from documents import claim
from engine_nodes import LEASE, Node, nodes_on
from inprocess import serving
from oneshot import Done, run
from patience import WAIT_SECONDS, eventually
from ports import free_port
from process import ROOT, signaller
from redis.asyncio import RedisCluster
from redis.asyncio.sentinel import MasterNotFoundError
from redis.exceptions import ConnectionError as RedisConnectionError
from valkey_server import Valkey, redis_binary, redis_tls, valkey

import videre
from videre import engine_url
from videre.config import Config
from videre.engines import choice
from videre.engines.redis import outage, permissions
from videre.engines.redis.connecting import connect
from videre.engines.redis.outage import REMINDER_SECONDS, Outage, reason
from videre.errors import EngineError

pytestmark = pytest.mark.process

#: The rule of docs/cluster.md, which must be sufficient.
ENOUGH = claim("docs/cluster.md", "ACL SETUSER").text.partition(">secret ")[2].strip()

#: Insufficient rules, and the right that each one lacks.
TOO_LITTLE = {
    "+@all ~*": "its user may not use the channels videre:*;",
    "+@all -@dangerous ~videre:* &videre:*": "its user may not INFO;",
    "+@all ~other:* &*": "its user may not use the keys videre:*;",
    "+@all -publish -spublish ~videre:* &videre:*": "its user may not SPUBLISH;",
    "+@all -subscribe -ssubscribe ~videre:* &videre:*": "its user may not SSUBSCRIBE;",
    "+@all -sunsubscribe ~videre:* &videre:*": "its user may not SUNSUBSCRIBE;",
    "+@all -hset -zadd ~videre:* &videre:*": "its user may not HSET, ZADD;",
    "+@all -@write ~videre:* &videre:*": "its user may not DEL, HDEL, HSET, LPOP,",
    "+@all -eval ~videre:* &videre:*": "'eval'",
    "-@all ~videre:* &videre:*": "has no permissions to run",
}


def users(*rules: str) -> list[str]:
    """Return options that give a server a user per rule (u0, u1, ...), with a password."""
    words = [
        f"--user u{n} on >pa:ss@word resetkeys resetchannels {rule}" for n, rule in enumerate(rules)
    ]
    return " ".join(words).split()


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Valkey]:
    """Run a server with a password and a user for each rule."""
    options = users(ENOUGH, *TOO_LITTLE)
    async with valkey(tmp_path, *options) as server:
        await server.ask("CONFIG", "SET", "requirepass", "good")
        yield server


def logged_errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the errors that were logged."""
    return [each.getMessage() for each in caplog.records if each.levelno == logging.ERROR]


async def test_each_reason_is_logged(
    tmp_path: Path, guarded: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    """One line at the start has the URL without its password, and all joins are refused."""
    here = f"127.0.0.1:{guarded.port}"
    (tls := tmp_path / "tls").mkdir()
    async with redis_tls(tls) as secure:
        there = f"localhost:{secure.port}"
        found = {
            f"redis://:pass-1@{here}": "invalid username-password pair or user is disabled",
            f"redis://{here}": "it requires a password",
            f"redis://127.0.0.1:{free_port()}": "Connection refused",
            "redis://no-such-host.invalid:6379": "Name or service not known",
            f"rediss://:pass-1@{here}": "no answer in time; does it speak TLS?",
            f"rediss://{here}?ssl_ca_certs=/no/such/file": "No such file or directory",
            f"rediss://:secret@{there}": "its certificate is invalid: self-signed certificate",
            f"redis://:secret@{there}": "; does it require TLS?",
            f"redis://:good@{here}/77": "DB index is out of range",
            f"redis+cluster://:good@{here}": "This instance has cluster support disabled",
            f"redis+cluster://127.0.0.1:{free_port()}": "Connection refused",
            f"redis+sentinel://127.0.0.1:{free_port()}/main": (
                "no Sentinel knows a server called 'main' (ConnectionError)"
            ),
        }
        for url, why in found.items():
            caplog.clear()
            seconds = 0.6 if "no answer" in why else LEASE  # of which a command has a third
            async with nodes_on(url) as nodes:
                node = await nodes.add(node_timeout=seconds)
                if why.startswith("; "):  # split off by redis-py one way or another
                    why = node.engine.fault.partition(";")[0] + why
                assert node.engine.fault == why
                with pytest.raises(EngineError):
                    await node.join("a")
            (line,) = logged_errors(caplog)
            assert line.startswith(f"the store cannot be used: {why} ({url.split(':')[0]}://")
            assert "@" not in line and "pass-1" not in line and "secret" not in line
            assert not [each for each in caplog.records if each.exc_info]
            tried = await choice.attempt(url, "", seconds)
            assert tried.partition(";")[2] == why.partition(";")[2]
            assert "TLS?" in why or tried == why


async def test_a_user_without_all_rights_is_not_ready(guarded: Valkey) -> None:
    """The missing right shows before the first client comes; the documented rule is sufficient."""
    for number, why in enumerate(TOO_LITTLE.values(), 1):
        url = f"redis://u{number}:pa%3Ass%40word@127.0.0.1:{guarded.port}"
        async with nodes_on(url) as nodes:
            node = await nodes.add()
            assert not node.engine._node.ready and why in node.engine.fault, node.engine.fault
    async with nodes_on(f"redis://u0:pa%3Ass%40word@127.0.0.1:{guarded.port}") as nodes:
        await works(await nodes.add(), await nodes.add())


async def works(one: Node, other: Node) -> None:
    """Check that all operations of rooms are allowed."""
    assert one.engine.fault == other.engine.fault == ""
    a = await one.join("a", ticket="t")
    await other.join("b")
    await one.hears("joined", "joined")
    await one.engine.publish("room", a, "text")
    await other.hears("joined", "sent")
    assert await one.engine.rooms(None, 10) == ["room"]
    one.engine.lose("room", "a", a)
    assert (await other.resume("a", "t", 1))[1] == []
    assert await other.engine.remove("room", "b", "gone")
    assert await one.engine.members("room") == ["a"]


async def test_the_rule_is_sufficient_on_redis_7(tmp_path: Path) -> None:
    """Debian's Redis has sharded channels too."""
    binary = redis_binary(tmp_path)
    async with valkey(tmp_path, *users(ENOUGH, "+@all ~*"), binary=binary) as server:
        async with nodes_on(f"redis://u0:pa%3Ass%40word@127.0.0.1:{server.port}") as nodes:
            await works(await nodes.add(), await nodes.add())
        async with nodes_on(f"redis://u1:pa%3Ass%40word@127.0.0.1:{server.port}") as nodes:
            assert "the channels videre:*" in (await nodes.add()).engine.fault


async def test_the_rule_is_sufficient_on_a_cluster(cluster_url: str) -> None:
    """A user with fewer rights on one of its servers is not ready."""
    admin = RedisCluster.from_url(cluster_url.replace("+cluster", ""))
    everywhere = {"target_nodes": RedisCluster.ALL_NODES}
    try:
        for user, rule in (("u0", ENOUGH), ("u1", ENOUGH)):
            words = ["on", ">pw", "resetkeys", "resetchannels", *rule.split()]
            await admin.execute_command("ACL SETUSER", user, *words, **everywhere)
        last = admin.get_nodes()[-1]
        await admin.execute_command("ACL SETUSER", "u1", "-hkeys", target_nodes=last)
    finally:
        await admin.aclose()
    async with nodes_on(cluster_url.replace("//", "//u0:pw@")) as nodes:
        await works(await nodes.add(), await nodes.add())
    async with nodes_on(cluster_url.replace("//", "//u1:pw@")) as nodes:
        assert "its user may not HKEYS" in (await nodes.add()).engine.fault


async def test_a_right_is_revoked_and_granted_again(guarded: Valkey) -> None:
    """The node is not ready from its next step on, and recovers by itself."""
    admin = f"redis://:good@127.0.0.1:{guarded.port}"
    guarded.url = admin
    url = f"redis://u0:pa%3Ass%40word@127.0.0.1:{guarded.port}"
    async with nodes_on(url) as nodes:
        node = await nodes.add()
        a = await node.join("a")
        await guarded.ask("ACL", "SETUSER", "u0", "-spublish")
        with pytest.raises(EngineError):
            await node.engine.publish("room", a, "text")
        await nodes.until(lambda: "its user may not SPUBLISH" in node.engine.fault)
        await nodes.elapse(LEASE)  # for some beats, none of which makes it ready
        assert not node.engine._node.ready
        await guarded.ask("ACL", "SETUSER", "u0", "+spublish")
        await node.is_ready()
        await node.keep_publishing(a, "on we go")


def test_all_commands_of_scripts_and_client_are_checked() -> None:
    """A command added to a script is also checked among the user's rights; one removed, no more."""
    folder = ROOT / "videre" / "engines" / "redis"
    scripts = "".join((folder / each).read_text() for each in ("room.lua", "nodes.lua"))
    given = {*re.findall(r"redis\.p?call\('([A-Z]+)'", scripts)} | {"SADD", "SREM"}
    assert given - {*permissions.ON_KEYS} == {"TIME", "INFO"}
    asked = {*permissions.ON_KEYS} | {command[0] for command in permissions.PLAIN}
    client = (folder / "store.py").read_text() + (folder / "channels.py").read_text()
    methods = {each.upper() for each in re.findall(r"(?:ask|client|pubsub)\.(\w+)\(", client)}
    methods -= {"ACLOSE", "PIPELINE", "EXECUTE", "INITIALIZE", "GET_NODE_FROM_KEY", "PUBSUB"}
    methods -= {"GET_MESSAGE", "EXECUTE_COMMAND", "CANCELLING", "DONE"}
    assert methods and methods <= asked, methods - asked
    assert {*permissions.ON_KEYS} <= given | methods, "more than rooms need"
    ours = client + (folder / "servers.py").read_text() + (folder / "calls.py").read_text()
    words = {*re.findall(r'"([A-Z]{4,})"', ours)} - {"SPUBLISH", "PUBLISH"}
    on_channels = {f"{kind}{word}SUBSCRIBE" for kind in ("", "S") for word in ("", "UN")}
    assert words - on_channels - asked == {"ASKING"}  # only for clusters; no user can be denied it


# How often it is logged.


def test_an_outage_is_logged_at_once_and_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """Each reason has its own minute; an outage after a recovery is a new one."""
    one = Outage("redis://h")
    refused, full = EngineError("refused"), EngineError("full")
    for now in range(0, 120):
        one.tell(refused, float(now))
    assert logged_errors(caplog) == [
        "the store cannot be used: refused (redis://h)",
        "the store still cannot be used: refused (redis://h)",
    ]
    one.tell(full, 120.0)
    one.tell(refused, 120.5)
    assert len(logged_errors(caplog)) == 4 and one.reason == "refused"
    one.pause()
    one.end()
    assert one.reason == ""
    one.tell(refused, 121.0)
    assert logged_errors(caplog)[4:] == ["the store cannot be used: refused (redis://h)"]


def test_reasons_that_differ_each_time(caplog: pytest.LogCaptureFixture) -> None:
    """A server with a new message each time fills neither the log nor the memory."""
    one = Outage("redis://h")
    for number in range(1_000):
        one.tell(EngineError(f"reason {number} " + "x" * 10_000), number * REMINDER_SECONDS / 100)
    lines = logged_errors(caplog)
    assert len(lines) < outage.MAX_REASONS + 1_000 / 100 * outage.MAX_REASONS
    assert max(map(len, lines)) < 400
    assert len(one._told) <= outage.MAX_REASONS


def caused(error: Exception, *causes: Exception) -> Exception:
    """Return an error with these causes, nearest first."""
    if causes:
        error.__cause__ = caused(*causes)
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (EngineError("in our words"), "in our words"),
        (caused(EngineError("x"), OSError(113, "Connect call failed ('10.0.0.1', 9)")),
         "No route to host"),
        (caused(EngineError("x"), RedisConnectionError("a"), ssl.SSLError(1, "wrong version")),
         "TLS fails: wrong version"),
        (caused(EngineError("x"), RedisConnectionError("two\nlines")), "two lines"),
        (caused(EngineError("x"), TimeoutError()), "no answer in time"),
        (caused(EngineError("x"), KeyError("a mistake")), "x"),
        (caused(EngineError("x"), MasterNotFoundError("No master found for 'main'")),
         "no Sentinel knows a server called 'main'"),
        (KeyError(), "KeyError"),
    ],
)  # fmt: skip
def test_words_of_a_reason(error: Exception, words: str) -> None:
    """They name the first known cause, and no address."""
    assert reason(error) == words


async def test_a_dead_connection_in_the_pool_is_no_reason(tmp_path: Path) -> None:
    """redis-py finds it dead, then cannot open another one: only that is the reason."""
    async with valkey(tmp_path) as server:
        client = connect(engine_url.read(server.url))
        try:
            await client.ping()
            (pooled,) = client.connection_pool._available_connections
            await server.stop()
            await eventually(pooled._reader.at_eof)
            with pytest.raises(RedisConnectionError) as failed:
                await client.ping()
        finally:
            await client.aclose()
    assert reason(failed.value) == "Connection refused"


# Where it shows.


async def test_readiness_says_why(guarded: Valkey) -> None:
    """It does so as long as the outage lasts."""
    url = f"redis://:wrong-one@127.0.0.1:{guarded.port}"
    app = videre.create_app(Config(engine=url, node_timeout=3.0))
    async with serving(app) as server, aiohttp.ClientSession() as http:
        async with http.get(f"{server.url}/ready") as answer:
            assert answer.status == 503
            assert await answer.json() == {
                "Status": "unavailable",
                "Reason": "invalid username-password pair or user is disabled",
            }
        guarded.url = f"redis://:good@127.0.0.1:{guarded.port}"
        await guarded.ask("CONFIG", "SET", "requirepass", "wrong-one")

        async def ready() -> bool:
            async with http.get(f"{server.url}/ready") as answer:
                return answer.status == 200 and await answer.json() == {"Status": "ready"}

        async with asyncio.timeout(WAIT_SECONDS):
            while not await ready():  # noqa: ASYNC110  # there is nothing else to wait for
                await asyncio.sleep(0.05)


async def test_the_command_says_why(tmp_path: Path) -> None:
    """The reason is on the terminal, below the listening address, and in the log."""
    url = f"redis://:wrong-one@127.0.0.1:{free_port()}"
    config = {"Engine": url, "LogFile": str(tmp_path / "debug.log"), "Prefix": ["/a", "/b"]}
    async with signaller(tmp=tmp_path, config=config) as running:
        await running.stop()
    said = [line for line in running.output if "Not ready" in line]
    assert said == ["Not ready: Connection refused"]
    log = (tmp_path / "debug.log").read_text()
    assert log.count("the store cannot be used: Connection refused (redis://127.0.0.1:") == 2
    assert "wrong-one" not in log


async def test_one_server_of_a_cluster_is_no_store(cluster_url: str) -> None:
    """It has some of the rooms only, whichever of them its URL names."""
    alone = cluster_url.replace("+cluster", "")
    async with nodes_on(alone) as nodes:
        node = await nodes.add()
        for why in (node.engine.fault, await choice.attempt(alone, "", LEASE)):
            assert why == "it is one server of a cluster, which needs redis+cluster://"
    assert await choice.attempt(cluster_url, "", LEASE) == ""


async def test_a_replica_is_no_store(tmp_path: Path) -> None:
    """It refuses writes: neither `--check --connect` nor the start takes it for a store."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    async with valkey(tmp_path / "first") as first:
        options = ("--replicaof", f"127.0.0.1 {first.port}")
        async with valkey(tmp_path / "second", *options) as second, nodes_on(second.url) as nodes:
            node = await nodes.add()
            for why in (node.engine.fault, await choice.attempt(second.url, "", LEASE)):
                assert why.startswith("You can't write against a read only replica")
            await second.ask("REPLICAOF", "NO", "ONE")
            await node.is_ready()
            assert await choice.attempt(second.url, "", LEASE) == ""


def check(url: str, *options: str) -> Done:
    """Run the command with `--check`."""
    return run("--config", os.devnull, *options, environ={**os.environ, "VIDERE_ENGINE": url})


async def test_check_connects(tmp_path: Path, guarded: Valkey) -> None:
    """`--check --connect` tries the engine, where `--check` only reads."""
    (tmp_path / "conf.json").write_text(json.dumps({}), encoding="utf-8")
    options = ("--config", str(tmp_path / "conf.json"), "--check")
    good = "The configuration is good.\n"
    for url in (f"redis://:good@127.0.0.1:{guarded.port}", "memory://"):
        done = await asyncio.to_thread(check, url, *options, "--connect")
        assert (done.returncode, done.stdout, done.stderr) == (0, good, "")
    url = f"redis://u1:pa%3Ass%40word@127.0.0.1:{guarded.port}"
    done = await asyncio.to_thread(check, url, *options)
    assert (done.returncode, done.stdout) == (0, good)
    done = await asyncio.to_thread(check, url, *options, "--connect")
    where = f'VIDERE_ENGINE: Engine: "redis://127.0.0.1:{guarded.port}": cannot be used: '
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{where}its user may not use the channels videre:*;" in done.stderr
    assert "word" not in done.stderr
    done = await asyncio.to_thread(check, url, *options[:2], "--connect")
    assert done.returncode == 2 and "--connect requires --check" in done.stderr
