"""The operations of room.lua and nodes.lua in Python: a store without a server or a clock.

Each operation has its name there, and gives the same answers. test_simulated_store.py compares the
two step by step.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import orjson

from videre.engines.redis.store import parse

DAY = 86_400_000  # ms

#: Receives a room and a published message: its line and its body.
Publish = Callable[[str, list[Any], str], None]


def encode(line: list[Any], body: str) -> str:
    """Return a message as cjson writes it: with the same number of bytes."""
    text = orjson.dumps(line).decode().replace("/", "\\/").replace("\x7f", "\\u007f")
    return f"{text}\n{body}"


def units_of(line: list[Any], user: str) -> int:
    """Return how many packets a member with a ticket gets for a message."""
    kind = line[1]
    if kind == "left":
        return 2 if line[6] else 1
    if kind == "joined":
        return int(line[2] != user)
    if kind == "sent" and line[2] != user:
        return int(line[4] is False or user in line[4])
    return 0


def packets_of(line: list[Any]) -> int:
    """Return how many packets members get for a message."""
    if line[1] == "left":
        return 2 if line[6] else 1
    return int(line[1] in ("joined", "sent"))


@dataclasses.dataclass(slots=True)
class RoomData:
    """The data of one room; the fields are those of room.lua."""

    name: str
    seq: int = 0
    born: str = ""
    units: int = 0
    packets: int = 0
    order: int = 0
    bytes: int = 0
    seats: dict[str, str] = dataclasses.field(default_factory=dict)
    nodes: dict[str, str] = dataclasses.field(default_factory=dict)
    meta: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    places: dict[str, int] = dataclasses.field(default_factory=dict)
    skips: dict[str, int] = dataclasses.field(default_factory=dict)
    lasts: dict[str, str] = dataclasses.field(default_factory=dict)
    log: list[tuple[str, int]] = dataclasses.field(default_factory=list)  # messages, their bytes
    expires: float = 0.0  # when the log expires, in seconds
    dies: float = math.inf  # when everything does, since it has no members

    gone: set[str] = dataclasses.field(default_factory=set)  # deleted keys

    def copy(self) -> RoomData:
        """Return a copy that shares no mutable parts."""
        return RoomData(
            **{
                **{each.name: getattr(self, each.name) for each in dataclasses.fields(self)},
                "seats": dict(self.seats),
                "nodes": dict(self.nodes),
                "meta": {user: dict(meta) for user, meta in self.meta.items()},
                "places": dict(self.places),
                "skips": dict(self.skips),
                "lasts": dict(self.lasts),
                "log": list(self.log),
                "gone": set(self.gone),
            }
        )

    @property
    def in_order(self) -> list[str]:
        """The users in joining order."""
        places = self.places
        return sorted(places, key=lambda user: (places[user], user))


class Server:
    """The store's server; `now` is its clock, in seconds. `publish` gets its messages."""

    def __init__(
        self,
        now: Callable[[], float],
        publish: Publish,
        *,
        keep_ms: int = 60_000,
        keep_bytes: int | None = None,
    ) -> None:
        self._now = now
        self._publish = publish
        self._keep = keep_ms / 1000, keep_bytes
        self.data: dict[str, RoomData] = {}
        self.lost: dict[str, float] = {}  # rooms that have lost a key, and until when that is known
        self.process = "0"  # changes with each restart
        self.leases: dict[str, str] = {}
        self.condemned: dict[str, str] = {}
        self.noted: dict[str, set[str]] = {}
        self.restoring: set[str] = set()

    def snapshot(self) -> Callable[[bool], None]:
        """Return a function that restores the present data: all, or those of the rooms only."""
        data = {name: room.copy() for name, room in self.data.items()}
        leases, condemned = dict(self.leases), dict(self.condemned)
        noted = {node: set(rooms) for node, rooms in self.noted.items()}
        restoring = set(self.restoring)

        def restore(rooms_alone: bool) -> None:
            self.data, self.lost = data, {}
            if not rooms_alone:
                self.leases, self.condemned, self.noted = leases, condemned, noted
                self.restoring = restoring

        return restore

    def wipe(self, rooms_alone: bool = False) -> None:
        """Lose all data, or those of the rooms."""
        self.data, self.lost = {}, {}
        if not rooms_alone:
            self.leases, self.condemned, self.noted = {}, {}, {}
            self.restoring = set()

    def delete(self, name: str, key: str) -> None:
        """Delete one key of a room, as an eviction does; "all" deletes each of them."""
        room = self.data.get(name)
        if key in ("room", "all"):
            self.lost.pop(name, None)
        if room is None:
            return
        if key == "log":
            room.log.clear()
            return
        keys = {"room", "order"} if room.seats else {"room"}
        room.gone |= keys if key == "all" else keys & {key}
        if room.gone == keys:  # as if it had never been: room.lua deletes the log with the next one
            del self.data[name]

    def step(self, name: str, op: str, *arguments: str) -> Any:
        """See RedisStore.step."""
        return _Step(self, name).take(op, arguments)

    def node(self, op: str, node: str, *arguments: str) -> Any:
        """See RedisStore.node, and nodes.lua."""
        now = int(self._now() * 1000)
        if op == "beat":
            state = "condemned" if node in self.condemned else "ok"
            if state == "ok":
                if node not in self.leases:
                    state = "new"
                self.leases[node] = arguments[0]
                if state == "new" or arguments[1] == "1":
                    self.restoring.add(node)
                else:
                    self.restoring.discard(node)
            open_ = [each for each, when in self.condemned.items() if when == "open"]
            for each, when in list(self.condemned.items()):
                if when != "open" and now - int(when) > DAY:
                    del self.condemned[each]
            restoring = sorted(self.restoring)
            leases = [text for pair in self.leases.items() for text in pair]
            noted = len(self.noted.get(node, ()))
            return [state, leases, open_, self.process, restoring, 0, noted]
        if op == "note":
            if node not in self.leases:
                return 0
            self.noted.setdefault(node, set()).add(arguments[0])
            return 1
        if op == "end":
            if len(arguments) > 1:
                self.noted.setdefault(node, set()).update(arguments[1:])
            self.restoring.discard(node)
            if node in self.condemned:
                self.condemned[node] = "open"
            else:
                self.leases[node] = arguments[0]
            return 1
        if op == "unnote":
            if arguments[1] != self.process:
                return 0
            rooms = self.noted.get(node, set())
            rooms.discard(arguments[0])
            if not rooms:
                self.noted.pop(node, None)
            return 1
        if op == "condemn":
            if self.leases.get(node) == arguments[0]:
                del self.leases[node]
                self.restoring.discard(node)
                self.condemned[node] = "open"
                return 1
            return int(self.condemned.get(node) == "open")
        if op == "process":
            return self.process
        if op == "buried":
            self.condemned[node] = str(now)
        return 0


