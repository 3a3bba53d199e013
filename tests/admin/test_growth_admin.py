"""The cost of a request to the admin port: at most proportional to its bytes."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest
from admin import DOCUMENT, TOKEN, Admin, administered
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from fakes import FakeConnection, run
from growth import check, check_async
from prometheus_client import CollectorRegistry
from shapes import MEMBERS, RUNS, VALUES, repeat

from videre import metrics
from videre.admin import GUARD
from videre.admin.problems import Problem
from videre.admin.requests import PACKET, read_body
from videre.admin.status import LARGEST, Status
from videre.config import Config
from videre.limits import Penalties
from videre.rooms.census import Census
from videre.transport import Options

#: The longest line of a request, or header, that aiohttp reads has 8190 bytes.
LONGEST = 8000
#: All routes that read their query: the others get the same request each time.
ROUTES = [
    (method.upper(), path)
    for path, methods in DOCUMENT["paths"].items()
    for method, described in methods.items()
    if "400" in described["responses"]
]
QUERIES = (
    *("a%d", "a%d=", "a", "a=1", "room=a", "limit=1", "after=a", "=", "a%d=%2541", "room=%41"),
    *("%ff", "%d", "%2500=%00", "prefix=/%d", "reason=x", "room[%d]=a", "a%d;b", "a+b=c+d"),
)
LONG_VALUES = ("room=", "after=", "limit=", "prefix=", "user=", "reason=", "x=", "")
#: Bytes of the longest error answer: eight faults with their names.
ANSWER = 8192
OPEN_METRICS = "application/openmetrics-text;version=1."
FILLERS = ("a", "1", "%41", "%F0%9F%98%80", "+", "/", "%25", "%ff", ".", "[")


@pytest.fixture
async def admin() -> AsyncIterator[Admin]:
    """Run an admin port."""
    async with administered() as client:
        yield client


def made(admin: Admin, method: str, target: str, body: bytes = b"", **headers: str) -> web.Request:
    """Return a request as the application gets it, after parsing."""
    named = {"Host": "localhost", "Content-Type": "application/json", **headers}
    request = make_mocked_request(method, target, headers=named, app=admin.app)
    request._read_bytes = body
    return request


async def asked(admin: Admin, request: web.Request) -> None:
    """Let the application answer; an error must be short."""
    response = await admin.app._handle(request)
    assert isinstance(response, web.Response) and isinstance(response.body, bytes)
    assert response.status < 400 or len(response.body) < ANSWER


def weight(request: web.Request) -> int:
    """Return the bytes of a request."""
    headers = sum(len(name) + len(value) for name, value in request.headers.items())
    return len(request.path_qs) + headers + len(request._read_bytes or b"")


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_queries(admin: Admin, method: str, path: str) -> None:
    """Many parameters: unknown, repeated, escaped, or without a name."""
    for piece in QUERIES:
        await check_async(
            lambda size, piece=piece: made(  # type: ignore[misc]
                admin, method, f"{path}?{repeat(piece, size, between='&')}"
            ),
            lambda request: asked(admin, request),
            largest=LONGEST,
            weigh=weight,
        )


@pytest.mark.parametrize("path", ["/api/v1/rooms", "/api/v1/members", "/api/v1/nothing"])
async def test_long_values(admin: Admin, path: str) -> None:
    """One value of the maximum length, of a known or an unknown parameter."""
    for name, filler in itertools.product(LONG_VALUES, FILLERS):
        await check_async(
            lambda size, name=name, filler=filler: made(  # type: ignore[misc]
                admin, "GET", f"{path}?{name}{repeat(filler, size, between='')}"
            ),
            lambda request: asked(admin, request),
            largest=LONGEST,
            weigh=weight,
        )


HEADERS = ("Origin", "Sec-Fetch-Site", "Authorization", "X-Forwarded-For", "Content-Type")


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("token", [None, TOKEN])
async def test_long_headers(name: str, token: str | None) -> None:
    """The longest headers that are read, with wrong tokens."""
    trusting = Config(transport=Options(trusted_proxies=("127.0.0.1",)))
    async with administered(trusting, token=token) as admin:
        for piece in ("a", ",", ", 1.1.1.1", "::", " ", "=", "http://"):
            admin.app[GUARD]._penalties = Penalties()
            admin.app[GUARD]._sleep = no_sleep
            await check_async(
                lambda size, piece=piece: made(  # type: ignore[misc]
                    admin,
                    "GET",
                    "/api/v1/prefixes",
                    **{name: repeat(piece, size, between="")},  # type: ignore[arg-type]
                ),
                lambda request: asked(admin, request),
                largest=LONGEST,
                weigh=weight,
            )


@pytest.mark.parametrize("piece", ["a", "a.", "ü", "ü.", "ab", "[", "%"])
async def test_hosts(piece: str) -> None:
    """A port without a token parses the Host: an international name takes 3 us for each byte."""
    async with administered(token=None) as admin:
        await check_async(
            lambda size: made(admin, "GET", "/status.json", Host=f"xn--{repeat(piece, size)}"),
            lambda request: asked(admin, request),
            largest=LONGEST,
            most=1e-6,
            weigh=weight,
        )


@pytest.mark.parametrize("piece", [";", "a=b;", " "])
async def test_types(admin: Admin, piece: str) -> None:
    """Of a body's Content-Type only the type is looked at: it would cost 60 us for each byte."""
    numbers = itertools.count()  # aiohttp remembers what it has parsed

    def make(size: int) -> web.Request:
        headers = {"Content-Type": f"application/json;{next(numbers)}{repeat(piece, size)}"}
        return made(admin, "POST", "/api/v1/packets?room=a", b"{}", **headers)

    await check_async(
        make, lambda request: asked(admin, request), largest=LONGEST, most=5e-6, weigh=weight
    )


