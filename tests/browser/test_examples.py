"""The folders of examples/: each starts with its one command, and does what its README says."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from browser import Browser, Page
from patience import patient
from ports import free_port
from process import ROOT, require

pytestmark = [pytest.mark.process, pytest.mark.long, pytest.mark.asyncio(loop_scope="session")]

SECONDS = patient(300)  # a safety net: npm installs about sixty packages
OWN: dict[str, Any] = {"permissions": ["camera", "microphone"]}


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Give a clone in which all that bin/install installs is already present."""
    shutil.copytree(
        ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("node_modules")
    )
    shutil.copytree(
        ROOT / "videre", tmp_path / "videre", ignore=shutil.ignore_patterns("__pycache__")
    )
    (tmp_path / ".venv").symlink_to(sys.prefix)
    install = tmp_path / "bin" / "install"
    install.parent.mkdir()
    install.write_text("#!/bin/sh\n")
    install.chmod(0o755)
    return tmp_path


@asynccontextmanager
async def running(
    clone: Path, example: str, *options: str, **variables: str
) -> AsyncIterator[None]:
    """Run an example during the block; then Ctrl-C must end all of it."""
    command = clone / "examples" / example / "run"
    process = await asyncio.create_subprocess_exec(
        *(str(command), *options),
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=STDOUT,
        cwd=clone,
        env={**os.environ, **variables},
        start_new_session=True,
    )
    try:
        yield
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = await process.communicate()
        print(output.decode(errors="replace"))
        raise
    os.killpg(process.pid, signal.SIGINT)
    async with asyncio.timeout(SECONDS):
        output, _ = await process.communicate()  # which ends when its output is closed everywhere
    assert "Traceback" not in output.decode(errors="replace"), output.decode(errors="replace")


async def served(url: str) -> None:
    """Wait until a server answers."""
    async with asyncio.timeout(SECONDS), aiohttp.ClientSession() as http:
        while True:
            try:
                async with http.get(url):
                    return
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.1)


async def reads(page: Page, words: str) -> None:
    """Wait for these words as the state."""
    await page.drive("await page.getByRole('status').getByText(arg).waitFor();", words)


async def sees(page: Page, videos: int) -> None:
    """Wait for this many videos with a picture."""
    code = """
    await page.waitForFunction((many) => {
      const found = [...document.querySelectorAll("video")];
      return found.length === many && found.every((video) => video.videoWidth > 0);
    }, arg);
    """
    await page.drive(code, videos)


async def two_of(browser: Browser, url: str) -> list[Page]:
    """Open a page, and then the address that it shows in a second window."""
    first = await browser.open(url, own=OWN, ready=False)
    second = await browser.open(await first.drive("return page.url();"), own=OWN, ready=False)
    return [first, second]


async def test_a_plain_page(clone: Path, browser: Browser) -> None:
    """Two windows are a call, until one is closed."""
    port = free_port()
    async with running(clone, "page", str(port)):
        await served(f"http://localhost:{port}")
        first, second = await two_of(browser, f"http://localhost:{port}")
        for page in (first, second):
            await reads(page, "In a call with 1")
            await sees(page, 2)
        await second.close()
        await reads(first, "Waiting for somebody")
        await browser.close()


async def test_a_dropped_file(clone: Path, browser: Browser, tmp_path: Path) -> None:
    """The other page gets it unchanged, with its name."""
    data = os.urandom(300_000)
    (tmp_path / "a <b> c.bin").write_bytes(data)
    port = free_port()
    async with running(clone, "file-drop", str(port)):
        await served(f"http://localhost:{port}")
        first, second = await two_of(browser, f"http://localhost:{port}")
        for page in (first, second):
            await reads(page, "Connected with 1")
        choose = "await page.locator('input[type=file]').setInputFiles(arg);"
        await first.drive(choose, str(tmp_path / "a <b> c.bin"))
        await first.drive("await page.getByText('a <b> c.bin: sent to 1').waitFor();")
        saved = await second.drive(
            """
            const [download] = await Promise.all([
              page.waitForEvent("download"),
              page.getByRole("link", { name: "a <b> c.bin" }).click(),
            ]);
            return await download.path();
            """
        )
        assert Path(saved).read_bytes() == data  # noqa: ASYNC240 (nothing else runs here)
        await browser.close()


