"""The Redis engine in one process: many nodes on one simulated store, in virtual time, with faults.

    python tests/support/simulation.py --runs 100000 --seed 0
    python tests/support/simulation.py --runs 1 --seed 123 --trace

A seed determines a whole run. Invariants are checked after every step, and again once the faults
have ended and the cluster has had time to recover: see `Simulation.check`,
`Simulation.unrecovered`, and `Session.hear` for what each client receives.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import logging
import random
import sys
import time
import types
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import orjson
from simulated_client import Session
from simulated_store import Cluster, SimulatedStore
from virtual_time import Process, VirtualTime

from videre.engines.redis import RedisEngine, duties
from videre.engines.redis.connecting import COMMAND_SECONDS
from videre.engines.redis.store import KEYS, RedisStore
from videre.engines.redis.view import KNOWN
from videre.errors import EngineError
from videre.packets import write_broadcast
from videre.reasons import LeaveReason
from videre.rooms import Rooms
from videre.settings import JoinPolicy, Retention

NODES = 3
USERS = ("a", "b", "c", "d")
ROOMS = ("r", "s")
TIMEOUT = 10.0  # NodeTimeout
FAULTS: tuple[str, ...] = (
    "slow calls",
    "lost calls",
    "away",
    "slow messages",
    "line",
    "line",
    "pause",
    "pause",
)
FAULTS += ("crash", "stop", "all away", "loss", "loss", "clock", "key", "heal", "heal")
LOSS_SECONDS = 15.0  # within which all nodes notice a loss of data
INSISTS = 400  # how often a client repeats a refused broadcast
KEPT_SECONDS = 40.0  # for which messages are kept, in addition to Grace
TIMED_PAUSES = (0.0, 0.001, 0.003, 0.01, 0.01, 0.2, 2.0)


class Violation(AssertionError):
    """An invariant is broken."""


class Node:
    """One server process."""

    def __init__(self, process: Process, store: SimulatedStore, rooms: Rooms, engine: RedisEngine):
        self.process = process
        self.store = store
        self.rooms = rooms
        self.engine: Any = engine
        self.closing = False

    @property
    def name(self) -> str:
        """The name of the node's process."""
        return self.process.name


