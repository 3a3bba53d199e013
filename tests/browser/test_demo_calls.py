"""The demo as people use it: real pages in Chromium, driven by their labels, with a real server.

With VIDERE_SCREENSHOTS=DIRECTORY the walk through all states saves a screenshot of each.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from browser import Browser, Page, Wire, chromium
from process import NODE, node_modules, self_signed, signaller

import videre
from videre.config import Config
from videre.settings import Limits

pytestmark = [pytest.mark.process, pytest.mark.long, pytest.mark.asyncio(loop_scope="session")]

#: Playwright's options for each person: a context, hence a window, since a background tab is
#: painted only once a second.
OWN: dict[str, Any] = {
    "permissions": ["camera", "microphone"],
    "viewport": {"width": 600, "height": 500},  # quick to paint
    "ignoreHTTPSErrors": True,  # the tests' certificates are self-signed
}
REFUSED: dict[str, Any] = {"permissions": []}
#: Frames that are quick to encode, and few: each is painted in all windows, without a GPU.
SMALL = """
const { mediaDevices } = navigator;
if (mediaDevices) {
  const ask = mediaDevices.getUserMedia.bind(mediaDevices);
  const video = { width: 160, height: 120, frameRate: 10 };
  mediaDevices.getUserMedia = (wanted) => ask({ ...wanted, ...(wanted.video && { video }) });
}
"""
#: A wide screen with movement.
SCREEN = """
navigator.mediaDevices.getDisplayMedia = async () => {
  const canvas = Object.assign(document.createElement("canvas"), { width: 321, height: 123 });
  const context = canvas.getContext("2d");
  setInterval(() => context.fillRect(Math.random() * 300, Math.random() * 100, 9, 9), 30);
  context.fillStyle = "red";
  globalThis.screenTrack = canvas.captureStream(30);
  return screenTrack;
};
"""

LISTED = {"state": "attached"}  # even if the chat is closed


class Person:
    """A person with the demo open."""

    def __init__(self, page: Page) -> None:
        self.page = page

    async def is_online_again(self) -> None:
        """Fire the browser's online event, so that it reconnects at once."""
        await self.page.drive("await page.evaluate(() => dispatchEvent(new Event('online')));")

    async def presses(self, button: str) -> None:
        """Press the button with this label."""
        code = "await page.getByRole('button', { name: arg, exact: true }).click();"
        await self.page.drive(code, button)

    async def reads(self, words: str) -> None:
        """Wait until the call's state has these words."""
        code = "await page.locator('#state').getByText(arg, { exact: true }).waitFor();"
        await self.page.drive(code, words)

    async def notices(self, words: str) -> None:
        """Wait for words on the page."""
        await self.page.drive("await page.getByText(arg).first().waitFor();", words)

    async def sees(self, *names: str, still: bool = False) -> None:
        """Wait until exactly these others are seen, moving unless `still`."""
        code = """
        const others = page.locator(".tile:not(.self)");
        await page.waitForFunction(
          (names) => {
            const found = [...document.querySelectorAll(".tile:not(.self)")];
            const shown = found.map((tile) => tile.querySelector(".caption span")?.textContent);
            return JSON.stringify(shown.sort()) === JSON.stringify(names);
          },
          arg.names,
        );
        if (arg.still) return;
        await page.waitForFunction(() => {
          const videos = [...document.querySelectorAll(".tile:not(.self):not(.dark) video")];
          const frames = videos.map((video) => video.getVideoPlaybackQuality().totalVideoFrames);
          globalThis.before ??= frames;
          if (before.length !== frames.length) globalThis.before = frames;
          // Another stream counts from nought.
          before.forEach((each, i) => (before[i] = Math.min(each, frames[i])));
          const moved = frames.length && frames.every((each, i) => each > before[i] + 3);
          if (moved) delete globalThis.before;
          return moved && videos.length === document.querySelectorAll(".tile:not(.self)").length;
        });
        """
        await self.page.drive(code, {"names": sorted(names), "still": still})

    async def says(self, words: str) -> None:
        """Write into the open chat."""
        code = """
        await page.getByLabel("Message to all").fill(arg);
        await page.getByRole("button", { name: "Send" }).click();
        """
        await self.page.drive(code, words)

    async def chat(self) -> list[str]:
        """Return the chat's text."""
        lines = await self.page.drive("return page.locator('#messages p').allInnerTexts();")
        return [" ".join(line.split()) for line in lines]

    async def fact(self, term: str) -> str:
        """Return this entry of the open diagnostics."""
        code = """
        const terms = page.locator("#facts dt");
        return terms.getByText(arg, { exact: true }).locator("+ dd").innerText();
        """
        return str(await self.page.drive(code, term))


