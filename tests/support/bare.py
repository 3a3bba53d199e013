"""A bare Debian machine: this machine's files below an overlay, its own systemd and network.

Its packages are Debian's, without the programs that the documents install. Nothing done there
affects this machine, and it is gone when its first process ends.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import signal
import subprocess
import sys
import uuid
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from patience import patient
from process import ROOT, missing, require
from wheelhouse import wheelhouse

SECONDS = patient(120)  # a command that installs, from Debian's servers and a registry
ADDRESS = "198.51.100.10"  # of its network card (RFC 5737): no other host has it
_WHEELS = "/root/wheels"
CLONE = "/root/videre"  # where its user has cloned the repository

#: Programs that the documents install, or that would be in their way: the machine has none.
ABSENT = ("python3-venv", "nginx*", "libnginx*", "redis*", "valkey*", "coturn", "haproxy", "caddy")

_LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv*", "node_modules", "__pycache__", ".*_cache", "*.egg-info", ".hypothesis", "log"
)

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Makes the machine in new mount, PID, network and control group namespaces, and becomes its init.
# $1 is a folder for it, $2 a folder with the clone, $3 one with wheels, $4 the packages it lacks.
_BOOT = r"""
set -eu
mount --make-rprivate /
mount -t tmpfs -o size=4g,mode=755 tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" overlay "$1/root"
root=$1/root
cp -aT "$2" "$root/root/videre"
cp -aT "$3" "$root{WHEELS}"
cp -L /etc/resolv.conf "$1/resolv.conf"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
for folder in dev run tmp; do mount -t tmpfs -o mode=755 tmpfs "$root/$folder"; done
chmod 1777 "$root/tmp"
for device in null zero full random urandom tty; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
# apt is slow with what container images add, and with the index of the manual pages; it removes
# packages faster before systemd runs.
rm -f "$root"/etc/apt/apt.conf.d/docker-* "$root/var/lib/man-db/auto-update"
chroot "$root" env -i DEBIAN_FRONTEND=noninteractive PATH={PATH} sh -fc \
    'apt-get -qq --yes purge $(dpkg-query --show --showformat "\${Package} " $0 2>/dev/null)' "$4"
