"""Who may use the admin port: the token, and the limits for pages of other sites."""

from __future__ import annotations

import asyncio
import hmac
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from admin import DOCUMENT, TOKEN, Admin, administered
from aiohttp import web
from inprocess import Server, serving

from videre.admin import GUARD, reload
from videre.admin.access import MAX_WAITING, Guard
from videre.admin.problems import tell_problems
from videre.config import Config
from videre.limits import FAILURE_SECONDS, FAILURES, FIRST_DELAY, LONGEST_DELAY
from videre.settings import Options
from videre.transport.clients import Proxies

OPEN = {
    path
    for path, methods in DOCUMENT["paths"].items()
    for described in methods.values()
    if described.get("security") == [{}]
}
CLOSED = [
    (method.upper(), path)
    for path, methods in DOCUMENT["paths"].items()
    for method in methods
    if path not in OPEN
]


@pytest.fixture
async def admin() -> AsyncIterator[Admin]:
    """Run the admin port of a server, without a token."""
    async with administered() as client:
        yield client


@pytest.fixture
async def locked() -> AsyncIterator[Admin]:
    """Run an admin port that requires a token; its client sends none by default."""
    async with administered(token=TOKEN) as client:
        client.token = None
        yield client


#: The status page and its files.
PAGE = {
    *("/status", "/status.css", "/status_tokens.css"),
    *("/status.js", "/status_charts.js", "/status_parts.js", "/status_rooms.js"),
}


def test_what_is_open() -> None:
    """Load balancers' paths, and a page without data."""
    assert {"/health", "/ready", *PAGE} == OPEN
    assert len(CLOSED) >= 8


@pytest.mark.parametrize("path", sorted(OPEN))
async def test_what_is_open_needs_no_token(locked: Admin, path: str) -> None:
    """And reveals nothing that needs one."""
    found = await locked.get(path)
    assert found.status == 200
    assert not re.search(r"memory:|/echo|\d+\.\d+\.\d+", str(found.body))


WRONG: list[dict[str, str] | list[tuple[str, str]]] = [
    {},
    {"Authorization": ""},
    {"Authorization": TOKEN},
    {"Authorization": "Bearer"},
    {"Authorization": "Bearer "},
    {"Authorization": f"Bearer {TOKEN}x"},
    {"Authorization": f"Bearer {TOKEN[:-1]}"},
    {"Authorization": f"Bearer {TOKEN.upper()}"},
    {"Authorization": f"Basic {TOKEN}"},
    {"Authorization": f"Bearer {TOKEN} {TOKEN}"},
    {"Authorization": "Bearer \N{LATIN SMALL LETTER E WITH ACUTE}"},
    {"X-Authorization": f"Bearer {TOKEN}"},
    {"Cookie": f"token={TOKEN}"},
]


@pytest.mark.parametrize("headers", WRONG)
@pytest.mark.parametrize(("method", "path"), CLOSED)
async def test_without_the_token(
    locked: Admin, method: str, path: str, headers: dict[str, str]
) -> None:
    """The answer says how to send it; nothing else happens."""
    async with locked.http.request(method, locked.url + path, headers=headers) as answer:
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="videre"')
        assert (await answer.json(content_type=None))["code"] == "unauthorized"
    assert locked.drained == 0


async def test_a_token_in_the_query_is_none(locked: Admin) -> None:
    """URLs are kept in logs and histories."""
    assert (await locked.get("/status.json", token=TOKEN, access_token=TOKEN)).status == 401


async def test_two_tokens_are_none(locked: Admin) -> None:
    """Otherwise a proxy that adds one and we could use different ones."""
    headers = [("Authorization", f"Bearer {TOKEN}"), ("Authorization", "Bearer x")]
    async with locked.http.get(f"{locked.url}/status.json", headers=headers) as answer:
        assert answer.status == 401


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_with_the_token(locked: Admin, scheme: str) -> None:
    """Every path answers, under any Host."""
    headers = {"Authorization": f"{scheme} {TOKEN}", "Host": "admin.example.com"}
    for method, path in CLOSED:
        async with locked.http.request(method, locked.url + path, headers=headers) as answer:
            assert answer.status not in (401, 403, 421)
    assert locked.drained == 1


async def test_who_knows_no_token_learns_no_path(locked: Admin) -> None:
    """The answer does not depend on whether the path exists."""
    for path in ("/api/v1/nothing", "/", "/openapi.json"):
        async with locked.http.get(locked.url + path) as answer:
            assert answer.status == 401


