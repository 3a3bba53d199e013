"""The API of the admin port: every answer is checked against openapi.json (support/admin.py)."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import os
import socket
from collections.abc import AsyncIterator
from typing import Any
from unittest.mock import patch

import pytest
from admin import DOCUMENT, TOKEN, Admin, administered, routes
from aiohttp import web
from fakes import FakeConnection
from yarl import URL

import videre
from videre.admin.problems import CODES
from videre.admin.requests import MAX_FAULTS, read_body
from videre.config import Config
from videre.errors import EngineError
from videre.rooms import Rooms
from videre.transport import Options
from videre.version import __version__

# Good room ids, that are something else in a path, a query, a page or a terminal.
ODD = [
    ".",
    "..",
    "a/b",
    "../../etc/passwd",
    "%",
    "%2F",
    "%00",
    "a+b c",
    "a&room=b",
    "a#b?c",
    "\N{GRINNING FACE}\N{LATIN SMALL LETTER E WITH ACUTE}",
    "<script>alert(1)</script>",
    "\N{RIGHT-TO-LEFT OVERRIDE}x",
    "x" * 256,
    "\N{GRINNING FACE}" * 256,
    "null",
    "0",
]


@pytest.fixture
async def admin() -> AsyncIterator[Admin]:
    """Run the admin port of a server with one prefix, without a token."""
    async with administered() as client:
        yield client


def test_the_document_is_valid() -> None:
    """It is valid OpenAPI 3.1 and states its version."""
    from openapi_spec_validator import validate

    validate(DOCUMENT)
    assert DOCUMENT["openapi"].startswith("3.1.")
    assert DOCUMENT["info"]["version"] == __version__


async def test_the_document_describes_what_is_there(admin: Admin) -> None:
    """Every route, and nothing else."""
    described = {
        (method.upper(), path) for path, each in DOCUMENT["paths"].items() for method in each
    }
    assert routes(admin.app) == described
    assert (await admin.get("/openapi.json")).body == DOCUMENT


def test_the_document_names_every_code() -> None:
    """No problem has an undocumented code."""
    schema = DOCUMENT["components"]["schemas"]["Problem"]
    assert schema["properties"]["code"]["enum"] == list(CODES)


async def test_nothing_of_it_is_on_the_public_port(admin: Admin) -> None:
    """Except the load balancers' paths, which are on both."""
    async with admin.http.get(f"{admin.signaller.url}/health") as answer:
        assert answer.status == 200
    for method, path in routes(admin.app) - {("GET", "/health"), ("GET", "/ready")}:
        async with admin.http.request(method, admin.signaller.url + path) as answer:
            assert answer.status == 404, path


async def test_prefixes(admin: Admin) -> None:
    """Each prefix, and whether its rooms are reachable."""
    listed = (await admin.get("/api/v1/prefixes")).body
    assert listed == {"Prefixes": [{"Prefix": "/echo", "Ready": True}]}


async def test_nodes(admin: Admin) -> None:
    """In memory, the process itself, for each prefix."""
    await admin.signaller.members("a", "b", room="room")
    (node,) = (await admin.get("/api/v1/nodes")).body["Nodes"]
    process = f"{socket.gethostname()}:{os.getpid()}"
    assert 0 <= node.pop("Age") < 60
    assert node == {
        "Prefix": "/echo",
        "Node": "memory",
        "Here": True,
        "Silent": 0,
        "Process": process,
        "Members": 2,
    }
    assert (await admin.get("/api/v1/nodes", prefix="/echo")).code == "invalid-request"
    assert [each["Process"] for each in (await admin.get("/status.json")).body["Nodes"]] == [
        process
    ]


