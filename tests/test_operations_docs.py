"""docs/operations.md: its configuration, its curl commands and what they answer, really run."""

from __future__ import annotations

import json
import re
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
from documents import Block, runs
from process import require
from test_admin_command import ADMIN, ports
from test_documents_shell import Checkout, carry_out

PATIENCE = 20  # seconds
ROOMS = {"a/b": ["peer1", "peer2"], "kitchen": ["p", "q", "r"], "lounge": ["s"]}


@runs("docs/operations.md", '"AdminTokenFile"', name="conf")
@runs("docs/operations.md", "> admin-token", name="secret")
@runs("docs/operations.md", "/status.json", name="status")
@runs("docs/operations.md", "limit=2", name="rooms")
@runs("docs/operations.md", '"Members": 3', name="listed")
@runs("docs/operations.md", "-X POST", name="changes")
@runs("docs/operations.md", '"status": 404', name="problem")
async def test_the_admin_port(
    conf: Block,
    secret: Block,
    status: Block,
    rooms: Block,
    listed: Block,
    changes: Block,
    problem: Block,
    tmp_path: Path,
) -> None:
    """The token that is made opens it; rooms are listed, spoken to, and rid of a member."""
    require("curl")
    checkout = Checkout(tmp_path)
    await carry_out(checkout, secret.text.strip())
    values = {"Host": "127.0.0.1", "Port": 0, **json.loads(conf.text), "AdminPort": 0}
    (tmp_path / "conf.json").write_text(json.dumps(values))
    async with (
        AsyncExitStack() as stack,
        checkout.serve("bin/serve --config conf.json") as server,
        aiohttp.ClientSession() as http,
    ):
        (admin,) = await ports(server, ADMIN, 1)

        async def ask(commands: str) -> str:
            """Run lines of curl, quietly, and return what they print."""
            lines = commands.replace("http://127.0.0.1:1112", admin)
            return await checkout.run(re.sub(r"^curl ", "curl -sS ", lines, flags=re.MULTILINE))

        assert json.loads(await ask(status.text))["Ready"] is True
        sockets = {}
        for room, users in ROOMS.items():
            for user in users:
                socket = await stack.enter_async_context(http.ws_connect(f"{server.url}/websocket"))
                header = {"Event": "connect", "UserId": user, "RoomId": room}
                await socket.send_json({"Header": header, "Payload": "{}"})
                await socket.receive_json(timeout=PATIENCE)
                sockets[user] = socket
        assert json.loads(await ask(rooms.text)) == json.loads(listed.text)
        token = rooms.text.splitlines()[0]
        assert json.loads((await ask(f"{token}\n{changes.text}")).split("\n")[0]) == {"Absent": []}
        await sockets["peer1"].receive_json(timeout=PATIENCE)  # that peer2 has come
        heard = await sockets["peer1"].receive_json(timeout=PATIENCE)
        assert heard["Header"] == {"Event": "broadcast", "UserId": "desk", "RoomId": "a/b"}
        assert heard["Payload"] == {"Text": "We restart at noon"}
        end = await sockets["peer1"].receive(timeout=PATIENCE)
        assert (end.data, end.extra) == (4504, "Be nice")
        nobody = changes.text.replace("a%2Fb", "nobody").rpartition("curl")[0]
        assert json.loads(await ask(f"{token}\n{nobody}")) == json.loads(problem.text)
