"""The status page in a real Chromium: who may see it, what it shows, and how it looks.

With VIDERE_SCREENSHOTS=FOLDER it leaves pictures of what was looked at.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from admin import TOKEN, Admin, administered
from browser import Browser, Page
from patience import WAIT_SECONDS
from process import node_modules

from videre.config import Config
from videre.limits import LONGEST_DELAY
from videre.transport import Options

pytestmark = [pytest.mark.process, pytest.mark.long, pytest.mark.asyncio(loop_scope="session")]

SEEN = "await page.locator(arg).first().waitFor();"
DESK, PHONE = {"width": 1200, "height": 900}, {"width": 360, "height": 740}


@pytest_asyncio.fixture(loop_scope="session")
async def watched(browser: Browser) -> AsyncIterator[Browser]:
    """Give the browser; fail if a page has an uncaught error or violates its policy."""
    yield browser
    await browser.close()
    assert not [line for line in browser.console if "Content Security Policy" in line]


async def opened(browser: Browser, admin: Admin, **context: Any) -> Page:
    """Open the status page in a context of its own."""
    axe = node_modules() / "axe-core" / "axe.min.js"
    own = {"viewport": DESK, "locale": "en-GB", **context}
    script = axe.read_text(encoding="utf-8")
    return await browser.open(f"{admin.url}/status", own=own, init=script, ready=False)


@asynccontextmanager
async def talking(admin: Admin, users: int = 4, room: str = "kitchen-table") -> AsyncIterator[None]:
    """Keep a room in which one user sends all the time, and another sends nonsense."""
    clients = await admin.signaller.members(*(f"user{n}" for n in range(users)), room=room)

    async def talk() -> None:
        number = 0
        while True:
            number += 1
            for _ in range(1 + number % 7):
                await clients[0].send("broadcast", "user0", room, {"n": number})
            if number % 10 == 0:
                await clients[1].send("broadcast", "user0", room)
                await clients[1].send("ping", "user1", room)  # ten errors in a row would end it
            await asyncio.sleep(0.1)

    async def listen(client: Any) -> None:
        while True:
            await client.text()

    tasks = [
        asyncio.create_task(talk()),
        *(asyncio.create_task(listen(each)) for each in clients[1:]),
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(end, asyncio.CancelledError) for end in ends), ends


async def look(page: Page, name: str) -> None:
    """Take screenshots on a desktop in light mode and on a phone in dark mode."""
    folder = os.environ.get("VIDERE_SCREENSHOTS")
    for size, scheme in ((DESK, "light"), (PHONE, "dark")):
        path = Path(folder) / f"{name}-{size['width']}-{scheme}.png" if folder else None
        found = await page.drive(
            """
            await page.setViewportSize(arg.size);
            await page.emulateMedia({ colorScheme: arg.scheme });
            const told = await page.evaluate(() => axe.run());
            if (told.passes.length < 10) throw new Error("axe has looked at nothing");
            const [wide, background] = await page.evaluate(() => [
                document.documentElement.scrollWidth - innerWidth,
                getComputedStyle(document.body).backgroundColor,
            ]);
            if (arg.path) await page.screenshot({ path: arg.path, fullPage: true });
            const violations = told.violations.map(
                ({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html)}`);
            return { wide, background, violations };
            """,
            {"size": size, "scheme": scheme, "path": str(path) if path else None},
        )
        assert found["violations"] == []
        assert found["wide"] <= 0, "it scrolls to the side"
        brightness = sum(int(each) for each in found["background"][4:-1].split(","))
        assert (brightness > 3 * 128) == (scheme == "light")


async def test_it_shows_what_goes_on(watched: Browser) -> None:
    """Charts that move, errors, rooms by the first characters of their ids; no user names."""
    config = Config(transport=Options(origins=("https://example.com",)))
    async with administered(config) as admin, talking(admin), talking(admin, 2, "x"):
        page = await opened(watched, admin)
        await page.drive(SEEN, "#chart-Received .line[points*=' ']")
        moves = await page.drive(
            """
            const points = (id) => page.locator(`#chart-${id} .line`).getAttribute("points");
            const found = {};
            for (const id of ["Received", "Sent", "SentBytes", "Errors"]) {
                await page.waitForFunction((id) => {
                    const figure = document.getElementById(`chart-${id}`);
                    return parseFloat(figure.querySelector("b").textContent) > 0;
                }, id);
                const before = await points(id);
                await page.waitForFunction(([id, before]) => {
                    const line = document.querySelector(`#chart-${id} .line`);
                    return line.getAttribute("points") !== before;
                }, [id, before]);
                found[id] = await page.locator(`#chart-${id} svg`).getAttribute("aria-label");
            }
            return found;
            """
        )
        assert moves["Received"].startswith("Packets received: ")
        texts = await page.drive(
            """
            const text = (selector) => page.locator(selector).innerText();
            return {
                all: await text("body"), state: await text("#state"),
                sessions: await text("#chart-Sessions b"), rooms: await text("#chart-Rooms b"),
                errors: await text("#errors tbody"), largest: await text("#rooms tbody"),
                transports: await text("#transports tbody"),
            };
            """
        )
        assert (texts["state"], texts["sessions"], texts["rooms"]) == ("Ready", "6", "2")
        assert "error: wrong-user" in texts["errors"]
        assert texts["largest"].split() == ["kitche…", "/echo", "4", "…", "/echo", "2"]
        assert texts["transports"].split() == ["websocket-raw", "6"]
        node = await page.drive("return page.locator('#nodes tbody').innerText();")
        assert f":{os.getpid()} this node" in node and "/echo" in node
        assert "kitchen" not in texts["all"] and "user0" not in texts["all"]
        await look(page, "busy")


async def test_it_shows_a_day(watched: Browser) -> None:
    """The same charts, with the highest of each five minutes; each latency has one."""
    async with administered() as admin, talking(admin, 2):
        page = await opened(watched, admin)
        await page.drive(SEEN, "#chart-Received .line[points*=' ']")
        await page.drive("await page.getByLabel('History').selectOption('day');")
        await page.drive(SEEN, "#chart-Received svg[viewBox='0 0 287 40']")
        points = "return page.locator('#chart-Received .line').getAttribute('points');"
        assert len((await page.drive(points)).split()) == 1  # of the first five minutes
        await page.drive(SEEN, "#chart-Lag b:has-text(' ms')")
        await page.drive(SEEN, "#chart-RelayLatency b:has-text(' ms')")
        value = "return page.locator('#chart-EngineLatency b').innerText();"
        assert await page.drive(value) == "none"  # memory:// has no steps
        await look(page, "day")


PRESS = "await page.getByRole('button', { name: arg, exact: true }).click();"
TOLD = "await page.locator('#done').getByText(arg, { exact: true }).waitFor();"


async def test_it_looks_into_rooms(watched: Browser) -> None:
    """Lists rooms and members as text, sends a packet, removes a member; Cancel does nothing."""
    async with administered(token=TOKEN) as admin:
        evil = "<img src=x>"
        ann, bob = await admin.signaller.members("ann", evil, room="a room/..")
        page = await opened(watched, admin)
        await page.drive(
            "await page.getByLabel('Admin token').fill(arg); await page.keyboard.press('Enter');",
            TOKEN,
        )
        await page.drive(SEEN, "#content")
        await page.drive(PRESS, "List rooms")
        await page.drive(SEEN, "#all-rooms tbody td:has-text('a room/..')")
        await page.drive(PRESS, "Show a room/..")
        rows = "return page.locator('#member-table tbody td:first-child').allInnerTexts();"
        await page.drive(SEEN, "#members")
        assert await page.drive(rows) == ["ann initiator", evil]
        await look(page, "room")

        send = "await page.getByLabel('Payload to send').fill(arg);" + PRESS.replace(
            "arg", "'Send'"
        )
        await page.drive(send, "{nonsense")
        await page.drive(SEEN, "#done.bad:has-text('not JSON')")
        await page.drive(send, '{"n": 1}')
        await page.drive(TOLD, "The packet was sent.")
        for client in (ann, bob):
            async with asyncio.timeout(WAIT_SECONDS):
                while (heard := await client.heard())[0] != "broadcast":
                    pass
            assert heard[-1] == {"n": 1}

        await page.drive(PRESS, f"Remove {evil}")
        await page.drive(SEEN, "#sure[open]")
        await look(page, "sure")
        await page.drive(PRESS, "Cancel")
        assert await admin.namespaces[0].rooms.members("a room/..") == ["ann", evil]
        await page.drive(PRESS, f"Remove {evil}")
        await page.drive(PRESS, "Remove")
        await page.drive(TOLD, f"{evil} was removed.")
        assert await page.drive(rows) == ["ann initiator"]
        assert await admin.namespaces[0].rooms.members("a room/..") == ["ann"]

        await page.drive("await page.getByLabel('Room id').fill(arg);", "nowhere")
        await page.drive(PRESS, "Show members")
        await page.drive(TOLD, "The room has no members.")


async def test_it_drains(watched: Browser) -> None:
    """Only after it was confirmed."""
    async with administered() as admin:
        page = await opened(watched, admin)
        await page.drive(PRESS, "Drain this node")
        await page.drive("await page.keyboard.press('Escape');")
        await page.drive("await page.locator('#sure').waitFor({ state: 'hidden' });")
        assert admin.drained == 0
        await page.drive(PRESS, "Drain this node")
        await page.drive(PRESS, "Drain")
        await page.drive(TOLD, "The node is draining.")
        assert admin.drained == 1


async def test_it_pages_through_members(watched: Browser) -> None:
    """As the API does, here in pages of two."""
    async with administered() as admin:
        await admin.signaller.members("ann", "bob", "cid", room="large")
        page = await opened(watched, admin)
        small = "(route) => route.continue({ url: route.request().url() + '&limit=2' })"
        await page.drive(f"await page.route('**/api/v1/members?*', {small});")
        await page.drive("await page.getByLabel('Room id').fill(arg);", "large")
        await page.drive(PRESS, "Show members")
        await page.drive(SEEN, "#member-table td:has-text('bob')")
        assert await page.drive("return page.locator('#member-table tbody tr').count();") == 2
        await page.drive(PRESS, "Next members")
        await page.drive(SEEN, "#member-table td:has-text('cid')")
        assert await page.drive("return page.locator('#member-table tbody tr').count();") == 1
        assert not await page.drive("return page.locator('#more-members').isVisible();")


async def test_it_asks_for_the_token(watched: Browser) -> None:
    """If there is one; it is kept only for this tab."""
    async with administered(token=TOKEN) as admin:
        page = await opened(watched, admin)
        await page.drive(SEEN, "#login")
        assert not await page.drive("return page.locator('#content').isVisible()")
        await look(page, "locked")
        type_in = (
            "await page.getByLabel('Admin token').fill(arg); await page.keyboard.press('Enter');"
        )
        await page.drive(type_in, TOKEN + "x")
        await page.drive(SEEN, "#refused:has-text('Wrong token')")
        await look(page, "refused")
        await page.drive(type_in, TOKEN.replace("-", "\N{EN DASH}"))  # no header has that
        await page.drive("await page.locator('#refused').getByText('Wrong token').waitFor();")
        assert await page.drive("return page.evaluate(() => sessionStorage.length);") == 0
        await page.drive(type_in, TOKEN)
        await page.drive(SEEN, "#content")
        assert not await page.drive("return page.locator('#login').isVisible()")
        await page.drive("await page.reload();" + SEEN, "#content")
        kept = await page.drive(
            "return page.evaluate(() => [localStorage.length, document.cookie, location.href]);"
        )
        assert kept == [0, "", f"{admin.url}/status"]
        await look(page, "empty")
        other = await opened(watched, admin)
        await other.drive(SEEN, "#login")


async def test_it_says_when_nobody_answers(watched: Browser) -> None:
    """And continues as soon as the server answers."""
    async with administered() as admin:
        page = await opened(watched, admin)
        await page.drive(SEEN, "#state.good")
        await page.drive("await page.route('**/status.json', (route) => route.abort());")
        await page.drive(SEEN, "#state:has-text('No answer since')")
        await look(page, "stale")
        await page.drive("await page.unroute('**/status.json');")
        await page.drive(SEEN, "#state.good:has-text('Ready')")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            {"status": 429, "json": {"title": "Too many tries", "detail": "Wait for a minute"}},
            "Wait for a minute",
        ),
        ({"status": 503, "json": {"title": "It is not ready"}}, "It is not ready"),
        ({"status": 500, "body": "<h1>Sorry</h1>"}, "500 Internal Server Error"),
    ],
)
async def test_it_says_why_it_is_refused(
    watched: Browser, answer: dict[str, Any], words: str
) -> None:
    """A server that refuses does answer: the page has its reason, or the status."""
    async with administered() as admin:
        page = await opened(watched, admin)
        await page.drive(SEEN, "#state.good")
        await page.drive(
            "await page.route('**/status.json', (route) => route.fulfill(arg));", answer
        )
        await page.drive("await page.locator('#state').getByText(arg).waitFor();", words)
        assert await page.drive("return page.locator('#content.stale').count();") == 1
        await look(page, f"refused-{answer['status']}")
        await page.drive("await page.unroute('**/status.json');")
        await page.drive(SEEN, "#state.good:has-text('Ready')")


async def test_it_waits_longer_than_the_server_delays_it(watched: Browser) -> None:
    """A neighbour's wrong tokens delay the right one; meanwhile it says that no answer came."""
    async with administered() as admin:
        page = await opened(watched, admin)
        await page.drive(SEEN, "#state.good")
        waits = await page.drive(
            """
            await page.evaluate(() => {
              const { timeout } = AbortSignal;
              AbortSignal.timeout = (ms) => timeout.call(AbortSignal, (globalThis.waits = ms));
            });
            const route = await new Promise((resolve) =>
              page.route("**/status.json", resolve, { times: 1 }));
            await page.locator("#state").getByText("No answer since").waitFor();
            const waits = await page.evaluate(() => waits);
            await route.continue();
            await page.locator("#state").getByText("Ready", { exact: true }).waitFor();
            return waits;
            """
        )
        assert waits > LONGEST_DELAY * 1000
