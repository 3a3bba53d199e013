"""The documents for operators, followed word by word on a bare Debian machine.

Then the tests check each page's result there: members meet through nginx, the TURN server relays.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from bare import ADDRESS, CLONE, Machine, bare_machine
from documents import BLOCKS, ROOT, Block, claim
from meeting import MEET
from reader import reader as reading

pytestmark = [pytest.mark.process, pytest.mark.long, pytest.mark.asyncio(loop_scope="module")]

# Blocks that no other test runs.
FOLLOWED = [
    claim("docs/turn.md", "apt-get install coturn"),
    claim("docs/turn.md", "systemctl restart coturn"),
    claim("docs/cluster.md", "apt-get install python3-venv"),
    claim("docs/hosting.md", ".venv/bin/python site.py"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def machine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Machine]:
    """Give a bare machine."""
    async with bare_machine(tmp_path_factory.mktemp("bare")) as running:
        yield running


def page(document: str) -> list[Block]:
    """Return the blocks of a document, in order."""
    return [block for block in BLOCKS if block.document == document]


def ports(*numbers: int) -> list[str]:
    """Return the URLs of servers on these ports."""
    return [f"http://127.0.0.1:{number}/echo" for number in numbers]


async def meet(machine: Machine, python: str, *urls: str, polling: int = 0) -> None:
    """See that members meet at these URLs of the machine."""
    words = [python, "-c", MEET, str(polling), *urls]
    assert "all have met" in await machine.run(shlex.join(words))


async def test_cluster(machine: Machine) -> None:
    """Two servers, then four workers; nginx leads to them, not to Debian's page."""
    python = f"{CLONE}/.venv/bin/python"
    async with reading(machine) as reader:
        for block in page("docs/cluster.md"):
            if "--workers" in block.text:
                await meet(machine, python, *ports(1111, 1112), "http://127.0.0.1/echo", polling=24)
                await reader.line("kill %1 %2 && wait %1 %2")
            await reader.follow(block)
        workers = ports(1111, 1112, 1113, 1114)
        await meet(machine, python, *workers, "http://127.0.0.1/echo", polling=24)
        assert (await machine.run("redis-cli ping")) == "PONG\n"


async def test_turn(machine: Machine) -> None:
    """The TURN server accepts a member's credential and relays; it refuses a wrong one."""
    servers = {"Urls": f"turn:{ADDRESS}", "SecretFile": "turn-secret"}
    async with reading(machine) as reader:
        for block in page("docs/turn.md"):
            if "the-line-in-turn-secret" in block.text:
                secret = (await machine.run("cat turn-secret")).strip()
                text = block.text.replace("the-line-in-turn-secret", secret)
                block = Block(block.document, block.line, block.language, text)
            await reader.follow(block)
        config = {"Port": 1119, "IceServers": [servers]}
        await machine.write(f"{CLONE}/turn.json", json.dumps(config))
        await reader.line("bin/serve --config turn.json &")
        await machine.run(
            "until curl -s -o /dev/null http://127.0.0.1:1119/health; do sleep 0.1; done"
        )
        told = await machine.run(shlex.join([f"{CLONE}/.venv/bin/python", "-c", WELCOME]))
    [ice] = json.loads(told)["IceServers"]
    ask = f"turnutils_uclient -y -n 3 -m 1 -u {ice['username']} -w {{}} {ADDRESS}"
    output = await machine.run(ask.format(shlex.quote(ice["credential"])))
    assert re.search(r"tot_send_msgs=(\d+), tot_recv_msgs=\1\b", output), output
    with pytest.raises(AssertionError, match="turnutils_uclient"):
        await machine.run(ask.format("wrong"))


WELCOME = """
import asyncio
from videre.client import Client

async def main():
    async with Client("http://127.0.0.1:1119/echo", user="a", room="r") as client:
        import json
        print(json.dumps({"IceServers": client.ice_servers}))

asyncio.run(main())
"""


async def test_hosting(machine: Machine) -> None:
    """Ann logs in and gets her room's page; then gunicorn's workers share rooms."""
    async with reading(machine, "/root/site") as reader:
        for block in page("docs/hosting.md"):
            if "apt-get install redis-server" in block.text:
                await machine.run(LOGIN)
                await reader.line("kill %1; wait %1 || true")
            await reader.follow(block)
        await meet(machine, "/root/site/.venv/bin/python", "http://127.0.0.1:8080/echo")


LOGIN = """
set -eo pipefail
until curl -s -o /dev/null http://localhost:8080/me; do sleep 0.1; done
form="user=ann&password=ann's password"
test "$(curl -fsS -c /tmp/jar -d "$form" http://localhost:8080/login)" = "Hello, ann"
curl -fsS -b /tmp/jar http://localhost:8080/rooms/garden | grep -q "import { Videre }"
curl -fsS -b /tmp/jar -X POST http://localhost:8080/token/garden | grep -q '^ey'
curl -fsS http://localhost:8080/echo/videre.js | grep -q export
"""


async def test_the_unit(machine: Machine) -> None:
    """Its first lines install it; then its socket is a Unix socket, which outlives restarts."""
    head = (ROOT / "docs/videre.service").read_text(encoding="utf-8").partition("\n[Unit]")[0]
    lines = re.findall(r"(?m)^#   (.*)$", head)
    assert len(lines) == 4
    drop_in = claim("docs/operations.md", "ListenStream=/run/videre.sock")
    async with reading(machine) as reader:
        await reader.follow(Block("docs/videre.service", 1, "shell", "\n".join(lines)))
        python = "/opt/videre/bin/python"
        await meet(machine, python, "http://127.0.0.1:1111/echo", polling=3)
        folder = "/etc/systemd/system/videre.socket.d"
        await machine.write(f"{folder}/override.conf", drop_in.text)
        await machine.write("/etc/videre/environment", 'VIDERE_TRUSTED_PROXIES=["unix:"]\n')
        await machine.run(
            "systemctl daemon-reload && systemctl stop videre.service videre.socket"
            " && systemctl start videre.socket videre.service"
        )
        ready = "curl -fsS --unix-socket /run/videre.sock http://server/ready"
        for _ in range(2):
            assert "ready" in await machine.run(ready)
            await machine.run("systemctl restart videre.service")
        assert "ready" in await machine.run(ready)
        mode = await machine.run("stat -c '%a %G' /run/videre.sock")
        assert mode == "660 www-data\n"
        assert "active" in await machine.run("systemctl is-active videre.service")
        await machine.run("systemctl stop videre.socket videre.service")