async def test_no_nodes_are_known_without_the_engine(
    admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was seen last may be wrong by now; the status still shows it."""
    monkeypatch.setattr(Rooms, "ready", False)
    found = await admin.get("/api/v1/nodes")
    assert (found.status, found.code) == (503, "unavailable")
    assert len((await admin.get("/status.json")).body["Nodes"]) == 1


async def test_rooms_and_members(admin: Admin) -> None:
    """Members in joining order; an unknown room has none."""
    assert (await admin.get("/api/v1/rooms")).body == {"Rooms": [], "Next": None}
    await admin.signaller.members("b", "a", "c", room="one")
    await admin.signaller.members("x", room="two")
    listed = (await admin.get("/api/v1/rooms")).body
    rooms = [{"RoomId": "one", "Members": 3}, {"RoomId": "two", "Members": 1}]
    assert listed == {"Rooms": rooms, "Next": None}
    found = await admin.get("/api/v1/members", room="one")
    expected = {"RoomId": "one", "Initiator": "b", "Members": ["b", "a", "c"], "Next": None}
    assert (found.status, found.body) == (200, expected)
    found = await admin.get("/api/v1/members", room="three")
    assert (found.status, found.code) == (404, "no-such-room")


@pytest.mark.parametrize("odd", ODD)
async def test_any_room_can_be_named(admin: Admin, odd: str) -> None:
    """Names that would mean something else in a path work, also for users."""
    user = odd[:128]
    (member,) = await admin.signaller.members(user, room=odd)
    assert (await admin.get("/api/v1/rooms")).body["Rooms"] == [{"RoomId": odd, "Members": 1}]
    assert (await admin.get("/api/v1/members", room=odd)).body["Members"] == [user]
    sent = await admin.ask("POST", "/api/v1/packets", room=odd, json={"Payload": 1, "To": user})
    assert (sent.status, sent.body) == (200, {"Absent": []})
    await member.hears(("broadcast", "", odd, 1))
    assert (await admin.ask("DELETE", "/api/v1/members", room=odd, user=user)).status == 204
    assert await member.closed() == 4504


async def pages(admin: Admin, path: str, key: str, **query: Any) -> list[list[Any]]:
    """Return all pages of a list."""
    found: list[list[Any]] = []
    while True:
        answer = await admin.get(path, **query)
        assert answer.status == 200
        found.append(answer.body[key])
        if answer.body["Next"] is None:
            return found
        query["after"] = answer.body["Next"]


async def test_rooms_come_in_pages(admin: Admin) -> None:
    """Each room once, ordered by id, however many there are and whatever changes meanwhile."""
    names = [f"room{number:03}" for number in range(101)]
    for name in names:  # more than one client may have connections
        await admin.namespaces[0].rooms.join("a", name, FakeConnection(), ("", ""))
    found = await pages(admin, "/api/v1/rooms", "Rooms", limit=40)
    assert [len(page) for page in found] == [40, 40, 21]
    assert [each["RoomId"] for page in found for each in page] == names
    assert [len(page) for page in await pages(admin, "/api/v1/rooms", "Rooms")] == [100, 1]
    exactly = await pages(admin, "/api/v1/rooms", "Rooms", limit=101)
    assert [len(page) for page in exactly] == [101]
    nothing = (await admin.get("/api/v1/rooms", after="room100")).body
    assert nothing == {"Rooms": [], "Next": None}


async def test_members_come_in_pages(admin: Admin) -> None:
    """In joining order; if the last member of a page has left, the list must be started again."""
    clients = await admin.signaller.members("c", "a", "d", "b")
    query = {"room": "room", "limit": 2}
    assert await pages(admin, "/api/v1/members", "Members", **query) == [["c", "a"], ["d", "b"]]
    await clients[1].send("disconnect", "a", "room")
    await clients[0].hears(("disconnect", "a", "room", ""))
    found = await admin.get("/api/v1/members", after="a", **query)
    assert (found.status, found.code) == (409, "cursor-gone")
    assert await pages(admin, "/api/v1/members", "Members", **query) == [["c", "d"], ["b"]]


async def test_a_member_is_removed(admin: Admin) -> None:
    """The others hear it leave, and it hears the reason."""
    gone, stays = await admin.signaller.members("a", "b")
    query = {"room": "room", "user": "a", "reason": "Be nice, \N{SLIGHTLY SMILING FACE}"}
    found = await admin.ask("DELETE", "/api/v1/members", **query)
    assert (found.status, found.body) == (204, "")
    end = await gone.socket.receive()
    assert (end.data, end.extra) == (4504, query["reason"])
    await stays.hears(("disconnect", "a", "room", ""), ("connect", "b", "room", "true"))
    for who, code in (({"user": "a"}, "no-such-user"), ({"room": "none"}, "no-such-room")):
        found = await admin.ask("DELETE", "/api/v1/members", **{**query, **who})
        assert (found.status, found.code) == (404, code)


async def test_who_leaves_meanwhile_is_not_removed(
    admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer says that the user is not there."""

    async def left(*_: object) -> bool:
        return False

    await admin.signaller.members("a")
    monkeypatch.setattr(Rooms, "kick", left)
    found = await admin.ask("DELETE", "/api/v1/members", room="room", user="a")
    assert (found.status, found.code) == (404, "no-such-user")


async def test_a_packet_is_sent(admin: Admin) -> None:
    """To the room or to some members, with its sender; the answer lists absent users."""
    a, b = await admin.signaller.members("a", "b")
    payload = {"Text": "Soon", "List": [1, None, "\N{GREEK SMALL LETTER ALPHA}"]}

    async def send(**body: Any) -> Any:
        return await admin.ask("POST", "/api/v1/packets", room="room", json=body)

    assert (await send(Payload=payload)).body == {"Absent": []}
    for client in (a, b):
        await client.hears(("broadcast", "", "room", payload))
    assert (await send(Payload=None, To=["b", "c", "b"], UserId="desk")).body == {"Absent": ["c"]}
    await b.hears(("broadcast", "desk", "room", None))
    await a.quiet()
    for absent in ("c", ["c", "d"]):
        assert (await send(Payload=1, To=absent)).code == "no-such-user"
    found = await admin.ask("POST", "/api/v1/packets", room="none", json={"Payload": 1})
    assert (found.status, found.code) == (404, "no-such-room")
    await b.quiet()


async def test_drain(admin: Admin) -> None:
    """The request only starts the drain."""
    for times in (1, 2):
        found = await admin.ask("POST", "/api/v1/drain")
        assert (found.status, found.body) == (202, {"Status": "draining"})
        assert admin.drained == times


QUERIES: list[tuple[str, str, dict[str, Any], str]] = [
    ("GET", "rooms", {"limit": "0"}, "limit: min value is 1"),
    ("GET", "rooms", {"limit": "1001"}, "limit: max value is 1000"),
    ("GET", "rooms", {"limit": "ten"}, "limit: must be of integer type"),
    ("GET", "rooms", {"limit": "1" * 5000}, "limit: must be of integer type"),
    ("GET", "rooms", {"limit": "\N{SUPERSCRIPT TWO}"}, "limit: must be of integer type"),
    ("GET", "rooms", {"limit": "-1"}, "limit: must be of integer type"),
    ("GET", "rooms", {"after": ""}, "after: min length is 1"),
    ("GET", "rooms", {"room": "a"}, "room: unknown field"),
    ("GET", "members", {}, "room: required field"),
    ("GET", "members", {"room": ""}, "room: min length is 1"),
    ("GET", "members", {"room": "x" * 257}, "room: max length is 256"),
    ("DELETE", "members", {"room": "room"}, "user: required field"),
    ("DELETE", "members", {"user": "a"}, "room: required field"),
    ("DELETE", "members", {"room": "room", "user": ""}, "user: min length is 1"),
    ("DELETE", "members", {"room": "room", "user": "x" * 129}, "user: max length is 128"),
    ("DELETE", "members", {"room": "room", "user": "a", "reason": "x" * 124}, "reason: has more"),
    ("POST", "packets", {}, "room: required field"),
    ("POST", "drain", {"now": "1"}, "now: unknown field"),
    ("GET", "prefixes", {"x": "<b>"}, "x: unknown field"),
]


@pytest.mark.parametrize(("method", "path", "query", "words"), QUERIES)
async def test_a_bad_query(
    admin: Admin, method: str, path: str, query: dict[str, Any], words: str
) -> None:
    """The answer names the wrong parameter; nothing happens."""
    await admin.signaller.members("a")
    found = await admin.ask(method, f"/api/v1/{path}", **query)
    assert (found.status, found.code) == (400, "invalid-request")
    assert found.body["detail"].startswith(words)
    assert (await admin.get("/api/v1/members", room="room")).body["Members"] == ["a"]
    assert admin.drained == 0


async def test_a_parameter_stands_once(admin: Admin) -> None:
    """Otherwise check and action could use different values."""
    async with admin.http.delete(f"{admin.url}/api/v1/members?room=a&room=b&user=c") as answer:
        assert answer.status == 400
        (error,) = (await answer.json(content_type=None))["errors"]
        assert error == {"in": "query", "name": "room", "detail": "must be given once"}


@pytest.mark.parametrize("query", ["&".join(f"a{n}=1" for n in range(1000)), "room=1&" * 1000])
async def test_a_query_of_many_parameters(admin: Admin, query: str) -> None:
    """The answer names the first faults and is short; cerberus sees none of it."""
    with patch("videre.admin.requests.StrictValidator") as validator:
        async with admin.http.get(f"{admin.url}/api/v1/members?{query}") as answer:
            assert answer.status == 400
            body = await answer.read()
    assert not validator.called
    assert len(json.loads(body)["errors"]) <= MAX_FAULTS and len(body) < 4096


async def test_a_body_of_many_names(admin: Admin) -> None:
    """Unknown names cost no more than the body's length; a Payload may have any."""
    (member,) = await admin.signaller.members("a")
    names: dict[str, object] = {f"name{number}" * 5: {} for number in range(1000)}
    with patch("videre.admin.requests.StrictValidator") as validator:
        status, problem = await post(admin, json.dumps({"Payload": 1, **names}).encode())
    assert validator.call_count == 1  # for the query
    assert status == 400 and len(problem["errors"]) == MAX_FAULTS
    assert len(json.dumps(problem)) < 8192
    assert (await post_ok(admin, {"Payload": names})) == {"Absent": []}
    await member.hears(("broadcast", "", "room", names))


async def post_ok(admin: Admin, body: Any) -> Any:
    """Return the answer to a valid packet."""
    answer = await admin.ask("POST", "/api/v1/packets", room="room", json=body)
    assert answer.status == 200
    return answer.body


async def test_a_body_that_does_not_come(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the deadline the request is refused and the connection closed."""
    monkeypatch.setattr("videre.admin.requests.BODY_SECONDS", 0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", URL(admin.url).port)
    writer.write(
        b"POST /api/v1/packets?room=room HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/json\r\nContent-Length: 9999\r\n\r\n{"
    )
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408") and b"\r\nConnection: close" in head
    writer.close()


async def test_a_body_that_breaks(admin: Admin, caplog: pytest.LogCaptureFixture) -> None:
    """A client that hangs up within a body is not the server's fault: nothing is logged."""
    began, ended = asyncio.Event(), asyncio.Event()

    async def noted(request: web.Request, schema: object) -> object:
        began.set()
        try:
            return await read_body(request, schema)  # type: ignore[arg-type]
        finally:
            ended.set()

    with patch("videre.admin.api.requests.read_body", noted):
        _, writer = await asyncio.open_connection("127.0.0.1", URL(admin.url).port)
        writer.write(
            b"POST /api/v1/packets?room=room HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nContent-Length: 9999\r\n\r\n{"
        )
        await began.wait()
        writer.transport.abort()
        await ended.wait()
    async with admin.http.get(f"{admin.url}/health") as answer:
        assert answer.status == 200
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_body_that_is_compressed(admin: Admin) -> None:
    """It is not inflated: a kilobyte could become a gigabyte."""
    body = gzip.compress(b'{"Payload": 1}')
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    url = f"{admin.url}/api/v1/packets?room=room"
    async with admin.http.post(url, data=body, headers=headers) as answer:
        assert answer.status == 415


BODIES: list[tuple[bytes, str]] = [
    (b"", "The body is not JSON"),
    (b"{", "The body is not JSON"),
    (b'{"Payload": NaN}', "The body is not JSON"),
    (b'{"Payload": "\\ud800"}', "The body is not JSON"),
    (b'{"Payload": "\xff"}', "The body is not JSON"),
    (b"[" * 100_000, "The body is not JSON"),
    (b'{"Payload": %s1%s}' % (b"[" * 900, b"]" * 900), "Payload: is nested too deep"),
    (b"[]", "The body must be a JSON object"),
    (b"null", "The body must be a JSON object"),
    (b"{}", "Payload: required field"),
    (b'{"Payload": 1, "to": "a"}', "to: unknown field"),
    (b'{"Payload": 1, "UserId": 5}', "UserId: must be of string type"),
    (b'{"Payload": 1, "UserId": "%s"}' % (b"x" * 129), "UserId: max length is 128"),
    (b'{"Payload": 1, "To": []}', "To: "),
    (b'{"Payload": 1, "To": ""}', "To: "),
    (b'{"Payload": 1, "To": 5}', "To: "),
    (b'{"Payload": 1, "To": [5]}', "To: "),
    (json.dumps({"Payload": 1, "To": ["a"] * 65}).encode(), "To: "),
]


async def post(admin: Admin, body: bytes, kind: str = "application/json") -> tuple[int, Any]:
    """Return the answer to a packet with any body; it must be a problem."""
    headers = {"Content-Type": kind}
    url = f"{admin.url}/api/v1/packets?room=room"
    async with admin.http.post(url, data=body, headers=headers) as answer:
        assert answer.content_type == "application/problem+json"
        return answer.status, await answer.json(content_type=None)


@pytest.mark.parametrize(("body", "words"), BODIES)
async def test_a_bad_body(admin: Admin, body: bytes, words: str) -> None:
    """The answer says what is wrong; no member gets anything."""
    (member,) = await admin.signaller.members("a")
    status, problem = await post(admin, body)
    assert (status, problem["code"]) == (400, "invalid-request")
    assert problem["detail"].startswith(words)
    await member.quiet()


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "a"])
async def test_a_body_that_a_form_can_send(admin: Admin, kind: str) -> None:
    """It is refused: the form may be on another site."""
    status, problem = await post(admin, b'{"Payload": 1}', kind)
    assert (status, problem["code"]) == (415, "unsupported-media-type")


