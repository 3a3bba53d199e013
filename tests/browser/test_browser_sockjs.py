"""Drive a running server with the real sockjs-client in Chromium, from another origin."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from browser import Browser
from client_site import file_handler
from patience import LEFT_SECONDS
from process import NODE, Signaller, node_modules, signaller

pytestmark = [pytest.mark.process, pytest.mark.long, pytest.mark.asyncio(loop_scope="session")]

IFRAMES = ["iframe-eventsource", "iframe-xhr-polling"]
MODERN = ["websocket", "xhr-streaming", "xhr-polling", "eventsource"]
# The last two are off by default, but Chromium can still use them.
TRANSPORTS = [*MODERN, *IFRAMES, "iframe-htmlfile", "jsonp-polling"]


MODULE = (NODE / "browser_sockjs.mjs").as_uri()
LANES = 3  # transports at a time: most of their time is waiting
ROOM = "a room"
PAGE = """<!doctype html>
<meta charset="utf-8">
<title>Peer</title>
<script src="/sockjs.min.js"></script>
<script type="importmap">{"imports": {"sockjs-client": "/sockjs-client.mjs"}}</script>
<script type="module">
  import { Peer } from "/peer.mjs";
  globalThis.Peer = Peer;
</script>
"""
SHIM = "export default globalThis.SockJS;"

Line = dict[str, Any]


@dataclass(frozen=True)
class Site:
    """The site of the pages, under the names of two origins."""

    port: int

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def other_origin(self) -> str:
        return f"http://localhost:{self.port}"


@dataclass(frozen=True)
class Transcript:
    """The output of a scenario about one transport, in order."""

    transport: str
    lines: list[Line]

    def of(self, event: str, peer: str | None = None) -> list[Line]:
        return [line for line in self.lines if (line["event"], line.get("peer")) == (event, peer)]

    def texts(self, how: str, peer: str, kind: str) -> list[str]:
        """Return the packets of this kind (their Header.Event) that `peer` sent or heard."""
        texts = [line["text"] for line in self.of(how, peer) if line["text"] != "{"]
        return [text for text in texts if json.loads(text)["Header"]["Event"] == kind]

    def packet(self, event: str, user: str, payload: str) -> Line:
        header = {"Event": event, "UserId": user, "RoomId": f"{ROOM} {self.transport}"}
        return {"Header": header, "Payload": payload}

    def heard(self, peer: str, kind: str) -> list[Line]:
        return [json.loads(text) for text in self.texts("heard", peer, kind)]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def site() -> AsyncIterator[Site]:
    """Serve a page with the client, and the script of the iframe page, on their own port."""
    modules = node_modules()
    javascript = "text/javascript"
    dist = modules / "sockjs-client" / "dist"
    app = web.Application()
    app.router.add_get("/", file_handler(PAGE, "text/html"))
    app.router.add_get("/peer.mjs", file_handler(NODE / "peer.mjs", javascript))
    app.router.add_get("/sockjs-client.mjs", file_handler(SHIM, javascript))
    app.router.add_get("/sockjs.min.js", file_handler(dist / "sockjs.min.js", javascript))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield Site(runner.addresses[0][1])
    await runner.cleanup()


async def browse(
    browser: Browser, scenario: str, page: str, *transports: str, server: str
) -> list[Line]:
    """Run a scenario of browser_sockjs.mjs with the page at `page`, and return its output.

    The server has another name than the page, which makes it another site as well.
    """
    blank = await browser.open("about:blank", ready=False)
    code = """
    const scenarios = await import(arg.module);
    return scenarios[arg.scenario](page.context().browser(), arg);
    """
    arg = {"module": MODULE, "scenario": scenario, "page": f"{page}/", "url": f"{server}/echo"}
    return list(await blank.drive(code, {**arg, "room": ROOM, "transports": transports}))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def server(site: Site, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Signaller]:
    """Run a server with all transports, whose iframe page loads the client's version used here."""
    config = {"SockJSUrl": f"{site.origin}/sockjs.min.js", "HTMLFile": True, "JSONP": True}
    tmp = tmp_path_factory.mktemp("signaller")
    async with signaller(tmp=tmp, config=config) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def meetings(shared_browser: Browser, site: Site, server: Signaller) -> list[Line]:
    """Let two tabs meet over each transport."""
    url = f"http://localhost:{server.port}"
    lanes = asyncio.Semaphore(LANES)

    async def meet(transport: str) -> list[Line]:
        async with lanes:
            return await browse(shared_browser, "meeting", site.origin, transport, server=url)

    found = await asyncio.gather(*(meet(transport) for transport in TRANSPORTS))
    await shared_browser.close()
    return [line for lines in found for line in lines]


@pytest.fixture(params=TRANSPORTS)
def meeting(meetings: list[Line], request: pytest.FixtureRequest) -> Transcript:
    """Give the meeting over one transport."""
    transport = request.param
    lines = [line for line in meetings if line["transport"] == transport]
    assert [line["event"] for line in lines][-1:] == ["done"], lines
    assert {line["transport"] for line in lines if line["event"] == "opened"} == {transport}
    return Transcript(transport, lines)


async def test_each_transport_brings_two_tabs_together(meeting: Transcript) -> None:
    """Both hear both connects with their roles, and no page throws an error."""
    first = meeting.packet("connect", "first", "true")
    second = meeting.packet("connect", "second", "false")
    assert meeting.heard("first", "connect")[:2] == [first, second]
    assert meeting.heard("second", "connect") == [second]
    assert meeting.of("page-error") == []


