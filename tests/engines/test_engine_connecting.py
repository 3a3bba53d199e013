"""Every way to a store that a URL can name, on real servers: logins, Sentinels, TLS, sockets."""

from __future__ import annotations

import asyncio
import re
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
from engine_nodes import Nodes, nodes_on
from ports import free_port
from process import self_signed
from redis.asyncio import Redis
from redis.asyncio.sentinel import MasterNotFoundError
from redis.exceptions import RedisClusterException
from valkey_server import Valkey, redis_binary, until, valkey

from videre import engine_url
from videre.engines.redis.connecting import connect, sentinels_of

pytestmark = pytest.mark.process

HARD = "p@ss/w#r%d?[ ]:ä&="  # Each of its characters has a meaning somewhere else in a URL.
ENCODED = quote(HARD, safe="")


async def meet(nodes: Nodes) -> None:
    """Check that two nodes share a room."""
    one, two = await nodes.add(), await nodes.add()
    await one.join("a")
    await two.join("b")
    await one.hears("joined", "joined")


@asynccontextmanager
async def sentinel(
    folder: Path,
    server: Valkey,
    *settings: str,
    options: tuple[str, ...] = ("--port", "{port}"),
    binary: str | None = None,
) -> AsyncIterator[int]:
    """Run a Sentinel for a server on both loopback addresses; give its port."""
    (home := folder / "watch").mkdir()
    port = free_port()
    lines = [f"sentinel monitor main 127.0.0.1 {server.port} 1", *settings]
    (home / "conf").write_text("\n".join(lines) + "\n", encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        binary or server._binary, str(home / "conf"), "--sentinel", "--dir", str(home),
        *("--bind", "127.0.0.1", "::1", *(each.format(port=port) for each in options)),
        stdout=DEVNULL,
        stderr=DEVNULL,
    )  # fmt: skip

    async def listens() -> bool:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        return True

    try:
        await until(listens)
        yield port
    finally:
        process.kill()
        await process.wait()


async def found(url: str) -> bool:
    """Return whether a URL leads to a server that answers; raise the error if not."""
    client = connect(engine_url.read(url))
    try:
        return bool(await client.ping())
    finally:
        for each in (*sentinels_of(client), client):
            await each.aclose()


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Valkey]:
    """Run a server whose password needs percent-encoding."""
    url = f"redis://:{ENCODED}@127.0.0.1:{{port}}"
    async with valkey(tmp_path, "--requirepass", HARD, url=url) as server:
        yield server


async def test_a_percent_encoded_password(guarded: Valkey) -> None:
    """The server gets it decoded."""
    async with nodes_on(f"redis://:{ENCODED}@127.0.0.1:{guarded.port}") as nodes:
        await meet(nodes)


async def test_a_user_of_an_acl(guarded: Valkey) -> None:
    """A user's name is decoded as well."""
    await guarded.ask("ACL", "SETUSER", "m/e", "on", f">{HARD}", "~*", "&*", "+@all")
    async with nodes_on(f"redis://m%2Fe:{ENCODED}@127.0.0.1:{guarded.port}") as nodes:
        await meet(nodes)


async def test_a_database_number(tmp_path: Path) -> None:
    """The keys are in the URL's database, for every syntax that can name one."""
    async with valkey(tmp_path) as server, sentinel(tmp_path, server) as port:
        for number, url in enumerate(
            (
                f"valkey://127.0.0.1:{server.port}/1",
                f"redis://127.0.0.1:{server.port}?db=2",
                f"redis+sentinel://127.0.0.1:{port}/main/3",
            ),
            1,
        ):
            await until(lambda url=url: found(url))  # type: ignore[misc]
            async with nodes_on(url) as nodes:
                await meet(nodes)
            assert f"db{number}" in await server.ask("INFO", "keyspace")
        assert "db0" not in await server.ask("INFO", "keyspace")


async def test_a_unix_socket(tmp_path: Path) -> None:
    """A server on the same machine needs no port."""
    path = tmp_path / "a socket"
    options: tuple[str, ...] = ("--unixsocket", str(path), "--requirepass", HARD)
    async with (
        valkey(tmp_path, *options, url=f"redis://:{ENCODED}@127.0.0.1:{{port}}"),
        nodes_on(f"unix://:{ENCODED}@{quote(str(path))}") as nodes,
    ):
        await meet(nodes)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
@pytest.mark.parametrize("own", ["none", "the same", "another", "a user"])
async def test_a_login_behind_a_sentinel(
    own: str, host: str, guarded: Valkey, tmp_path: Path
) -> None:
    """A Sentinel may have no login, the server's or its own, on IPv4 and IPv6."""
    settings, query = {
        "none": ([], ""),
        "the same": ([f'requirepass "{HARD}"'], ""),
        "another": (['requirepass "o#n"'], "?sentinel_password=o%23n"),
        "a user": (
            ["user default off", "user me on >o#n ~* &* +@all"],
            "?sentinel_username=me&sentinel_password=o%23n",
        ),
    }[own]
    async with sentinel(tmp_path, guarded, f'sentinel auth-pass main "{HARD}"', *settings) as port:
        url = f"redis+sentinel://:{ENCODED}@{host}:{port}/main{query}"
        await until(lambda: found(url))
        async with nodes_on(url) as nodes:
            await meet(nodes)


