"""Which offers of a WebSocket handshake are accepted."""

from __future__ import annotations

import pytest
from fakes import packet
from inprocess import serving

import videre
from videre.config import Config
from videre.settings import Options
from videre.transport.offers import DEFLATE, deflate, subprotocol

WIDEST = f"{DEFLATE}; server_max_window_bits=15"


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ([], None),
        (["videre"], "videre"),
        (["chat, videre"], "videre"),
        (["chat", "b,  videre "], "videre"),
        (["chat, superchat"], "chat"),
        (["b, a"], "a"),  # "a" comes second in the server's list
        (["VIDERE"], "VIDERE"),  # the comparison is case-sensitive
        (["access_token, eyJhbGciOi.J9-_"], "access_token"),
        ([""], None),
        ([" , ,"], None),
        (["not a token, chat"], "chat"),
        (["\udcff, (x), a/b"], None),
        (["a\r\nSet-Cookie: x, chat"], "chat"),
    ],
)
def test_a_subprotocol(offered: list[str], chosen: str | None) -> None:
    """The first known one is chosen, else the first offered one that is a token."""
    assert subprotocol(offered, ("videre", "a")) == chosen


@pytest.mark.parametrize(
    ("offered", "answer"),
    [
        ([], None),
        (["x-webkit-deflate-frame"], None),
        (["permessage-deflate"], DEFLATE),
        (["Permessage-Deflate"], DEFLATE),
        (["permessage-deflate; client_max_window_bits"], DEFLATE),  # as browsers offer it
        (["permessage-deflate; client_max_window_bits=10"], DEFLATE),
        (['permessage-deflate; client_max_window_bits="9"'], DEFLATE),
        (["permessage-deflate; server_no_context_takeover;client_no_context_takeover"], DEFLATE),
        (["permessage-deflate; server_max_window_bits=15"], WIDEST),
        (['permessage-deflate; server_max_window_bits="15"; client_max_window_bits'], WIDEST),
        (["permessage-deflate; server_max_window_bits=10"], None),  # our window is larger
        (["permessage-deflate; server_max_window_bits=10, permessage-deflate"], DEFLATE),
        (["permessage-deflate; server_max_window_bits=10", "foo, permessage-deflate"], DEFLATE),
        (["permessage-deflate; server_max_window_bits"], None),
        (["permessage-deflate; server_max_window_bits="], None),
        (["permessage-deflate; server_max_window_bits=16"], None),
        (["permessage-deflate; server_max_window_bits=1155"], None),
        (["permessage-deflate; server_max_window_bits=7"], None),
        (["permessage-deflate; server_max_window_bits=015"], None),
        (["permessage-deflate; server_max_window_bits=15; server_max_window_bits=15"], None),
        (["permessage-deflate; client_max_window_bits=99"], None),
        (["permessage-deflate; server_no_context_takeover=10"], None),
        (["permessage-deflate; client_no_context_takeover=10"], None),
        (["permessage-deflate; unknown"], None),
        (["permessage-deflate;"], None),
        (["\udcff"], None),
    ],
)
def test_deflate(offered: list[str], answer: str | None) -> None:
    """The first acceptable offer is chosen, unacceptable ones are declined (RFC 7692, 5.1)."""
    assert deflate(offered) == answer


@pytest.mark.parametrize("path", ["/echo/websocket", "/echo/000/session/websocket"])
async def test_a_real_client_negotiates(path: str) -> None:
    """A real client gets the extension it asked for, and can talk."""
    options = Options(compression=True, subprotocols=("v2", "v1"))
    async with serving(videre.create_app(Config(transport=options))) as server:
        connect = server.http.ws_connect
        async with connect(server.url + path, protocols=["x", "v1"], compress=15) as socket:
            assert socket.protocol == "v1"
            assert socket.compress == 15
            text = packet("ping", "a", "room")
            await socket.send_str(text if path == "/echo/websocket" else f"[{text!r}]")
        async with connect(server.url + path, protocols=["x", "y"]) as socket:
            assert socket.protocol == "x"
        async with connect(server.url + path) as socket:
            assert socket.protocol is None


async def test_the_default() -> None:
    """Our subprotocol is chosen at any position in the list."""
    async with serving(videre.create_app(Config())) as server:
        offered = ["first", "videre"]
        async with server.http.ws_connect(f"{server.url}/echo/websocket", protocols=offered) as one:
            assert one.protocol == "videre"
