"""The cost of seats: memory in the store and in the nodes, and CPU for noting rooms."""

import asyncio
import json
import time

from benchmarks.load import (
    SALT,
    Figures,
    Meter,
    Spec,
    couples,
    dial,
    dialer,
    drain,
    percentiles,
    resident,
    target_of,
)
from benchmarks.packets import text, wrap
from benchmarks.wire import LoadError

AT_A_TIME = 96  # joins in flight; on a busy machine more would wait until refused
NOTES_AT_A_TIME = 16
SEATED_SECONDS = 30.0  # for each batch to join


def seats(spec: Spec) -> Figures:
    """Keep `rooms` rooms of `size` members on the first node; measure a room's bytes.

    With `welcome`, all members may resume, and get a welcome.
    """
    dial(spec, couples(50, "warm-"))  # creates what exists only once, uncounted
    meter = Meter(spec)
    assert meter.store is not None
    time.sleep(spec["settle"])
    pid = spec["pid"]
    before, own = meter.store.memory(), resident(pid)
    meter.start()
    size = spec["size"]
    names = [(f"{SALT}-{i:06}", f"{SALT}-{i // size:06}") for i in range(spec["rooms"] * size)]
    entry = dialer(spec, target_of(spec), join=False)
    conns = entry.dial(names)
    payload = {"Welcome": True} if spec["welcome"] else {}
    each = size * (size + 1) // 2 + (size if spec["welcome"] else 0)  # packets per room
    batch = max(1, AT_A_TIME // size) * size
    for start in range(0, len(conns), batch):
        some = conns[start : start + batch]
        for conn in some:
            packet = json.loads(text("connect", conn.name, conn.room)) | {"Payload": payload}
            conn.send(wrap(spec["framing"], json.dumps(packet)))
        missing, deadline = len(some) // size * each, time.monotonic() + SEATED_SECONDS
        while missing > 0 and time.monotonic() < deadline:
            missing -= drain(some, 0.05)
        if missing:
            raise LoadError(f"{missing} packets of those that are seated are missing")
    figures = meter.stop()
    figures["deliveries"] = len(conns)
    figures["latency"] = {"all": percentiles(entry.latencies)}
    figures["store_bytes"] = (meter.store.memory() - before) / spec["rooms"]
    figures["bytes"] = (resident(pid) - own) / len(conns)
    return figures | {"crowd": True}


LEASE = "1:60000"  # a number that changes, and milliseconds


async def _notes(spec: Spec) -> Figures:
    from videre.engines.redis.store import RedisStore  # only this pattern needs it

    port, _ = spec["store"]
    store = RedisStore(f"redis://127.0.0.1:{port}", SALT, keep_ms=1000, keep_bytes=None)
    await store.open(lambda room, message: None, lambda: None)
    process = (await store.node("beat", SALT, LEASE, "0"))[3]

    async def some(first: int) -> None:
        for number in range(first, spec["notes"], NOTES_AT_A_TIME):
            room = f"{SALT}-{number:08}"
            await store.node("note", SALT, room, LEASE)
            await store.node("unnote", SALT, room, process)

    meter = Meter(spec)
    await asyncio.gather(*map(some, range(NOTES_AT_A_TIME)))
    figures = meter.stop()
    await store.close()
    return figures | {"deliveries": spec["notes"], "latency": {"all": [0.0, 0.0]}, "crowd": True}


def notes(spec: Spec) -> Figures:
    """Note and unnote a room for a node, `notes` times; all notes share one slot."""
    return asyncio.run(_notes(spec))