class Site:
    """The demo behind a cuttable wire."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        self.wire = Wire()
        self.room = os.urandom(8).hex()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """The link to a call."""
        return f"http://localhost:{self.wire.port}/demo#{self.room}"

    async def serve(self, config: Config, tls: ssl.SSLContext | None = None) -> None:
        """Serve this application instead of the last one."""
        await self.silence()
        self._runner = web.AppRunner(videre.create_app(config), access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=tls).start()
        self.wire.target = self._runner.addresses[0][1]

    async def silence(self) -> None:
        """Stop the server."""
        if self._runner is not None:
            await self._runner.cleanup()
        self._runner = None

    async def person(self, name: str = "", **visit: Any) -> Person:
        """Let a person open the link and join."""
        person = await self.visitor(**visit)
        await person.page.drive("await page.getByLabel('Your name').fill(arg);", name)
        await person.presses("Join the call")
        return person

    async def visitor(self, *, url: str | None = None, init: str = "", **own: Any) -> Person:
        """Let a person open the link."""
        url = url or self.url
        page = await self.browser.open(url, own={**OWN, **own}, init=SMALL + init, ready=False)
        return Person(page)


@asynccontextmanager
async def visited(browser: Browser) -> AsyncIterator[Site]:
    """Serve the demo to a browser; no page may throw an error or violate its policy."""
    site = Site(browser)
    await site.wire.start()
    try:
        await site.serve(Config(demo=True))
        yield site
    finally:
        await browser.close()
        await site.wire.stop()
        await site.silence()
    assert [line for line in browser.console if "Content Security Policy" in line] == []


@pytest_asyncio.fixture(loop_scope="session")
async def site(browser: Browser) -> AsyncIterator[Site]:
    """Serve the demo."""
    async with visited(browser) as site:
        yield site


async def all_read(people: Iterable[Person], words: str) -> None:
    """Wait until all of them have this state of the call."""
    await asyncio.gather(*(person.reads(words) for person in people))


async def link_of(server: Any) -> str:
    """Return the link that a server prints below its address."""
    (link,) = [line.split()[-1] for line in server.output if line.startswith("Try a call: ")]
    return str(link)


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
async def test_the_printed_link_in_two_windows_is_a_call(
    browser: Browser, tmp_path: Path, tls: bool
) -> None:
    """This uses the real command; pages connect to no other server, and store no cookie."""
    args: list[str] = []
    if tls:
        certificate, key = self_signed(tmp_path)
        args = ["--cert", str(certificate), "--key", str(key)]
    async with signaller(*args, tmp=tmp_path) as server, visited(browser) as site:
        link = await link_of(server)
        assert link.startswith("https:" if tls else "http:")
        ann = await site.person("Ann", url=link)
        await ann.reads("Waiting for someone")
        bob = await site.person("Bob", url=link)
        await all_read([ann, bob], "Connected")
        await asyncio.gather(ann.sees("Bob"), bob.sees("Ann"))
        used = await ann.page.drive(
            """
            const urls = await page.evaluate(() =>
              performance.getEntriesByType("resource").map(({ name }) => new URL(name).origin));
            return [[...new Set(urls)], await page.context().cookies()];
            """
        )
        assert used == [[link.partition("/demo")[0]], []]
        for person in (ann, bob):
            await person.presses("Details")
        assert [await person.fact("Initiator") for person in (ann, bob)] == ["you", "Ann"]
        assert await bob.fact("Present") == "Ann, you"
        await bob.notices("host to host, udp")
        kinds = await bob.page.drive(
            "return page.locator('#packets tbody td:nth-child(2)').allTextContents();"
        )
        assert {
            "→ sent connect",
            "← received welcome",
            "← received broadcast: Ice Offer",
            "→ sent broadcast: Ice Answer",
        } <= set(kinds)
        await bob.notices("kbit/s, 160 x 120")
        devices = """
        return page.locator("#cameras, #microphones").evaluateAll((lists) =>
          lists.map(({ selectedOptions: [chosen] }) => Boolean(chosen?.textContent)));
        """
        assert await bob.page.drive(devices) == [True, True]
        for ring in (".tile.self.speaks", ".tile:not(.self).speaks"):
            await bob.page.drive("await page.locator(arg).waitFor();", ring)


async def test_a_call_without_a_link(site: Site) -> None:
    """The page creates a long random room name; its link can be copied, and leads others there."""
    start = site.url.partition("#")[0]
    permissions = [*OWN["permissions"], "clipboard-read", "clipboard-write"]
    ann = await site.visitor(url=start, permissions=permissions)
    await ann.presses("Start a call")
    await ann.reads("Waiting for someone")
    copy = """
    await Promise.all([ // the button says so for two seconds
      page.getByRole("button", { name: "Copied" }).waitFor(),
      page.locator("#invitation").getByRole("button", { name: "Copy link" }).click(),
    ]);
    return [await page.evaluate(() => navigator.clipboard.readText()), page.url()];
    """
    copied, shown = await ann.page.drive(copy)
    assert copied == shown
    assert re.fullmatch(re.escape(start) + r"#[\w-]{22}", copied)
    bob = await site.person("Bob", url=copied)
    await asyncio.gather(ann.sees("Bob"), bob.reads("Connected"))
    await bob.page.drive("await page.getByText(/^Guest \\w{3}$/).first().waitFor();")


async def test_three_people(site: Site) -> None:
    """Each sees both others and reads the chat; when one closes its window, two go on."""
    ann = await site.person("Ann")
    await ann.reads("Waiting for someone")
    bob, cid = await asyncio.gather(site.person("Bob"), site.person("<i>Cid"))
    people = [ann, bob, cid]
    await all_read(people, "Connected with 2 others")
    await asyncio.gather(
        ann.sees("Bob", "<i>Cid"), bob.sees("Ann", "<i>Cid"), cid.sees("Ann", "Bob")
    )
    await cid.presses("Chat")
    await cid.says("Hello <b>all</b>")
    for person in (ann, bob):
        await person.page.drive(
            "await page.getByRole('button', { name: 'Chat 1 unread' }).click();"
        )
        await person.notices("Hello <b>all</b>")
    await bob.says("視 👋")
    await asyncio.gather(ann.notices("視 👋"), cid.notices("視 👋"))
    said = ["<i>Cid Hello <b>all</b>", "Bob 視 👋"]
    assert [line for line in await ann.chat() if " is here" not in line] == said
    await cid.page.close()
    await all_read([ann, bob], "Connected")
    await asyncio.gather(ann.sees("Bob"), bob.sees("Ann"), ann.notices("<i>Cid has left"))


async def test_others_see_what_the_buttons_do(site: Site) -> None:
    """A muted microphone, a camera that is off, a shared screen; and all of it undone."""
    ann, bob = await site.person("Ann", init=SCREEN), await site.person("Bob")
    await asyncio.gather(ann.sees("Bob"), bob.sees("Ann"))
    for button, words, undo in (
        ("Mute", "Ann, microphone off", "Unmute"),
        ("Camera off", "Ann, camera off", "Camera on"),
        ("Share screen", "Ann: screen", "Stop sharing"),
    ):
        await ann.presses(button)
        exact = """
        await page.waitForFunction((words) =>
          document.querySelector(".tile:not(.self) .caption").textContent === words, arg);
        """
        await bob.page.drive(exact, words)
        if undo == "Stop sharing":
            wide = """
            await page.waitForFunction(() => {
              const { videoWidth: width, videoHeight: height } =
                document.querySelector(".tile:not(.self).shows-screen video");
              return width / height > 2;
            });
            """
            await bob.page.drive(wide)
        await ann.presses(undo)
        await bob.page.drive(exact, "Ann")
    # The browser's own button ends it, too.
    await ann.presses("Share screen")
    await bob.sees("Ann: screen")
    await ann.page.drive(
        """
        await page.evaluate(() => {
          const [track] = screenTrack.getTracks();
          track.stop();
          track.dispatchEvent(new Event("ended"));
        });
        await page.getByRole("button", { name: "Share screen" }).waitFor();
        """
    )
    await bob.sees("Ann")


async def test_a_reloaded_page(site: Site) -> None:
    """It rejoins the call by itself under its name, and the other sees it once."""
    ann, bob = await site.person("Ann"), await site.person("Bob")
    await asyncio.gather(ann.sees("Bob"), bob.sees("Ann"))
    await bob.page.drive("await page.reload();")
    await asyncio.gather(ann.sees("Bob"), bob.sees("Ann"))
    await all_read([ann, bob], "Connected")
    # A link alone turns no camera on, even for a person who has just left a call.
    await bob.presses("Leave")
    await ann.reads("Waiting for someone")
    await bob.page.drive("await page.reload();")
    await bob.page.drive("await page.getByRole('button', { name: 'Join the call' }).waitFor();")
    await bob.presses("Join the call")
    await asyncio.gather(ann.sees("Bob"), bob.sees("Ann"))


COUNTED = """
{
  const media = navigator.mediaDevices, real = media.getUserMedia.bind(media);
  window.asked = 0;
  media.getUserMedia = (...wanted) => { window.asked++; return real(...wanted); };
}
"""


async def test_a_duplicated_tab(site: Site) -> None:
    """It has the memory of a tab in a call, and asks before it enters and takes the camera."""
    ann = await site.person("Ann", init=COUNTED)
    await ann.reads("Waiting for someone")
    # A window that a page opens gets a copy of its sessionStorage, as a duplicated tab does.
    seen = await ann.page.drive(
        """
        const script = await page.context().addInitScript(arg);
        const [copy] = await Promise.all([
          page.context().waitForEvent("page"),
          page.evaluate(() => void open(location.href)),
        ]);
        const look = async () => {
          await copy.getByRole("button", { name: "Join the call" }).waitFor();
          return copy.evaluate(() => [
            document.getElementById("call").hidden, window.asked,
            performance.getEntriesByType("navigation")[0].type,
          ]);
        };
        const opened = await look();
        await copy.reload();
        const reloaded = await look();
        await copy.close();
        await script.dispose();
        return [opened, reloaded, await page.evaluate(() => window.asked)];
        """,
        COUNTED,
    )
    assert seen == [[True, 0, "navigate"], [True, 0, "reload"], 1]
    await ann.reads("Waiting for someone")


async def test_a_killed_page(site: Site) -> None:
    """Its seat is left after a while, and its picture disappears."""
    await site.serve(Config(demo=True, limits=Limits(grace=0.5)))
    ann, bob = await site.person("Ann"), await site.person("Bob")
    await asyncio.gather(ann.sees("Bob"), bob.sees("Ann"))
    await bob.page.drive(
        """
        const crashed = page.waitForEvent("crash");
        const session = await page.context().newCDPSession(page);
        session.send("Page.crash").catch(() => {}); // there is nobody to answer
        await crashed;
        """
    )
    await ann.sees(still=True)
    await ann.reads("Waiting for someone")


async def test_the_server_disappears_during_a_call(site: Site) -> None:
    """Video and chat go on; seats are resumed, or joined afresh on a new server."""
    ann, bob = await site.person("Ann"), await site.person("Bob")
    await all_read([ann, bob], "Connected")
    await ann.presses("Chat")
    site.wire.cut()
    await all_read([ann, bob], "Reconnecting; the call goes on")
    await asyncio.gather(ann.sees("Bob"), bob.sees("Ann"))
    await ann.says("Still here")
    await bob.page.drive(
        "await page.locator('#messages').getByText('Still here').waitFor(arg);", LISTED
    )
    site.wire.mend()
    await asyncio.gather(ann.is_online_again(), bob.is_online_again())
    await all_read([ann, bob], "Connected")
    assert await ann.chat() == [
        "Bob is here",
        "You Still here",
    ]  # nobody heard that Bob had left

    site.wire.cut()
    await site.silence()
    await all_read([ann, bob], "Reconnecting; the call goes on")
    await asyncio.gather(ann.sees("Bob"), bob.sees("Ann"))
    await site.serve(Config(demo=True))
    site.wire.mend()
    await asyncio.gather(ann.is_online_again(), bob.is_online_again())
    await all_read([ann, bob], "Connected")
    cid = await site.person("Cid")
    await all_read([ann, bob, cid], "Connected with 2 others")
    await asyncio.gather(ann.sees("Bob", "Cid"), bob.sees("Ann", "Cid"), cid.sees("Ann", "Bob"))
    assert await ann.chat() == ["Bob is here", "You Still here", "Cid is here"]


#: The client's own polling, when WebSockets are blocked, and each transport of sockjs-client.
WAYS = ["polling", "websocket", "xhr-streaming", "eventsource", "xhr-polling"]


async def test_over_each_transport(site: Site) -> None:
    """People on all transports share one call: each talks to all, and leaves."""
    bob = await site.person("Bob", **REFUSED)
    await bob.reads("Waiting for someone")
    people = await asyncio.gather(*(site.person(way, init=over(way), **REFUSED) for way in WAYS))
    await all_read([bob, *people], f"Connected with {len(WAYS)} others")
    used = """
    return page.evaluate(() => globalThis.used?.transport ??
      performance.getEntriesByType("resource").some(({ name }) => name.endsWith("/xhr")));
    """
    found = await asyncio.gather(*(person.page.drive(used) for person in people))
    assert found == [True, *WAYS[1:]]
    await asyncio.gather(*(person.presses("Chat") for person in [bob, *people]))
    for way, person in zip(WAYS, people, strict=True):
        await person.says(f"Hello over {way}")
        await bob.notices(f"Hello over {way}")
    await asyncio.gather(*(person.presses("Leave") for person in people))
    await bob.reads("Waiting for someone")


def over(way: str) -> str:
    """Return page code that forces a transport."""
    if way == "polling":
        return "delete globalThis.WebSocket;"
    script = node_modules() / "sockjs-client" / "dist" / "sockjs.min.js"
    return f"""{script.read_text(encoding="utf-8")}
    globalThis.SockJS = class extends SockJS {{
      constructor(url) {{
        super(url, null, {{ transports: ["{way}"] }});
        globalThis.used = this;
      }}
    }};
    """


async def test_a_refused_camera(site: Site) -> None:
    """The page says so and shows the others; when the user allows it later, they see it."""
    ann, bob = await site.person("Ann"), await site.person("Bob", **REFUSED)
    await bob.notices("This page may not use the camera or microphone.")
    await all_read([ann, bob], "Connected")
    await asyncio.gather(bob.sees("Ann"), ann.sees("Bob", still=True))
    for button in ("No mic", "No camera"):
        code = "return page.getByRole('button', { name: arg, exact: true }).isDisabled();"
        assert await bob.page.drive(code, button) is True
    await bob.page.drive("await page.context().grantPermissions(['camera', 'microphone']);")
    await bob.presses("Try again")
    await ann.sees("Bob")
    assert await bob.page.drive("return page.locator('.notice').count();") == 0


async def test_no_camera_and_no_secure_page() -> None:
    """The page says what is missing, and sends what there is."""
    flags = [
        "--use-fake-device-for-media-stream=device-count=0",
        "--host-resolver-rules=MAP far.example.com 127.0.0.1",
    ]
    async with chromium(*flags) as blind, visited(blind) as site:
        ann = await site.person("Ann")
        await ann.notices("No camera was found.")
        bob = await site.person("Bob", url=site.url.replace("localhost", "far.example.com"))
        await bob.notices("Browsers allow cameras only on https and localhost.")
        await all_read([ann, bob], "Connected")
        await asyncio.gather(ann.sees("Bob", still=True), bob.sees("Ann", still=True))
        heard = """
        await page.waitForFunction(() => {
          const { srcObject: stream } = document.querySelector(".tile:not(.self) video");
          return stream?.getAudioTracks().length === 1;
        });
        return page.locator(".tile:not(.self) .caption").textContent();
        """
        assert await bob.page.drive(heard) == "Ann, camera off"


async def test_the_browser_requires_a_click_for_sound(site: Site) -> None:
    """The page asks for the click, which works."""
    init = """
    const { play } = HTMLMediaElement.prototype;
    addEventListener("click", ({ target }) => {
      if (target.textContent === "Turn sound on") HTMLMediaElement.prototype.play = play;
    }, true);
    HTMLMediaElement.prototype.play = async function () {
      if (this.muted) return play.call(this);
      this.autoplay = false;
      throw new DOMException("Not yet", "NotAllowedError");
    };
    """
    ann, bob = await site.person("Ann", init=init), await site.person("Bob")
    await all_read([ann, bob], "Connected")
    await ann.presses("Turn sound on")
    await ann.sees("Bob")


async def test_by_keyboard_alone(site: Site) -> None:
    """All controls can be reached and used, and the focus is where a user expects it."""
    bob = await site.person("Bob")
    await bob.reads("Waiting for someone")
    ann = await site.visitor()
    focused = """
    const { activeElement: at } = document;
    return at.getAttribute("aria-label") ?? at.labels?.[0]?.innerText ?? at.innerText;
    """
    focus = f"return page.evaluate(() => {{ {focused} }});"
    reach = f"""
    for (let presses = 0; presses < 30; presses++) {{
      await page.keyboard.press("Tab");
      if ((await page.evaluate(() => {{ {focused} }})).split("\\n")[0].startsWith(arg)) return;
    }}
    throw new Error(`Tab does not reach ${{arg}}`);
    """
    press = "await page.keyboard.press(arg);"
    write = "await page.keyboard.type(arg);"

    async def do(*steps: tuple[str, str]) -> None:
        for code, arg in steps:
            await ann.page.drive(code, arg)

    await do((reach, "Your name"), (write, "Ann"), (press, "Enter"))
    await ann.reads("Connected")
    await bob.sees("Ann")
    assert await ann.page.drive(focus) == "The call"
    await do((reach, "Mute"), (press, "Space"))
    await bob.page.drive("await page.locator('.caption').getByText('microphone off').waitFor();")
    await do((reach, "Chat"), (press, "Enter"), (write, "Typed"), (press, "Enter"))
    await bob.page.drive("await page.locator('#messages').getByText('Typed').waitFor(arg);", LISTED)
    await do((press, "Escape"))
    assert (await ann.page.drive(focus)).strip() == "Chat"
    await do((reach, "Details"), (press, "Enter"), (press, "Escape"))
    assert await ann.page.drive(focus) == "Details"
    await do((reach, "Leave"), (press, "Enter"))
    await bob.reads("Waiting for someone")
    assert await ann.page.drive(focus) == "Join again"
    await do((press, "Enter"))
    await all_read([ann, bob], "Connected")


async def test_a_preview_before_the_call(site: Site) -> None:
    """A click starts it, the meter moves, and the call uses the chosen devices."""
    ann = await site.visitor()
    await ann.presses("Preview camera and microphone")
    seen = """
    await page.waitForFunction(() => {
      const { videoWidth, srcObject } = document.querySelector("#preview-video");
      globalThis.previewTracks = srcObject?.getTracks();
      return videoWidth && document.querySelector("#preview-level").value > 0;
    });
    // The lists are filled once the browser has told its devices, which may come last.
    await page.waitForFunction(() =>
      [...document.querySelectorAll("#preview select")].every(({ options }) => options.length));
    return page.locator("#preview select").count();
    """
    assert await ann.page.drive(seen) == 2
    choose = """
    const list = page.locator("#preview").getByLabel("Microphone", { exact: true });
    const values = await list.locator("option").evaluateAll((all) => all.map(({ value }) => value));
    await list.selectOption(values.at(-1));
    await page.waitForFunction((id) =>
      document.querySelector("#preview-video").srcObject?.getAudioTracks()[0]?.getSettings()
        .deviceId === id, values.at(-1));
    return [values.length > 1, values.at(-1)];
    """
    several, chosen = await ann.page.drive(choose)
    assert several
    await ann.presses("Join the call")
    await ann.reads("Waiting for someone")
    used = """
    await page.waitForFunction(() => document.querySelector(".tile.self video").srcObject);
    return page.evaluate(() => [
      document.querySelector(".tile.self video").srcObject.getAudioTracks()[0]
        .getSettings().deviceId,
      previewTracks.map(({ readyState }) => readyState),
      document.querySelector("#preview-video").srcObject,
    ]);
    """
    assert await ann.page.drive(used) == [chosen, ["ended", "ended"], None]


async def test_a_preview_without_devices(site: Site) -> None:
    """It names what is missing, and can be stopped."""
    ann = await site.visitor(**REFUSED)
    await ann.presses("Preview camera and microphone")
    await ann.notices("Not available: microphone and camera.")
    await ann.presses("Stop the preview")
    assert not await ann.page.drive("return page.locator('#preview').isVisible();")


#: As Firefox does if the microphone and the loudspeaker have different sample rates.
NO_METER = """
AudioContext.prototype.createMediaStreamSource = () => {
  throw new DOMException("Different sample rates", "NotSupportedError");
};
"""


async def test_a_microphone_without_a_meter(site: Site) -> None:
    """The call begins all the same, and the chat keeps its last lines however many there are."""
    ann, bob = await site.person("Ann", init=NO_METER), await site.person("Bob")
    await all_read([ann, bob], "Connected")
    await asyncio.gather(ann.sees("Bob"), bob.sees("Ann"))
    kept = await bob.page.drive(
        """
        return page.evaluate(async () => {
          const { chat } = await import(new URL("demo/demo_page.js", location.href));
          for (let line = 0; line < 2_000; line++) chat.add("Ann", `${line}`, true);
          const { children } = document.getElementById("messages");
          return [children.length, children[children.length - 1].textContent];
        });
        """
    )
    assert kept == [500, "Ann1999"]


async def test_the_connections_mark_and_the_report(site: Site) -> None:
    """Each tile has a mark from measurements; the report has the diagnostics' data."""
    permissions = [*OWN["permissions"], "clipboard-read", "clipboard-write"]
    ann = await site.person("Ann", permissions=permissions)
    bob = await site.person("Bob")
    await all_read([ann, bob], "Connected")
    await ann.sees("Bob", still=True)  # the report names who has told a name
    await ann.page.drive("await page.locator('.quality[data-mark]:not(:empty)').waitFor();")
    mark = await ann.page.drive("return page.locator('.quality').last().innerText();")
    assert re.fullmatch("Connection: (good|weak|poor)", mark)
    await ann.presses("Details")
    await ann.notices("host to host, udp")
    await ann.presses("Copy report")
    await ann.notices("Copied")
    text = await ann.page.drive("return page.evaluate(() => navigator.clipboard.readText());")
    assert "Present: you, Bob" in text and "Bob | connected | host to host, udp" in text
    assert "sent connect" in text
    assert site.room not in text