@pytest.mark.parametrize(("sender", "receiver"), [("first", "second"), ("second", "first")])
async def test_long_and_strange_packets_arrive_unchanged(
    meeting: Transcript, sender: str, receiver: str
) -> None:
    """Packets of 60 KB, emoji and CJK arrive unchanged, in order."""
    sent = meeting.texts("sent", sender, "broadcast")
    assert sorted(len(text.encode()) > 60_000 for text in sent) == [False, True, True]
    assert meeting.texts("heard", receiver, "broadcast") == sent


async def test_a_close_by_the_server_has_its_code(meeting: Transcript) -> None:
    """After ten bad packets and errors, onclose gets 4500 and a reason; others hear the leave."""
    assert len(meeting.heard("second", "error")) == 10
    [closed] = meeting.of("closed", "second")
    assert (closed["code"], closed["wasClean"]) == (4500, True)
    assert closed["reason"]
    assert meeting.heard("first", "disconnect")[0] == meeting.packet("disconnect", "second", "")


async def test_the_same_page_connects_again(meeting: Transcript) -> None:
    """A new session over the same transport works after a close."""
    assert meeting.heard("again", "connect") == [meeting.packet("connect", "again", "false")]
    assert meeting.heard("again", "ping") == [meeting.packet("ping", "again", '["first","again"]')]


async def test_a_closed_page_leaves_its_room_at_once(meeting: Transcript) -> None:
    """The other tab hears one disconnect soon after the page is gone."""
    assert meeting.heard("first", "disconnect")[1:] == [meeting.packet("disconnect", "again", "")]
    [left] = meeting.of("page-closed")
    heard = [line["at"] for line in meeting.of("heard", "first") if "disconnect" in line["text"]]
    assert heard[-1] - left["at"] < 1000 * LEFT_SECONDS


async def test_a_close_by_the_client_is_clean(meeting: Transcript) -> None:
    """The client's own close is a normal one on every transport."""
    [closed] = meeting.of("closed", "first")
    assert (closed["code"], closed["wasClean"]) == (1000, True)


async def test_a_leaving_client_is_no_error(server: Signaller, meetings: list[Line]) -> None:
    """A page that goes away while it receives is normal, and logs no traceback."""
    assert meetings
    assert [line for line in server.output if "Error" in line] == []


@dataclass(frozen=True)
class Tries:
    """A page's results: by hand, and the client's error on each transport."""

    by_hand: list[int | str]
    errors: dict[str, str | None]


Pages = dict[str, Tries]  # of an `allowed` origin and of an `other`


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def tries(
    shared_browser: Browser, site: Site, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Pages]:
    """Let a page of an allowed origin and one of another try a server."""
    own = "videre.localhost"  # the server's own: its iframe page's requests have that origin
    origins = [site.origin, f"http://{own}:*"]
    config = {"Origins": origins, "SockJSUrl": f"{site.origin}/sockjs.min.js"}
    async with signaller(tmp=tmp_path_factory.mktemp("origins"), config=config) as server:
        found = {}
        for name, page in (("allowed", site.origin), ("other", site.other_origin)):
            every = [*MODERN, *IFRAMES]
            url = f"http://{own}:{server.port}"
            by_hand, *tried = await browse(shared_browser, "tries", page, *every, server=url)
            errors = {line["transport"]: line["error"] for line in tried if "error" in line}
            found[name] = Tries(by_hand["found"], errors)
        await shared_browser.close()
        yield found


@pytest.mark.parametrize("transport", MODERN)
async def test_a_page_of_an_allowed_origin_connects(tries: Pages, transport: str) -> None:
    """If Origins has its origin, every transport works."""
    assert tries["allowed"].errors[transport] is None


@pytest.mark.parametrize("transport", IFRAMES)
async def test_an_allowed_page_connects_through_an_iframe(tries: Pages, transport: str) -> None:
    """The iframe's requests have the server's own origin, on behalf of an allowed page."""
    assert tries["allowed"].errors[transport] is None


@pytest.mark.parametrize("transport", [*MODERN, *IFRAMES])
async def test_a_page_of_another_origin_is_refused(tries: Pages, transport: str) -> None:
    """No transport opens, and the client gives up."""
    assert "was closed with 1002" in (tries["other"].errors[transport] or "")


async def test_no_transport_can_be_used_by_hand_either(tries: Pages) -> None:
    """The browser gets no WebSocket and no readable answer, even without asking for /info."""
    assert tries["allowed"].by_hand[:4] == ["open", "open", 200, 200]
    assert tries["other"].by_hand[:4] == [1006, 1006, "refused", "refused"]
    assert tries["other"].by_hand[4] != "open"


async def test_the_iframe_page_does_not_bypass_origins(
    browser: Browser, site: Site, tmp_path: Path
) -> None:
    """If the server's own origin is allowed, pages of others still cannot use its iframe page."""
    config = {"Origins": ["http://localhost:*"], "SockJSUrl": f"{site.origin}/sockjs.min.js"}
    async with signaller(tmp=tmp_path, config=config) as server:
        url = f"http://localhost:{server.port}"
        [allowed] = await browse(browser, "tries", site.other_origin, server=url)
        [other] = await browse(browser, "tries", site.origin, server=url)
    assert allowed["found"] == ["open", "open", 200, 200, "open"]
    assert other["found"][:4] == [1006, 1006, "refused", "refused"]
    assert other["found"][4] != "open"
