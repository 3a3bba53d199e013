"""`--lan`: a call from a phone in the same network."""

from __future__ import annotations

import builtins
import ipaddress
import os
import re
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from aiohttp.test_utils import make_mocked_request
from browser import chromium
from network import Island, island
from oneshot import run
from process import signaller

from videre.command import announcing, lan, own_ca
from videre.config import Config
from videre.errors import ConfigError

FILES = own_ca.Files(Path("cert.pem"), Path("key.pem"), Path("ca.pem"))
HERE = lan.Lan(
    (ipaddress.ip_interface("192.168.1.7/24"), ipaddress.ip_interface("fd12::7/64")),
    ("localhost", "box", "box.local"),
    FILES,
)


@pytest.mark.parametrize(
    ("remote", "host", "shown"),
    [
        ("192.168.1.9", "192.168.1.7", True),
        ("192.168.1.9", "192.168.1.7:1111", True),
        ("192.168.1.9", "box.local", True),
        ("192.168.1.9", "BOX", True),
        ("::ffff:192.168.1.9", "192.168.1.7", True),
        ("fd12::9", "[fd12::7]:1111", True),
        ("127.0.0.1", "localhost", True),
        ("192.168.2.9", "192.168.1.7", False),  # in another network
        ("203.0.113.1", "192.168.1.7", False),
        ("fd13::9", "[fd12::7]", False),
        ("192.168.1.9", "evil.example", False),  # a name that resolves to this machine
        ("192.168.1.9", "", False),
        ("192.168.1.9", "[", False),
        (None, "box", False),  # a Unix socket, which only a proxy connects to
    ],
)
def test_who_sees_the_demo(remote: str | None, host: str, shown: bool) -> None:
    """Clients in one of this machine's networks that ask for it by its own address or name."""
    request = make_mocked_request("GET", "/demo", headers={"Host": host}).clone(
        remote=cast(str, remote)
    )
    assert HERE.shows(request) is shown


@pytest.mark.parametrize("header", ["Forwarded", "X-Forwarded-For", "X-Real-IP", "Via"])
def test_the_demo_is_hidden_behind_a_proxy(header: str) -> None:
    """The proxy's client may be anywhere."""
    headers = {"Host": "box", header: "192.168.1.9"}
    request = make_mocked_request("GET", "/demo", headers=headers).clone(remote="192.168.1.9")
    assert not HERE.shows(request)


class Opened:
    """A listening socket: its address, a path for a Unix socket."""

    def __init__(self, address: str, *, both: bool = False) -> None:
        self.address = address
        self.both = both  # `::` for IPv4, too

    def getsockname(self) -> tuple[str, int] | str:
        return self.address if self.address.startswith("/") else (self.address, 8443)

    def getsockopt(self, level: int, option: int) -> int:
        assert (level, option) == (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        return not self.both


@pytest.mark.parametrize(
    ("opened", "host"),
    [
        ([Opened("0.0.0.0")], "192.168.1.7"),
        ([Opened("::"), Opened("0.0.0.0")], "192.168.1.7"),  # easier to type
        ([Opened("::", both=True)], "192.168.1.7"),
        ([Opened("::")], "[fd12::7]"),
        ([Opened("fd12::7")], "[fd12::7]"),
        ([Opened("/run/videre.sock"), Opened("127.0.0.1"), Opened("fd12::7")], "[fd12::7]"),
        ([Opened("192.168.2.7")], None),  # an address that other machines do not reach
    ],
)
def test_the_link_is_one_that_the_server_listens_at(opened: list[Opened], host: str | None) -> None:
    """It has an address that a socket covers, in brackets if IPv6; each link has its own room."""
    links = {announcing.demo_link(Config(tls=True), cast(Any, opened), HERE) for _ in range(2)}
    if host is None:
        assert links == {None}
    else:
        assert len(links) == 2
        start = f"https://{re.escape(host)}:8443/demo"
        assert all(re.fullmatch(rf"{start}#[\w-]{{22}}", str(link)) for link in links)


@pytest.mark.parametrize(
    ("config", "host"),
    [
        (Config(host=("192.0.2.2", "127.0.0.1")), "127.0.0.1"),
        (Config(host=("192.0.2.2", "127.0.0.1"), demo=True), "192.0.2.2"),
        (Config(demo=False), None),
    ],
)
def test_the_link_is_one_that_shows_the_demo(config: Config, host: str | None) -> None:
    """By default only this machine sees the demo, and only at its own names and addresses."""
    opened = [Opened("/run/videre.sock"), Opened("192.0.2.2"), Opened("127.0.0.1")]
    link = announcing.demo_link(config, cast(Any, opened), None)
    assert link is None if host is None else str(link).startswith(f"http://{host}:8443/demo#")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--cert", "a.pem"), "--lan makes its own certificate: remove --cert"),
        (("--key", "a.pem"), "--lan makes its own certificate: remove --key"),
        (("--host", "127.0.0.1"), "--lan: Host is for this machine only"),
        (("--prefix", "/demo"), "--lan: /demo is also a Prefix"),
    ],
)
def test_incompatible_options(
    options: tuple[str, ...],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The command says why, and does not start."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(lan, "_addresses", lambda: list(HERE.addresses))
    done = run("--lan", "--check", *options, default_config=None)
    assert done.returncode == 2 and words in done.stderr


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("VIDERE_AUTH", '{"Secrets": ["0123456789abcdef0123456789abcdef"]}', "Auth requires one"),
        ("VIDERE_ORIGINS", '["https://example.com"]', "Origins does not admit"),
    ],
)
def test_a_demo_that_could_not_work(
    variable: str,
    value: str,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The start says why, instead of showing a page that fails."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv(variable, value)
    monkeypatch.setattr(lan, "_addresses", lambda: list(HERE.addresses))
    done = run("--lan", "--check", default_config=None)
    assert done.returncode == 2 and words in done.stderr


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server itself does not need them."""
    found = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "segno":
            raise ImportError(name)
        return found(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match="bin/install lan"):
        lan.prepare({})


def test_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a network cannot be called."""
    monkeypatch.setattr(lan, "_addresses", list)
    with pytest.raises(ConfigError, match="not connected to a network"):
        lan.prepare({})


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is where nobody may write")
def test_an_unwritable_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has the folder and the reason."""
    monkeypatch.setattr(lan, "_addresses", lambda: list(HERE.addresses))
    with pytest.raises(ConfigError, match="/proc/nowhere/videre/lan"):
        lan.prepare({"XDG_STATE_HOME": "/proc/nowhere"})


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose user is only a number: the message has the remedy."""
    monkeypatch.setattr(lan, "_addresses", lambda: list(HERE.addresses))
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "getuid", lambda: 123456789)
    with pytest.raises(ConfigError, match="set XDG_STATE_HOME"):
        lan.prepare({})