#: Counts how often a ring appears, around our tile and around the other one.
RINGS = """
await page.evaluate(() => {
  globalThis.rings = { self: 0, other: 0 };
  const observer = new MutationObserver((changes) => {
    for (const { target, oldValue } of changes) {
      const begins = target.matches(".speaks") && !/\\bspeaks\\b/.test(oldValue);
      if (begins) rings[target.matches(".self") ? "self" : "other"]++;
    }
  });
  const options = { subtree: true, attributeFilter: ["class"], attributeOldValue: true };
  observer.observe(document.querySelector("#tiles"), options);
});
"""


async def test_a_ring_around_who_speaks(site: Site) -> None:
    """Other members and we ourselves get a ring over the picture; a muted microphone gets none."""
    ann, bob = await site.person("Ann"), await site.person("Bob")
    await all_read([ann, bob], "Connected")
    ring = """
    const style = await page.waitForFunction((which) => {
      const tile = document.querySelector(which);
      return tile && getComputedStyle(tile, "::after").borderTopStyle;
    }, arg);
    return style.jsonValue();
    """
    for person in (ann, bob):
        for tile in (".tile.self.speaks", ".tile:not(.self).speaks"):
            assert await person.page.drive(ring, tile) == "solid"
    await ann.presses("Mute")
    off = "await page.locator('.tile:not(.self)').getByText('microphone off').waitFor(arg);"
    await bob.page.drive(off, LISTED)
    for person in (ann, bob):
        await person.page.drive(RINGS)
    # Bob's microphone still beeps; Ann's would too.
    await bob.page.drive("await page.waitForFunction(() => rings.self > 3);")
    assert (await bob.page.drive("return page.evaluate(() => rings);"))["other"] == 0
    assert (await ann.page.drive("return page.evaluate(() => rings);"))["self"] == 0