async def test_a_sentinel_refuses_the_login(guarded: Valkey, tmp_path: Path) -> None:
    """The error names the Sentinel, and says that the login is wrong."""
    auth = f'sentinel auth-pass main "{HARD}"'
    async with sentinel(tmp_path, guarded, auth, "requirepass other") as port:
        for login in ("", f":{ENCODED}@"):
            with pytest.raises(MasterNotFoundError, match=r"(?i)auth|WRONGPASS|password"):
                await found(f"redis+sentinel://{login}127.0.0.1:{port}/main")


async def test_a_sentinel_is_down(tmp_path: Path) -> None:
    """The next one in the URL is asked; a service that no Sentinel knows is an error."""
    async with valkey(tmp_path) as server, sentinel(tmp_path, server) as port:
        url = f"redis+sentinel://127.0.0.1:{free_port()},[::1]:{port}/"
        await until(lambda: found(f"{url}main"))
        with pytest.raises(MasterNotFoundError, match="other"):
            await found(f"{url}other")


@pytest.mark.parametrize("both", [True, False])
async def test_tls_to_sentinels(both: bool, tmp_path: Path) -> None:
    """`rediss+sentinel` is TLS to both, `sentinel_tls` to Sentinels only, checking certificates."""
    certificate, key = self_signed(tmp_path)
    binary = redis_binary(tmp_path)
    tls: tuple[str, ...] = ("--tls-auth-clients", "no", "--tls-cert-file", str(certificate))
    tls += ("--tls-key-file", str(key))
    url, options = "redis://127.0.0.1:{port}", ()
    if both:
        url = f"rediss://127.0.0.1:{{port}}?ssl_ca_certs={certificate}"
        options = ("--port", "0", "--tls-port", "{port}", *tls)  # type: ignore[assignment]
    watching: tuple[str, ...] = (*tls, "--port", "0", "--tls-port", "{port}")
    watching += ("--tls-ca-cert-file", str(certificate))
    watching += ("--tls-replication", "yes") if both else ()
    scheme, extra = ("rediss", "") if both else ("redis", "&sentinel_tls=true")
    async with (
        valkey(tmp_path, *options, binary=binary, url=url) as server,
        sentinel(tmp_path, server, options=watching, binary=binary) as port,
    ):
        start = f"{scheme}+sentinel://127.0.0.1:{port}/main?ssl_cert_reqs="
        good = f"{start}required&ssl_ca_certs={certificate}{extra}"
        await until(lambda: found(good))
        async with nodes_on(good) as nodes:
            await meet(nodes)
        assert await found(f"{start}none{extra}")
        with pytest.raises(MasterNotFoundError, match=r"SSLConnection.*ConnectionError"):
            await found(f"{start}required{extra}")


async def test_seeds_of_a_cluster(cluster_url: str) -> None:
    """One reachable server of those in the URL is enough to find the cluster."""
    alive = re.sub(r".*//", "", cluster_url)
    seeds = f"redis+cluster://127.0.0.1:{free_port()},[::1]:{free_port()},{alive}"
    async with nodes_on(seeds) as nodes:
        await meet(nodes)
    dead = f"redis+cluster://127.0.0.1:{free_port()}"
    with pytest.raises(RedisClusterException, match=r"(?i)connect"):
        await found(dead)


async def test_a_cluster_with_a_password(cluster_url: str) -> None:
    """The login is used on every server of the cluster, for messages too."""
    port = int(cluster_url.rpartition(":")[2])
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(Redis(port=port, decode_responses=True))
        known = await first.execute_command("CLUSTER", "NODES")  # type: ignore[no-untyped-call]
        ports = [int(each) for each in re.findall(r"127\.0\.0\.1:(\d+)@", str(known))]
        assert len(ports) == 3
        for each in ports:
            server = await stack.enter_async_context(Redis(port=each))
            await server.config_set("requirepass", HARD)
            stack.push_async_callback(server.config_set, "requirepass", "")
        nodes = await stack.enter_async_context(
            nodes_on(f"redis+cluster://:{ENCODED}@127.0.0.1:{port}")
        )
        await meet(nodes)


async def test_a_restarted_server_costs_no_command(tmp_path: Path) -> None:
    """redis-py checks that a pooled connection is alive before it uses it."""
    async with valkey(tmp_path) as server, sentinel(tmp_path, server) as port:
        url = f"redis+sentinel://127.0.0.1:{port}/main"
        await until(lambda: found(url))
        clients = [connect(engine_url.read(each)) for each in (server.url, url)]
        for client in clients:
            await asyncio.gather(*(client.ping() for _ in range(4)))
        await server.stop()
        await server.start()
        for client in clients:
            for _ in range(8):
                assert await client.ping()
            for each in (*sentinels_of(client), client):
                await each.aclose()