# Whatever installs Python packages leaves compiling to their import: most are never imported.
file=$(chroot "$root" env -i PATH={PATH} python3 -c 'import compileall as c; print(c.__file__)')
echo "def compile_file(*_args, **_options): return False" >> "$root$file"
rm -f "$root/etc/fstab" "$root/usr/sbin/policy-rc.d" "$root"/etc/systemd/system/*.wants/*
rm -f "$root/etc/resolv.conf"
cp "$1/resolv.conf" "$root/etc/resolv.conf"
: > "$root/etc/machine-id"
ip link set lo up
ip link add eth0 type veth peer name nowhere  # coturn wants more than a loopback interface
ip addr add {ADDRESS}/24 dev eth0
ip link set eth0 up
ip link set nowhere up
cd "$root"
mkdir former
pivot_root . former  # no chroot: in one, no user namespace can be made (PrivateUsers of a unit)
umount -l /former
exec env -i container=videre PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --unit=multi-user.target --show-status=0
"""


# Ends a command when the tests end, in whatever way.
_WITH_US = ("setpriv", "--pdeathsig", "KILL")

# Ends a command there, and what it has started, when nsenter ends or its time is up: all of them
# hold its output open, and whoever reads that to its end would wait for them.
_IN_TIME = ("setpriv", "--pdeathsig", "TERM", "timeout", "--kill-after=10", str(SECONDS))


class Machine:
    """A running machine; `pid` is its init's process id on this machine, `pip` pip's variables."""

    def __init__(self, pid: int, pip: Mapping[str, str]) -> None:
        self._pid = str(pid)
        self._pip = pip

    def command(self, *words: str, network: bool = False) -> list[str]:
        """Return the command that runs a shell there; with `network`, in this machine's network."""
        own = () if network else ("--net",)
        enter = ("--mount", "--pid", "--uts", "--ipc", "--cgroup", *own, "--root", "--wd")
        found = [require("nsenter"), "--target", self._pid, *enter, "env", "-i", f"--chdir={CLONE}"]
        variables = {"PATH": _PATH, "HOME": "/root", "LANG": "C.UTF-8", "TERM": "dumb"}
        if network:  # how this machine reaches its registries
            variables |= {k: v for k, v in os.environ.items() if k.startswith(("PIP_", "SSL_"))}
            variables |= self._pip
        return [*found, *(f"{name}={value}" for name, value in variables.items()), *words]

    async def start(self, *words: str, network: bool = False) -> Process:
        """Start a command there, with pipes for input and output."""
        return await asyncio.create_subprocess_exec(
            *self.command(*words, network=network), stdin=PIPE, stdout=PIPE, stderr=STDOUT
        )

    async def run(self, line: str, *, network: bool = False, answers: str = "") -> str:
        """Return the output of a shell line there, which must succeed. `answers` is its input."""
        process = await self.start(*_IN_TIME, "bash", "-c", line, network=network)
        try:
            async with asyncio.timeout(2 * SECONDS):  # a safety net: it ends by itself
                output, _ = await process.communicate(answers.encode())
        finally:
            if process.returncode is None:
                process.kill()
                async with asyncio.timeout(SECONDS):
                    await process.wait()
        assert process.returncode == 0, f"{line}\n{output.decode()}"
        return output.decode()

    async def write(self, path: str, text: str) -> None:
        """Write a file there, creating its folder."""
        name = shlex.quote(path)
        await self.run(f'mkdir -p "$(dirname {name})" && cat > {name}', answers=text)


def _wheels(folder: Path) -> dict[str, str]:
    """Fill a folder with wheels for the machine; return the variables with which its pip uses them.

    With another Python than ours, its pip uses an index.
    """
    python = require(shutil.which("python3", path=_PATH) or "python3")
    ask = [python, "-c", "import sys; print(*sys.version_info[:2])"]
    if subprocess.check_output(ask, text=True).split() != [str(n) for n in sys.version_info[:2]]:
        folder.mkdir()
        return {}
    wanted = ("videre-server[redis]", "gunicorn", "setuptools", "packaging")
    return {**wheelhouse(folder, *wanted), "PIP_FIND_LINKS": _WHEELS}


def _control_groups() -> Path:
    """Return the mount point of version 2 control groups."""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2" and os.access(place, os.W_OK):
            return Path(place)
    missing("there are no control groups of version 2 here")
    raise AssertionError


def _init_of(unshare: Process) -> int | None:
    """Return the process id of the machine's init once it exists."""
    found = Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children").read_text().split()
    return int(found[0]) if found else None


async def _until_there(unshare: Process) -> int:
    """Return the process id of the machine's init once its systemd answers."""
    async with asyncio.timeout(SECONDS):
        while unshare.returncode is None:
            if (init := _init_of(unshare)) is not None and _is_up(init):
                return init
            await asyncio.sleep(0.01)
    raise AssertionError("the machine has not started")


def _is_up(init: int) -> bool:
    # Before this file exists, the process still has this machine's root.
    return Path(f"/proc/{init}/root/run/systemd/private").exists()


async def _until_it_runs(machine: Machine) -> None:
    """Return when its systemd has started all units."""
    async with asyncio.timeout(SECONDS):
        while True:
            probe = await machine.start("systemctl", "is-system-running")
            output, _ = await probe.communicate()
            if output.strip() in (b"running", b"degraded"):
                return
            await asyncio.sleep(0.05)


@asynccontextmanager
async def bare_machine(tmp: Path) -> AsyncIterator[Machine]:
    """Run a machine with a clone of this repository; skip the test where that is impossible."""
    for program in ("unshare", "nsenter", "setpriv", "apt-get", "ip"):
        require(program)
    if os.geteuid() != 0 or not os.access("/lib/systemd/systemd", os.X_OK):
        missing("a bare machine needs root, and systemd's files")
    group = _control_groups() / f"videre-{uuid.uuid4().hex[:8]}"
    shutil.copytree(ROOT, tmp / "clone", ignore=_LEFT_OUT)
    (tmp / "clone/log").mkdir()
    (tmp / "machine").mkdir()
    pip = _wheels(tmp / "wheels")
    group.mkdir()
    join = f"echo $$ > {group}/cgroup.procs; exec "
    spaces = "unshare --mount --pid --net --uts --ipc --cgroup --fork --kill-child bash -c"
    words = [
        *spaces.split(),
        _BOOT.replace("{ADDRESS}", ADDRESS).replace("{PATH}", _PATH).replace("{WHEELS}", _WHEELS),
        "boot",
        str(tmp / "machine"),
        str(tmp / "clone"),
        str(tmp / "wheels"),
        " ".join(ABSENT),
    ]
    unshare = await asyncio.create_subprocess_exec(
        *(*_WITH_US, "bash", "-c", join + shlex.join(words)),
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=STDOUT,
    )
    said = asyncio.create_task(unshare.communicate())
    try:
        machine = Machine(await _until_there(unshare), pip)
        await _until_it_runs(machine)
        await machine.run("apt-get -qq update", network=True)
        yield machine
    except BaseException as error:
        if unshare.returncode is not None:
            error.add_note((await said)[0].decode())
        raise
    finally:
        with suppress(ProcessLookupError):
            os.kill(unshare.pid, signal.SIGKILL)  # and, by --kill-child, all its processes
        await said
        await _remove(group)


async def _remove(group: Path) -> None:
    """Remove a control group and its children once their processes have ended."""
    async with asyncio.timeout(SECONDS):
        while True:
            if _removed(group):
                return
            await asyncio.sleep(0.01)


def _removed(group: Path) -> bool:
    if "populated 1" in (group / "cgroup.events").read_text():
        return False
    for folder, _, _ in os.walk(group, topdown=False):
        Path(folder).rmdir()
    return True