async def test_marks_of_quality(site: Site) -> None:
    """They follow from round trips and losses."""
    page = (await site.visitor()).page
    found = await page.drive(
        """
        return page.evaluate(async () => {
          const { Tile } = await import("./demo/demo_tile.js");
          const tile = new Tile(false);
          const mark = (state, roundTrip, sent, received) => {
            tile.mark(state, { roundTrip, sent: { loss: sent }, received: { loss: received } });
            return tile.element.querySelector(".quality").textContent;
          };
          return [
            mark("connected", 20, 0, null), mark("connected", 301, 0, 0),
            mark("connected", 20, 0.03, 0), mark("connected", 20, 0, 0.5),
            mark("connected", 900, 0, 0), mark("connected", null, null, null),
            mark("failed", 20, 0, 0),
          ];
        });
        """
    )
    names = ["good", "weak", "weak", "poor", "poor"]
    assert found == [f"Connection: {name}" for name in names] + ["", ""]


async def test_a_grid_without_holes(site: Site) -> None:
    """For 3 to 9 people, wide and narrow: each row is full, and no tile overlaps another."""
    ann = await site.person("Ann")
    await ann.reads("Waiting for someone")
    code = """
    await page.setViewportSize(arg);
    return page.evaluate(async (count) => {
      const { Tile, arrange } = await import("./demo/demo_tile.js");
      const list = document.querySelector("#tiles");
      document.querySelector("#invitation").hidden = true;
      list.replaceChildren(...Array.from({ length: count }, (_, at) => new Tile(!at).element));
      arrange(list, count);
      const all = list.getBoundingClientRect();
      const covered = [...list.children].map((tile) => tile.getBoundingClientRect())
        .reduce((sum, { width, height }) => sum + (width + 12) * (height + 12), 0);
      return covered / ((all.width + 12) * (all.height + 12));
    }, arg.count);
    """
    for width, height in ((1280, 720), (390, 780)):
        for count in range(3, 10):
            arg = {"width": width, "height": height, "count": count}
            assert await ann.page.drive(code, arg) == pytest.approx(1, abs=0.01), arg


