"""The client of a request, behind proxies of every kind: their formats, and forged headers."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict
from patience import patient

import videre
from videre.transport import Options, forwarded
from videre.transport.clients import Proxies

NEAR = "10.0.0.1"  # the trusted proxy that sends the request to us

#: Texts, and the address read from each.
ADDRESSES = {
    "192.0.2.1": "192.0.2.1",
    "192.0.2.1:51008": "192.0.2.1",
    "192.0.2.1:_hidden": "192.0.2.1",
    "[192.0.2.1]:80": "192.0.2.1",
    "2001:db8::1": "2001:db8::1",
    "[2001:db8::1]": "2001:db8::1",
    "[2001:db8::1]:443": "2001:db8::1",
    "::ffff:192.0.2.1": "192.0.2.1",
    "[::ffff:192.0.2.1]:443": "192.0.2.1",
    "fe80::1%eth0": "fe80::1%eth0",
    "": None,
    "unknown": None,
    "_hidden": None,
    "192.0.2.1:": None,
    "192.0.2.1:80:80": None,
    "192.0.2": None,
    "192.0.2.256:80": None,
    "[2001:db8::1": None,
    "2001:db8::1]": None,
    "[]": None,
    "192.0.2.1 ": None,
}

#: Headers, and the address and scheme found in each.
CHAINS: dict[tuple[str, tuple[str, ...]], tuple[str, bool]] = {
    ("X-Forwarded-For", ()): (NEAR, False),
    ("X-Forwarded-For", ("192.0.2.1",)): ("192.0.2.1", False),
    ("X-Forwarded-For", ("192.0.2.1:51008",)): ("192.0.2.1", False),
    ("X-Forwarded-For", ("192.0.2.66, 192.0.2.1:1, [::ffff:10.0.0.2]:7",)): ("192.0.2.1", False),
    ("X-Forwarded-For", ("192.0.2.66", "192.0.2.1", "10.0.0.2")): ("192.0.2.1", False),
    ("X-Forwarded-For", ("192.0.2.1, ,",)): ("192.0.2.1", False),
    ("X-Forwarded-For", ("192.0.2.1, unknown",)): (NEAR, False),
    ("X-Forwarded-For", ("192.0.2.1, unknown, 10.0.0.2",)): ("10.0.0.2", False),
    ("X-Forwarded-For", ("10.0.0.3, 10.0.0.2",)): ("10.0.0.3", False),
    ("X-Real-IP", ("192.0.2.1",)): ("192.0.2.1", False),
    ("CF-Connecting-IP", ("2001:db8::1",)): ("2001:db8::1", False),
    ("Forwarded", ()): (NEAR, False),
    ("Forwarded", ("for=192.0.2.1",)): ("192.0.2.1", False),
    ("forwarded", ("For=192.0.2.1;proto=HTTPS;by=10.0.0.1",)): ("192.0.2.1", True),
    ("Forwarded", ('for="[2001:db8::1]:4711";proto="https"',)): ("2001:db8::1", True),
    ("Forwarded", ('by=10.0.0.1; for = "192.0.2.1:80"',)): ("192.0.2.1", False),
    ("Forwarded", ("for=192.0.2.66, for=192.0.2.1", "for=10.0.0.2")): ("192.0.2.1", False),
    ("Forwarded", ("for=192.0.2.66;proto=https", "for=192.0.2.1;proto=http")): ("192.0.2.1", False),
    ("Forwarded", ("for=_hidden, for=10.0.0.2",)): ("10.0.0.2", False),
    ("Forwarded", ("proto=https",)): (NEAR, True),
    # A client's unclosed quote hides nothing.
    ("Forwarded", ('for="192.0.2.66', "for=192.0.2.1;proto=http")): ("192.0.2.1", False),
    ("Forwarded", ('for="192.0.2.66, for=192.0.2.1;proto=https',)): ("192.0.2.1", True),
    ("Forwarded", ('for=192.0.2.66;x=", for=192.0.2.1',)): ("192.0.2.1", False),
}


def request(remote: str, headers: Any = ()) -> Any:
    """Return a request on a connection from `remote`."""
    return SimpleNamespace(remote=remote, headers=CIMultiDict(headers), secure=False)


@pytest.mark.parametrize("text", ADDRESSES)
def test_an_address(text: str) -> None:
    """It is read without port, brackets and IPv4 mapping."""
    parsed = forwarded.parse(text)
    assert (None if parsed is None else str(parsed)) == ADDRESSES[text]


@given(st.ip_addresses(), st.integers(0, 65535))
def test_any_address_with_a_port(address: Any, port: int) -> None:
    """The result is the address without the port."""
    written = f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
    assert forwarded.parse(written) == forwarded.parse(str(address)) is not None


@given(st.text(max_size=60), st.sampled_from(["X-Forwarded-For", "Forwarded"]))
def test_no_text_hides_the_proxys_word(text: str, header: str) -> None:
    """Whatever a client writes before it, the part added by the proxy is read."""
    added = "for=192.0.2.1" if header == "Forwarded" else "192.0.2.1"
    proxies = Proxies([NEAR], header)
    assert proxies.address(request(NEAR, [(header, f"{text},{added}")])) == "192.0.2.1"
    assert proxies.address(request("192.0.2.9", [(header, text)])) == "192.0.2.9"


@pytest.mark.parametrize(("header", "values"), CHAINS)
def test_a_chain_of_proxies(header: str, values: tuple[str, ...]) -> None:
    """The client is the last untrusted address in the list; those before it are not believed."""
    lie = "192.0.2.99"
    headers = [(header, value) for value in values]
    headers += [
        (other, f"for={lie};proto=https" if other == "Forwarded" else lie)
        for other in ("X-Forwarded-For", "Forwarded", "X-Real-IP", "CF-Connecting-IP")
        if other.lower() != header.lower()
    ]
    proxies = Proxies(["10.0.0.0/8"], header)
    told = request(NEAR, headers)
    assert (proxies.address(told), proxies.secure(told)) == CHAINS[header, values]
    assert proxies.client(told).address == str(proxies.address(told)).replace("::1", "::/64")


@pytest.mark.parametrize("trusted", ["10.0.0.0/8", "::ffff:10.0.0.0/104", "::ffff:10.0.0.1"])
@pytest.mark.parametrize("remote", [NEAR, f"::ffff:{NEAR}"])
def test_a_proxy_on_a_socket_for_both_families(trusted: str, remote: str) -> None:
    """It is recognised however its address and the setting are written."""
    proxies = Proxies([trusted])
    assert proxies.trusts(remote)
    assert not proxies.trusts("192.0.2.1") and not proxies.trusts("::ffff:192.0.2.1")
    assert not proxies.trusts("::")


def test_ipv6_networks_contain_no_ipv4() -> None:
    """The network of all IPv6 addresses does not include IPv4 ones."""
    assert Proxies(["::/0"]).trusts("2001:db8::1") and not Proxies(["::/0"]).trusts(NEAR)
    assert forwarded.network("::/0") == ipaddress.ip_network("::/0")
    assert forwarded.network("::ffff:0:0/95") == ipaddress.ip_network("::fffe:0:0/95")


def test_the_network_of_all_ipv4_addresses() -> None:
    """It has two forms, too."""
    for text in ("0.0.0.0/0", "::ffff:0:0/96"):
        assert forwarded.network(text) == ipaddress.ip_network("0.0.0.0/0")
        assert Proxies([text]).trusts(NEAR) and not Proxies([text]).trusts("2001:db8::1")


def test_a_unix_socket() -> None:
    """Its peer is a proxy if so configured, and has no address otherwise."""
    told = request("", [("X-Forwarded-For", "192.0.2.1"), ("X-Forwarded-Proto", "https")])
    assert Proxies(["unix:"]).address(told) == "192.0.2.1" and Proxies(["unix:"]).secure(told)
    assert Proxies([NEAR]).address(told) == "" and not Proxies([NEAR]).secure(told)
    assert Proxies(["unix:", NEAR]).trusts(NEAR) and not Proxies(["unix:"]).trusts(NEAR)


PAIRS = [
    ("192.0.2.1", "192.0.2.2"),
    ("192.0.2.1:51008", "192.0.2.2:17085"),
    ("[2001:db8:1::1]", "[2001:db8:2::1]"),
    ("[2001:db8:1::1]:443", "[2001:db8:2::1]:444"),
    ("2001:db8:1::1", "2001:db8:2::1"),
    ("::ffff:192.0.2.1", "::ffff:192.0.2.2"),
]


@pytest.mark.parametrize("host", ["127.0.0.1", "::"])
@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP"])
async def test_counting_clients_behind_a_proxy(host: str, header: str) -> None:
    """Each client counts as one, in every header format, on TCP and Unix sockets."""
    app = web.Application()
    options = Options(
        trusted_proxies=("127.0.0.1",), max_connections_per_address=1, client_address_header=header
    )
    videre.setup(app, prefix="/echo", config=videre.Config(transport=options))
    runner = web.AppRunner(app)
    await runner.setup()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.create_server((host, 0), family=family, dualstack_ipv6=":" in host)
    await web.SockSite(runner, listening).start()
    url = f"http://127.0.0.1:{listening.getsockname()[1]}/echo/websocket"

    async def opens(http: aiohttp.ClientSession, address: str) -> Any:
        value = f'for="{address}"' if header == "Forwarded" else address
        return await http.ws_connect(url, headers={header: value})

    async with aiohttp.ClientSession() as http:
        for first, second in PAIRS:
            held = [await opens(http, first), await opens(http, second)]
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await opens(http, first)
            assert refused.value.status == 503
            for each in held:
                await each.close()
            async with asyncio.timeout(patient(20)):  # the server notices the end
                while True:
                    try:
                        await (await opens(http, first)).close()
                        break
                    except aiohttp.WSServerHandshakeError:
                        await asyncio.sleep(0.01)
            async with asyncio.timeout(patient(20)):
                while len(runner.server.connections if runner.server else ()) > 0:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
    await runner.cleanup()
