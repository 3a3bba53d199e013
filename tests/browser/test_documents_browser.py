"""Pages and scripts from the documentation, in real Chromium with a real server."""

from __future__ import annotations

import asyncio
import re
import shlex
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from browser import Browser, Page
from documents import Block, run_python, runs
from patience import WAIT_SECONDS
from process import ROOT, node_modules, require
from test_documents_shell import Checkout
from tokens import SECRET, hs256

import videre
from videre.auth import TokenAuth, secret_key

pytestmark = [pytest.mark.process, pytest.mark.long, pytest.mark.asyncio(loop_scope="session")]

SECONDS = 3 * WAIT_SECONDS  # a safety net for a whole test: all that it waits for has its own

#: The documentation's pages do not mention it, and Chromium requests it.
ICON = '<link rel="icon" href="data:,">'
#: What the tests observe of a page.
TOOLS = """
<script>
  async function until(look) {
    for (;;) {
      const found = await look();
      if (found) return found;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
  const flows = (video) => until(() => video.getVideoPlaybackQuality().totalVideoFrames > 3);
  const said = [];
</script>
"""
LOCAL_AND_REMOTE = """
  const [localVideoElement, remoteVideoElement] = ["local", "remote"].map((id) => {
    const video = Object.assign(document.createElement("video"), { id, autoplay: true });
    document.body.append(video);
    return video;
  });
"""
#: For every page: a camera that is quick to encode.
SMALL = """
const { mediaDevices } = navigator;
const ask = mediaDevices?.getUserMedia.bind(mediaDevices);
if (ask) {
  const video = { width: 160, height: 120 };
  mediaDevices.getUserMedia = (wanted) => ask({ ...wanted, video: wanted.video && video });
}
"""
READY = f"{SMALL} globalThis.ready = true;"
#: For pages without TOOLS.
UNTIL = "while (!({})) await new Promise((resolve) => setTimeout(resolve, 20));"
REMOTE_IS_SEEN = UNTIL.format("remote.getVideoPlaybackQuality().totalVideoFrames > 3")
STATE_IS = UNTIL.format("state.textContent === arg")
REMOTE_FLOWS = 'return flows(document.getElementById("remote"));'


