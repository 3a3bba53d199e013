"""What a Valkey did in an interval, by its own statistics and its process clock."""

import re
import socket
import time

#: Commands that nodes send; scripts run all others.
ASKED = ("evalsha", "eval", "ssubscribe", "sunsubscribe", "smembers", "command|info")

Counts = dict[str, float]


def cpu_ns(pid: int) -> int:
    """Return the CPU time of a process, over all its threads, in ns."""
    return time.clock_gettime_ns((~pid << 3) | 2)


class StoreMeter:
    """Counts what one Valkey does between `start` and `stop`."""

    def __init__(self, port: int, pid: int) -> None:
        self._pid = pid
        self._socket = socket.create_connection(("127.0.0.1", port), 10)
        self._answers = self._socket.makefile("rb")
        self._begun: Counts = {}

    def start(self) -> None:
        """Begin the interval."""
        self._begun = self._read()

    def stop(self) -> Counts:
        """Return the interval's counts: `cpu` in s, commands, bytes read and written."""
        return {name: value - self._begun[name] for name, value in self._read().items()}

    def memory(self) -> int:
        """Return the bytes it uses, without its clients' buffers."""
        memory = self._info("memory")
        return int(memory["used_memory"]) - int(memory["mem_clients_normal"])

    def _read(self) -> Counts:
        cpu, stats = cpu_ns(self._pid) / 1e9, self._info("stats")
        calls = {
            name.removeprefix("cmdstat_"): float(re.findall(r"calls=(\d+)", value)[0])
            for name, value in self._info("commandstats").items()
        }
        calls.pop("info", None)  # ours, and the scripts' that check which server this is
        return {
            "cpu": cpu,
            "asked": sum(calls.get(name, 0) for name in ASKED),
            "run": sum(calls.values()),
            "in": float(stats["total_net_input_bytes"]),
            "out": float(stats["total_net_output_bytes"]),
        }

    def _info(self, section: str) -> dict[str, str]:
        self._socket.sendall(f"INFO {section}\r\n".encode())
        size = int(self._answers.readline()[1:])
        lines = self._answers.read(size + 2).decode().splitlines()
        pairs = (line.partition(":") for line in lines if line and line[0] != "#")
        return {name: value for name, _, value in pairs}