class Simulation:
    """One run."""

    def __init__(self, seed: int, trace: bool = False) -> None:
        self.seed = seed
        self.trace = trace
        self.random = chance = random.Random(seed)
        self.time = VirtualTime()
        self.grace = chance.choice((0.0, 3.0, 8.0, 8.0))
        self.replace = chance.random() < 0.8
        self.calm = chance.random() < 0.15
        self.losing = not self.calm and chance.random() < 0.3  # whether the store may lose data
        self.lossy = False  # whether it has lost data
        self.all_lost: set[str] = set()  # rooms that lost all keys, which no node notices
        self.losses = 0  # number of losses
        self.unseen = 0  # losses that nobody outside the room notices
        self.lost_at = 0.0  # time of the last loss
        self.given_up: list[tuple[str, float]] = []  # seats of living nodes, and when
        self.since_loss: list[tuple[Session, int]] = []  # members, and broadcasts due to them
        self.accepted: set[int] = set()  # broadcasts that were not refused
        self.cluster = Cluster(
            self.time,
            lambda: self.time.now,
            chance,
            keep_ms=round((KEPT_SECONDS + self.grace) * 1000),
            keep_bytes=chance.choice((None, None, 3000, 600)),
        )
        self.cluster.watch = self._published
        self.cluster.watch_condemned = self._condemned
        self.cluster.watch_buried = self._buried
        self.ledger: dict[str, list[tuple[list[Any], str]]] = defaultdict(list)
        self.joins: dict[tuple[str, str], int] = {}  # (room, seat) -> the ledger's length then
        self.history: dict[tuple[str, int], list[tuple[str, str]]] = {}
        self.snapshots: list[tuple[float, Callable[[bool], None]]] = []  # with their times
        self.turned_back = False  # whether the store's clock was set back
        self.noted_since = 0.0  # since when a node's notes are complete, or the node lives
        self.sessions: list[Session] = []
        self.nodes: list[Node] = []
        self.story: list[str] = []
        self.violation: str | None = None
        self._numbers = itertools.count()
        self._names = itertools.count()
        self._texts = itertools.count()

    def next_number(self) -> int:
        """Return the number of a new session."""
        return next(self._numbers)

    def note(self, text: str) -> None:
        """Add a line to the trace."""
        if self.trace:
            self.story.append(f"{self.time.now - 1_000_000:9.4f} {text}")

    def fail(self, what: str) -> None:
        """Record a violation."""
        self.note(f"VIOLATION: {what}")
        if self.violation is None:
            self.violation = what

    def _published(self, room: str, line: list[Any], body: str) -> None:
        if self.trace:
            self.note(f"  store: {room} {line}")
        if line[1] in ("state", "broken"):
            return
        ledger = self.ledger[room]
        ledger.append((line, body))
        if line[1] == "joined":
            self.joins[room, line[3]] = len(ledger)
        data = self.cluster.server.data[room]
        if line[1] == "sent" and self.lossy:
            self._due(room, line, int(orjson.loads(body)["Payload"]))
        self.history[room, int(line[0])] = [(user, data.seats[user]) for user in data.in_order]

    def _due(self, room: str, line: list[Any], number: int) -> None:
        """Record who must receive a broadcast: all sessions that believe they are members.

        The store may not know all of them again yet.
        """
        sender, to = line[2], line[4]
        self.since_loss += [
            (session, number)
            for session in self.sessions
            if session.room == room
            and session.believes
            and session.sits
            and not session.process.crashed
            and session.user != sender
            and (to is False or session.user in to)
        ]

    def _given_up(self, was: dict[str, Any], view: Any) -> None:
        """Record members that a node stops believing in although their node has a lease.

        A node that is cut off and has not noticed is exempt: it cannot know better.
        """
        data = self.cluster.server.data.get(view.room)
        if data is not None and data.seq != view.number:
            return
        for user in was.keys() - view.believed.members.keys():
            node, seat = was[user]
            back = self.cluster.back.get(node, 0.0)
            if (
                node in self.cluster.server.leases
                and self._is_alive(node)
                and back < self.time.now - COMMAND_SECONDS  # exempt while the answer was on its way
            ):
                self.given_up.append((seat, self.time.now))

    def _is_alive(self, node: str) -> bool:
        return self.time.now - self.cluster.renewed.get(node, 0.0) < TIMEOUT

    def _condemned(self, node: str) -> None:
        """Check that a node that renews its lease is not condemned."""
        closing = any(each.engine._node.name == node and each.closing for each in self.nodes)
        is_open = self.cluster.server.condemned.get(node) == "open"
        if is_open and self._is_alive(node) and not closing:
            self.fail(f"{node} is condemned, and has a lease")

    def _buried(self) -> None:
        """Note that until now a dead node's seats were noted, including resumed ones."""
        self.noted_since = self.time.now

    # The run.

    def go(self) -> None:
        """Run the simulation; raise Violation."""
        for _ in range(NODES):
            self.add_node()
        self.time.run(0.1)
        for _ in range(self.random.randint(20, 45)):
            settled = self.time.now > self.lost_at + LOSS_SECONDS
            if self.losing and settled and self.random.random() < 0.2:
                self.snapshots.append((self.time.now, self.cluster.server.snapshot()))
            self.step()
            self.time.run(self.random.choice(TIMED_PAUSES) * self.random.random() * 2)
            self.check()
        self.settle()

    def step(self) -> None:
        """Perform one random action or fault."""
        chance = self.random
        if not self.calm and chance.random() < 0.2:
            self.fault()
        else:
            chance.choices(self.ACTIONS, self.WEIGHTS)[0](self)

    def check(self) -> None:
        """Check the invariants that hold at any time."""
        for node in self.nodes:
            if node.process.crashed:
                continue
            if node.process.faults:
                self.fail(f"{node.name}: {node.process.faults}")
            replicas = node.rooms._replica.rooms
            unheard = replicas.keys() - node.engine._node.views.keys()
            if unheard and not node.closing:
                self.fail(f"{node.name}: has rooms that it does not hear: {sorted(unheard)}")
            for name, view in node.engine._node.views.items():
                replica = replicas.get(name)
                users = list(replica.state.members) if replica else []
                seated = [replica.seats[user] for user in users] if replica else []
                if view.state is not KNOWN:
                    continue
                pairs = list(view.believed.members.items())
                order = [view.positions[user].number for user, _ in pairs]
                if order != sorted(order):
                    self.fail(f"{node.name}: {name}: not in joining order: {pairs}")
                if [(seat.user, seat.id) for seat in seated] != pairs:
                    self.fail(f"{node.name}: {name}: the replica is not the view: {pairs}")
                if not view.doubted and pairs != self.history.get((name, view.number), pairs):
                    self.fail(f"{node.name}: {name}: not what was so at {view.number}: {pairs}")
                for seat in seated:
                    session = seat.connection
                    if isinstance(session, Session) and session.believes:
                        role = "true" if seat is seated[0] else "false"
                        if session.role != role:
                            self.fail(f"{session!r} takes its role for {session.role}")
        if self.violation is not None:
            raise Violation(self.violation)

    def settle(self) -> None:
        """End the faults, and check that the cluster recovers in time."""
        self.note("the faults end")
        for node in self.nodes:
            node.store.faults.away = False
            node.store.faults.lost_calls = 0.0
            node.store.faults.call_seconds = node.store.faults.message_seconds = 0.002
            if node.process.paused:
                node.process.go_on()
        end = self.time.now + 3 * TIMEOUT + self.grace + 10
        left = "?"
        while self.time.now < end:
            self.time.run(1.0)
            self.use_rooms()
            self.check()
            left = self.unrecovered()
            if not left:
                self.time.run(0.5)
                self.check()
                break
        if left:
            self.fail(f"not recovered: {left}")
            raise Violation(left)

    def use_rooms(self) -> None:
        """Broadcast in rooms that lost all keys, because the next use restores them."""
        for room in sorted(self.all_lost - self.cluster.server.data.keys()):
            found = [
                s
                for s in self.sessions
                if s.room == room and s.believes and s.sits and not s.process.crashed
            ]
            if found and not found[0].busy:
                session = found[0]
                self.begin(session, lambda session=session: session.broadcast(None, 1))  # type: ignore[misc]

    def unrecovered(self) -> str:
        """Return what has not recovered when all is at rest; "" if everything has."""
        server = self.cluster.server
        living = [node for node in self.nodes if not node.process.crashed]
        by_seat = {
            s.seat.id: s for s in self.sessions if s.sits and s.seat and not s.process.crashed
        }
        for name, room in server.data.items():
            for user, seat in room.seats.items():
                if seat not in by_seat:
                    return f"a ghost: {user} in {name}, seat {seat}"
            initiators = [s for s in by_seat.values() if s.room == name and s.role == "true"]
            if [s.user for s in initiators] != room.in_order[:1]:
                return f"initiators of {name}: {initiators}"
        for session in self.sessions:
            if session.process.crashed or not session.believes:
                continue
            room_data = server.data.get(session.room)
            held = room_data.seats.get(session.user) if room_data else None
            if not session.sits or session.seat is None or held != session.seat.id:
                return f"{session!r} was not told that it has no seat"
            if not self.lossy and (expected := session.next_expected()):
                return f"{session!r} was not told {expected}"
        for seat, when in self.given_up:
            sitting = by_seat.get(seat)  # type: ignore[call-overload]
            if sitting is not None and sitting.believes:
                return f"{sitting!r} was given up at {when - 1_000_000:.4f}, and sits"
        for session, number in self.since_loss:
            told = number not in self.accepted or number in session.numbers
            if session.believes and not session.process.crashed and not told:
                return f"{session!r} was never told {number}, and its sender was not refused"
        for node in living:
            inner = node.engine._node
            if not node.closing and not node.engine._node.ready:
                return f"{node.name} is not ready"
            for name, view in inner.views.items():
                if (
                    view.state is not KNOWN
                    or view.doubted
                    or view.catching
                    or view.number != getattr(server.data.get(name), "seq", None)
                ):
                    return f"{node.name} does not know {name}"
                if not view.own:
                    return f"{node.name} has no seat in {name}, which it hears of"
            seats = {s for s, each in by_seat.items() if each.process is node.process}
            if set(inner.own) != seats:
                return f"{node.name} has {sorted(inner.own)}, not {sorted(seats)}: {inner.own}"
            if inner.owed or node.rooms._replica.joining:
                return f"{node.name} owes {inner.owed}, or has seats that are asked for"
            if any(own.grace is not None for own in inner.own.values()):
                return f"{node.name} has seats in their grace"
            noted = {each.room for each in inner.own.values()}
            if not noted <= server.noted.get(inner.name, set()) <= noted | set(inner.late):
                where = sorted(server.noted.get(inner.name, ()))
                return f"{node.name} is noted in {where}, not {sorted(noted)}"
            for room_name in noted:
                if room_name not in inner.views:
                    return f"{node.name} does not hear of {room_name}"
        names = {node.engine._node.name for node in living if not node.closing}
        if set(server.leases) != names or set(server.noted) - names:
            return f"dead nodes are not buried: {sorted(server.leases)}, {sorted(server.noted)}"
        return ""

    # Nodes.

    def add_node(self) -> None:
        """Start a node."""
        name = f"p{next(self._names)}"
        process = self.time.process(name)
        store = self.cluster.store(name)
        retention = Retention(grace=self.grace)
        process.perform(lambda: self.nodes.append(self._make_node(process, store, retention, name)))
        self.note(f"{name} begins")

    def _make_node(
        self, process: Process, store: SimulatedStore, retention: Retention, name: str
    ) -> Node:
        engine = RedisEngine(
            cast(RedisStore, store), retention=retention, node_timeout=TIMEOUT, node=name
        )
        doubts: Any = engine._following.doubts
        end_doubt = doubts._end

        def ends(view: Any) -> None:
            was = {
                user: (view.positions[user].node, seat)
                for user, seat in view.believed.members.items()
            }
            end_doubt(view)
            self._given_up(was, view)

        doubts._end = ends
        secrets = (f"{name}-{number}" for number in itertools.count())

        def spawn(pending: Any) -> None:
            process.create_task(pending)

        rooms = Rooms(
            engine,
            clock=process.time,
            log=lambda event, /, **fields: None,
            spawn=spawn,
            secret=lambda: next(secrets),
            grace=self.grace,
            policy=JoinPolicy(replace=self.replace),
            seat_ids=map(f"{name}.{{}}".format, itertools.count()),
        )
        process.create_task(rooms.start())
        return Node(process, store, rooms, engine)

    def some_node(self) -> Node | None:
        """Return a random node that has not crashed."""
        living = [node for node in self.nodes if not node.process.crashed and not node.closing]
        return self.random.choice(living) if living else None

    # What clients do.

    def some_session(self, condition: Callable[[Session], bool]) -> Session | None:
        """Return a random idle session that meets the condition."""
        found = [s for s in self.sessions if not s.process.crashed and not s.busy and condition(s)]
        return self.random.choice(found) if found else None

    def begin(self, session: Session, job: Callable[[], Any]) -> None:
        """Start a job of a session, which is busy meanwhile."""
        session.busy = True
        session.process.perform(lambda: session.process.create_task(job()))

    def connect(self) -> None:
        """Connect a new client."""
        chance = self.random
        node = self.some_node()
        if node is None:
            return
        user, room = chance.choice(USERS), chance.choice(ROOMS)
        session = Session(self, node.process, node.rooms, user, room)
        self.sessions.append(session)
        welcome = chance.random() < 0.6
        self.note(f"{session!r} connects to {room}, welcome: {welcome}")
        self.begin(session, lambda: session.enter(None, welcome))

    def connect_again(self) -> None:
        """Let a refused client try again, or a member ask for another welcome."""
        session = self.some_session(
            lambda s: s.up and s.code is None and not s.left and (s.refused or s.sits)
        )
        if session is None:
            return
        if session.sits:
            if session.seat is not None and session.seat.welcome is not None:
                self.note(f"{session!r} connects again")
                self.begin(session, session.renew)
        else:
            self.note(f"{session!r} tries again")
            self.begin(session, lambda: session.enter(None, True))

    def broadcast(self, tries: int = 1) -> None:
        """Let a member broadcast, to all or to some, with up to `tries` tries."""
        session = self.some_session(lambda s: s.sits)
        if session is None:
            return
        to = None
        if self.random.random() < 0.3:
            to = tuple(self.random.sample(USERS, self.random.randint(1, 3)))
        self.begin(session, lambda: session.broadcast(to, tries))

    def next_text(self) -> int:
        """Return the number of a new broadcast."""
        return next(self._texts)

    def host(self) -> None:
        """Let the host of a node broadcast in a room, with or without members on that node."""
        if (node := self.some_node()) is not None:
            room, number = self.random.choice(ROOMS), self.next_text()
            self.note(f"the host of {node.name} says {number} in {room}")
            node.process.perform(
                lambda: node.process.create_task(self._host_says(node, room, number))
            )

    async def _host_says(self, node: Node, room: str, number: int) -> None:
        members = [s for s in self.sessions if s.room == room and s.believes and s.sits]
        losses = self.losses
        try:
            await node.engine.publish(room, "", write_broadcast("", room, number))
        except EngineError as error:
            self.note(f"the host of {node.name} cannot say {number}: {error}")
            return
        self.accepted.add(number)
        if self.lossy and self.losses == losses and not self.unseen:
            self.since_loss += [(session, number) for session in members]

    def leave(self) -> None:
        """Let a member leave, by a packet or a normal close."""
        session = self.some_session(lambda s: s.sits)
        if session is None:
            return
        self.note(f"{session!r} leaves")
        session.left = session.gone = True
        session.up = False
        self.begin(session, lambda: session.leave(LeaveReason.DISCONNECT))

    def lose(self) -> None:
        """Lose a connection; its node notices later."""
        chance = self.random
        found = [s for s in self.sessions if s.up and s.code is None and not s.process.crashed]
        if not found:
            return
        session = chance.choice(found)
        self.note(f"{session!r} is lost")
        session.up = False

        def notice() -> None:
            self.note(f"{session!r} is found lost")
            session.process.create_task(session.lose())

        seconds = chance.choice((0.001, 0.1, 5.0)) * chance.random()
        self.time.later_on(session.process.name, seconds, notice)

    def resume(self) -> None:
        """Let a client that lost its connection resume on any node."""
        chance = self.random
        lost = [
            s
            for s in self.sessions
            if s.secret is not None
            and s.entered
            and not s.left
            and (not s.up or s.process.crashed or s.code in (4001,))
        ]
        node = self.some_node()
        if not lost or node is None:
            return
        old = chance.choice(lost[-4:])
        session = Session(self, node.process, node.rooms, old.user, old.room)
        session.inherit(old)
        self.sessions.append(session)
        self.note(f"{session!r} resumes for {old!r}, has received {session.received}")
        secret, old.secret = old.secret, None
        self.begin(session, lambda: session.enter(secret, True))

    ACTIONS = (connect, connect_again, broadcast, host, leave, lose, resume)
    WEIGHTS = (8, 2, 9, 1, 3, 4, 6)

    # What goes wrong.

    def fault(self) -> None:
        """Cause or end a fault."""
        chance = self.random
        node = self.some_node()
        if node is None:
            return
        faults = node.store.faults
        kind = chance.choice(FAULTS)
        if self.losing and chance.random() < 0.2:
            kind = "loss"
        if kind == "loss" and (self.turned_back or not self.losing):
            kind = "line"
        self.note(f"fault: {kind} {node.name}")
        if kind == "slow calls":
            faults.call_seconds = chance.choice((0.1, 1.0, 4.0))
        elif kind == "lost calls":
            faults.lost_calls = chance.choice((0.1, 0.5))
        elif kind == "away":
            self.cut_off(node)
        elif kind == "slow messages":
            faults.message_seconds = chance.choice((0.1, 1.0, 2.0))
        elif kind == "line":
            node.store.lose_line(chance.choice((0.0, 0.1, 6.0)))
        elif kind == "pause":
            if node.process.paused:
                self.go_on(node)
            else:
                node.process.paused = True
                seconds = chance.choice((0.01, 1.0, 8.0, 14.0, 25.0))
                self.time.later(seconds, lambda: self.go_on(node))
        elif kind in ("crash", "stop") and self.time.now < self.lost_at + LOSS_SECONDS:
            # The node may hold seats taken after the store lost its notes, unnoticed by the node.
            self.note("not now")
        elif kind == "crash":
            self.noted_since = self.time.now
            node.process.crashed = True
            node.store.close_line()
            self.add_node()
        elif kind == "stop":
            self.stop(node)
        elif kind == "key" and self.losing and not self.turned_back:
            self.lose_key()
        elif kind == "clock":
            self.set_clock()
        elif kind == "all away":
            for each in self.nodes:
                self.cut_off(each)
        elif kind == "loss":
            self.lose_data()
        else:
            self.heal(node)

    def cut_off(self, node: Node) -> None:
        """Cut a node off for a while."""
        node.store.faults.away = True
        node.store.lose_line(self.random.choice((0.0, 0.1, 6.0)))
        seconds = self.random.choice((0.5, 4.0, 12.0))
        self.time.later(seconds, lambda: setattr(node.store.faults, "away", False))

    def set_clock(self) -> None:
        """Set the store's clock, forward or back."""
        jump = self.random.choice((2.0, 30.0, 90.0, -30.0, -3600.0))
        if jump < 0 and self.time.now < self.lost_at + LOSS_SECONDS:
            self.note("not now")  # a number whose loss a node has not noticed could be reused
            return
        self.cluster.jumped += jump
        self.note(f"the store's clock jumps by {jump} s")
        if jump > KEPT_SECONDS:
            # Kept data has expired: packets for nodes that were cut off, and rooms without members.
            self.since_loss.clear()
            self.lossy = True
        self.turned_back |= jump < 0  # numbers could be reused after a loss

    def heal(self, node: Node) -> None:
        """Restore a node's connection to the store."""
        faults = node.store.faults
        faults.lost_calls, faults.call_seconds, faults.message_seconds = 0.0, 0.002, 0.002

    def go_on(self, node: Node) -> None:
        """Resume a paused process."""
        if node.process.paused:
            self.note(f"{node.name} goes on")
            node.process.go_on()

    def stop(self, node: Node) -> None:
        """Stop a node in good order; another one starts."""
        if node.process.paused:
            return
        node.closing = True

        async def stop() -> None:
            for session in self.sessions:
                if session.process is node.process and session.code is None:
                    session.close(1001, "going away")
                    if session.seat is not None:
                        await session.lose()
            await node.rooms.close()
            node.process.crashed = True
            self.noted_since = self.time.now
            self.note(f"{node.name} has ended")

        node.process.perform(lambda: node.process.create_task(stop()))
        self.add_node()

    def lose_key(self) -> None:
        """Evict one key of a room from the store, or all keys."""
        room, key = self.random.choice(ROOMS), self.random.choice((*KEYS, "all"))
        self.note(f"{room} loses {key}")
        self.lossy = True
        if key != "log":  # else, unheard messages are lost with the rest of the room
            self.since_loss = [due for due in self.since_loss if due[0].room != room]
        self.losses += 1
        self.unseen += 1
        if key == "all":
            self.all_lost.add(room)
        self.cluster.server.delete(room, key)

    def lose_data(self) -> None:
        """Restart the store, empty or with an earlier snapshot.

        Or only the shard with the rooms: the shard with leases and notes loses nothing.
        """
        chance = self.random
        self.lossy = True
        self.since_loss.clear()  # what nobody has heard yet is lost
        self.lost_at = self.time.now
        self.losses += 1
        self.cluster.drop_connections()
        returns = bool(self.snapshots) and chance.random() < 0.5
        rooms_alone = chance.random() < 0.3
        if returns and self.snapshots[-1][0] <= self.noted_since:
            rooms_alone = False  # its seats may belong to nobody, without a note
        shard = "the shard of the rooms" if rooms_alone else "the store"
        if rooms_alone:
            self.unseen += 1
        else:
            self.cluster.server.process = str(self.cluster.era)
            self.noted_since = self.time.now
        if returns:
            self.note(f"{shard} has what it had a while ago")
            self.snapshots.pop()[1](rooms_alone)
            self.snapshots.clear()
            if not rooms_alone:
                self.cluster.renewed.clear()  # lost as well
        else:
            self.note(f"{shard} is empty")
            self.cluster.server.wipe(rooms_alone)
        for node in self.nodes:
            node.store.lose_line(chance.choice((0.0, 0.01, 0.1)))
        for _ in range(chance.randint(0, 3)):  # requests during recovery are the most telling
            self.broadcast(INSISTS)


