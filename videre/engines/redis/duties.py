"""The duties of a node: renew its lease, pay what it owes the store, bury dead nodes."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import orjson

from videre.engines.nodes import Seen
from videre.engines.redis.burying import Burying
from videre.engines.redis.following import Following
from videre.engines.redis.leases import BEATS
from videre.engines.redis.node import AWAY, NO_LEASE, READY, Node, logger
from videre.engines.redis.notes import Notes
from videre.engines.redis.outage import StoreFull
from videre.engines.redis.seats import Seats
from videre.engines.redis.view import KNOWN, STRAYED, OwnSeat, View
from videre.errors import EngineError
from videre.ids import RoomId
from videre.reasons import LeaveReason

# Rooms to restore concurrently.
AT_A_TIME = 16


# Why a node takes no part, for the operator who started it.
FOREIGN = (
    "another version of videre-server uses the store (its format is {other}, ours is {ours}):"
    " stop those servers first, or set another Engine"
)


class Beat(NamedTuple):
    """What the store answers to a beat (nodes.lua)."""

    state: str  # of this node: "new", "ok" or "condemned"
    leases: list[str]  # of all living nodes: name and lease, in turn
    condemned: list[str]  # nodes to bury
    server: str  # the store's process
    restoring: list[str]  # nodes that have not restored all their seats
    full: int  # 1 if the store is full, else 0
    noted: int  # number of rooms noted for this node


class Duties:
    """A node's periodic work. `timeout` is how long a lease lasts, in seconds."""

    def __init__(
        self,
        node: Node,
        notes: Notes,
        *,
        seats: Seats,
        following: Following,
        burying: Burying,
        timeout: float,
    ) -> None:
        self._node = node
        self._notes = notes
        self._seats = seats
        self._following = following
        self._burying = burying
        self._timeout = timeout
        self._was_full = False  # the store, at the last beat
        self._renewed = 0.0  # when the lease was renewed, by the loop's clock

    async def run(self) -> None:
        """Do the duties until cancelled."""
        pause = self._timeout / BEATS
        task = asyncio.current_task()
        while True:
            self._node.trouble.clear()
            try:
                await self.beat()
                wait = self._burying.leases.next_end(pause)
            except EngineError as error:
                self._node.unsound(error)
                wait = random.uniform(0, pause)  # noqa: S311  # so that nodes do not act in lockstep
            except Exception:
                logger.exception("a node's periodic work failed")
                wait = pause
            if task is not None and task.cancelling():
                return  # redis-py's wait_for may have lost the exception (Python 3.11, gh-86296)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._node.trouble.wait()
                    await asyncio.sleep(random.uniform(0, wait))  # noqa: S311

    async def beat(self) -> None:
        """Renew the lease, pay what is owed, and bury dead nodes."""
        node = self._node
        before = node.state
        if before is not READY:
            await node.store.open(self._following.heard, self._following.broken)
        seated = node.seated
        beat = await self._renew()
        if beat.state == "condemned":
            self._die()
            return
        self._following.doubts.end()
        if node.server not in ("", beat.server):
            node.store.listen_anew()  # Sentinels may name another server while the old one lives
        deaf, breaks = node.deaf, node.breaks
        lost = beat.state == "new" or beat.server != node.server or beat.noted < seated
        if before is AWAY or deaf or lost:
            await self._owe_all(beat.server)
        if deaf:
            await self._each(list(node.views), self._hear_again)
            node.deaf = node.breaks != breaks  # it may be deaf again
        if before is AWAY:
            node.sound()
            await self._warn_of_evictions()
        self._look_for_space(bool(beat.full))
        await self._pay()
        if before is AWAY and node.state is not AWAY:
            # Not before: a lost shard may have some of the rooms, and cause this again and again.
            node.outage.end()
            logger.info("connected to the store")
        await self._burying.bury_past(self._each)
        await self._burying.bury_dead(beat.condemned, self._each)

    def nodes(self) -> list[Seen]:
        """See Engine.nodes: as of the last beat."""
        return list(self._burying.leases.seen(self._node.name))

    async def _owe_all(self, server: str) -> None:
        """Owe all rooms: the store's data on this node may be older than the node's own."""
        node = self._node
        node.owed.update(await node.store.noted(node.name), self._rooms(), node.released)
        if node.server not in ("", server):
            node.whole_at = asyncio.get_running_loop().time() + self._timeout
        node.server = server

    async def _pay(self) -> None:
        """Send the store the state of each owed room."""
        node, now = self._node, asyncio.get_running_loop().time()
        for room in [room for room, until in node.late.items() if until <= now]:
            node.owed.add(room)
            del node.late[room]
        node.forget_released()
        await self._each(sorted(node.owed), self._put_right)
        self._report_losses()

    def _report_losses(self) -> None:
        """Log all rooms that the store had lost in one line: after a restart they are many.

        So are those of which it evicts keys, one after the other.
        """
        if broken := self._following.broken_rooms:
            logger.error(
                "the store has lost keys (evicted, deleted) of %d of our rooms: they are restored",
                len(broken),
            )
            broken.clear()
        if lost := self._node.lost:
            self._node.lost = 0
            logger.warning("the store had lost %d of our rooms: their seats are restored", lost)

    def _look_for_space(self, full: bool) -> None:
        if full:
            self._node.filled(StoreFull("The store is full"))
        elif self._node.outage.relieve() and self._was_full:
            logger.info("the store has space again")
        self._was_full = full

    async def _warn_of_evictions(self) -> None:
        with contextlib.suppress(EngineError):  # a server that refuses INFO is already logged
            if policy := await self._node.store.evicts():
                logger.warning(
                    "maxmemory-policy %s: a full store may evict a room's keys, and its members "
                    "then lose packets; set the policy to noeviction",
                    policy,
                )

    async def _hear_again(self, room: RoomId) -> None:
        if room in self._node.views:
            await self._node.store.subscribe(room)
            if room not in self._node.views:
                await self._node.store.unsubscribe(room)

    async def _renew(self) -> Beat:
        self._renewed = asyncio.get_running_loop().time()
        lease = self._node.lease(self._timeout)
        owes = "1" if self._node.owed or not self._node.ready else "0"
        answer = await self._node.store.node("beat", self._node.name, lease, owes)
        if answer[0] == "other":  # living nodes write another format
            raise EngineError(FOREIGN.format(other=answer[1], ours=self._node.store.format))
        beat = Beat(*answer)
        self._node.restoring = {*beat.restoring} - {self._node.name}
        pairs = iter(beat.leases)
        now = asyncio.get_running_loop().time()
        self._burying.leases.look(now, dict(zip(pairs, pairs, strict=True)))
        if beat.state != "condemned":
            self._node.leased_until = self._renewed + self._timeout
        return beat

    async def _each(self, rooms: Sequence[RoomId], do: Callable[[RoomId], Awaitable[None]]) -> None:
        """Run `do` for each room; renew the lease if that takes long."""
        for start in range(0, len(rooms), AT_A_TIME):
            some = rooms[start : start + AT_A_TIME]
            for found in await asyncio.gather(*map(do, some), return_exceptions=True):
                if found is not None:
                    raise found
            elapsed = asyncio.get_running_loop().time() - self._renewed
            if elapsed >= self._timeout / BEATS and (await self._renew()).state != "ok":
                # The next beat handles it: it owes all rooms, because this makes the node away.
                raise EngineError(NO_LEASE)

    def _die(self) -> None:
        """Close all sessions, whose seats are gone, and continue under a new name."""
        logger.error(
            "the other nodes declared this node (%s) dead: it closes its sessions and continues "
            "under a new name",
            self._node.name,
        )
        self._burying.died(self._rooms() | self._node.released.keys())
        self._seats.forget_all()
        self._node.name = secrets.token_hex(8)
        self._node.trouble.set()

    def _rooms(self) -> set[RoomId]:
        node = self._node
        return {*node.views, *node.owed, *(own.room for own in node.own.values())}

    def left(self) -> dict[str, set[RoomId]]:
        """Return the rooms where seats may remain, by each name this node has had."""
        past = {name: rooms for name, (_, rooms) in self._burying.past.items()}
        return past | {self._node.name: self._rooms()}

    async def _put_right(self, room: RoomId) -> None:
        self._node.owed.discard(room)  # before the steps: one that fails owes the room again
        self._node.settling.add(room)
        try:
            await self._settle(room)
        except StoreFull:
            self._node.owed.add(room)  # until there is space; meanwhile the other duties go on
        except BaseException:
            self._node.owed.add(room)
            raise
        finally:
            self._node.settling.discard(room)

    async def _settle(self, room: RoomId) -> None:
        """Tell the store this node's seats in a room, and fetch what the store has."""
        view = self._node.views.get(room)
        if self._notes.has(room):
            await self._notes.note(room)
        if view is not None and view.state in (KNOWN, STRAYED):
            await self._following.fetch(view)
            view = self._node.views.get(room)  # what was missed may have ended the view
        seats, lost = await self._restore(room, view)
        view = self._node.views.get(room)
        for own in self._node.own_in(room):
            adopted = view is None or own.seat not in view.own  # perhaps no message reports its end
            if adopted and (own.leaving or own.user in lost):
                self._seats.disown(own)
        for own in seats:  # the store may have restored those that left meanwhile
            held = self._node.own.get(own.seat)
            if held is None or held.leaving:
                await self._node.step(room, "leave", own.user, own.seat, LeaveReason.ENGINE, "")
        self._notes.release(room)

    async def _restore(self, room: RoomId, view: View | None) -> tuple[list[OwnSeat], list[str]]:
        """Send all seats in a room to the store; return them, and the users that lost theirs."""
        seats: list[OwnSeat] = []

        def take(known: str) -> Sequence[str]:
            seats[:] = [own for own in self._node.own_in(room) if not own.leaving]
            rows = [
                (own.user, own.seat, 0 if view is None else own.place, own.ticket or "")
                for own in seats
            ]
            leaving = {own.seat: own.leaving for own in self._node.own_in(room) if own.leaving}
            lists = [orjson.dumps(each).decode() for each in (rows, leaving)]
            flags = uncounted, room in self._node.adopting
            return room, self._node.name, lists[0], known, lists[1], *map(str, map(int, flags))

        uncounted = view is not None and view.uncounted
        if view is None:
            answer = await self._node.step(room, "restore", *take("-"))
        else:
            view.uncounted = False
            try:
                answer = await self._following.ask(view, "restore", take)
            except BaseException:
                view.uncounted |= uncounted
                raise
        self._burying.adopt(room, answer[2])
        self._burying.adopted(room)
        return seats, answer[1]
