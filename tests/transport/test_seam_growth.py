"""Growth: what a client sends to the transport costs in proportion to its bytes, on each route."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.http import HttpVersion11
from aiohttp.test_utils import make_mocked_request
from growth import check, check_async
from multidict import CIMultiDict
from sockjs_client import Wire
from test_seam_requests import ODDITIES, get, own, post
from test_seam_wire import Heard, encode, wire_of
from websocket_client import encode as masked

from videre.settings import Options
from videre.transport import checks, framing
from videre.transport.clients import Origins, Proxies
from videre.transport.requests import JSONPSend, XHRSend

HEADERS = 65536  # bytes: eight times what aiohttp accepts


def request(name: str, value: str) -> Any:
    """Return a request with one header, from a trusted proxy."""
    headers = CIMultiDict([("Host", "a"), (name, value)]) if name != "Host" else {"Host": value}
    return SimpleNamespace(
        headers=CIMultiDict(headers),
        remote="127.0.0.1",
        version=HttpVersion11,
        content_length=0,
        secure=False,
        protocol=SimpleNamespace(),
    )


def checked(given: Any) -> None:
    """Check a request, and ignore the result."""
    try:
        checks.check(given)
    except web.HTTPException:
        return


#: A header, the unit that its value repeats, and the code that reads it.
LOOKS: dict[str, tuple[str, str, Callable[[Any], object]]] = {
    "origin": ("Origin", "https://a.", Origins(["https://*.example.com", "*://*.a.*:*"]).allow),
    "origin-dots": ("Origin", ".", Origins(["*.*.*.example.com"]).allow),
    "origin-hyphens": ("Origin", "-", Origins(["*-*-*-*a"]).allow),
    "forwarded": ("X-Forwarded-For", "127.0.0.1,", Proxies(["127.0.0.0/8"]).address),
    "forwarded-nonsense": ("X-Forwarded-For", "x", Proxies(["127.0.0.0/8"]).address),
    "rfc7239": (
        "Forwarded",
        "for=127.0.0.1;",
        Proxies(["127.0.0.0/8"], "Forwarded").address,
    ),
    "rfc7239-elements": (
        "Forwarded",
        'for="[::ffff:127.0.0.1]:8",',
        Proxies(["::/0"], "Forwarded").address,
    ),
    "rfc7239-scheme": ("Forwarded", "proto=,", Proxies(["127.0.0.0/8"], "Forwarded").secure),
    "scheme": ("X-Forwarded-Proto", "https,", Proxies(["127.0.0.0/8"]).secure),
    "request-id": ("X-Request-Id", "x", Proxies(["127.0.0.0/8"]).client),
    "encoding": ("Content-Encoding", "identity,", checked),
    "host": ("Host", "a", checked),
    "host-brackets": ("Host", "[", checked),
    "host-ports": ("Host", "a:1", checked),
    "host-digits": ("Host", "[1:", checked),
}


@pytest.mark.parametrize(("name", "unit", "look"), LOOKS.values(), ids=LOOKS)
def test_headers(name: str, unit: str, look: Callable[[Any], object]) -> None:
    """A long header costs in proportion to its bytes."""
    check(
        lambda size: request(name, unit * (size // len(unit))),
        look,
        largest=HEADERS,
        weigh=lambda given: len(given.headers[name]),
    )


BATCHES = {
    "many": lambda size: json.dumps(["x"] * (size // 5)),
    "one": lambda size: json.dumps(["x" * size]),
    "quotes": lambda size: json.dumps(['"' * (size // 2)]),
    "escapes": lambda size: '["' + r"\ud800" * (size // 6) + '"]',
    "brackets": lambda size: "[" * size,
    "nested": lambda size: "[" * (size // 2) + "]" * (size // 2),
    "numbers": lambda size: "[" + "1," * (size // 2) + "1]",
    "one-number": lambda size: "[" + "1" * size + "]",
    "keys": lambda size: "[{" + '"a":1,' * (size // 6) + '"a":1}]',
    "blanks": lambda size: " " * size + "[]",
}


@pytest.mark.parametrize("make", BATCHES.values(), ids=BATCHES)
def test_sockjs_batches(make: Callable[[int], str]) -> None:
    """Arrays of messages, and bodies that are no arrays."""

    def work(text: str) -> None:
        try:
            framing.messages(text)
        except ValueError:
            return

    check(make, work, largest=2**20)


@pytest.mark.parametrize("make", BATCHES.values(), ids=BATCHES)
def test_quoting(make: Callable[[int], str]) -> None:
    """One message, framed for SockJS clients."""
    check(make, framing.quote, largest=2**20)


FRAMES = {
    "messages": lambda count: masked(b"text", 0x81) * count,
    "texts": lambda count: encode(0x81, 1) * count,
    "empty": lambda count: encode(0x81, 0) * count,
    "pings": lambda count: encode(0x89, 4) * count,
    "fragments": lambda count: encode(0x01, 0) + encode(0x00, 0) * count,
    "medium": lambda count: encode(0x82, 126) * count,
    "unmasked-last": lambda count: encode(0x82, 1) * count + encode(0x81, 1, masked=False),
}


@pytest.mark.parametrize("longest", [0, sys.maxsize], ids=["parser", "direct"])
@pytest.mark.parametrize("pieces", [1, 64, 4096])
@pytest.mark.parametrize("make", FRAMES.values(), ids=FRAMES)
def test_frames_in_a_write(make: Callable[[int], bytes], pieces: int, longest: int) -> None:
    """Many frames in a chunk, or over many chunks, are scanned once."""

    def work(data: bytes) -> None:
        wire = wire_of(Heard())
        wire._longest = longest
        step = max(1, len(data) // pieces)
        for at in range(0, len(data), step):
            wire.data_received(data[at : at + step])

    check(make, work, largest=16384)


def test_a_frame_by_bytes() -> None:
    """A frame that arrives byte by byte costs the same for each byte."""

    def work(data: bytes) -> None:
        wire = wire_of(Heard())
        for at in range(len(data)):
            wire.data_received(data[at : at + 1])

    check(lambda size: encode(0x82, size), work, largest=32768)


COOKIES = {
    "names": lambda size: "a;" * (size // 2),
    "pairs": lambda size: "a=b; " * (size // 5),
    "ours": lambda size: "JSESSIONID=a;" * (size // 13),
    "starts": lambda size: ";JSESSIONID" * (size // 11),
    "blanks": lambda size: "; " + " " * size,
    "value": lambda size: "JSESSIONID=" + "a" * size,
    "quoted": lambda size: 'JSESSIONID="' + '\\"' * (size // 2),
}


@pytest.mark.parametrize("cookie", [False, True])
@pytest.mark.parametrize("make", COOKIES.values(), ids=COOKIES)
def test_cookies(make: Callable[[int], str], *, cookie: bool) -> None:
    """Only JSESSIONID is looked for, and only if the cookie is on."""
    session = SimpleNamespace(shared=SimpleNamespace(options=Options(cookie=cookie)))
    check(
        lambda size: make_mocked_request("POST", "/", {"Cookie": make(size)}),
        lambda given: XHRSend(None, session, given).answer(),
        largest=32768,
        dense=10.0,
        weigh=lambda given: len(given.headers["Cookie"]),
    )


@pytest.mark.parametrize("piece", [";", "a=b;", '";', "; a=", " "])
def test_types(piece: str) -> None:
    """Of a Content-Type only the type is looked at: to parse 8 KB of parameters takes 500 ms."""
    session = SimpleNamespace(shared=SimpleNamespace(options=Options()))
    numbers = itertools.count()  # aiohttp remembers what it has parsed

    def make(size: int) -> web.Request:
        kind = f"application/x-www-form-urlencoded;{next(numbers)}{piece * (size // len(piece))}"
        return make_mocked_request("POST", "/", {"Content-Type": kind})

    check(
        make,
        lambda given: JSONPSend(None, session, given).unwrap(b"d=[]"),
        largest=8192,
        dense=10.0,
        weigh=lambda given: len(given.headers["Content-Type"]),
    )


STRAYS = (b"%", b"%4", b"%zz")


@pytest.mark.parametrize("piece", [b"a", b"%41", b"%ff", b"+", b"=", *STRAYS])
def test_forms(piece: bytes) -> None:
    """Escapes are decoded in C: 1 MiB of them took 200 ms. A `%` that begins none is rare."""
    session = SimpleNamespace(shared=SimpleNamespace(options=Options()))
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    sender = JSONPSend(None, session, make_mocked_request("POST", "/", kind))
    check(
        lambda size: b"d=" + piece * (size // len(piece)),
        sender.unwrap,
        largest=2**20,
        dense=None if piece in STRAYS else 5.0,
    )


TARGETS = {
    "path": lambda size: get(b"/" + b"a" * size),
    "slashes": lambda size: get(b"/" * size),
    "session": lambda size: post(b"/echo/0/" + b"a" * size + b"/xhr"),
    "percent": lambda size: get(b"/echo/" + b"%61" * (size // 3)),
    "query": lambda size: get(b"/echo/0/0/jsonp?" + b"a=b&" * (size // 4)),
    "cookies": lambda size: post(b"/echo/0/0/xhr_send", b"Cookie: " + b"a=b;" * (size // 4)),
    "etags": lambda size: get(b"/echo/iframe.html", b"If-None-Match: " + b'"a",' * (size // 4)),
    "protocols": lambda size: ODDITIES["key-none"][0].replace(
        b"Host: a\r\n", b"Host: a\r\nSec-WebSocket-Protocol: " + b"a," * (size // 2) + b"\r\n"
    ),
}


@pytest.mark.parametrize("make", TARGETS.values(), ids=TARGETS)
async def test_requests(make: Callable[[int], bytes]) -> None:
    """Whole requests to a real server, up to the longest line that it accepts."""
    async with own() as runner:
        base = "http://{}:{}".format(*runner.addresses[0][:2])

        async def work(data: bytes) -> None:
            for _ in range(5):
                wire = await Wire.open(base)
                wire.writer.write(data)
                await wire.head()
                wire.reset()

        await check_async(make, work, largest=8000)
        await Wire.hang_up()