class Complaints(logging.Handler):
    """Collects the exceptions that the engine logs."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler.emit."""
        if record.exc_info:
            self.texts.append(f"{record.getMessage()}: {record.exc_info[1]!r}")


@contextmanager
def deterministic(simulation: Simulation) -> Iterator[Complaints]:
    """Let the engine draw randomness from the seed; yield the exceptions it logs."""
    complaints = Complaints()
    logger = logging.getLogger("videre.engines")
    names = (f"x{number}" for number in itertools.count())
    before = duties.random, duties.secrets, logger.propagate  # type: ignore[attr-defined]
    named: Any = duties
    named.random = simulation.random
    named.secrets = types.SimpleNamespace(token_hex=lambda _: next(names))
    logger.addHandler(complaints)
    logger.propagate = False
    try:
        yield complaints
    finally:
        named.random, named.secrets, logger.propagate = before
        logger.removeHandler(complaints)


def run(seed: int, trace: bool = False) -> str | None:
    """Run one seed; return the violation or logged error, if any."""
    return _run(Simulation(seed, trace))


def story(seed: int) -> list[str]:
    """Run one seed; return its trace."""
    simulation = Simulation(seed, trace=True)
    _run(simulation)
    return simulation.story


def _run(simulation: Simulation) -> str | None:
    found: str | None = None
    with deterministic(simulation) as complaints:
        try:
            simulation.go()
        except Violation as violation:
            found = str(violation)
        told = list(complaints.texts)
        simulation.time.end()
    if told:
        found = f"{found or ''} {told[0]}"
        simulation.note(found)
    return found


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--trace", action="store_true", help="tell all that happens")
    parser.add_argument("--keep-on", action="store_true", help="go on after a failure")
    options = parser.parse_args()
    gc.disable()
    began, failures = time.process_time(), 0
    seed = options.seed
    for seed in range(options.seed, options.seed + options.runs):
        if seed % 100 == 0:
            gc.collect()
        simulation = Simulation(seed, options.trace)
        found = _run(simulation)
        if options.trace:
            print("\n".join(simulation.story))
        if found is not None:
            failures += 1
            print(f"seed {seed}: {found}", flush=True)
            if not options.keep_on:
                break
    runs = seed + 1 - options.seed
    seconds = time.process_time() - began
    print(f"{runs} runs, {failures} failed, {runs / seconds:.0f} runs/s of processor time")
    return failures > 0


if __name__ == "__main__":
    sys.exit(main())