async def test_picture_in_picture_and_full_screen(site: Site) -> None:
    """Each of the others' tiles has a button for either, whose label has the person's name."""
    ann, bob = await site.person("Ann"), await site.person("Bob")
    await asyncio.gather(ann.sees("Bob"), bob.sees("Ann"))
    await ann.presses("Full screen: Bob")
    full = "await page.waitForFunction(() => document.fullscreenElement?.matches('.tile'));"
    await ann.page.drive(full)
    await ann.presses("Full screen: Bob")
    await ann.page.drive("await page.waitForFunction(() => !document.fullscreenElement);")
    offered = await ann.page.drive("return page.evaluate(() => document.pictureInPictureEnabled);")
    button = "return page.getByRole('button', { name: 'Picture-in-picture: Bob' }).count();"
    assert await ann.page.drive(button) == int(offered)
    asked = """
    await page.evaluate(() => {
      HTMLVideoElement.prototype.requestPictureInPicture = async function () { asked.push(this); };
      globalThis.asked = [];
    });
    await page.getByRole("button", { name: "Picture-in-picture: Bob" }).click();
    return page.evaluate(() => asked[0] === document.querySelector(".tile:not(.self) video"));
    """
    if offered:  # headless browsers have no such window
        assert await ann.page.drive(asked)