async def test_tokens_are_compared_in_constant_time(
    locked: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hmac.compare_digest, on bytes: it raises for strings beyond ASCII."""
    compared: list[tuple[Any, Any]] = []
    compare = hmac.compare_digest

    def spy(a: Any, b: Any) -> bool:
        compared.append((a, b))
        return bool(compare(a, b))

    monkeypatch.setattr("videre.admin.access.hmac.compare_digest", spy)
    headers = {"Authorization": "Bearer guess"}
    assert (await locked.ask("GET", "/status.json", headers=headers)).status == 401
    assert compared == [(b"guess", TOKEN.encode())]


@pytest.mark.parametrize(
    "host", ["127.0.0.1:9", "localhost", "LOCALHOST:9", "a.localhost", "[::1]:9", "10.0.0.1"]
)
async def test_a_host_that_cannot_be_a_strangers(admin: Admin, host: str) -> None:
    """An address, or a name that always means this machine."""
    assert (await admin.ask("GET", "/status.json", headers={"Host": host})).status == 200


@pytest.mark.parametrize(
    "host", ["example.com", "evil.example:9", "localhost.example.com", "127.0.0.1.example.com", ""]
)
async def test_dns_rebinding(admin: Admin, host: str) -> None:
    """A page whose own name resolves to this machine can read and change nothing."""
    for path in ("/status.json", "/status", "/openapi.json"):
        answer = await admin.ask("GET", path, headers={"Host": host})
        assert (answer.status, answer.code) == (421, "wrong-host")
    same = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
    assert (await admin.ask("POST", "/api/v1/drain", headers=same)).status == 421
    assert admin.drained == 0
    for path in ("/health", "/ready"):
        assert (await admin.ask("GET", path, headers={"Host": host})).status == 200


ACROSS = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:1"},
    {"Origin": "http://localhost"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "http://{host}"},
]


@pytest.mark.parametrize("headers", ACROSS)
@pytest.mark.parametrize("token", [None, TOKEN])
async def test_a_page_of_another_site_changes_nothing(
    headers: dict[str, str], token: str | None
) -> None:
    """Whatever it makes the browser send."""
    async with administered(token=token) as admin:
        await admin.signaller.members("a")
        headers = of_host(admin, headers)
        gone = {"room": "room", "user": "a"}
        for method, path, query in (
            ("POST", "/api/v1/drain", {}),
            ("POST", "/api/v1/packets", {"room": "room"}),
            ("DELETE", "/api/v1/members", gone),
        ):
            answer = await admin.ask(method, path, headers=headers, **query)
            assert (answer.status, answer.code) == (403, "cross-site")
        assert admin.drained == 0
        assert (await admin.get("/api/v1/members", room="room")).status == 200


@pytest.mark.parametrize("headers", ACROSS)
@pytest.mark.parametrize("token", [None, TOKEN])
async def test_a_page_of_another_site_reads_nothing(
    headers: dict[str, str], token: str | None
) -> None:
    """It could not see the answer, but could make the server work; load balancers may ask."""
    async with administered(token=token) as admin:
        headers = of_host(admin, headers)
        for path, methods in DOCUMENT["paths"].items():
            if "get" not in methods:
                continue
            answer = await admin.ask("GET", path, headers=headers)
            if path in ("/health", "/ready"):
                assert answer.status == 200
            else:
                assert (answer.status, answer.code) == (403, "cross-site"), path
            async with admin.http.head(admin.url + path, headers=headers) as head:
                assert head.status == answer.status, path


def of_host(admin: Admin, headers: dict[str, str]) -> dict[str, str]:
    """Return headers with the port's own host inserted."""
    host = admin.url.removeprefix("http://")
    return {key: value.format(host=host) for key, value in headers.items()}


LINK = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


@pytest.mark.parametrize(
    ("path", "changed", "status"),
    [
        ("/status", {}, 200),
        ("/status", {"Sec-Fetch-Dest": "iframe"}, 403),
        ("/status", {"Sec-Fetch-Mode": "no-cors"}, 403),
        ("/status.json", {}, 403),
        ("/api/v1/rooms", {}, 403),
        ("/metrics", {}, 403),
    ],
)
async def test_a_link_leads_to_the_page_alone(
    admin: Admin, path: str, changed: dict[str, str], status: int
) -> None:
    """Other sites may link to the status page: it has no data and cannot be framed."""
    assert (await admin.ask("GET", path, headers={**LINK, **changed})).status == status


async def test_two_origins_are_not_its_own(admin: Admin) -> None:
    """A correct Origin does not excuse another one next to it."""
    for name, good, bad in (
        ("Origin", admin.url, "http://evil.example"),
        ("Sec-Fetch-Site", "same-origin", "cross-site"),
    ):
        for pair in ((good, bad), (bad, good)):
            headers = [(name, value) for value in pair]
            async with admin.http.get(f"{admin.url}/status.json", headers=headers) as answer:
                assert answer.status == 403


class Gate:
    """An application behind a guard, whose clock is the test's and whose delays it ends."""

    guard: Guard

    def __init__(self, server: Server) -> None:
        self.server = server
        self.now = 1000.0
        self.slept: list[float] = []
        self.began = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()

    @classmethod
    @asynccontextmanager
    async def opened(cls, *trusted: str) -> AsyncIterator[Gate]:
        """Run one that requires TOKEN."""
        proxies = Proxies(trusted)
        guard = Guard(TOKEN, proxies=proxies, clock=lambda: gate.now, sleep=lambda s: gate.sleep(s))
        app = web.Application(middlewares=[tell_problems, guard.middleware()])

        async def let_in(_request: web.Request) -> web.Response:
            return web.Response()

        app.router.add_get("/", let_in)
        async with serving(app) as server:
            gate = cls(server)
            gate.guard = guard
            yield gate

    async def sleep(self, seconds: float) -> None:
        """Return at once, and record the time."""
        self.slept.append(seconds)
        self.began.set()
        await self.go_on.wait()

    async def show(self, token: str, **headers: str) -> int:
        """Return the status for a token, and clear `slept` before."""
        self.slept = []
        shown = {"Authorization": f"Bearer {token}", **headers}
        async with self.server.http.get(self.server.url, headers=shown) as answer:
            return answer.status


async def test_a_reload_of_the_proxies(locked: Admin) -> None:
    """From then on, wrong tokens count for the clients that they name."""
    assert not locked.app[GUARD].proxies.trusts("10.0.0.1")
    reload(locked.app, Config(transport=Options(trusted_proxies=("10.0.0.1",))))
    assert locked.app[GUARD].proxies.trusts("10.0.0.1")


async def test_wrong_tokens_are_slowed_down() -> None:
    """From the eleventh on; a correct token has to wait too."""
    async with Gate.opened() as gate:
        for _ in range(FAILURES):
            assert (await gate.show("wrong"), gate.slept) == (401, [])
        waits = []
        for _ in range(8):
            assert await gate.show("wrong") == 401
            waits += gate.slept
        assert waits == [min(LONGEST_DELAY, FIRST_DELAY * 2**n) for n in range(8)]
        assert (await gate.show(TOKEN), gate.slept) == (200, [LONGEST_DELAY])
        gate.now += FAILURE_SECONDS + 1
        assert (await gate.show(TOKEN), gate.slept) == (200, [])


async def test_who_shows_no_token_guesses_nothing() -> None:
    """A page that has yet to ask for the token is not an attack."""
    async with Gate.opened() as gate:
        for _ in range(3 * FAILURES):
            async with gate.server.http.get(gate.server.url) as answer:
                assert answer.status == 401
        assert (await gate.show("wrong"), gate.slept) == (401, [])


async def test_one_address_is_slowed_down_and_no_other() -> None:
    """As a trusted proxy names it; an IPv6 network counts as one."""
    async with Gate.opened("127.0.0.1") as gate:
        for number in range(FAILURES):
            name = {"X-Forwarded-For": f"2001:db8::{number}"}
            assert (await gate.show("wrong", **name), gate.slept) == (401, [])
        assert (await gate.show("x", **{"X-Forwarded-For": "2001:db8::ffff"}), gate.slept) == (
            401,
            [FIRST_DELAY],
        )
        assert (await gate.show(TOKEN, **{"X-Forwarded-For": "192.0.2.1"}), gate.slept) == (200, [])


async def test_so_many_tries_wait_side_by_side() -> None:
    """More tries of one address are refused: parallel ones take no memory and gain no time."""
    async with Gate.opened() as gate:
        for _ in range(FAILURES):
            await gate.show("wrong")
        gate.go_on.clear()
        waiting = [asyncio.create_task(gate.show("wrong")) for _ in range(MAX_WAITING)]
        while gate.guard._penalties.tries("127.0.0.1") < MAX_WAITING:
            gate.began.clear()
            await gate.began.wait()
        for token in ("wrong", TOKEN):
            headers = {"Authorization": f"Bearer {token}"}
            async with gate.server.http.get(gate.server.url, headers=headers) as answer:
                assert answer.status == 429 and int(answer.headers["Retry-After"]) > 0
                assert (await answer.json(content_type=None))["code"] == "too-many-tries"
        gate.go_on.set()
        assert await asyncio.gather(*waiting) == [401] * MAX_WAITING
        assert gate.guard._penalties.tries("127.0.0.1") == 0
        assert await gate.show(TOKEN) == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://{host}"},
        {"Origin": "https://{host}"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "https://proxy.example"},
        {"Sec-Fetch-Site": "none"},
    ],
)
async def test_its_own_page_and_programs_may(admin: Admin, headers: dict[str, str]) -> None:
    """Behind a proxy with another name, the browser vouches that the page is our own."""
    host = admin.url.removeprefix("http://")
    headers = {key: value.format(host=host) for key, value in headers.items()}
    assert (await admin.ask("POST", "/api/v1/drain", headers=headers)).status == 202


async def test_no_answer_is_for_other_pages(admin: Admin) -> None:
    """No answer may be read, framed, cached or sniffed; our pages load nothing from others."""
    for path in ("/status", "/status.js", "/status.json", "/api/v1/rooms", "/health", "/nothing"):
        async with admin.http.get(admin.url + path, headers={"Origin": "http://a.example"}) as told:
            headers = told.headers
        assert "Access-Control-Allow-Origin" not in headers
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'") and "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy and "*" not in policy and "http" not in policy
