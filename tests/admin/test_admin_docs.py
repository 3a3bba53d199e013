"""The admin port in docs/operations.md: its commands work, its answers are real."""

from __future__ import annotations

import json
import re
from asyncio.subprocess import PIPE, create_subprocess_exec
from pathlib import Path

import pytest
from admin import DOCUMENT, administered
from documents import Block, runs
from process import ROOT, require

from videre.admin.problems import CODES
from videre.config import load
from videre.config.keys import ADMIN_KEYS, admin_token

TEXT = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
TEXT = TEXT[TEXT.rindex("\n## ", 0, TEXT.index("\n| `AdminPort` |")) :]  # from its chapter on


async def run(command: str, folder: Path) -> str:
    """Return the output of a command."""
    require("curl")
    bash = ("bash", "-euo", "pipefail", "-c", command)
    process = await create_subprocess_exec(*bash, cwd=folder, stdout=PIPE, stderr=PIPE)
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return output.decode()


@pytest.mark.process
@runs("docs/operations.md", '"AdminTokenFile"', name="configuration")
@runs("docs/operations.md", "> admin-token", name="make")
@runs("docs/operations.md", "/status.json", name="ask_status")
@runs("docs/operations.md", "limit=2", name="ask_rooms")
@runs("docs/operations.md", '"Members": 3', name="listed")
@runs("docs/operations.md", "-X POST", name="act")
@runs("docs/operations.md", '"status": 404', name="problem")
async def test_its_commands(
    configuration: Block,
    make: Block,
    ask_status: Block,
    ask_rooms: Block,
    listed: Block,
    act: Block,
    problem: Block,
    tmp_path: Path,
) -> None:
    """One after the other, on a server that has the rooms they name."""
    await run(make.text, tmp_path)
    conf = tmp_path / "conf.json"
    conf.write_text(configuration.text)
    config = load(conf, None, {})
    assert config.admin_port == 1112 and config.admin_token is not None
    async with administered(config, token=config.admin_token) as admin:
        clients = await admin.signaller.members("peer1", "peer2", room="a/b")
        await admin.signaller.members("a", "b", "c", room="kitchen")
        await admin.signaller.members("a", room="porch")

        def here(block: Block) -> str:
            return block.text.replace("http://127.0.0.1:1112", admin.url).replace(
                "curl ", "curl -s "
            )

        set_token = ask_status.text.splitlines()[0]
        assert json.loads(await run(here(ask_status), tmp_path))["Members"] == 6
        assert json.loads(await run(f"{set_token}\n{here(ask_rooms)}", tmp_path)) == json.loads(
            listed.text
        )
        assert await run(f"{set_token}\n{here(act)}", tmp_path) == '{"Absent":[]}'
        for client in clients:
            await client.hears(("broadcast", "desk", "a/b", {"Text": "We restart at noon"}))
        end = await clients[0].socket.receive()
        assert (end.data, end.extra) == (4504, "Be nice")
        found = await admin.get("/api/v1/members", room="nowhere")
        assert found.body == json.loads(problem.text)


def test_its_tables() -> None:
    """Each key, path and code, and nothing else."""
    rows = re.findall(r"^\| (`.+?) \| (.+) \|$", TEXT, re.M)
    names = {name for first, _ in rows for name in re.findall(r"`([^`]+)`", first)}
    keys = {"AdminHost", "AdminPort", *ADMIN_KEYS}
    api = {
        f"{method.upper()} {path}"
        for path, methods in DOCUMENT["paths"].items()
        for method in methods
        if path.startswith("/api/")
    }
    paths = {path for path in DOCUMENT["paths"] if not path.startswith("/api/")}
    paths -= {path for path in paths if re.fullmatch(r"/status\w*\.(css|js)", path)}
    told = {name.partition("?")[0] for name in names}
    assert told == keys | api | paths | set(CODES) | {"/api/v1/..."}
    statuses = re.findall(r"^\| (`[a-z-]+`(?:, `[a-z-]+`)*) \| (\d+) \|", TEXT, re.M)
    for codes, status in statuses:
        for code in re.findall(r"`([a-z-]+)`", codes):
            assert CODES[code][0] == int(status)


def test_its_queries() -> None:
    """Each parameter of the API, and nothing else."""
    found = re.findall(r"^\| `([A-Z]+ /api\S+)\?(\S*)` \|", TEXT, re.M)
    assert len(found) == 4
    for request, query in found:
        method, path = request.split()
        described = DOCUMENT["paths"][path][method.lower()]["parameters"]
        names = [each["$ref"].rpartition("/")[2] for each in described]
        expected = [DOCUMENT["components"]["parameters"][name]["name"] for name in names]
        assert query.split("&") == [f"{name}=" for name in expected]


def test_an_example_of_a_token() -> None:
    """The command makes a valid one."""
    token = "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA="
    settings = {**dict.fromkeys(ADMIN_KEYS), "AdminToken": token}
    assert admin_token(settings, Path(), {}) == (token, [])
