"""Set up real WebRTC data channels between aiortc peers, through a running server."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from uuid import uuid4

import aioice.ice
import pytest
from callers import CALL_SECONDS, Caller, caller, negotiate
from process import Signaller, self_signed, signaller
from signalling import Framing

pytestmark = pytest.mark.process


@pytest.fixture(autouse=True)
def loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make ICE use the loopback address, which every machine has and no other can reach."""
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda **_: ["127.0.0.1"])


@asynccontextmanager
async def running(
    secure: bool, tmp: Path
) -> AsyncIterator[tuple[Signaller, ssl.SSLContext | None]]:
    """Run a server, plain or with its own certificate, and give a context that trusts it."""
    if not secure:
        async with signaller(tmp=tmp) as server:
            yield server, None
        return
    certificate, key = self_signed(tmp)
    config = {"TLS": True, "Cert": str(certificate), "Key": str(key)}
    async with signaller(tmp=tmp, config=config) as server:
        assert server.url.startswith("https://")
        yield server, ssl.create_default_context(cafile=str(certificate))


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("framing", ["sockjs", "raw"])
async def test_two_peers_talk_over_a_data_channel(
    framing: Framing, secure: bool, tmp_path: Path
) -> None:
    """The seven steps set up a channel that carries messages; one peer hears the other leave."""
    room = str(uuid4())
    async with asyncio.timeout(CALL_SECONDS), AsyncExitStack() as stack:
        server, trust = await stack.enter_async_context(running(secure, tmp_path))

        async def enter(user: str) -> Caller:
            who = caller(server, framing, user=user, room=room, trust=trust)
            peer = await stack.enter_async_context(who)
            await peer.signalling.send(peer.signalling.packet("connect"))
            return peer

        peer1 = await enter("peer1")
        await peer1.hears("connect", "true", user="peer1")
        peer2 = await enter("peer2")
        await peer2.hears("connect", "false", user="peer2")
        await peer1.hears("connect", "false", user="peer2")

        await peer1.offers()
        await negotiate(peer1, peer2)

        (await peer1.channel).send("Do you see me?")
        assert await peer2.messages.get() == "Do you see me?"
        (await peer2.channel).send("Video! 👀")
        assert await peer1.messages.get() == "Video! 👀"

        await peer1.signalling.close()
        await peer2.hears("disconnect", "", user="peer1")
        await peer2.hears("connect", "true", user="peer2")