class _Step:
    """One call of room.lua."""

    def __init__(self, server: Server, name: str) -> None:
        self._server = server
        self._name = name
        self._now = server._now()
        self._room = server.data.get(name)  # the result of EXISTS ROOM
        if self._room is not None and self._room.dies <= self._now:
            del server.data[name]
            self._room = None
        self._wiped = self._room is not None and bool(self._room.gone)
        if self._room is not None and self._wiped:
            self._wipe(self._room)

    def _wipe(self, room: RoomData) -> None:
        """Start over: a room that has lost a key is invalid. See room.lua, is_broken."""
        del self._server.data[self._name]
        self._server.lost[self._name] = self._now + self._server._keep[0]
        self._room = None
        seq = 0 if "room" in room.gone else room.seq
        number = str(max(seq + 1, round(self._now * 1_000_000)))
        self._server._publish(self._name, [number, "broken", False, False, "0"], "")

    def take(self, op: str, arguments: tuple[str, ...]) -> Any:
        assert all(isinstance(each, str) for each in arguments), (op, arguments)
        return getattr(self, f"_op_{op}")(*arguments)

    @property
    def _there(self) -> RoomData:
        assert self._room is not None
        return self._room

    def _seat(self, user: str) -> str | None:
        return None if self._room is None else self._room.seats.get(user)

    def _make(self, name: str) -> RoomData:
        if self._room is None:
            self._room = self._server.data[self._name] = RoomData(name)
            self._room.seq = round(self._now * 1_000_000)
            self._room.born = str(self._room.seq)
            self._server.lost.pop(self._name, None)
        self._room.dies = math.inf
        return self._room

    def _log(self) -> list[tuple[str, int]]:
        """The log, unless it has expired."""
        room = self._room
        if room is None:
            return []
        if room.expires <= self._now:
            room.log.clear()
        return room.log

    def _tell(self, line: list[Any], body: str, units: int) -> str:
        room = self._there
        before = room.seq
        room.seq = max(before + 1, round(self._now * 1_000_000))
        line[0] = str(room.seq)
        line.append(str(before))
        room.units += units
        room.packets += packets_of(line)
        log = self._log()
        message = encode(line, body)
        size = len(message.encode())
        log.append((message, size))
        room.bytes = size + (room.bytes if len(log) > 1 else 0)
        seconds, most = self._server._keep
        if most is not None:
            while room.bytes > most:
                room.bytes -= log.pop(0)[1]
        for _ in range(0 if most is not None else 2):
            first = int(parse(log[0][0])[0][0])
            if first < room.seq - 1_000_000 * seconds:
                room.bytes -= log.pop(0)[1]
        room.expires = self._now + seconds
        self._server._publish(self._name, line, body)
        return str(room.seq)

    def _members(self) -> list[list[Any]]:
        room = self._room
        if room is None:
            return []
        return [
            [user, room.seats[user], room.nodes[user], str(room.places[user])]
            for user in room.in_order
        ]

    def _state(self, known: str) -> list[Any]:
        """Return the part added to an answer: nothing, or the state."""
        room = self._room
        if room is not None and room.born == known:
            return []
        number, born = ("0", "") if room is None else (str(room.seq), room.born)
        seats = [(user, "\n".join(kept)) for user, *kept in self._members()]
        return [[number, born, [each for pair in seats for each in pair]]]

    def _issue(self, user: str, meta: dict[str, Any], ticket: str, skipped: int) -> None:
        room = self._there
        if ticket:
            meta["t"] = ticket
            room.skips[user] = room.units + skipped
        if "t" in meta:
            for key in "lxg":
                meta.pop(key, None)
            room.meta[user] = meta

    def _miscount(self, user: str) -> None:
        if user in self._there.meta:
            self._there.meta[user]["g"] = True

    def _remove(self, user: str, seat: str, reason: str, code: int | bool) -> str:
        room = self._there
        first = room.in_order[0]
        for each in (room.seats, room.nodes, room.meta, room.skips, room.lasts, room.places):
            each.pop(user, None)
        rest = room.in_order
        promoted = rest[0] if first == user and rest else False
        if not room.seats:
            room.dies = self._now + self._server._keep[0]
        return self._tell([0, "left", user, seat, reason, code, promoted], "", 2 if promoted else 1)

    # The operations.

    def _op_join(
        self,
        name: str,
        user: str,
        seat: str,
        node: str,
        replace: str,
        capacity: str,
        ticket: str,
        born: str,
        announcement: str,
    ) -> Any:
        held = self._seat(user)
        if held is not None:
            if replace == "0":
                return ["taken"]
            self._remove(user, held, "replaced", 4503)
        elif capacity and (len(self._room.seats) if self._room else 0) >= int(capacity):
            return ["full"]
        room = self._make(name)
        state = self._state(born)
        room.order = max(room.order + 1, int(self._now * 1000))
        room.places[user] = room.order
        room.seats[user], room.nodes[user] = seat, node
        seq = self._tell([0, "joined", user, seat, node, room.order], announcement, 1)
        self._issue(user, {}, ticket, 0)
        return ["ok", seq, *state]

    def _op_leave(
        self, user: str, seat: str, reason: str, code: str, born: str | None = None
    ) -> Any:
        if born is not None and self._is_other(born):
            return ["other"]
        held = self._seat(user)
        if held is None or seat not in ("", held):
            if self._room is None and not self._wiped and seat:
                self._server._publish(self._name, ["0", "broken", False, False, "0"], "")
            return ["gone"]
        return ["ok", self._remove(user, held, reason, int(code) if code else False)]

    def _is_other(self, born: str) -> bool:
        is_lost = self._server.lost.get(self._name, 0.0) > self._now
        return is_lost or bool(born and (self._room is None or self._room.born != born))

    def _op_publish(self, user: str, seat: str, to: str, last: str, text: str, born: str) -> Any:
        if self._is_other(born):
            return ["other"]
        if seat and self._seat(user) != seat:
            return ["gone"]
        room = self._room
        if room is None or not room.seats:
            return ["ok", "0"]
        names: Any = orjson.loads(to) if to else False
        if names is False:
            counted, units = {user: 1}, 1
        else:
            counted, units = dict.fromkeys({*names} - {user}, -1), 0
        for other in counted.keys() & room.skips.keys():
            room.skips[other] += counted[other]
        seq = self._tell([0, "sent", user, seat, {} if names == [] else names], text, units)
        if last:
            room.lasts[user] = last
        return ["ok", seq]

    def _op_renew(
        self, user: str, seat: str, to: str, node: str, ticket: str, born: str = ""
    ) -> Any:
        if self._is_other(born):
            return ["other"]
        if self._seat(user) != seat:
            return ["gone"]
        self._there.seats[user], self._there.nodes[user] = to, node
        self._issue(user, self._there.meta.get(user, {}), ticket, 0)
        last = self._there.lasts.get(user, "null")
        return ["ok", self._tell([0, "moved", user, seat, to, node, False], last, 0)]

    def _op_resume(
        self,
        user: str,
        to: str,
        node: str,
        shown: str,
        ticket: str,
        received: str,
        born: str,
    ) -> Any:
        seat = self._seat(user)
        if seat is None:
            return ["none"]
        room = self._there
        meta = room.meta.get(user, {})
        if meta.get("t") != shown:
            return ["none" if meta and user not in room.skips else "wrong"]
        if meta.get("g") or user not in room.skips:
            return ["gap"]
        need = max(0, room.units - room.skips[user] - int(received))
        missed: list[str] = []
        units, log = 0, self._log()
        at = len(log)
        while units < need:
            if at == 0:
                return ["gap"]
            at -= 1
            line = parse(log[at][0])[0]
            if line[1] == "restored":
                return ["gap"]
            count = units_of(line, user)
            if count > 0:
                units += count
                missed.insert(0, log[at][0])
        state = self._state(born)
        room.seats[user], room.nodes[user] = to, node
        self._issue(user, meta, ticket, -need)
        last = room.lasts.get(user, "null")
        seq = self._tell([0, "moved", user, seat, to, node, 4503], last, 0)
        return ["ok", seq, str(need), missed, *state]

    def _op_reap(self, dead: str, node: str, start: str, most: str) -> Any:
        adopted = []
        above, first = start.startswith("("), float(start.removeprefix("("))
        some = [
            each
            for each in self._members()
            if int(each[3]) > first or (not above and int(each[3]) == first)
        ][: int(most)]
        for user, seat, owner, place in some:
            if owner != dead:
                continue
            if (meta := self._there.meta.get(user)) is not None:
                to = f"{seat}~"
                self._there.seats[user], self._there.nodes[user] = to, node
                last = self._there.lasts.get(user, "null")
                self._tell([0, "moved", user, seat, to, node, 4001], last, 0)
                adopted.append([user, to, meta["t"], place])
            else:
                self._remove(user, seat, "node lost", 4001)
        if len(some) < int(most):
            return ["ok", adopted, ""]
        last = some[-1][3]
        return ["ok", adopted, f"({last}" if last == start else last]

    def _op_restore(
        self,
        name: str,
        node: str,
        seats: str,
        born: str,
        leaving: str = "{}",
        uncounted: str = "",
        adopts: str = "",
    ) -> Any:
        is_known = self._room is not None and self._room.born == born
        adopted = []
        mine = orjson.loads(seats)
        named = {own[1] for own in mine}
        for user, seat, owner, _ in self._members():
            if owner == node and seat not in named:
                reason = orjson.loads(leaving).get(seat)
                ticket = self._there.meta.get(user, {}).get("t")
                if adopts == "1" and seat.endswith("~") and ticket and not reason:
                    adopted.append([user, seat, ticket, str(self._there.places[user])])
                    continue
                self._remove(user, seat, reason or "lost", False if reason else 4001)
        lost = []
        restored: list[list[Any]] = []
        for own in mine:
            user, place = own[0], int(own[2])
            held = self._seat(user)
            if held is None and place > 0 and not is_known:
                room = self._make(name)
                room.order = max(room.order, place)
                room.places[user], room.seats[user] = place, own[1]
                room.nodes[user] = node
                self._issue(user, {}, own[3], 0)
                room.lasts[user] = ""
                self._miscount(user)
                restored.append([user, own[1], place])
            elif held is not None and held not in named:
                lost.append(user)
            elif held is not None and (uncounted == "1" or (not is_known and born != "-")):
                self._miscount(user)
        if restored:
            self._tell([0, "restored", node, restored], "", 0)
        state = [] if born == "-" else self._state(born)
        for number, here, _ in state:
            if here:
                self._server._publish(self._name, [number, "state", node, here], "")
        return ["ok", lost, adopted, *state]

    def _op_since(self, seq: str, born: str) -> Any:
        room = self._room
        number = int(seq)
        if room is None:
            return ["lost", []]
        if room.born == born and room.seq < number:
            room.skips.clear()
            return ["lost", []]
        if room.born == born and room.seq == number:
            return ["ok", []]
        found: list[Any] = []
        packets = 0
        for message, _ in reversed(self._log()):
            line, _ = parse(message)
            if room.born == born and int(line[0]) <= number:
                room.skips.clear()
                return ["lost", found]
            found.append(message)
            packets += packets_of(line)
            if room.born == born and line[-1] == seq:
                return ["ok", found]
        if room.born != born and packets == room.packets:
            return ["lost", found]
        return ["trimmed"]

    def _op_members(self, born: str) -> Any:
        if self._is_other(born):
            return ["other"]
        return ["ok", [] if self._room is None else self._room.in_order]