def test_the_folder() -> None:
    """It is the user's, unless a variable names another one."""
    assert lan.folder({"XDG_STATE_HOME": "/state"}) == Path("/state/videre/lan")
    assert lan.folder({}) == Path.home() / ".local/state/videre/lan"


def test_a_terminal_shows_a_qr_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file gets the text only."""
    monkeypatch.setattr("os.isatty", lambda _: True)
    told = HERE.told("https://192.168.1.7:8443/demo#room")
    assert "█" in told
    assert str(FILES.ca) in told
    monkeypatch.setattr("os.isatty", lambda _: False)
    assert HERE.told("https://box/demo#room").startswith("Open the link here")


JOIN = "await page.getByRole('button', { name: 'Join the call', exact: true }).click();"
SEES = """
await page.waitForFunction(() =>
  [...document.querySelectorAll(".tile:not(.self) video")].some((video) => video.videoWidth > 0));
"""


@pytest.fixture
async def house() -> AsyncIterator[Island]:
    """Give a network namespace as a machine, with a cable to it."""
    async with island() as way:
        yield way


@pytest.mark.process
@pytest.mark.long
async def test_a_call_from_a_phone(house: Island, tmp_path: Path) -> None:
    """Chromium on another machine warns; a user who proceeds has a camera and a call."""
    within = (*house.within, "env", f"XDG_STATE_HOME={tmp_path}")
    async with (
        signaller("--lan", tmp=tmp_path, host=None, within=within) as server,
        chromium() as browser,
    ):
        await server.listening()
        text = "\n".join(server.output)
        found = re.search(r"Try a call: (https://([\d.]+):\d+/demo)#[\w-]{22}", text)
        assert found, text
        address = found[2]
        assert address in (house.node.there, house.store.there)
        ca = tmp_path / "videre" / "lan" / "ca.pem"
        assert str(ca) in text

        # A device that has installed the CA shows no warning.
        trusting = ssl.create_default_context(cafile=ca)
        async with (
            aiohttp.ClientSession() as http,
            http.get(found[1], ssl=trusting) as answer,
        ):
            assert answer.status == 200

        link = found[0].removeprefix("Try a call: ")
        with pytest.raises(AssertionError, match="ERR_CERT_AUTHORITY_INVALID"):
            await browser.open(link, own={}, ready=False)
        own = {"permissions": ["camera", "microphone"], "ignoreHTTPSErrors": True}
        pages = [await browser.open(link, own=own, ready=False) for _ in range(2)]
        for page in pages:
            await page.drive(JOIN)
        for page in pages:
            await page.drive(SEES)
        await browser.close()
