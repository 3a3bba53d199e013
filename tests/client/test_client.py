"""The Python client with a real server: rooms, packets, errors, TLS."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiortc import RTCIceServer
from inprocess import Server, serving
from patience import WAIT_SECONDS
from process import self_signed, signaller
from skipping import skip
from tokens import SECRET

import videre
from videre import errors
from videre.auth import TokenAuth, secret_key, sign
from videre.client import Client, Closed, Joined, Left, Message, Role, Unreachable, link
from videre.config import Config
from videre.ice import IceServers, SharedSecret, StaticServer
from videre.settings import Limits

pytestmark = pytest.mark.usefixtures("nothing_is_left")


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """Run a signaller."""
    async with serving(videre.create_app()) as running:
        yield running


def client(server: Server, user: str, **settings: Any) -> Client:
    """Return a client that has not joined the room yet."""
    return Client(f"{server.url}/echo", user=user, room="room", **settings)


def tasks() -> set[str]:
    """Return the names of the clients' tasks."""
    return {name for task in asyncio.all_tasks() if "videre" in (name := task.get_name())}


async def test_members_of_a_room(server: Server) -> None:
    """The client knows who is there, who joins and leaves, and who starts calls."""
    async with client(server, "a") as a:
        assert (a.users, a.initiator, a.is_initiator, a.connected) == (["a"], "a", True, True)
        async with client(server, "b") as b:
            assert await a.receive() == Joined("b")
            assert a.users == b.users == ["a", "b"]
            assert (b.initiator, b.is_initiator) == ("a", False)
        assert await a.receive() == Left("b")
        assert a.users == ["a"]
    assert not a.connected
    assert not tasks()


async def test_the_initiator_leaves(server: Server) -> None:
    """The next member hears its new role, and the others hear who it is."""
    a = client(server, "a")
    await a.__aenter__()
    async with client(server, "b") as b, client(server, "c") as c:
        assert await b.receive() == Joined("c")
        await a.__aexit__(None, None, None)
        for each in (b, c):
            assert await each.receive() == Left("a")
            assert await each.receive() == Role("b")
            assert (each.initiator, each.users) == ("b", ["b", "c"])
        assert b.is_initiator and not c.is_initiator


@pytest.mark.parametrize(
    "payload", ["text", "", {"Type": "Ice Offer"}, [1, 2.5, None], None, True, "👀\x00"]
)
async def test_broadcast(server: Server, payload: Any) -> None:
    """Any JSON value reaches the others unchanged, and not the sender."""
    async with client(server, "a") as a, client(server, "b") as b:
        number = await a.broadcast(payload)
        message = await b.receive()
        assert isinstance(message, Message)
        assert (message.user, message.payload) == ("a", payload)
        assert message.packet["Header"]["Id"] == number
        assert await a.receive() == Joined("b")
        await b.broadcast("back")
        assert isinstance(answer := await a.receive(), Message) and answer.payload == "back"


async def test_a_value_that_is_no_json_is_not_sent(server: Server) -> None:
    """The caller gets the error, and the client goes on."""
    async with client(server, "a") as a:
        with pytest.raises(TypeError):
            await a.broadcast(object())
        assert await a.ping() == ["a"]


async def test_a_broadcast_to_some(server: Server) -> None:
    """Only the named members get it, and the sender hears who is absent."""
    async with client(server, "a") as a, client(server, "b") as b, client(server, "c") as c:
        for to in ([], [str(number) for number in range(65)]):
            with pytest.raises(ValueError, match=f"1 to 64 users, not {len(to)}"):
                await a.broadcast(0, to=to)
        await a.broadcast(1, to="c")
        await a.broadcast(2, to=("b", "c"))
        number = await a.broadcast(3, to=["b", "nobody"])
        assert await b.receive() == Joined("c")
        assert [(await b.receive()).payload for _ in range(2)] == [2, 3]  # type: ignore[union-attr]
        assert [(await c.receive()).payload for _ in range(2)] == [1, 2]  # type: ignore[union-attr]
        assert [await a.receive() for _ in range(2)] == [Joined("b"), Joined("c")]
        with pytest.raises(errors.NoSuchUser, match="nobody") as refused:
            await a.receive()
        assert refused.value.packet_id == number
        await b.broadcast(4)
        assert (await a.receive()).payload == 4  # type: ignore[union-attr]


