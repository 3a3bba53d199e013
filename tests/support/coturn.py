"""Run a real coturn, Debian's package, with the configuration from the README."""

from __future__ import annotations

import asyncio
import secrets
import socket
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from documents import claim
from ports import free_port
from process import START_SECONDS, STOP_SECONDS, require

from videre.ice import SharedSecret

HOST = "127.0.0.1"
# Relay ports: outside Linux's ephemeral range, so that none is taken.
RELAY_PORTS = range(61000, 65536)
STEP_SECONDS = 0.1  # between two checks whether it is up
BINDING = bytes.fromhex("0001 0000 2112a442") + b"is it there?"  # a STUN request

DOCUMENTED = claim("docs/turn.md", "use-auth-secret").text
PLACEHOLDER = "the-line-in-turn-secret"

# In addition to the documented lines: peers on loopback, normally forbidden, and files in `tmp`.
MORE = """
listening-ip={host}
listening-port={port}
relay-ip={host}
min-port={first}
max-port={last}
allow-loopback-peers
no-cli
no-tls
no-dtls
no-rfc5780
relay-threads=1
pidfile={tmp}/turnserver.pid
userdb={tmp}/turndb
log-file=stdout
"""


class Coturn:
    """A coturn process that shares `secret` and listens at `port`, on UDP and TCP."""

    def __init__(self, process: Process, secret: str, port: int) -> None:
        self.process = process
        self.secret = secret
        self.port = port
        self.output: list[str] = []
        self._reading = asyncio.create_task(self._read())

    def __str__(self) -> str:
        return f"coturn {self.process.pid}:\n" + "\n".join(self.output)

    def entry(self, transport: str = "udp") -> dict[str, Any]:
        """Return its entry in `IceServers`."""
        return {"Urls": f"turn:{HOST}:{self.port}?transport={transport}", "Secret": self.secret}

    def shared(self, transport: str = "udp") -> SharedSecret:
        """Return the same as a value of videre.ice."""
        return SharedSecret((self.entry(transport)["Urls"],), self.secret)

    async def answers(self) -> None:
        """Return when it answers STUN; fail if it ends before that."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(START_SECONDS):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.setblocking(False)
                client.connect((HOST, self.port))
                while self.process.returncode is None:
                    try:
                        async with asyncio.timeout(STEP_SECONDS):
                            await loop.sock_sendall(client, BINDING)
                            answer = await loop.sock_recv(client, 2048)
                        assert answer.startswith(b"\x01\x01") and BINDING[4:] in answer
                        return
                    except TimeoutError:
                        continue
                    except ConnectionRefusedError:  # nobody listens yet
                        await asyncio.sleep(STEP_SECONDS)
        pytest.fail(f"It ended before it answered: {self}")

    async def stop(self) -> None:
        """End it; kill it if it hangs."""
        if self.process.returncode is None:
            self.process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()
        await self._reading

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.output.append(line.decode(errors="replace").rstrip())


@asynccontextmanager
async def coturn(tmp: Path) -> AsyncIterator[Coturn]:
    """Run coturn in `tmp`, on a free loopback port and with its own secret."""
    program = require("turnserver")
    secret, port = secrets.token_urlsafe(32) + "=", free_port()
    assert DOCUMENTED.count(PLACEHOLDER) == 1
    conf = DOCUMENTED.replace(PLACEHOLDER, secret)
    conf += MORE.format(host=HOST, port=port, first=RELAY_PORTS[0], last=RELAY_PORTS[-1], tmp=tmp)
    path = tmp / "turnserver.conf"
    path.write_text(conf, encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        program, "-c", str(path), cwd=tmp, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT
    )
    running = Coturn(process, secret, port)
    try:
        await running.answers()
        yield running
    except BaseException as error:
        error.add_note(str(running))
        raise
    finally:
        await running.stop()