async def test_a_packet_is_as_long_as_a_member_may_send() -> None:
    """A longer packet reaches nobody, and an endless body is not read."""
    config = Config(transport=Options(max_packet_bytes=1000))
    async with administered(config) as admin:
        (member,) = await admin.signaller.members("a")
        head = len('{"Header":{"Event":"broadcast","UserId":"","RoomId":"room"},"Payload":""}')
        for payload in ("x" * (1001 - head), "x" * 200_000):
            answer = await admin.ask(
                "POST", "/api/v1/packets", room="room", json={"Payload": payload}
            )
            assert (answer.status, answer.code) == (413, "request-too-large")
        await member.quiet()
        body = {"Payload": "x" * (1000 - head)}
        assert (await admin.ask("POST", "/api/v1/packets", room="room", json=body)).status == 200
        await member.hears(("broadcast", "", "room", body["Payload"]))


async def test_a_packet_without_a_limit() -> None:
    """With MaxPacketBytes null."""
    async with administered(Config(transport=Options(max_packet_bytes=None))) as admin:
        (member,) = await admin.signaller.members("a")
        body = {"Payload": "x" * 900_000}
        assert (await admin.ask("POST", "/api/v1/packets", room="room", json=body)).status == 200
        await member.hears(("broadcast", "", "room", body["Payload"]))


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"])
@pytest.mark.parametrize("path", DOCUMENT["paths"])
async def test_a_wrong_method(admin: Admin, method: str, path: str) -> None:
    """The answer lists the allowed methods; nothing happens."""
    described = {each.upper() for each in DOCUMENT["paths"][path]}
    if method in described or (method == "HEAD" and "GET" in described):
        return
    async with admin.http.request(method, admin.url + path) as answer:
        assert answer.status == 405
        assert set(answer.headers["Allow"].split(",")) - {"HEAD"} == described
        if method != "HEAD":
            assert (await answer.json(content_type=None))["code"] == "method-not-allowed"
    assert admin.drained == 0


