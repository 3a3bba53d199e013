"""The engine of many processes: they share their rooms in a store, Redis or Valkey.

Every change is one atomic step in the store, its publication included. A node's view of a room
follows only the room's messages, in order, including those about its own members. A node that
sees another node's lease unchanged for NodeTimeout, by its own clock, condemns the other node: it
gives up the other's seats, and adopts the resumable ones. A node that comes back condemned closes
its sessions. A node that was cut off catches up with the messages it missed.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable

import orjson

from videre.engines import Gap, Listener, Missed, Resumption
from videre.engines.events import Announcement, Receivers
from videre.engines.nodes import Seen
from videre.engines.redis.burying import Burying
from videre.engines.redis.duties import Duties
from videre.engines.redis.following import Following
from videre.engines.redis.leaving import Leaving
from videre.engines.redis.messages import event_of
from videre.engines.redis.node import LATE_SECONDS, NOT_WHOLE, Node
from videre.engines.redis.notes import Notes
from videre.engines.redis.seats import Seats
from videre.engines.redis.store import RedisStore, parse
from videre.engines.redis.view import OwnSeat, View
from videre.errors import EngineError, RoomFull, Unauthorized, UserTaken
from videre.ids import Digest, RoomId, SeatId, UserId
from videre.settings import JoinPolicy, Process, Retention
from videre.tally import Tally


class RedisEngine:
    """Keeps the rooms of a namespace in a store. `node_timeout` is in seconds.

    The `tally` gets the time of the store's steps, and of broadcasts that go through it.
    """

    def __init__(
        self,
        store: RedisStore,
        *,
        retention: Retention | None = None,
        node_timeout: float = Process.node_timeout,
        node: str = "",
        tally: Tally | None = None,
    ) -> None:
        retention = retention or Retention()
        tally = tally or Tally(time.monotonic)
        self._relays = tally.relays
        self._node = Node(store, tally, node)
        notes = Notes(self._node)
        self._seats = Seats(self._node, notes)
        self._following = Following(self._node, self._seats, doubt=node_timeout)
        leaving = Leaving(self._node, self._seats, self._following, grace=retention.grace)
        self.leave, self.remove, self.lose = leaving.leave, leaving.remove, leaving.lose
        self._duties = Duties(
            self._node,
            notes,
            seats=self._seats,
            following=self._following,
            burying=Burying(self._node, notes, leaving, timeout=node_timeout),
            timeout=node_timeout,
        )
        self._beating: asyncio.Task[None] | None = None

    in_process = False

    @property
    def fault(self) -> str:
        """See Engine.fault."""
        return self._node.fault

    async def start(self, listener: Listener) -> None:
        """See Engine.start. If the store is unreachable, wait for it in the background."""
        self._node.begin(listener)
        try:
            await self._duties.beat()
        except EngineError as error:
            self._node.unsound(error)
        self._beating = asyncio.create_task(self._duties.run())

    async def close(self) -> None:
        """See Engine.close. The other nodes take over the remaining seats at once."""
        self._node.closing = True
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)
        left = self._duties.left()
        self._seats.end()
        await self._node.jobs.end()
        with contextlib.suppress(EngineError):
            # The store may still execute unanswered steps: the lease must outlast them, so that the
            # other nodes find all seats.
            lease = self._node.lease(LATE_SECONDS if self._node.is_waiting else 0)
            for name, rooms in left.items():
                await self._node.store.node("end", name, lease, *sorted(rooms))
        await self._node.store.close()

    async def join(
        self,
        room: RoomId,
        user: UserId,
        seat: SeatId,
        announcement: Announcement,
        policy: JoinPolicy,
        ticket: Digest | None = None,
    ) -> None:
        """See Engine.join. `max_rooms` counts the rooms with members on this node."""
        self._node.require("join")
        new = room not in self._node.views
        if new and policy.max_rooms is not None and len(self._node.views) >= policy.max_rooms:
            raise RoomFull("The limit on rooms is reached")
        own = OwnSeat(seat, user, room, ticket)
        async with self._seats.interest(room) as view:
            with self._seats.asked(own, view):
                answer = await self._following.ask(
                    view,
                    "join",
                    lambda known: (
                        *(room, user, seat, self._node.require(), "1" if policy.replace else "0"),
                        "" if policy.capacity is None else str(policy.capacity),
                        *(ticket or "", known, orjson.dumps(announcement).decode()),
                    ),
                )
                if answer[0] == "taken":
                    raise UserTaken("Header.UserId: is already in the room")
                if answer[0] == "full":
                    raise RoomFull("The room is full")
                await view.seated(own, int(answer[1]))

    async def renew(
        self, room: RoomId, user: UserId, seat: SeatId, to: SeatId, ticket: Digest
    ) -> None:
        """See Engine.renew."""
        self._node.require("renew")
        view = self._node.views.get(room)
        if view is None or seat not in self._node.own:
            return
        own = OwnSeat(to, user, room, ticket)
        with self._seats.asked(own, view):
            answer = await self._node.step(
                room, "renew", user, seat, to, self._node.name, ticket, view.known_as
            )
            if answer[0] == "other":
                raise EngineError("The store has lost data")
            if answer[0] == "gone":
                self._seats.disown(own)
            else:
                await view.seated(own, int(answer[1]))

    async def resume(
        self, room: RoomId, user: UserId, to: SeatId, shown: Digest, ticket: Digest, received: int
    ) -> Resumption:
        """See Engine.resume."""
        self._node.require("resume")
        # A store with older data would count the missed packets wrongly, until a node notices.
        self._node.require_settled(room)
        own = OwnSeat(to, user, room, ticket)
        async with self._seats.interest(room) as view:
            with self._seats.asked(own, view):
                answer = await self._following.ask(
                    view,
                    "resume",
                    lambda known: (
                        *(user, to, self._node.require(), shown, ticket, str(received), known),
                    ),
                )
                if answer[0] == "wrong":
                    raise Unauthorized("The resume secret is wrong")
                if answer[0] != "ok":
                    self._seats.disown(own)
                    return None if answer[0] == "none" else Gap()
                await view.seated(own, int(answer[1]))
            return Missed(int(answer[2]), [event_of(*parse(each)) for each in answer[3]])

    def publish(
        self, room: RoomId, seat: SeatId, text: str, to: Receivers = None, packet_id: str = ""
    ) -> Awaitable[None]:
        """See Engine.publish."""
        return self._publish(room, seat, text, to, packet_id, arrived=self._relays.arrived)

    async def _publish(
        self,
        room: RoomId,
        seat: SeatId,
        text: str,
        to: Receivers,
        packet_id: str,
        *,
        arrived: float | None,
    ) -> None:
        self._node.require("publish")
        own = self._node.own.get(seat)
        if own is None and seat:
            raise EngineError("The seat is gone")
        view = self._node.require_whole(room)
        if view is None and own is not None:
            raise EngineError(NOT_WHOLE)
        names = "" if to is None else orjson.dumps(list(to)).decode()
        user = own.user if own else ""
        born = "" if view is None else view.known_as
        server = self._node.server  # before the step: a beat may find another one meanwhile
        new_id = "" if own is not None and packet_id == own.last_id else packet_id
        answer = await self._node.step(room, "publish", user, seat, names, new_id, text, born)
        self._node.require_known(room, answer[0])
        if answer[0] == "gone":
            self._node.trouble.set()  # the node may be condemned
            raise EngineError("The seat is gone")
        if own is not None and packet_id:
            own.last_id = packet_id
        if view is None:
            await self._node.require_same(server)
        elif arrived is not None:
            self._node.jobs.spawn(self._time(view, int(answer[1]), arrived))

    async def _time(self, view: View, number: int, arrived: float) -> None:
        """Time a broadcast until it is written to the members on this node."""
        await view.reached(number)
        self._relays.observe(arrived)

    async def members(self, room: RoomId) -> list[str]:
        """See Engine.members."""
        self._node.require("members")
        view, server = self._node.require_whole(room), self._node.server
        if view is not None:
            self._node.require_settled(room)
        answer = await self._node.step(room, "members", "" if view is None else view.known_as)
        self._node.require_known(room, answer[0])
        if view is None:
            await self._node.require_same(server)
        found: list[str] = answer[1]
        return found

    async def rooms(self, after: str | None, limit: int) -> list[str]:
        """See Engine.rooms."""
        self._node.require("rooms")
        return await self._node.timed("rooms", self._node.store.rooms(after, limit))

    def nodes(self) -> list[Seen]:
        """See Engine.nodes."""
        return self._duties.nodes()