async def test_ping_and_ice(server: Server) -> None:
    """Both can be called at once and by several tasks."""
    async with client(server, "a") as a, client(server, "b") as b:
        answers = await asyncio.gather(a.ping(), b.ping(), a.ice(), a.ping())
        assert answers == [["a", "b"], ["a", "b"], [], ["a", "b"]]
        assert a.ice_servers == []


async def test_iteration_ends_after_leaving(server: Server) -> None:
    """It ends in every task after the last packets, and nothing more can be sent."""

    async def listen() -> list[Any]:
        return [event async for event in a]

    async with client(server, "a") as a:
        listening = asyncio.create_task(listen())
        async with client(server, "b"):
            pass
        await a.ping()
    assert await listening == [Joined("b"), Left("b")]
    for call in (a.receive(), a.ping(), a.broadcast("too late")):
        with pytest.raises(Closed, match="1000 The client has left the room"):
            await call
    with pytest.raises(RuntimeError):
        await a.__aenter__()


async def test_without_entering(server: Server) -> None:
    """A client outside `async with` can do nothing, before it and after it has failed."""
    a, b = client(server, "a"), Client("ws://127.0.0.1:1/echo", user="b", room="room")
    with pytest.raises(Unreachable):
        await b.__aenter__()
    for each in (a, b):
        for call in (each.ping(), each.broadcast("too early"), each.receive()):
            with pytest.raises(RuntimeError, match="async with"):
                async with asyncio.timeout(WAIT_SECONDS):
                    await call


async def test_ice_servers() -> None:
    """The welcome has them in the form that aiortc takes, and `ice` returns current ones."""
    secret = SharedSecret(("turn:turn.example.com",), "sixteen characters", ttl=60)
    config = Config(ice=IceServers([StaticServer(("stun:stun.example.com",)), secret]))
    async with serving(videre.create_app(config)) as server, client(server, "a") as a:
        stun, turn = (RTCIceServer(**each) for each in a.ice_servers)
        assert stun.urls == ["stun:stun.example.com"]
        assert turn.username is not None and turn.username.endswith(":a")
        assert [each["urls"] for each in await a.ice()] == [stun.urls, turn.urls]


async def test_tokens() -> None:
    """A client with fresh tokens keeps its seat; one without loses it."""
    key, lasts = secret_key(SECRET), 10.0
    fetched = asyncio.Semaphore(0)

    def token(user: str, ttl: float) -> str:
        return sign(key, user, "room", now=time.time(), ttl=ttl, exp=time.time() + ttl)

    def fetch() -> str:
        fetched.release()
        return token("a", lasts)

    config = Config(auth=TokenAuth([key]), leeway=lasts)
    async with serving(videre.create_app(config)) as server:
        refused = [("", errors.Unauthorized), (token("b", -1), errors.TokenExpired)]
        for shown, error in refused:
            with pytest.raises(error):
                async with client(server, "b", token=shown):
                    pytest.fail("entered")
        async with (
            client(server, "a", token=fetch, heartbeat=None) as a,
            client(server, "b", token=token("b", lasts), heartbeat=None) as b,
        ):
            await fetched.acquire()
            for _ in range(3):
                skip(lasts)
                await fetched.acquire()
                await a.ping()  # the answer to the fresh token came before
            with pytest.raises(errors.TokenExpired):
                await b.receive()
            with pytest.raises(Closed, match="4502"):
                await b.receive()
            assert [await a.receive() for _ in range(2)] == [Joined("b"), Left("b")]
            assert a.is_initiator


@pytest.mark.parametrize(
    ("user", "settings", "error"),
    [
        ("a", {"duplicate": "reject"}, errors.UserTaken),
        ("b", {"limits": Limits(room_capacity=1)}, errors.RoomFull),
    ],
)
async def test_entering_is_refused(
    user: str, settings: dict[str, Any], error: type[Exception]
) -> None:
    """It raises the server's error."""
    async with serving(videre.create_app(Config(**settings))) as server, client(server, "a") as a:
        with pytest.raises(error):
            async with client(server, user):
                pytest.fail("entered")
        assert await a.ping() == ["a"]


async def test_an_unreachable_server(server: Server) -> None:
    """Entering tries once, and the error says what is wrong."""
    for url in (f"{server.url}/nowhere", "ws://127.0.0.1:1/echo"):
        with pytest.raises(Unreachable, match=url.removeprefix("http")):
            async with Client(url, user="a", room="room"):
                pytest.fail("entered")


