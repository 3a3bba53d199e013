"""Permissions that a user of the store needs, for all that the scripts and the client do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
from redis.asyncio import RedisCluster

from videre.errors import EngineError

SCRIPT = (Path(__file__).parent / "permissions.lua").read_text()

# Commands without a key; then commands on one key, with the arguments that follow the key.
PLAIN = (
    ("COMMAND", "INFO", "GET"),
    ("EVAL", "return 1", "0"),
    ("EVALSHA", "0" * 40, "0"),
    ("INFO", "server"),
    ("PING",),
    ("TIME",),
    ("SUNSUBSCRIBE",),  # where the script can check, channels are sharded
)
ON_KEYS: dict[str, tuple[str, ...]] = {
    "DEL": (),
    "EXISTS": (),
    "GET": (),
    "HDEL": ("f",),
    "HGET": ("f",),
    "HGETALL": (),
    "HKEYS": (),
    "HMGET": ("f",),
    "HSET": ("f", "v"),
    "LLEN": (),
    "LPOP": (),
    "LRANGE": ("0", "1"),
    "PERSIST": (),
    "PEXPIRE": ("1",),
    "PTTL": (),
    "RPUSH": ("v",),
    "SADD": ("v",),
    "SET": ("v", "PX", "1"),
    "SMEMBERS": (),
    "SREM": ("v",),
    "TYPE": (),
    "ZADD": ("0", "m"),
    "ZCARD": (),
    "ZCOUNT": ("0", "1"),
    "ZRANGE": ("0", "1"),
    "ZRANGEBYLEX": ("-", "+"),
    "ZRANGEBYSCORE": ("0", "1"),
    "ZREM": ("m",),
    "ZSCORE": ("m",),
}

# Forbidden commands to name when only some are forbidden.
MOST_NAMED = 8


async def check(client: Any, keys: Sequence[str], *, channel: str, publish: str) -> None:
    """Check that the client's user may run all commands, on keys and a channel like these.

    `publish` is the command that publishes. Raises EngineError naming what is forbidden. A server
    that cannot tell (Redis before 7) is assumed to allow everything.
    """
    groups = {
        "use the keys videre:*": [
            (command, key, *rest) for command, rest in ON_KEYS.items() for key in keys
        ],
        "use the channels videre:*": _on_channel(publish, channel),
        "": list(PLAIN),
    }
    asked = [command for group in groups.values() for command in group]
    some = {"target_nodes": RedisCluster.PRIMARIES} if isinstance(client, RedisCluster) else {}
    arguments = [orjson.dumps(command).decode() for command in asked]
    answer = await client.execute_command("EVAL", SCRIPT, 0, *arguments, **some)
    answers = answer.values() if isinstance(answer, dict) else [answer]
    forbidden = {asked[number - 1] for each in answers for number in each}
    if forbidden:
        told = list(_told(groups, forbidden))
        more = f" and {len(told) - MOST_NAMED} more" if len(told) > MOST_NAMED else ""
        raise EngineError(
            f"its user may not {', '.join(told[:MOST_NAMED])}{more}; "
            "docs/cluster.md has a sufficient rule"
        )


def _on_channel(publish: str, channel: str) -> list[tuple[str, ...]]:
    kind = "S" if publish == "SPUBLISH" else ""
    return [(publish, channel, "text"), (f"{kind}SUBSCRIBE", channel)]


def _told(
    groups: dict[str, list[tuple[str, ...]]], forbidden: set[tuple[str, ...]]
) -> Iterator[str]:
    """Describe what is forbidden: a whole group by its name, else each command once."""
    for name, commands in groups.items():
        missing = [command for command in commands if command in forbidden]
        if name and len(missing) == len(commands):
            yield name
        else:
            yield from dict.fromkeys(command[0] for command in missing)