@pytest.mark.parametrize("piece", ["a", ",", ";", ",a;q=1", "1.", OPEN_METRICS, f";{OPEN_METRICS}"])
def test_what_metrics_are_accepted(piece: str) -> None:
    """Any Accept header."""
    check(
        lambda size: OPEN_METRICS + repeat(piece, size, between=""),
        lambda accept: metrics.exposition(CollectorRegistry(), accept),
        largest=LONGEST,
    )


async def no_sleep(_seconds: float) -> None:
    """Do not wait."""


BODIES = (
    *(('{"Payload":1,', piece, "}") for piece in MEMBERS),
    *(('{"Payload":{', piece, "}}") for piece in MEMBERS),
    *(('{"Payload":[', piece, "]}") for piece in VALUES),
    *(("[", piece, "]") for piece in VALUES),
)
STRINGS = (
    *(('{"Payload":"', run, '"}') for run in RUNS),
    *(('{"Payload":1,"', run, '":1}') for run in RUNS),
    *(("", run, "") for run in RUNS),
)


@pytest.mark.parametrize("bodies", [BODIES, STRINGS], ids=["bodies", "strings"])
async def test_bodies(
    admin: Admin, bodies: Sequence[tuple[str, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any JSON, and invalid JSON, with known and unknown names in all places.

    Cerberus takes 300 us for any input, which would hide the rest.
    """

    def judge(document: dict[str, Any], *_: object) -> dict[str, Any]:
        assert document.keys() <= PACKET.keys() and document.get("Payload") is None
        return document

    monkeypatch.setattr("videre.admin.requests._judge", judge)
    between = "," if bodies is BODIES else ""
    for before, piece, after in bodies:

        def make(size: int, around: tuple[str, str, str] = (before, piece, after)) -> web.Request:
            text = around[0] + repeat(around[1], size, between=between) + around[2]
            body = text.encode(errors="surrogatepass")
            return made(admin, "POST", "/api/v1/packets?room=room", body)

        await check_async(make, read, largest=64 * 1024, weigh=weight)


async def read(request: web.Request) -> None:
    """Read a body like the API does; an error must be short."""
    try:
        await read_body(request, PACKET)
    except Problem as problem:
        body = problem.response().body
        assert isinstance(body, bytes) and len(body) < ANSWER


async def test_members_of_a_crowded_room(admin: Admin) -> None:
    """A page costs work in proportion to the room, wherever in it the page is."""
    rooms = admin.namespaces[0].rooms
    joined = 0

    def crowd(size: int) -> int:
        nonlocal joined
        while joined < size:
            joined += 1
            run(rooms.join(f"u{joined}", "crowd", FakeConnection(), ("", "")))
        return size

    crowd(512)  # a join is sent to all members, which is not measured here
    for target in ("/api/v1/members?room=crowd", "/api/v1/members?room=crowd&after=u30"):
        await check_async(
            crowd,
            lambda _, target=target: asked(admin, made(admin, "GET", target)),  # type: ignore[misc]
            largest=512,
            weigh=lambda size: size,
        )


async def test_what_repeats_costs_the_same_with_many_rooms(admin: Admin) -> None:
    """Lists of rooms, status, samples and metrics walk through no rooms."""
    namespace = admin.namespaces[0]
    status = Status(
        admin.namespaces,
        engine="",
        ready=lambda: True,
        loggers=[logging.getLogger("videre.growth")],
    )
    registry = metrics.registry(admin.namespaces)

    async def cost(work: Callable[[], Any]) -> float:
        least = float("inf")
        for _ in range(20):
            began = time.thread_time()
            found = work()
            if found is not None:
                await found
            least = min(least, time.thread_time() - began)
        return least

    def list_rooms() -> Awaitable[Any]:
        return namespace.rooms.rooms(after="room7", limit=100)

    def list_by_api() -> Awaitable[Any]:
        return asked(admin, made(admin, "GET", "/api/v1/rooms?limit=100"))

    works: list[Callable[[], Any]] = [
        *(status.sample, lambda: status.snapshot() and None),
        *(
            registry.measured,
            list_rooms,
            lambda: asked(admin, made(admin, "GET", "/api/v1/rooms?limit=100")),
        ),
    ]
    for number in range(200):
        run(namespace.rooms.join("u", f"room{number}", FakeConnection(), ("", "")))
    before = [await cost(work) for work in works]
    for number in range(200, 10_000):
        run(namespace.rooms.join("u", f"room{number}", FakeConnection(), ("", "")))
    after = [await cost(work) for work in works]
    # A walk would cost 50 times more.
    for few, many in zip(before, after, strict=True):
        assert many < 10 * max(few, 20e-6), (before, after)


def test_the_census_of_many_rooms() -> None:
    """A change costs the same with any number of rooms; an answer costs what it contains."""
    census: Census[str] = Census()

    def grow(size: int) -> int:
        for number in range(size):
            for members in range(number % 5):
                census.change(str(number), members, members + 1)
        return size

    def shrink(_: int) -> None:
        while census.members:
            room, members = census.largest(LARGEST)[-1]
            census.change(room, members, 0)

    def turn(size: int) -> None:
        shrink(size)
        grow(size)
        shrink(size)

    check(grow, turn, largest=4096, weigh=lambda n: n)