async def test_a_server_that_does_not_answer(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error that entering raises names the time-out, which has no text."""
    monkeypatch.setattr(link, "JOIN_SECONDS", 0.0)
    with pytest.raises(Unreachable, match=r"/websocket: TimeoutError$"):
        async with client(server, "a"):
            pytest.fail("entered")


async def test_errors_end_no_iteration(server: Server) -> None:
    """One is raised, and the next loop goes on after it."""
    async with client(server, "a") as a, client(server, "b") as b:
        number = await a.broadcast("x" * 70_000)
        await a.ping()  # the packet has been refused
        await b.broadcast("after")
        assert await a.receive() == Joined("b")
        with pytest.raises(errors.PacketTooLarge) as refused:
            async for _ in a:
                pytest.fail("an event before the error")
        assert refused.value.packet_id == number
        async for event in a:
            assert isinstance(event, Message) and event.payload == "after"
            break


async def test_being_replaced(server: Server) -> None:
    """The seat belongs to another connection, so the client does not reconnect."""
    async with client(server, "a") as old, client(server, "a") as new:
        with pytest.raises(Closed, match="Replaced") as closed:
            async for _ in old:
                pytest.fail("an event")
        assert closed.value.code == 4503
        for call in (old.broadcast("anybody?"), old.ping(), old.receive()):
            with pytest.raises(Closed):
                await call
        assert not old.connected
        assert await new.ping() == ["a"]


async def test_being_removed() -> None:
    """The client gets the reason."""
    app = web.Application()
    rooms = videre.setup(app, prefix="/echo").rooms
    async with serving(app) as server, client(server, "a") as a:
        assert await rooms.kick("room", "a", "Be nice")
        with pytest.raises(Closed, match="4504 Be nice"):
            await a.receive()


async def test_leaving_by_an_exception(server: Server) -> None:
    """It leaves the seat like any other way does."""
    async with client(server, "a") as a:
        with pytest.raises(KeyError):
            async with client(server, "b"):
                raise KeyError
        assert [await a.receive(), await a.receive()] == [Joined("b"), Left("b")]


async def test_entering_can_be_cancelled(server: Server) -> None:
    """Nothing of it remains."""

    async def enter() -> None:
        async with client(server, "b", token=forever):
            pytest.fail("entered")

    asked = asyncio.Event()

    async def forever() -> str:
        asked.set()
        await asyncio.Event().wait()
        return ""

    task = asyncio.create_task(enter())
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with client(server, "a") as a:
        assert a.users == ["a"]


async def test_without_a_welcome(server: Server) -> None:
    """The client pings to learn who is there; it knows only its own role."""
    async with (
        client(server, "a", welcome=False) as a,
        client(server, "b", welcome=False) as b,
    ):
        assert (a.initiator, b.initiator) == ("a", None)
        assert (b.users, await a.receive()) == (["a", "b"], Joined("b"))


async def test_additional_keys_of_the_header(server: Server) -> None:
    """Others see them, whatever their names are."""
    keys = {"user": "Ann", "room": 1, "event": None, "payload": {}, "Calls": ["c"]}
    async with client(server, "a") as a, client(server, "b", header=lambda: keys):
        joined = await a.receive()
        assert isinstance(joined, Joined) and keys.items() <= dict(joined.header).items()


async def test_a_session_of_the_caller(server: Server) -> None:
    """It is used, and left open."""
    async with aiohttp.ClientSession() as session:
        async with client(server, "a", session=session) as a:
            assert await a.ping() == ["a"]
        assert not session.closed


@pytest.mark.process
async def test_over_tls(tmp_path: Path) -> None:
    """It works if the server's certificate is trusted, and only then."""
    certificate, key = self_signed(tmp_path)
    config = {"TLS": True, "Cert": str(certificate), "Key": str(key)}
    trust = ssl.create_default_context(cafile=str(certificate))
    async with asyncio.timeout(WAIT_SECONDS), signaller(tmp=tmp_path, config=config) as server:
        async with (
            Client(server.url, user="a", room="room", ssl=trust) as a,
            Client(server.url, user="b", room="room", ssl=trust) as b,
        ):
            await b.broadcast("🔒")
            assert await a.receive() == Joined("b")
            assert isinstance(message := await a.receive(), Message)
            assert message.payload == "🔒"
        with pytest.raises(Unreachable):
            async with Client(server.url, user="a", room="room"):
                pytest.fail("entered")
