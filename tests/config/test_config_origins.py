"""Origins that no browser sends are faults, in words; those that one sends pass as they stand."""

from __future__ import annotations

import json
from pathlib import Path

import aiohttp
import oneshot
import pytest
from process import signaller

from videre import config
from videre.errors import ConfigError

FAULTS = {
    "https://example.com:443": "without :443, which browsers leave out for https",
    "https://*.example.com:443": "without :443",
    "http://example.com:80": "without :80, which browsers leave out for http",
    "HTTPS://EXAMPLE.COM:443": "without :443",
    "https://b\xfccher.example": "in ASCII: browsers send an international name as xn--",
    "https://*.b\xfccher.example": "in ASCII",
    "capacitor://b\xfccher": "in ASCII",
    "wss://example.com": "never a page's origin",
    "ws://localhost:1111": "never a page's origin",
    "example.com": "an origin such as",
    "https://example.com/": "without a path",
    "file:///": "without a path",
    "https://": "an origin such as",
    "https://example.com:": "a port after the colon",
    "https://example.com:0443": "a port after the colon",
    "https://example.com:https": "a port after the colon",
    "https://a:b:c": "a port after the colon",
    "https://:8443": "a host as browsers send it",
    "https://user@example.com": "a host as browsers send it",
    "https://example.com?a": "a host as browsers send it",
    "https://example.com#a": "a host as browsers send it",
    "https://example.com\\a": "a host as browsers send it",
    "https://127.1": "in its usual form",
    "https://[0:0:0:0:0:0:0:1]": "in its usual form",
    "https://[::1": "a host as browsers send it",
    "https://[127.0.0.1]": "in its usual form",
    "https://::1": "a host as browsers send it",
}
SENT = [
    "https://example.com",
    "https://example.com:8443",
    "http://example.com:443",
    "https://example.com:80",
    "http://localhost:3000",
    "http://127.0.0.1:8080",
    "http://[::1]:8080",
    "https://xn--bcher-kva.example",
    "https://a_b.example.com.",
    "null",
    "file://",
    "capacitor://localhost",
    "ionic://localhost",
    "chrome-extension://abcdefghijklmnop",
]
PATTERNS = ["*", "https://*", "https://*.example.com", "https://example.com:*", "http://*:30*"]


def load(tmp: Path, *origins: str) -> config.Config:
    """Return the configuration with these origins."""
    (tmp / "conf.json").write_text(json.dumps({"Origins": origins}), encoding="utf-8")
    return config.load(tmp / "conf.json", environ={})


@pytest.mark.parametrize("origin", FAULTS)
def test_origins_that_no_browser_sends(origin: str, tmp_path: Path) -> None:
    """Each is a fault that says what to write, alone and among good ones."""
    for origins in ([origin], ["https://example.com", origin]):
        with pytest.raises(ConfigError) as fault:
            load(tmp_path, *origins)
        (words,) = fault.value.faults
        assert "Origins" in words and FAULTS[origin] in words


def test_what_is_good(tmp_path: Path) -> None:
    """What browsers send, and patterns for it."""
    assert load(tmp_path, *SENT, *PATTERNS).transport.origins == (*SENT, *PATTERNS)


@pytest.mark.process
async def test_what_browsers_send_passes(tmp_path: Path) -> None:
    """Each opens a WebSocket where it is listed, and where it is not it is refused."""
    for number, origins in enumerate((SENT, ["https://other.example"])):
        (folder := tmp_path / str(number)).mkdir()
        async with (
            signaller(tmp=folder, config={"Origins": origins}) as server,
            aiohttp.ClientSession() as http,
        ):
            for origin in SENT:
                url, status = f"{server.url}/websocket", 101
                try:
                    async with http.ws_connect(url, headers={"Origin": origin}):
                        pass
                except aiohttp.WSServerHandshakeError as error:
                    status = error.status
                assert status == (101 if origins is SENT else 403), origin


def test_the_check_says_it(tmp_path: Path) -> None:
    """With exit code 2."""
    (tmp_path / "conf.json").write_text(json.dumps({"Origins": ["https://example.com:443"]}))
    done = oneshot.run("--check", "--config", str(tmp_path / "conf.json"))
    assert done.returncode == 2
    assert "without :443, which browsers leave out for https" in done.stderr
