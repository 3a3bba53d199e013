"""A peer: the protocol of one session, from the first packet to the last.

A packet is decoded, looked up in a table of events, and carried out by the method found there. A
PeerError raised on the way becomes an error packet; the transport catches everything else. A
method returns None when it is done, or an awaitable that must be awaited before the session's
next packet is handed over; that keeps a sender's packets in order.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from videre import packets, tally
from videre.errors import (
    CloseCode,
    EngineError,
    NoSuchUser,
    NotInRoom,
    PacketTooLarge,
    PeerError,
    RateLimited,
    Unauthorized,
    Unavailable,
    WrongUser,
)
from videre.interfaces import Connection
from videre.limits import PASS, Throttle, Verdict, throttle
from videre.packets import Event, Packet
from videre.payload import around_payload, head_of
from videre.peers.connect import enter
from videre.peers.context import Context
from videre.peers.deadline import Deadline
from videre.peers.last import new_id, note
from videre.reasons import End, LeaveReason
from videre.rooms.room import Seat, weight

# After this many bad packets in a row, a client is broken or hostile (protocol.md, "Bad input").
MAX_BAD_PACKETS = 10

# Broadcasts whose header is kept for comparison with the next one, before we stop trying.
MAX_HEADS = 8

# Longest ping kept for comparison with the next one, in characters (a client's has 100).
MAX_PING = 1024


class Peer:
    """The server's end of a session; `connection` leads to the client."""

    __slots__ = (
        "_bad",
        "_context",
        "_head",
        "_heads",
        "_ping",
        "_rooms",
        "_seat",
        "_tally",
        "_throttle",
        "_trace",
        "address",
        "connection",
        "deadline",
        "gone",
        "name",
    )

    def __init__(
        self, connection: Connection, context: Context, address: str = "", name: str = ""
    ) -> None:
        self.connection = connection
        self.name = name  # the session's name in the log
        self._context = context
        self._rooms = context.rooms
        self._tally = context.rooms.tally
        self.address = address
        self._seat: Seat | None = None
        self.gone = False
        self._bad = 0  # bad packets in a row
        self._ping: tuple[str, str, str] | None = None  # a ping, and its text around the Payload
        self._head: str | None = None  # this seat's last broadcast, up to its Payload
        self._heads = 0  # heads looked for since the seat was taken
        self._throttle: Throttle | None = None
        self.refresh()
        self.deadline = Deadline(context, self)
        self.deadline.enter()

    def refresh(self) -> None:
        """Reload limits and trace from the context; they may change at any time."""
        self._trace = self._context.trace
        self._throttle = throttle(self._context.limits)

    def go_away(self, seconds: float) -> None:
        """Tell the peer to reconnect in `seconds`: the server is draining."""
        seat = self.seat
        user, room = ("", "") if seat is None else (seat.user, seat.room)
        payload = {"RetryAfter": round(seconds * 1000)}
        self._send("goaway", packets.write_json(Event.GOAWAY, user, room, payload))

    def receive(self, text: str) -> Awaitable[None] | None:
        """Carry out one packet. Never raises PeerError: it is sent to the peer instead."""
        packet = None
        event = None  # stays None if the packet is unreadable
        seat = self._seat  # `seat` inlined
        if seat is not None and seat.connection is None:
            seat = self._seat = None
        context, counts = self._context, self._tally
        size = len(text) if text.isascii() else tally.size(text)
        try:
            ping, head = self._ping, self._head
            if seat is not None and ping is not None and ping[0] == text:
                # Nine packets out of ten: a seated client's ping, identical each time.
                event, user, room = "ping", seat.user, seat.room
                flow = counts.pings
            elif seat is not None and head is not None and context.decoder.repeats(text, head):
                # Most others: a broadcast with the same header as the last one.
                event, user, room = "broadcast", seat.user, seat.room
                flow = counts.broadcasts
                counts.text, counts.size = text, size
            else:
                packet = context.decoder.decode(text)
                event, user, room = packet.event, packet.user, packet.room
                flow = counts.received[event]
            flow.packets += 1
            flow.bytes += size
            if self._throttle is not None:
                verdict = self._throttle.judge(event == "ping", context.clock(), size)
                if verdict is not PASS:
                    self._drop(verdict)
                    return None
            if self._trace is not None:
                self._trace(event, user, room, len(text))
            if packet is not None:
                pending = _HANDLERS[event](self, packet, seat)
            elif event == "broadcast" and seat is not None:
                if seat.replica.weight:
                    self.pay(size * seat.replica.weight)
                pending = self._rooms.broadcast(seat, text)
            elif ping is not None and seat is not None:
                replica = seat.replica
                self._tell_users(replica.users_payload or replica.users(), ping)
                pending = None
        except (PeerError, EngineError) as error:
            if event is None:
                counts.received[tally.OTHER].add(text)
            if packet is not None or self._may_be_told(error, size):
                self.refuse(error, packet)
            return None
        if pending is None:
            self._bad = 0
            return None
        return self._finish(pending, packet)

    def pay(self, size: int) -> None:
        """Charge the session for bytes its packet caused, beyond its own."""
        if self._throttle is not None:
            self._throttle.charge(size, self._context.clock())

    def _may_be_told(self, error: PeerError | EngineError, size: int) -> bool:
        """Return whether to answer an unreadable packet; it counts towards the rate as a packet."""
        if self._throttle is None or not (isinstance(error, PeerError) and error.bad):
            return True
        verdict = self._throttle.judge(False, self._context.clock(), size)
        if verdict is Verdict.CLOSE:
            self.close(CloseCode.TOO_MANY_PACKETS)
        return verdict in (PASS, Verdict.WARN)

    def _drop(self, verdict: Verdict) -> None:
        """Warn or close, if the verdict on a dropped packet says so."""
        if verdict is Verdict.WARN:
            raise RateLimited("Rate limit exceeded; packets are dropped until it recovers")
        if verdict is Verdict.CLOSE:
            self.close(CloseCode.TOO_MANY_PACKETS)

    async def _finish(self, pending: Awaitable[None], packet: Packet | None) -> None:
        try:
            await pending
        except (PeerError, EngineError) as error:
            self.refuse(error, packet)
        else:
            self._bad = 0

    def refuse(self, error: PeerError | EngineError, packet: Packet | None = None) -> None:
        """Send the peer an error about `packet`."""
        if isinstance(error, EngineError):
            error = Unavailable(str(error))
        header = packet.header if packet is not None else getattr(error, "header", None)
        user, room, packet_id = packets.claimed(header)
        if (seat := self.seat) is not None:
            user, room = seat.user, seat.room
        self._tally.errors[error.code] += 1
        self._send("error", packets.write_error(error, user, room, packet_id))
        self._context.log("error", code=error.code, user=user, room=room, session=self.name)
        if error.bad:
            self._bad += 1
            if self._bad >= MAX_BAD_PACKETS:
                self.close(CloseCode.BAD_PACKETS)

    def _send(self, event: str, text: str) -> None:
        """Send an answer."""
        self._tally.sent[event].add(text)
        self.connection.send(text)

    def close(self, code: CloseCode) -> None:
        """Close the session."""
        self.connection.close(code, code.reason)

    def too_large(self) -> None:
        """Report a packet that was too large to be read."""
        self.refuse(PacketTooLarge("The frame was too large to be read"))

    def closed(self, end: End) -> Awaitable[None] | None:
        """Take the peer out of its room; keep a resumable seat if the connection was lost."""
        self.gone = True
        self._context.log("session-ended", session=self.name, **end.fields())
        self.deadline.end()
        seat = self.seat
        if seat is None or end.clean:
            return self._leave(seat, end.reason)
        return self._rooms.lose(seat, end, self.address)

    @property
    def seat(self) -> Seat | None:
        """The peer's seat; None outside of any room, or if the seat was taken from it."""
        seat = self._seat
        if seat is not None and seat.connection is None:
            seat = self._seat = None
        return seat

    @property
    def seated(self) -> bool:
        """See transport's Handler."""
        return self.seat is not None

    def _connect(self, packet: Packet, seat: Seat | None) -> Awaitable[None] | None:
        return enter(self, self._context, packet)

    def sit(self, seat: Seat) -> Awaitable[None] | None:
        """Sit in a seat that the engine granted; give up a seat in another room."""
        held, self._seat = self.seat, seat
        self._context.log("session-seated", session=self.name, user=seat.user, room=seat.room)
        self._ping = self._head = None
        self._heads = 0
        return None if held is None or held is seat else self._leave(held, LeaveReason.MOVED)

    def _broadcast(self, packet: Packet, seat: Seat | None) -> Awaitable[None] | None:
        own = _own(seat, packet)
        to = packet.header.get("To")
        packet_id = new_id(own, packet)
        if to is not None:
            return self._send_to(own, packet, [to] if isinstance(to, str) else to, packet_id)
        if self._heads < MAX_HEADS:  # stop trying with clients whose headers differ
            self._heads += 1
            self._head = head_of(packet.text)
        self.pay(tally.size(packet.text) * own.replica.weight)
        return note(own, packet_id, self._rooms.broadcast(own, packet.text, packet_id=packet_id))

    def _send_to(
        self, own: Seat, packet: Packet, users: list[str], packet_id: str
    ) -> Awaitable[None] | None:
        names = tuple(dict.fromkeys(users))
        self.pay(tally.size(packet.text) * weight(len(names)))
        pending = note(own, packet_id, self._rooms.broadcast(own, packet.text, names, packet_id))
        if absent := own.replica.absent(names):
            self.refuse(NoSuchUser(f"Header.To: not in the room: {', '.join(absent)}"), packet)
        return pending

    def _offer_ice(self, packet: Packet, seat: Seat | None) -> Awaitable[None] | None:
        own = _own(seat, packet)
        payload = packets.json_string(self._context.ice(own.user))
        self._send("ice", payload.join(around_payload(packet.text)))
        return None

    def _ping_room(self, packet: Packet, seat: Seat | None) -> Awaitable[None] | None:
        if self._context.auth.required and (seat is None or seat.room != packet.room):
            raise Unauthorized("Header.RoomId: only members may ask about a room")
        ping = (packet.text, *around_payload(packet.text))
        own = seat is not None and packet.room == seat.room and packet.user == seat.user
        if own and len(packet.text) <= MAX_PING:
            self._ping = ping  # clients repeat it every two seconds, unchanged
        return self._answer_ping(packet.room, ping)

    def _answer_ping(self, room: str, ping: tuple[str, str, str]) -> Awaitable[None] | None:
        users = self._rooms.users(room)
        if not isinstance(users, str):
            return self._answer_later(users, ping)
        self._tell_users(users, ping)
        return None

    async def _answer_later(self, users: Awaitable[str], ping: tuple[str, str, str]) -> None:
        self._tell_users(await users, ping)

    def _tell_users(self, users: str, ping: tuple[str, str, str]) -> None:
        text = f"{ping[1]}{users}{ping[2]}"
        # Flow.add inlined, as in Replica.sent: nothing is sent more often.
        flow = self._tally.sent["ping"]
        size = len(text) if text.isascii() else tally.size(text)
        flow.packets += 1
        flow.bytes += size
        if (held := self._throttle) is not None:  # `pay` inlined
            held.owed += size
            if held.owed > held.due:
                held.charge(0, self._context.clock())
        self.connection.send(text)

    def _disconnect(self, packet: Packet, seat: Seat | None) -> Awaitable[None] | None:
        own = _own(seat, packet)
        self.pay(tally.size(packet.text) * own.replica.weight)
        return self._leave(own, LeaveReason.DISCONNECT)

    def _leave(self, seat: Seat | None, reason: LeaveReason) -> Awaitable[None] | None:
        # The seat is the peer's until the engine says otherwise (see `seat`).
        return None if seat is None else self._rooms.leave(seat, reason)


def _own(seat: Seat | None, packet: Packet) -> Seat:
    """Return the peer's seat if the packet is for its room and from its user, else raise."""
    if seat is None or seat.room != packet.room:
        raise NotInRoom("Header.RoomId: this session is not in that room")
    if seat.user != packet.user:
        raise WrongUser("Header.UserId: this session has connected as another user")
    return seat


Handle = Callable[[Peer, Packet, Seat | None], Awaitable[None] | None]

_HANDLERS: dict[str, Handle] = {
    Event.CONNECT: Peer._connect,
    Event.BROADCAST: Peer._broadcast,
    Event.PING: Peer._ping_room,
    Event.DISCONNECT: Peer._disconnect,
    Event.ICE: Peer._offer_ice,
}