async def test_a_full_call(site: Site) -> None:
    """A refused person reads why, and may try again."""
    await site.serve(Config(demo=True, limits=Limits(room_capacity=1)))
    ann = await site.person("Ann", **REFUSED)
    await ann.reads("Waiting for someone")
    bob = await site.person("Bob", **REFUSED)
    await bob.notices("This call is full.")
    await ann.presses("Leave")
    await ann.notices("You have left the call")
    await bob.presses("Join again")
    await bob.reads("Waiting for someone")


PICKER = """
navigator.mediaDevices.getDisplayMedia = () => new Promise((_, reject) => {
  globalThis.cancelPicker = () => reject(new DOMException("Cancelled", "NotAllowedError"));
});
"""


async def test_nothing_of_a_call_is_shown_after_it(site: Site) -> None:
    """Nobody seems to have left when we leave; a picker that is cancelled later changes nothing."""
    ann, bob = await site.person("Ann", init=PICKER), await site.person("Bob")
    await ann.sees("Bob", still=True)
    await ann.presses("Share screen")
    said = await ann.page.drive(
        """
        await page.waitForFunction(() => globalThis.cancelPicker);
        await page.evaluate(() => {
          const announcer = document.getElementById("announcer");
          globalThis.said = [];
          new MutationObserver(() => said.push(announcer.textContent))
            .observe(announcer, { childList: true });
        });
        await page.getByRole("button", { name: "Leave" }).click();
        await page.getByText("You have left the call").waitFor();
        return page.evaluate(async () => {
          cancelPicker();
          await new Promise((resolve) => setTimeout(resolve)); // after what it starts
          return [said, document.getElementById("state").textContent, document.title];
        });
        """
    )
    assert said == [[], "", "Videre call"]
    assert await ann.chat() == ["Bob is here"]
    await bob.reads("Waiting for someone")