async def test_a_site_in_fastapi(clone: Path, browser: Browser) -> None:
    """Its users meet, others get no token, and it knows who is there."""
    site = free_port(3)
    signalling, admin = site + 1, site + 2
    ports = {"SITE_PORT": site, "SIGNALLING_PORT": signalling, "ADMIN_PORT": admin}
    url = f"http://localhost:{site}"
    async with (
        running(clone, "fastapi", **{name: str(port) for name, port in ports.items()}),
        aiohttp.ClientSession() as http,
    ):
        await served(url)
        await served(f"http://localhost:{signalling}/health")
        async with http.post(f"{url}/login", data={"user": "ann", "password": "wrong"}) as answer:
            assert answer.status == 401
        async with http.post(f"{url}/token/garden") as answer:
            assert answer.status == 401
        form = {"user": "ann", "password": "ann's password"}
        async with http.post(f"{url}/login", data=form) as answer:
            assert answer.status == 200
        async with http.post(f"{url}/token/cellar") as answer:
            assert answer.status == 403
        async with http.get(f"{url}/rooms/garden/members") as answer:
            assert await answer.json() == []
        for user, told in (("ann", "Here: ann"), ("bob", "Here: ann, bob")):
            page = await browser.open(url, own=OWN, ready=False)
            await page.drive(
                """
                await page.getByPlaceholder("User").fill(arg);
                await page.getByPlaceholder("Password").fill(`${arg}'s password`);
                await page.getByRole("button", { name: "Enter" }).click();
                """,
                user,
            )
            await reads(page, told)
        await sees(page, 2)
        await browser.close()


async def test_a_site_in_aiohttp(clone: Path, browser: Browser) -> None:
    """Its users log in and meet, others get no token, and who logs out leaves."""
    port = free_port()
    url = f"http://localhost:{port}"
    async with running(clone, "aiohttp", str(port)), aiohttp.ClientSession() as http:
        await served(url)
        for user, password in (("ann", "wrong"), ("nobody", ""), ("", "")):
            async with http.post(f"{url}/login", data={"user": user, "password": password}) as no:
                assert no.status == 401
        async with http.post(f"{url}/login") as no:
            assert no.status == 401
        async with http.post(f"{url}/rooms/garden/token") as no:
            assert no.status == 401
        async with http.post(
            f"{url}/login", data={"user": "ann", "password": "ann's password"}
        ) as yes:
            assert yes.status == 200 and "<h1>Rooms" in await yes.text()
        for room in ("cellar", "nowhere"):
            for method, path in (("GET", room), ("POST", f"{room}/token")):
                async with http.request(method, f"{url}/rooms/{path}") as no:
                    assert no.status == 403
        pages = []
        for user, told in (("ann", "Here: ann"), ("bob", "Here: ann, bob")):
            # Each in a browser of its own, as it were: a context has its own cookies.
            pages.append(page := await browser.open(url, own=OWN, ready=False))
            await page.drive(
                """
                await page.getByPlaceholder("User").fill(arg);
                await page.getByPlaceholder("Password").fill(`${arg}'s password`);
                await page.getByRole("button", { name: "Log in" }).click();
                await page.getByText(`You are ${arg}`).waitFor();
                await page.getByRole("link", { name: "garden" }).click();
                """,
                user,
            )
            await reads(page, told)
        for page in pages:
            await reads(page, "Here: ann, bob")
            await sees(page, 2)
        out = "await page.evaluate(() => fetch('/logout', { method: 'POST' }));"
        await pages[1].drive(out)
        await reads(pages[1], "You have logged out")
        await reads(pages[0], "Here: ann")
        await browser.close()


async def test_an_application_in_react(clone: Path, browser: Browser) -> None:
    """Two windows are a call, and greet each other; test_npm_package.py builds it."""
    require("npm")
    site = free_port(2)
    signalling = site + 1
    ports = {"SITE_PORT": str(site), "SIGNALLING_PORT": str(signalling)}
    async with running(clone, "react", **ports):
        await served(f"http://localhost:{site}")
        first, second = await two_of(browser, f"http://localhost:{site}")
        for page in (first, second):
            await sees(page, 2)
        await first.drive("await page.getByRole('button', { name: 'Say hello' }).click();")
        await second.drive("await page.getByText(': Hello').waitFor();")
        await browser.close()


async def test_every_example_has_a_test() -> None:
    """A folder with a command has a README with it, and each is named in a test."""
    tests = (ROOT / "tests").rglob("test_*.py")
    source = "".join(path.read_text(encoding="utf-8") for path in tests)
    folders = [path for path in (ROOT / "examples").iterdir() if path.is_dir()]
    assert len(folders) >= 7
    for folder in folders:
        assert re.search(rf"[\"/]{folder.name}[\"/]", source), folder
        if (folder / "run").exists():
            assert f"\nexamples/{folder.name}/run" in (folder / "README.md").read_text()
        else:  # for the applications of test_npm_package.py
            assert [path.stem for path in folder.iterdir()] == ["App"]