@pytest.mark.parametrize("path", ["/", "/api/v1", "/api/v2/rooms", "/api/v1/rooms/", "/%2e%2e/x"])
async def test_no_such_path(admin: Admin, path: str) -> None:
    """The answer is a problem, like all errors."""
    found = await admin.get(path)
    assert (found.status, found.code) == (404, "not-found")


async def test_several_prefixes() -> None:
    """Each has its own rooms, and the request must name one."""
    async with administered(Config(prefixes=("/a", "/b", ""))) as admin:
        await (await admin.signaller.client(prefix="/a")).join("x")
        listed = (await admin.get("/api/v1/prefixes")).body["Prefixes"]
        assert [each["Prefix"] for each in listed] == ["/a", "/b", "/"]
        for prefix, count in (("/a", 1), ("/a/", 1), ("/b", 0), ("/", 0), ("", 0)):
            rooms = (await admin.get("/api/v1/rooms", prefix=prefix)).body["Rooms"]
            assert len(rooms) == count
        assert (await admin.get("/api/v1/members", room="room")).code == "invalid-request"
        assert (await admin.get("/api/v1/rooms", prefix="/c")).code == "no-such-prefix"
        gone = {"room": "room", "user": "x"}
        found = await admin.ask("DELETE", "/api/v1/members", prefix="/b", **gone)
        assert found.code == "no-such-room"
        assert (await admin.ask("DELETE", "/api/v1/members", prefix="/a", **gone)).status == 204


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/api/v1/rooms", None),
        ("GET", "/api/v1/members?room=room", None),
        ("DELETE", "/api/v1/members?room=room&user=a", None),
        ("POST", "/api/v1/packets?room=room", {"Payload": 1}),
    ],
)
async def test_without_its_engine(
    admin: Admin, monkeypatch: pytest.MonkeyPatch, method: str, path: str, body: Any
) -> None:
    """The answer says when to try again, but not where the engine is."""

    async def fail(*_: object, **__: object) -> Any:
        raise EngineError("redis://:password@store is away")

    for name in ("rooms", "members"):
        monkeypatch.setattr(Rooms, name, fail)
    plain, _, query = path.partition("?")
    pairs = dict(pair.split("=") for pair in query.split("&") if pair)
    found = await admin.ask(method, plain, json=body, **pairs)
    assert (found.status, found.code) == (503, "unavailable")
    assert int(found.headers["Retry-After"]) > 0
    assert "password" not in json.dumps(found.body)


async def test_a_fault_of_ours(
    admin: Admin, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has the details, the answer does not."""

    async def fail(*_: object, **__: object) -> Any:
        raise ZeroDivisionError("a secret")

    monkeypatch.setattr(Rooms, "rooms", fail)
    found = await admin.get("/api/v1/rooms")
    assert (found.status, found.code) == (500, "internal-error")
    assert "a secret" not in json.dumps(found.body)
    assert "ZeroDivisionError: a secret" in caplog.text


async def test_a_hosted_signaller_has_one_too() -> None:
    """A hosting site may serve the admin application too."""
    app = videre.create_app()
    assert [each.prefix for each in app[videre.app.NAMESPACES]] == ["/echo"]
    assert TOKEN not in repr(Config(admin_token=TOKEN))