HEARD = """
const { set } = Object.getOwnPropertyDescriptor(RTCDataChannel.prototype, "onmessage");
Object.defineProperty(RTCDataChannel.prototype, "onmessage", {
  set(handler) {
    if (this.label !== "videre.data") globalThis.hears = handler;
    set.call(this, handler);
  },
});
"""


async def test_others_cause_little_work(site: Site) -> None:
    """A flood of changes is shown at once; a value that no demo sends is refused unread."""
    ann, bob = await site.person("Ann", init=HEARD), await site.visitor()
    sent = await bob.page.drive(
        """
        return page.evaluate(async () => {
          const { Videre } = await import("/demo/videre.js");
          const bob = new Videre({ signallerURL: "/echo", constraints: {} });
          const met = new Promise((resolve) =>
            bob.on("connection", ({ state }) => state === "connected" && resolve()));
          await bob.connect(location.hash.slice(1));
          await met;
          const outcome = (text) => bob
            .send(JSON.stringify({ type: "text", text }))
            .then(({ failed: [each] }) => each?.error.code ?? "sent");
          return [
            await outcome("x".repeat(2 ** 16)), // sent in pieces
            await outcome("x".repeat(2 ** 15)), // fits into one message
            await outcome("\\ud800".repeat(2000)), // the longest there is
            await outcome("The end"),
          ];
        });
        """
    )
    assert sent == ["too-large", "sent", "sent", "sent"]
    await ann.page.drive("await page.getByText('The end').last().waitFor(arg);", LISTED)
    lengths = "(lines) => lines.map((line) => line.lastChild.length)"
    found = await ann.page.drive(f"return page.locator('#messages p').evaluateAll({lengths});")
    assert found == [2000, len("The end")]
    await ann.presses("Details")
    updates = await ann.page.drive(
        """
        return page.evaluate(async () => {
          const facts = document.getElementById("facts");
          let updates = 0;
          const last = new Promise((resolve) =>
            new MutationObserver((records) => {
              updates += records.length;
              if (facts.textContent.includes("Bob 499")) resolve();
            }).observe(facts, { childList: true }));
          for (let number = 0; number < 500; number++) {
            hears({ data: JSON.stringify({ type: "about", name: `Bob ${number}` }) });
          }
          await last;
          return updates;
        });
        """
    )
    assert updates <= 2  # one may have been due
    await ann.sees("Bob 499", still=True)


