"""All attacks at once, run as a process; prints what it did.

    attackers.py URL ADMIN SECONDS      # ADMIN is the URL of the admin port, "" for none

The kernel ends its sockets, like those of a machine that is switched off.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import resource
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support"), str(ROOT / "tests" / "hostile")]

import attacks_costs as costs  # noqa: E402
import attacks_frames as frames  # noqa: E402
import attacks_http as http  # noqa: E402
import attacks_requests as requests  # noqa: E402
import attacks_websocket as ws  # noqa: E402
from target import REFUSALS, Target  # noqa: E402

Attack = Callable[[Target], Awaitable[None]]

#: Each attack, with its number of attackers and the pause of each in seconds. They have one of two
#: cores, and must be limited by the server, not by each other.
ATTACKS: list[tuple[Attack, int, float]] = [
    (http.slow_handshakes, 100, 0.1),
    (http.slow_bodies, 20, 0.1),
    (http.half_open, 5, 0.1),
    (http.garbage, 5, 0.1),
    (http.odd_methods, 2, 0.1),
    (http.deaf_requests, 2, 0.1),
    (http.abandoned_polls, 4, 0.1),
    (ws.churn, 8, 0.05),
    (ws.crowd, 400, 1.0),
    (ws.giant_room, 120, 1.0),
    (ws.frozen, 12, 0.1),
    (ws.speech, 6, 0.1),
    (ws.broken_frames, 10, 0.1),
    (ws.random_frames, 4, 0.1),
    (ws.bad_packets, 3, 0.2),
    (ws.flood, 3, 0.3),
    (ws.idle_flood, 3, 0.5),
    (ws.deaf_ears, 10, 0.1),
    (ws.wrong_tokens, 5, 0.1),
    (costs.dear_packets, 6, 0.3),
    (costs.waiting_tokens, 12, 0.3),
    (costs.bursts, 9, 0.2),
    (costs.ghosts, 4, 0.3),
    (costs.crowded_answers, 3, 0.3),
    (frames.unmasked, 3, 0.2),
    (frames.endless_fragments, 3, 0.3),
    (frames.close_codes, 3, 0.2),
    (requests.compressed_flood, 4, 0.2),
    (requests.compressed_hold, 20, 0.2),
    (requests.idle_connections, 500, 1.0),
    (requests.deep_paths, 3, 0.2),
    (requests.oddities, 3, 0.2),
    (requests.slow_ways, 30, 0.5),
]
#: And each on the admin port.
ADMIN_ATTACKS: list[tuple[Attack, int, float]] = [
    (requests.admin_queries, 3, 0.2),
    (requests.admin_bodies, 3, 0.3),
    (requests.admin_slow_ways, 10, 0.5),
    (requests.room_lists, 2, 0.3),
]
FIRST_ADDRESS = 11  # 127.0.0.11 and up: each attack has an address


async def attacker(attack: Attack, target: Target, pause: float) -> None:
    """Attack again and again."""
    while True:
        try:
            await attack(target)
        except* REFUSALS as group:
            target.tally["refused or cut"] += len(group.exceptions)
        await asyncio.sleep(pause)


async def main(base: str, admin: str, seconds: float) -> None:
    """Attack for this many seconds, and print the tally as JSON."""
    tally: Counter[str] = Counter()
    attackers: list[asyncio.Task[None]] = []
    attacks = [(base, *attack) for attack in ATTACKS]
    if admin:
        attacks += [(admin, *attack) for attack in ADMIN_ATTACKS]
    for number, (url, attack, many, pause) in enumerate(attacks, FIRST_ADDRESS):
        target = Target(url, f"127.0.0.{number}", tally)
        attackers += [asyncio.create_task(attacker(attack, target, pause)) for _ in range(many)]
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.gather(*attackers)  # raises if an attack's code is wrong
    print(json.dumps(tally, sort_keys=True), flush=True)
    os._exit(0)


if __name__ == "__main__":
    os.nice(10)  # a stranger has its own machine
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # not about writes after a hangup
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