class Site:
    """Pages, the client and the server, on one port."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._stack = AsyncExitStack()
        self._pages: dict[str, str] = {}
        self.url = ""

    async def start(self, **config: Any) -> None:
        """Serve them."""
        app = web.Application()
        videre.setup(app, config=videre.Config(**config))
        modules = node_modules()
        for name, path in {
            "sockjs.min.js": "sockjs-client/dist",
            "simplepeer.min.js": "simple-peer",
            "peerjs.min.js": "peerjs/dist",
        }.items():
            app.router.add_static(f"/npm/{name}", modules / path)
        app.router.add_get("/{name}.html", self._page)
        app.router.add_get("/sockjs.min.js", self._sockjs)
        self.url = await self.serve(app)

    async def serve(self, app: web.Application) -> str:
        """Serve an application, and return its URL."""
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return "http://127.0.0.1:{}".format(*runner.addresses[0][1:])

    async def stop(self) -> None:
        """Stop serving."""
        await self._stack.aclose()

    async def module(self, script: str, *, before: str = "", after: str = "") -> Page:
        """Open a page with this module, between another script and one more line."""
        body = f"<body><script>{before}</script><script type=module>{script}\n{after}\n"
        return await self.html(f"{body}globalThis.ready = true;</script>")

    async def html(self, html: str, *, devices: bool = True, ready: bool = False) -> Page:
        """Open a page; `ready` is for pages that do not report it themselves."""
        name = f"page{len(self._pages)}"
        here = self.url.partition("//")[2]
        html = re.sub(r"(?<=[/\"])localhost:1111(?=/echo)", here, html)
        self._pages[name] = f"<!doctype html><meta charset=utf-8>{ICON}{TOOLS}{html}"
        init = READY if ready else SMALL
        return await self._browser.open(f"{self.url}/{name}.html", devices=devices, init=init)

    async def _page(self, request: web.Request) -> web.Response:
        text = self._pages[request.match_info["name"]]
        return web.Response(text=text, content_type="text/html")

    async def _sockjs(self, _request: web.Request) -> web.FileResponse:
        return web.FileResponse(node_modules() / "sockjs-client" / "dist" / "sockjs.min.js")


@pytest_asyncio.fixture(loop_scope="session")
async def site(browser: Browser) -> AsyncIterator[Site]:
    """Give a running site, whose pages must not fail."""
    site = Site(browser)
    try:
        async with asyncio.timeout(SECONDS * 2):
            await site.start()
            yield site
    finally:
        await browser.close()
        await site.stop()


async def both(pages: Sequence[Page], code: str, arg: Any = None) -> list[Any]:
    """Run the same code in all pages at once, and return the results."""
    return await asyncio.gather(*(page.run(code, arg) for page in pages))


@runs("README.md", "remoteVideoElement")
async def test_the_lines_of_the_readme(block: Block, site: Site) -> None:
    """Opened twice, they are a call."""
    pages = [await site.module(block.text, before=LOCAL_AND_REMOTE) for _ in "ab"]
    assert await both(pages, REMOTE_FLOWS) == [True, True]


@runs("docs/browser.md", "remoteVideoElement")
async def test_the_lines_of_the_reference(block: Block, site: Site) -> None:
    """Opened twice, they are a call too."""
    pages = [await site.module(block.text, before=LOCAL_AND_REMOTE) for _ in "ab"]
    assert await both(pages, REMOTE_FLOWS) == [True, True]


@runs("docs/browser.md", "const videos")
async def test_the_mesh_of_the_reference(block: Block, site: Site) -> None:
    """Each other member is shown in its own element until it leaves; and they chat."""
    before = """
    import { Videre } from "/echo/videre.js";
    const videre = new Videre({ signallerURL: "/echo" });
    """
    after = """
    videre.on("message", ({ data }) => said.push(data));
    Object.assign(globalThis, { videre, videos });
    await videre.connect("room");
    """
    one, two, three = [await site.module(before + block.text, after=after) for _ in "abc"]
    seen = """
    await until(() => videos.size == 2);
    await Promise.all([...videos.values()].map(flows));
    """
    await asyncio.gather(*(each.run(seen) for each in (one, two, three)))
    await one.run('videre.send("Hello");')
    for each in (two, three):
        assert await each.run("await until(() => said.length); return said;") == ["Hello"]
    await one.run("videre.disconnect();")
    await two.run("await until(() => document.querySelectorAll('video').length == 1);")


@runs("docs/browser.md", "new Signaller")
async def test_the_signaller_alone(block: Block, site: Site) -> None:
    """Members greet each newcomer."""
    after = """
    signaller.on("message", ({ payload }) => said.push(payload));
    Object.assign(globalThis, { Users });
    """
    pages = [await site.module(block.text, after=after) for _ in "ab"]
    assert await pages[1].run("await until(() => said.length); return said;") == ["Welcome!"]
    assert [len(await page.run("return Users;")) for page in pages] == [1, 2]


@runs("docs/protocol.md", "new SockJS", name="sockjs")
@runs("docs/protocol.md", "new WebSocket", name="websocket")
@runs("docs/protocol.md", "startCall", name="script")
async def test_without_the_client(
    sockjs: Block, websocket: Block, script: Block, site: Site
) -> None:
    """With SockJS or a WebSocket: the first member calls, the other answers and hangs up."""
    told = "".join(
        f"const {name} = (what) => said.push(['{name}', what]);"
        for name in ("startCall", "received", "hangUp")
    )
    end = f"<script>{told}</script><script>{script.text}</script>"
    first, second = [await site.html(each.text + end, ready=True) for each in (sockjs, websocket)]
    await first.run("await until(() => said.length || initiator);")
    name = await second.run("return until(() => socket.readyState === 1 && me);")
    assert await first.run("await until(() => said.length); return said;") == [["startCall", name]]
    (line,) = re.findall(r"// (socket\.send.*)", script.text)
    await second.run(f"const offer = 'offer'; {line}")
    heard = ["received", {"Type": "Ice Offer", "IcePacket": "offer"}]
    assert await first.run("await until(() => said.length > 1); return said[1];") == heard
    await second.close()
    gone = await first.run("await until(() => said.length > 2); return said[2];")
    assert gone == ["hangUp", name]


@runs("docs/tokens.md", "Token: token", name="line")
@runs("docs/protocol.md", "startCall", name="script")
async def test_a_token(line: Block, script: Block, browser: Browser) -> None:
    """The connect contains it."""
    site = Site(browser)
    await site.start(auth=TokenAuth([secret_key(SECRET)]))
    try:
        token = hs256({"sub": "me", "room": "*", "exp": 4_000_000_000})
        code = script.text.replace("crypto.randomUUID()", '"me"')
        socket = 'const socket = new WebSocket("ws://localhost:1111/echo/websocket");'
        body = f"<script>{socket} const token = {token!r};{code}{line.text}</script>"
        page = await site.html(body, ready=True)
        assert await page.run("return until(() => initiator);") is True
    finally:
        await browser.close()
        await site.stop()


@runs("docs/first-call.md", "bin/serve", name="serve")
@runs("docs/first-call.md", "mkdir", name="folder")
@runs("docs/first-call.md", "echo/videre.js", name="page")
@runs("docs/first-call.md", "by hand", name="plain")
@runs("docs/first-call.md", "http.server", name="web_server")
async def test_the_first_call_guide(
    serve: Block,
    folder: Block,
    page: Block,
    plain: Block,
    web_server: Block,
    browser: Browser,
    tmp_path: Path,
) -> None:
    """Each step is done as written, except for the ports."""
    checkout = Checkout(tmp_path)
    async with asyncio.timeout(SECONDS), checkout.serve(serve.text) as signaller:
        await checkout.run(folder.text)
        for name, block in (("index", page), ("plain", plain)):
            html = block.text.replace("localhost:1111", f"localhost:{signaller.port}")
            (tmp_path / "call" / f"{name}.html").write_text(
                html.replace("<title>", f"{ICON}<title>")
            )
        command = shlex.split(web_server.text.replace("8080", "0"))
        process = await asyncio.create_subprocess_exec(
            require(command[0]), "-u", *command[1:], cwd=tmp_path, stdout=PIPE, stderr=DEVNULL
        )
        assert process.stdout is not None
        try:
            found = re.search(r"port (\d+)", (await process.stdout.readline()).decode())
            assert found
            for path in ("", "plain.html"):
                url = f"http://localhost:{found[1]}/{path}"
                one = await browser.open(url, init=READY)
                link = await one.run(f"{UNTIL.format('location.hash')} return location.href;")
                if path:  # it joins the room once it has its camera
                    await one.run(UNTIL.format("local.srcObject"))
                two = await browser.open(link, init=READY)
                await both((one, two), REMOTE_IS_SEEN)
                if not path:
                    await both((one, two), STATE_IS, "connected")
                await two.close()
                if not path:
                    await one.run(STATE_IS, "Waiting for somebody.")
        finally:
            await browser.close()
            process.terminate()
            await process.wait()


@runs("docs/first-call.md", "echo/videre.js", name="page")
@runs("docs/first-call.md", "add_get", name="script")
async def test_from_your_own_site(
    page: Block, script: Block, site: Site, browser: Browser, tmp_path: Path, monkeypatch: Any
) -> None:
    """With the changes that the document describes."""
    html = page.text.replace("http://localhost:1111/echo", "/echo")
    assert (html.count('from "/echo/videre.js"'), html.count("/echo")) == (1, 2)
    (tmp_path / "call").mkdir()
    (tmp_path / "call/index.html").write_text(html.replace("<title>", f"{ICON}<title>"))
    monkeypatch.chdir(tmp_path)
    run: list[web.Application] = []
    monkeypatch.setattr(web, "run_app", lambda app, **_: run.append(app))
    run_python(script)
    url = await site.serve(run[0])
    one = await browser.open(f"{url}/#room", init=READY)
    two = await browser.open(f"{url}/#room", init=READY)
    await both((one, two), REMOTE_IS_SEEN)


@runs("docs/hosting.md", "RouteTableDef", name="script")
@runs("docs/hosting.md", "A room", name="page")
async def test_a_site_with_a_login(
    script: Block, page: Block, site: Site, browser: Browser, tmp_path: Path, monkeypatch: Any
) -> None:
    """Two users log in, meet in a room and see each other; one of them has no camera."""
    (tmp_path / "room.html").write_text(page.text.replace("<title>", f"{ICON}<title>"))
    monkeypatch.chdir(tmp_path)
    run: list[web.Application] = []
    monkeypatch.setattr(web, "run_app", lambda app, **_: run.append(app))
    run_python(script)
    url = await site.serve(run[0])
    login = """
    const body = new URLSearchParams({ user: arg, password: `${arg}'s password` });
    return (await fetch("/login", { method: "POST", body })).text();
    """
    pages = []
    for user, devices in (("ann", True), ("bob", False)):  # two contexts, with separate cookies
        before = await browser.open(f"{url}/echo/videre.js", devices=devices, init=READY)
        assert await before.run(login, user) == f"Hello, {user}"
        pages.append(await browser.open(f"{url}/rooms/garden", devices=devices, init=READY))
    await pages[1].run(REMOTE_IS_SEEN)
    for each in pages:
        await each.run(UNTIL.format("notice.textContent === arg"), "bob is here")


@runs("docs/browser.md", "input.files")
async def test_sending_a_file(block: Block, site: Site) -> None:
    """Everybody gets all of it, and its progress."""
    before = """
    import { Videre } from "/echo/videre.js";
    const videre = new Videre({ signallerURL: "/echo", constraints: false });
    videre.on("message", ({ data }) => said.push([data.name, data.size]));
    """
    pages = [
        await site.module(
            before, after="await videre.connect('files'); globalThis.videre = videre;"
        )
        for _ in "ab"
    ]
    await pages[0].run("await until(() => videre.peers.size);")
    shown = await pages[0].run(
        f"""
        const shown = [];
        const console = {{ log: (words) => shown.push(words) }};
        const input = {{ files: [new File([new Uint8Array(300_000)], "a.png")] }};
        {block.text}
        await until(() => shown.length > 1);
        return shown;
        """
    )
    name = await pages[1].run("return videre.userId;")
    assert shown[0].startswith(f"{name} has ") and shown[0].endswith(" of 300000")
    assert "1 have it, 0 do not" in shown
    assert await pages[1].run("return said;") == [["a.png", 300_000]]


SHOW = "const show = (...words) => said.push(words.join(' '));"


@runs("docs/moving.md", "new SimplePeer")
async def test_simple_peer(block: Block, site: Site) -> None:
    """Three users of npm's simple-peer with cameras: each sees and greets both others."""
    before = f"""
    {SHOW}
    const videos = {{}};
    const play = (user, stream) => {{
      const video = document.createElement("video");
      videos[user] = Object.assign(video, {{ autoplay: true, muted: true, srcObject: stream }});
      document.body.append(video);
    }};
    """
    media = (
        "const stream = await navigator.mediaDevices.getUserMedia({ audio: true, video: true });"
    )
    library = '</script><script src="/npm/simplepeer.min.js/simplepeer.min.js"></script><script>'
    pages = [
        await site.module(
            media + block.text,
            before=before + library,
            after="Object.assign(globalThis, { signaller, peers });",
        )
        for _ in "abc"
    ]
    names = [await page.run("return signaller.user;") for page in pages]
    for name, page in zip(names, pages, strict=True):
        code = """
        await until(() => Object.keys(videos).length === 2 && said.length === 2);
        await Promise.all(Object.values(videos).map(flows));
        return said.sort();
        """
        others = sorted(f"{other} Hello, {name}" for other in names if other != name)
        assert await page.run(code) == others
    await pages[0].close()
    for page in pages[1:]:
        assert await page.run("await until(() => peers.size === 1); return peers.size;") == 1