async def test_texts_from_right_to_left(site: Site) -> None:
    """Their marks are where a reader expects them, and nobody's name turns what follows it."""
    ann, bob = await site.person("Ann\u202e"), await site.person("Bob")
    await bob.sees("Ann", still=True)
    await ann.sees("Bob", still=True)
    typed = """
    await page.getByRole("button", { name: "Chat" }).click();
    await page.getByLabel("Message to all").fill(arg);
    return page.getByLabel("Message to all").evaluate((input) => getComputedStyle(input).direction);
    """
    assert await ann.page.drive(typed, "Hello!") == "ltr"
    assert await bob.page.drive(typed, "\u05e9\u05dc\u05d5\u05dd!") == "rtl"
    for person in (ann, bob):
        await person.presses("Send")
    places = """
    const lines = "#messages p:not(.faint)";
    await page.waitForFunction((lines) => document.querySelectorAll(lines).length === 2, lines);
    return page.locator(lines).evaluateAll((lines) =>
      lines.map(({ lastChild: text }) => {
        const at = (index) => {
          const range = new Range();
          range.setStart(text, index);
          range.setEnd(text, index + 1);
          return range.getBoundingClientRect().x;
        };
        return [text.data, at(0) < at(text.length - 1)];
      }));
    """
    for person in (ann, bob):
        found = dict(await person.page.drive(places))
        assert found == {"Hello!": True, "\u05e9\u05dc\u05d5\u05dd!": False}


@pytest.mark.parametrize("room", ["standup%0A", "x" * 300])
async def test_a_damaged_link(site: Site, room: str) -> None:
    """A person whose link has no valid room reads that, and is not asked for devices."""
    ann = await site.visitor(url=f"{site.url.partition('#')[0]}#{room}", init=COUNTED)
    await ann.presses("Join the call")
    await ann.notices("This link does not work: it is damaged or too long.")
    assert await ann.page.drive("return page.evaluate(() => asked);") == 0


class Looks:
    """Checks a page in each state with axe, and takes screenshots on request."""

    def __init__(self) -> None:
        directory = os.environ.get("VIDERE_SCREENSHOTS")
        self.directory = Path(directory) if directory else None
        self.violations: list[str] = []
        self.states: list[str] = []
        axe = node_modules() / "axe-core" / "axe.min.js"
        #: On screenshots, people have faces.
        self.init = (NODE / "figures.js").read_text(encoding="utf-8") if self.directory else ""
        self.init_axe = axe.read_text(encoding="utf-8") + self.init

    async def at(self, person: Person, state: str) -> None:
        """Check this state, on a desktop in light mode and on a phone in dark mode."""
        self.states.append(state)
        for scheme, width, height in (("light", 1280, 720), ("dark", 390, 780)):
            arg = {"colorScheme": scheme, "width": width, "height": height}
            found = await person.page.drive(
                """
                await page.emulateMedia({ colorScheme: arg.colorScheme });
                await page.setViewportSize(arg);
                const { violations, passes } = await page.evaluate(() =>
                  axe.run({ resultTypes: ["violations"] }));
                if (passes.length < 10) throw new Error("axe has looked at nothing");
                return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html)}`);
                """,
                arg,
            )
            self.violations += [f"{state}, {scheme}: {violation}" for violation in found]
            if self.directory:
                for other in ("light", "dark"):
                    path = self.directory / f"{state}-{width}-{other}.png"
                    await person.page.drive(
                        """
                        await page.emulateMedia({ colorScheme: arg.scheme });
                        await page.waitForTimeout(300);
                        await page.screenshot({ path: arg.path });
                        """,
                        {"scheme": other, "path": str(path)},
                    )


async def test_every_state_is_accessible(site: Site) -> None:
    """axe-core finds no fault in any state, wide and light or narrow and dark."""
    looks = Looks()
    if looks.directory:
        looks.directory.mkdir(parents=True, exist_ok=True)
    ann = await site.visitor(url=site.url.partition("#")[0], init=looks.init_axe)
    await looks.at(ann, "start")
    await ann.presses("Preview camera and microphone")
    await ann.page.drive(
        "await page.locator('#preview-cameras option').first().waitFor(arg);", LISTED
    )
    await looks.at(ann, "preview")
    site.wire.cut()
    await ann.page.drive("await page.getByLabel('Your name').fill('Ann');")
    await ann.presses("Start a call")
    await ann.reads("Connecting: no answer from the server yet")
    await looks.at(ann, "connecting")
    site.wire.mend()
    await ann.reads("Waiting for someone")
    await looks.at(ann, "waiting")
    link = await ann.page.drive("return page.url();")
    bob = await site.person("Bob", url=link, init=looks.init)
    await ann.sees("Bob")
    await ann.reads("Connected")
    await looks.at(ann, "connected")
    await ann.presses("Mute")
    await ann.presses("Camera off")
    await looks.at(ann, "off")
    await ann.presses("Unmute")
    await ann.presses("Camera on")
    await ann.presses("Chat")
    await bob.presses("Chat")
    await bob.says("Hello Ann! Do you see me?")
    await ann.notices("Hello Ann!")
    await ann.says("I do, and hear you, too.")
    await looks.at(ann, "chat")
    await ann.presses("Details")
    await ann.notices("host to host, udp")
    await looks.at(ann, "details")
    await ann.presses("Close diagnostics")
    cid = await site.person("", url=link, init=looks.init_axe.removesuffix(looks.init), **REFUSED)
    await cid.reads("Connected with 2 others")
    await ann.reads("Connected with 2 others")
    await cid.sees("Ann", "Bob")
    await looks.at(cid, "refused")
    await looks.at(ann, "three")
    site.wire.cut()
    await ann.reads("Reconnecting; the call goes on")
    await looks.at(ann, "reconnecting")
    await ann.presses("Leave")
    await ann.notices("You have left the call")
    await looks.at(ann, "left")
    assert looks.violations == []
    assert len(looks.states) == 12
