"""The API: list nodes, and rooms and members of all nodes, remove members, send packets, drain.

openapi.json describes it. Names are in the query, which no client or proxy normalizes: `..` and
`a/b` are valid room ids, but would not survive in a path.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import orjson
from aiohttp import web

from videre import packets
from videre.admin import requests
from videre.admin.problems import Problem
from videre.errors import MAX_REASON, EngineError
from videre.namespace import Namespace
from videre.rooms import Rooms

# Rooms to ask the engine about at a time: a long list must not crowd out the peers' requests.
ASKED_AT_ONCE = 16


class API:
    """Serves the API. `drain` starts to drain the server."""

    def __init__(self, namespaces: Sequence[Namespace], *, drain: Callable[[], None]) -> None:
        self._namespaces = {each.prefix: each for each in namespaces}
        self._drain = drain

    def routes(self) -> list[web.RouteDef]:
        """Return the API's routes."""
        return [
            web.get("/api/v1/prefixes", self.prefixes),
            web.get("/api/v1/nodes", self.nodes),
            web.get("/api/v1/rooms", self.rooms),
            web.get("/api/v1/members", self.members),
            web.delete("/api/v1/members", self.remove),
            web.post("/api/v1/packets", self.send),
            web.post("/api/v1/drain", self.drain),
        ]

    async def prefixes(self, request: web.Request) -> web.Response:
        """List the prefixes, and whether each one's engine is reachable."""
        requests.read_query(request, {})
        listed = [
            {"Prefix": prefix or "/", "Ready": each.rooms.ready}
            for prefix, each in self._namespaces.items()
        ]
        return answer({"Prefixes": listed})

    async def nodes(self, request: web.Request) -> web.Response:
        """List the living nodes of all prefixes."""
        requests.read_query(request, {})
        namespaces = self._namespaces.values()
        if not all(each.rooms.ready for each in namespaces):
            raise EngineError("The rooms cannot be reached")  # our list would be out of date
        return answer({"Nodes": nodes_of(namespaces)})

    async def rooms(self, request: web.Request) -> web.Response:
        """List rooms and their numbers of members, ordered by id, character by character."""
        schema = requests.PREFIX | requests.paged(packets.MAX_ROOM_ID)
        query = requests.read_query(request, schema)
        rooms = self._rooms(query)
        found = await rooms.rooms(after=query.get("after"), limit=query["limit"] + 1)
        page = found[: query["limit"]]
        counts = await _count(rooms, page)
        listed = [
            {"RoomId": room, "Members": count}
            for room, count in zip(page, counts, strict=True)
            if count  # 0: the last member has left meanwhile
        ]
        return answer({"Rooms": listed, "Next": page[-1] if len(found) > len(page) else None})

    async def members(self, request: web.Request) -> web.Response:
        """List the members of a room in joining order."""
        schema = requests.PREFIX | requests.ROOM | requests.paged(packets.MAX_USER_ID)
        query = requests.read_query(request, schema)
        members = await self._members(query)
        start = 0
        if (after := query.get("after")) is not None:
            if after not in members:
                raise Problem("cursor-gone", "The user in `after` has left the room.")
            start = members.index(after) + 1
        page = members[start : start + query["limit"]]
        return answer(
            {
                "RoomId": query["room"],
                "Initiator": members[0],
                "Members": page,
                "Next": page[-1] if start + len(page) < len(members) else None,
            }
        )

    async def remove(self, request: web.Request) -> web.Response:
        """Remove a member from its room: close its session with 4504 and the reason."""
        schema = requests.PREFIX | requests.ROOM | requests.USER | requests.REASON
        query = requests.read_query(request, schema)
        reason = query.get("reason", "Removed")
        if len(reason.encode()) > MAX_REASON:
            raise Problem("invalid-request", f"reason: has more than {MAX_REASON} bytes")
        if query["user"] not in await self._members(query):
            raise Problem("no-such-user", "The user is not in the room.")
        if not await self._rooms(query).kick(query["room"], query["user"], reason):
            raise Problem("no-such-user", "The user has left the room.")
        return web.Response(status=204)

    async def send(self, request: web.Request) -> web.Response:
        """Send a packet to a room or to some of its members; list the absent ones."""
        query = requests.read_query(request, requests.PREFIX | requests.ROOM)
        body = await requests.read_body(request, requests.PACKET)
        room, sender, payload = query["room"], body["UserId"], body["Payload"]
        namespace = self._namespace(query)
        _check_size(sender, room, payload, namespace.sessions.options.max_packet_bytes)
        to = body.get("To")
        members = await self._members(query)
        absent: list[str] = []
        if to is not None:
            to = list(dict.fromkeys([to] if isinstance(to, str) else to))
            present = set(members)
            absent = [user for user in to if user not in present]
            if len(absent) == len(to):
                raise Problem("no-such-user", "None of them is in the room.")
        await namespace.rooms.send(room, payload, to=to, sender=sender)
        return answer({"Absent": absent})

    async def drain(self, request: web.Request) -> web.Response:
        """Drain the server, like SIGTERM; idempotent."""
        requests.read_query(request, {})
        self._drain()
        return answer({"Status": "draining"}, status=202)

    def _rooms(self, query: dict[str, Any]) -> Rooms:
        return self._namespace(query).rooms

    def _namespace(self, query: dict[str, Any]) -> Namespace:
        """Return the namespace of the query's prefix, which is optional if there is only one."""
        prefix = query.get("prefix")
        if prefix is None:
            if len(self._namespaces) > 1:
                raise Problem("invalid-request", "prefix: required, because there are several")
            (only,) = self._namespaces.values()
            return only
        if (found := self._namespaces.get(prefix.rstrip("/"))) is None:
            raise Problem("no-such-prefix", "/api/v1/prefixes lists all prefixes.")
        return found

    async def _members(self, query: dict[str, Any]) -> list[str]:
        """Return the members of the query's room; raises Problem if it has none."""
        if not (members := await self._rooms(query).members(query["room"])):
            raise Problem("no-such-room", "The room has no members.")
        return members


def _check_size(sender: str, room: str, payload: Any, longest: int | None) -> None:
    """Raise a Problem for a packet of more bytes than MaxPacketBytes."""
    try:
        text = packets.write_broadcast(sender, room, payload)
    except TypeError:
        raise Problem("invalid-request", "Payload: is nested too deep") from None
    if longest is not None and len(text.encode()) > longest:
        detail = f"The packet exceeds {longest} bytes (MaxPacketBytes)."
        raise Problem("request-too-large", detail)


def nodes_of(namespaces: Iterable[Namespace]) -> list[dict[str, Any]]:
    """Return the living nodes of each prefix, as openapi.json describes them."""
    return [
        {
            "Prefix": each.prefix or "/",
            "Node": node.name,
            "Here": node.here,
            "Silent": round(node.silent, 1),
            "Process": None if node.about is None else node.about.process,
            "Age": None if node.about is None else node.about.age,
            "Members": None if node.about is None else node.about.members,
        }
        for each in namespaces
        for node in each.rooms.nodes()
    ]


async def _count(rooms: Rooms, names: Sequence[str]) -> list[int]:
    counts: list[int] = []
    for start in range(0, len(names), ASKED_AT_ONCE):
        some = names[start : start + ASKED_AT_ONCE]
        counts += map(len, await asyncio.gather(*map(rooms.members, some)))
    return counts


def answer(body: Any, *, status: int = 200) -> web.Response:
    """Return a JSON response."""
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")