@runs("docs/moving.md", 'new Peer("bob"', name="bob")
@runs("docs/moving.md", 'new Peer("ann"', name="ann")
async def test_the_peerjs_code_before(bob: Block, ann: Block, site: Site) -> None:
    """With npm's PeerJS and PeerServer, two pages greet each other."""
    script = node_modules(ROOT / "benchmarks" / "peers") / "peer" / "dist" / "bin" / "peerjs.js"
    process = await asyncio.create_subprocess_exec(
        *(require("node"), str(script), "--host", "127.0.0.1"),
        stdout=PIPE,
        env={"PORT": "0", "PATH": ""},
    )
    assert process.stdout is not None
    try:
        text = ""
        while (found := re.search(r"port:? (\d+)", text)) is None:
            line = await process.stdout.readline()
            assert line, text
            text += line.decode()
        library = f'{SHOW}</script><script src="/npm/peerjs.min.js/peerjs.min.js"></script><script>'
        pages = []
        for block in (bob, ann):
            code = block.text.replace("9000", found[1])
            pages.append(await site.module(code, before=library, after="globalThis.peer = peer;"))
            await pages[-1].run("await until(() => peer.open);")
        told = await both(pages, "await until(() => said.length); return said;")
        assert told == [["ann: Hello, Bob"], ["bob: Hello, Ann"]]
    finally:
        process.kill()  # asked to stop, it would wait for its clients
        await process.wait()


@runs("docs/moving.md", "where ann and bob meet")
async def test_our_code_after_peerjs(block: Block, site: Site) -> None:
    """Two pages greet each other with our client."""
    pages = [
        await site.module(block.text, before=f"{SHOW} const me = '{me}';") for me in ("bob", "ann")
    ]
    told = await both(pages, "await until(() => said.length); return said;")
    assert told == [["ann: Hello, bob"], ["bob: Hello, ann"]]
