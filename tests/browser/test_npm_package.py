"""The browser client as an npm package: its files, its types, and real applications with it."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiortc import MediaStreamTrack, VideoStreamTrack
from browser import Browser, Page
from documents import claim
from npm_projects import CLIENT, TEMPLATES, Project, node, npm_modules, packed
from patience import patient
from process import ROOT

import videre
from videre.client import Call, Client, Peer
from videre.version import __version__

EXAMPLES = ROOT / "examples"
MANIFEST = json.loads((CLIENT / "package.json").read_text(encoding="utf-8"))
CORE_BYTES = 13_000  # minified and compressed, as an application's page loads it
HOOK_BYTES = 1_000
SECONDS = patient(120)  # a safety net for a whole call

pytestmark = [pytest.mark.process, pytest.mark.long, pytest.mark.asyncio(loop_scope="session")]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pack the client."""
    return packed(tmp_path_factory.mktemp("packed"))


async def test_files_of_the_package(client: Path) -> None:
    """The modules, their types, a manifest, a README and the licence; the folder has no more."""
    with tarfile.open(client) as tar:
        names = {name.removeprefix("package/") for name in tar.getnames()}
    files = {str(path.relative_to(CLIENT)) for path in CLIENT.rglob("*") if path.is_file()}
    assert names == files
    modules = {f"videre/{path.name}" for path in (CLIENT / "videre").glob("*.js")}
    own = {"videre.js", "videre.d.ts", "react.js", "react.d.ts", "package.json", "README.md"}
    assert files == own | modules | {"LICENSE"}
    assert (CLIENT / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


async def test_its_manifest() -> None:
    """Its version is the server's; the workflow adds the repository's address."""
    assert MANIFEST["version"] == __version__
    told = [MANIFEST[key] for key in ("name", "license", "type")]
    assert told == ["videre-client", "MIT", "module"]
    assert MANIFEST["sideEffects"] is False and MANIFEST["engines"]["node"]
    assert set(MANIFEST["exports"]) == {".", "./react", "./package.json"}
    assert MANIFEST["peerDependencies"] == {"react": ">=18"}
    assert MANIFEST["peerDependenciesMeta"] == {"react": {"optional": True}}
    assert not {"dependencies", "repository", "scripts", "private"} & MANIFEST.keys()


async def test_publint(client: Path) -> None:
    """It finds nothing to complain about in strict mode."""
    program = npm_modules() / "publint" / "src" / "cli.js"
    output = node(program, str(client), "--strict", cwd=client.parent)
    assert "All good!" in output, output


async def test_are_the_types_wrong(client: Path) -> None:
    """The tool finds no fault for importers of ES modules."""
    program = npm_modules() / "@arethetypeswrong" / "cli" / "dist" / "index.js"
    output = node(
        program, str(client), "--profile", "esm-only", "--format", "json", cwd=client.parent
    )
    found = [each for kind in json.loads(output)["problems"].values() for each in kind]
    assert {each["resolutionKind"] for each in found} <= {"node16-cjs"}, output  # `require`


#: Of the hook's users: the tests' own, and those of the documents.
README_BLOCKS = re.findall(
    r"```(tsx?)\n(.*?)```", (CLIENT / "README.md").read_text(encoding="utf-8"), re.DOTALL
)
LINES = claim("README.md", "useCall").text
REFERENCE = claim("docs/browser.md", "useCall({ url").text.replace("http://localhost:1111", "")
OWN_ROOM = 'export const App = () => <Call room="room" />;\n'
APP = """
import { useEffect, useRef, useState } from "react";
import { useCall } from "videre-client/react";

function Video({ stream }: { stream: MediaStream }) {
  const video = useRef<HTMLVideoElement>(null);
  useEffect(() => {
    if (video.current) video.current.srcObject = stream;
  }, [stream]);
  return <video className="remote" ref={video} autoPlay playsInline muted />;
}

function Call({ room }: { room: string }) {
  const [said, setSaid] = useState<string[]>([]);
  const call = useCall({
    url: "/echo",
    room,
    onMessage: ({ user, data }) => setSaid((all) => [...all, `${user} ${data}`]),
  });
  Object.assign(globalThis, { call, renders: (globalThis.renders ?? 0) + 1 });
  return (
    <>
      <p id="state">{call.state}</p>
      <p id="error">{call.error?.message}</p>
      <p id="local">{call.localStream ? "shown" : "none"}</p>
      {call.peers.map(({ user, stream }) => (
        <Video key={user} stream={stream} />
      ))}
      <ul>
        {said.map((line, number) => (
          <li key={number}>{line}</li>
        ))}
      </ul>
    </>
  );
}

declare global {
  var go: (room: string) => void;
  var renders: number | undefined;
}

export function App() {
  const [room, setRoom] = useState("");
  globalThis.go = setRoom;
  return room ? <Call room={room} /> : <p id="lobby">Nowhere</p>;
}
"""
SOURCE = EXAMPLES / "react" / "src"
APPLICATIONS = {
    "index": APP,
    "example": (SOURCE / "App.tsx").read_text(encoding="utf-8"),
    "package": README_BLOCKS[1][1] + OWN_ROOM,
    "lines": LINES + OWN_ROOM,
    "reference": REFERENCE + OWN_ROOM,
}


@pytest.fixture(scope="module")
def project(client: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Give applications in Vite's template for React, checked in strict mode."""
    folder = tmp_path_factory.mktemp("react") / "app"
    project = Project(folder, client, TEMPLATES["react-ts"], *APPLICATIONS)
    for name, text in APPLICATIONS.items():
        project.write(f"src/{name}/App.tsx", text)
    main = (SOURCE / "main.tsx").read_text(encoding="utf-8")
    project.write("src/example/main.tsx", main)
    project.write("src/first.ts", README_BLOCKS[0][1])
    project.check()
    return project


@pytest.fixture(scope="module")
def react(project: Project) -> Path:
    """Build the applications, and return their site."""
    return project.build()


async def test_import_without_a_browser(project: Project) -> None:
    """A server that renders pages imports it, and creates the objects used in the browser."""
    project.write(
        "render.mjs",
        """
        import { createElement } from "react";
        import { renderToString } from "react-dom/server";
        import { Signaller, Videre } from "videre-client";
        import { useCall } from "videre-client/react";
        const App = () => createElement("p", null, useCall({ url: "/echo", room: "a" }).state);
        const videre = new Videre({ signallerURL: "https://example.com/echo" });
        const devices = await videre.devices();
        console.log(JSON.stringify([renderToString(createElement(App)), devices, typeof Signaller,
          "document" in globalThis]));
        """,
    )
    output = node("render.mjs", cwd=project.folder)
    assert json.loads(output) == ["<p>closed</p>", [], "function", False]


#: For each part of the client: an entry, and what is not part of it.
PARTS = """
import { writeFileSync } from "node:fs";
import { transform } from "esbuild";
import { build } from "vite";
const parts = {
  core: ['export { Videre } from "videre-client";', []],
  hook: [
    'export { useCall } from "videre-client/react";',
    ["react", /videre-client\\/videre/, "./videre.js"],
  ],
  nothing: ['import "videre-client"; export const nothing = 1;', []],
};
const texts = {};
for (const [name, [text, external]] of Object.entries(parts)) {
  writeFileSync(`${name}.js`, text);
  const lib = { entry: `${name}.js`, formats: ["es"], fileName: "lib" };
  const options = { lib, minify: "esbuild", write: false, rollupOptions: { external } };
  const [{ output }] = await build({ configFile: false, logLevel: "error", build: options });
  // Vite keeps the white space of a library's modules, but minifies an application's.
  const { code } = await transform(output[0].code, { minify: true, format: "esm" });
  texts[name] = code;
}
console.log(JSON.stringify(texts));
"""


async def test_it_is_small(project: Project) -> None:
    """The core, and the hook's addition, as built by Vite without unused code."""
    project.write("parts.mjs", PARTS)
    texts = json.loads(node("parts.mjs", cwd=project.folder))
    sizes = {name: len(gzip.compress(text.encode(), 9)) for name, text in texts.items()}
    assert 5_000 < sizes["core"] < CORE_BYTES, sizes
    assert 300 < sizes["hook"] < HOOK_BYTES, sizes
    assert sizes["nothing"] < 100, sizes


async def test_its_readme_compiles(react: Path) -> None:
    """It does so in strict mode, with the others."""
    assert [language for language, _ in README_BLOCKS] == ["ts", "tsx"]
    assert (react / "package.html").exists()


async def test_the_example_builds(react: Path) -> None:
    """It compiles in strict mode and builds; test_examples.py runs it."""
    assert (react / "example.html").exists()


async def test_the_react_lines_of_the_readme(react: Path) -> None:
    """They are at most ten, and an application with them compiles and builds in strict mode."""
    assert len([line for line in LINES.splitlines() if line.strip()]) <= 10
    assert (react / "lines.html").exists()


SMALL = """
const { mediaDevices } = navigator;
const ask = mediaDevices.getUserMedia.bind(mediaDevices);
globalThis.made = [];
mediaDevices.getUserMedia = async (wanted) => {
  const stream = await ask({ ...wanted, video: wanted.video && { width: 160, height: 120 } });
  made.push(...stream.getTracks());
  return stream;
};
globalThis.live = () => made.filter(({ readyState }) => readyState === "live").length;
globalThis.until = async (look, ms = 60_000) => {
  for (const end = performance.now() + ms; performance.now() < end; ) {
    const found = await look();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`Not in time: ${look}`);
};
globalThis.ready = true;
"""
FLOWS = """
const video = await until(() => document.querySelector("video.remote"));
const frames = () => video.getVideoPlaybackQuality().totalVideoFrames;
const before = frames();
await until(() => frames() > before + 3);
return true;
"""


@asynccontextmanager
async def served(browser: Browser, folder: Path) -> AsyncIterator[str]:
    """Serve a built application beside a server; its pages must not fail."""
    app = web.Application()
    videre.setup(app)

    async def page(request: web.Request) -> web.FileResponse:
        return web.FileResponse(folder / f"{request.match_info['name'] or 'index'}.html")

    app.router.add_get("/{name:\\w*}", page)
    app.router.add_static("/assets", folder / "assets")
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await browser.close()
        await runner.cleanup()


async def both(pages: list[Page], code: str, arg: Any = None) -> list[Any]:
    """Run the same code in all pages at once."""
    return await asyncio.gather(*(page.run(code, arg) for page in pages))


@pytest.mark.parametrize(
    ("template", "source"), [("vue-ts", "vue/App.vue"), ("svelte-ts", "svelte/App.svelte")]
)
async def test_the_examples_of_the_readme(
    client: Path, browser: Browser, tmp_path: Path, template: str, source: str
) -> None:
    """In Vite's own templates, in strict mode: two see each other and chat, until one leaves."""
    project = Project(tmp_path / "app", client, TEMPLATES[template])
    example = EXAMPLES / source
    project.write(f"src/{example.name}", example.read_text(encoding="utf-8"))
    project.check()
    async with served(browser, project.build()) as url:
        pages = [await browser.open(f"{url}#room", init=SMALL) for _ in "ab"]
        assert await both(pages, FLOWS) == [True, True]
        say = """
        const input = document.querySelector("input");
        input.value = "Hello";
        input.dispatchEvent(new Event("input", { bubbles: true }));
        await new Promise((resolve) => setTimeout(resolve, 50));
        input.form.requestSubmit();
        """
        await pages[0].run(say)
        told = "return (await until(() => document.querySelector('.line'))).textContent;"
        assert str(await pages[1].run(told)).endswith(": Hello")
        await pages[0].close()
        assert await pages[1].run("return until(() => !document.querySelector('video.remote'));")


async def test_a_call_in_react(react: Path, browser: Browser) -> None:
    """Two see each other, chat and mute; the actions stay the same functions in each render."""
    async with served(browser, react) as url:
        pages = [await browser.open(url, init=SMALL) for _ in "ab"]
        await both(pages, "go(arg);", "room")
        assert await both(pages, FLOWS) == [True, True]
        text = "return until(() => document.getElementById(arg[0]).textContent === arg[1]);"
        assert await both(pages, text, ["state", "joined"]) == [True, True]
        assert await both(pages, text, ["local", "shown"]) == [True, True]
        await pages[0].run("await Promise.all(arg.map((word) => call.send(word)));", ["one", "two"])
        lines = """
        await until(() => document.querySelectorAll("li").length === 2);
        const lines = [...document.querySelectorAll("li")];
        return lines.map(({ textContent }) => textContent.split(" ")[1]);
        """
        assert await pages[1].run(lines) == ["one", "two"]
        muted = await pages[0].run(
            """
            const { send, setMuted } = call;
            setMuted("audio", true);
            const [track] = call.localStream.getAudioTracks();
            await until(() => !track.enabled);
            go("another");
            const entered = () => call.videre?.roomId === "another" && call.state === "joined";
            await until(() => entered() && call.localStream);
            const [next] = call.localStream.getAudioTracks();
            return [send === call.send, setMuted === call.setMuted, call.muted, next.enabled];
            """
        )
        assert muted == [True, True, {"audio": True, "video": False}, False]


async def test_a_seat_that_react_loses(react: Path, browser: Browser) -> None:
    """The component gets the reason, and shows no picture of a camera that is off."""
    async with served(browser, react) as url:
        page = await browser.open(url, init=SMALL)
        await page.run("go(arg); await until(() => globalThis.call?.state === 'joined');", "room")
        user = await page.run("return call.videre.userId;")
        async with Client(f"{url}echo", user=user, room="room"):
            await page.run("await until(() => call.state === 'closed' && call.error);")
            found = await page.run("return [call.error.code, call.localStream, live()];")
        assert found == [4503, None, 0]


@pytest.mark.parametrize("first", ["react", "python"])
async def test_a_call_between_react_and_python(react: Path, browser: Browser, first: str) -> None:
    """Whoever joins first: each sees the other's video and gets its messages."""
    frames: asyncio.Queue[str] = asyncio.Queue()
    heard: asyncio.Queue[Any] = asyncio.Queue()
    async with served(browser, react) as url:
        page = await browser.open(url, init=SMALL)
        if first == "react":
            await page.run(
                "go(arg); return until(() => globalThis.call?.state === 'joined');", "room"
            )
        call = Call(f"{url}echo", user="py", room="room")
        call.add_track(VideoStreamTrack())

        @call.on("track")
        async def watch(track: MediaStreamTrack, peer: Peer) -> None:
            if track.kind == "video":
                await track.recv()
                frames.put_nowait(peer.user)

        call.on("message", lambda value, _peer: heard.put_nowait(value))
        async with asyncio.timeout(SECONDS), call:
            if first == "python":
                await page.run("go(arg);", "room")
            assert await page.run(FLOWS) is True
            assert await frames.get() in call.peers
            await call.send("from Python")
            line = "return (await until(() => document.querySelector('li'))).textContent;"
            assert await page.run(line) == "py from Python"
            await page.run("await call.send({ from: 'React' });")
            assert await heard.get() == {"from": "React"}


async def test_react_leaves_nothing_running(react: Path, browser: Browser) -> None:
    """Under StrictMode, after quick changes of the room, and when the component is unmounted."""
    async with served(browser, react) as url:
        ann = await browser.open(url, init=SMALL)
        await ann.run("go('a'); await until(() => globalThis.call?.state === 'joined');")
        assert await ann.run("await until(() => live() === 2); return live();") == 2
        # StrictMode mounted the component twice.
        assert await ann.run("return [call.videre.signaller.users.length, call.peers.length];") == [
            1,
            0,
        ]
        rooms = """
        for (const room of ["b", "c", "d", "", "e", "f"]) {
          go(room);
          await new Promise((resolve) => setTimeout(resolve, arg));
        }
        await until(() => call.state === "joined" && call.videre.roomId === "f" && live() === 2);
        return call.videre.signaller.users.length;
        """
        for ms in (0, 5, 40):
            assert await ann.run(rooms, ms) == 1
        bob = await browser.open(url, init=SMALL)
        await bob.run("go('f');")
        assert await both([ann, bob], FLOWS) == [True, True]
        # React ends what a component did a moment after it has removed it from the page.
        unmounted = "document.getElementById('lobby') && !live()"
        assert await ann.run(f"go(''); return until(() => {unmounted});") is True
        assert await bob.run("return until(() => !call.peers.length);") is True
        assert await bob.run("go('f'); return call.localStream.active;") is True


async def test_react_reports_errors(react: Path, browser: Browser) -> None:
    """A user without a camera is in the call, and reads why no picture is sent."""
    async with served(browser, react) as url:
        page = await browser.open(url, devices=False, init=SMALL)
        await page.run("go('a'); await until(() => globalThis.call?.error);")
        await page.run("await until(() => call.state === 'joined');")
        assert await page.run("return [call.error.name, call.localStream];") == [
            "NotAllowedError",
            None,
        ]


async def test_the_hook_of_the_reference(react: Path, browser: Browser) -> None:
    """It compiles as written, and two see each other."""
    async with served(browser, react) as url:
        pages = [await browser.open(f"{url}reference", init=SMALL) for _ in "ab"]
        flows = FLOWS.replace("video.remote", "video")
        assert await both(pages, flows) == [True, True]
