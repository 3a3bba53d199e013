"""A peer: the protocol of one session, from the first packet to the last.

A packet is decoded, looked up in a table of events, and carried out by the method found there. A
PeerError or EngineError raised on the way becomes an error packet; the transport catches everything
else. A method returns None when it is done, or an awaitable that must be awaited before the
session's next packet is handed over; that keeps a sender's packets in order.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from videre import packets, tally
from videre.errors import (
    CloseCode,
    EngineError,
    NoSuchUser,
    NotInRoom,
    PeerError,
    RateLimited,
    Unauthorized,
    WrongUser,
)
from videre.ids import RoomId, UserId
from videre.interfaces import Connection
from videre.limits import PASS, Verdict
from videre.packets import Event, Packet
from videre.payload import around_payload, head_of
from videre.peers.connect import enter
from videre.peers.context import Context
from videre.peers.holder import Holder
from videre.reasons import LeaveReason
from videre.rooms.room import HELD, Seat, weight

# Broadcasts whose header is kept for comparison with the next one, before we stop trying.
MAX_HEADS = 8

# Longest ping kept for comparison with the next one, in characters (a client's has 100).
MAX_PING = 1024

# Sent to a client that sends too much.
DROPPED = "Rate limit exceeded; packets are dropped until it recovers"


class Peer(Holder):
    """The server's end of a session: a Holder, and what its client's packets do."""

    __slots__ = ("_head", "_head_id", "_heads", "_ping")

    def __init__(
        self, connection: Connection, context: Context, address: str = "", name: str = ""
    ) -> None:
        super().__init__(connection, context, address, name)
        self._ping: tuple[str, str, str] | None = None  # a ping, and its text around the Payload
        self._head: str | None = None  # this seat's last broadcast, up to its Payload
        self._head_id = ""  # its Header.Id as JSON
        self._heads = 0  # heads looked for since the seat was taken

    def receive(self, text: str) -> Awaitable[None] | None:
        """Carry out one packet. Never raises PeerError: it is sent to the peer instead."""
        packet, seat = None, self._seat  # `seat` inlined
        if seat is not None and seat.state is not HELD:
            seat = self._seat = None
        ping, head = self._ping, self._head
        size = len(text) if text.isascii() else tally.size(text)
        pending = None
        try:
            if seat is not None and ping is not None and ping[0] == text:
                # Nine packets out of ten: a seated client's ping, identical each time.
                if not self._admit("ping", size, seat):
                    return None
                self._tell_users(seat.replica.users_payload or seat.replica.users(), ping)
            elif (
                seat is not None and head is not None and self._context.decoder.repeats(text, head)
            ):
                # Most others: a broadcast with the same header as the last one.
                if not self._admit("broadcast", size, seat):
                    return None
                if seat.replica.weight:
                    self.pay(size * seat.replica.weight)
                pending = self._rooms.broadcast(seat, text, packet_id=self._head_id)
            else:
                packet = self._decode(text, size)
                if packet is None or not self._admit(packet.event, size, packet):
                    return None
                pending = _HANDLERS[packet.event](self, packet, seat)
        except (PeerError, EngineError) as error:
            self._refuse(error, packet, text)
            return None
        if pending is not None:
            return self._finish(pending, packet, text)
        self._bad = 0
        return None

    def _decode(self, text: str, size: int) -> Packet | None:
        """Decode a text; None if it is no packet, and the rates do not allow an answer."""
        try:
            return self._context.decoder.decode(text)
        except PeerError:
            if self._admit(tally.OTHER, size, None):
                raise
            return None

    def _admit(self, event: str, size: int, whose: Seat | Packet | None) -> bool:
        """Count a packet of `size` bytes; return whether the rates allow it.

        `whose` has its user and room. Of the packets in a row that are not allowed, the first
        raises RateLimited, even if it is bad, and one too many closes the session.
        """
        flow = self._tally.received[event]
        flow.packets += 1
        flow.bytes += size
        if self._throttle is not None:
            verdict = self._throttle.judge(event == "ping", self._context.clock(), size)
            if verdict is not PASS:
                if verdict is Verdict.WARN:
                    raise RateLimited(DROPPED)
                if verdict is Verdict.CLOSE:
                    self.close(CloseCode.TOO_MANY_PACKETS)
                return False
        if self._trace is not None and whose is not None:
            self._trace(event, whose.user, whose.room, size)
        return True

    async def _finish(self, pending: Awaitable[None], packet: Packet | None, text: str) -> None:
        try:
            await pending
        except (PeerError, EngineError) as error:
            self._refuse(error, packet, text)
        else:
            self._bad = 0

    def _refuse(self, error: PeerError | EngineError, packet: Packet | None, text: str) -> None:
        """Send an error about a packet; decode one that was not decoded, for its Header.Id."""
        if packet is None and isinstance(error, (EngineError, RateLimited)):
            try:
                packet = self._context.decoder.decode(text)
            except PeerError as bad:  # or MaxPacketBytes has been reloaded
                if isinstance(error, RateLimited):
                    error.header, error.bad = bad.header, True
        self.refuse(error, packet)

    def _connect(self, packet: Packet, seat: Seat | None) -> Awaitable[None] | None:
        return self._begin(self._enter(packet))

    async def _enter(self, packet: Packet) -> None:
        seat = await enter(self, self._context, packet)
        if seat is not None:
            self._ping = self._head = None
            self._heads = 0
            await self.sit(seat)

    def _broadcast(self, packet: Packet, seat: Seat | None) -> Awaitable[None] | None:
        own = _own(seat, packet)
        to: UserId | list[UserId] | None = packet.header.get("To")
        packet_id = packets.id_text(packet.header)
        if to is not None:
            return self._send_to(own, packet, [to] if isinstance(to, str) else to, packet_id)
        if self._heads < MAX_HEADS:  # stop trying with clients whose headers differ
            self._heads += 1
            self._head, self._head_id = head_of(packet.text), packet_id
        self.pay(tally.size(packet.text) * own.replica.weight)
        return self._rooms.broadcast(own, packet.text, packet_id=packet_id)

    def _send_to(
        self, own: Seat, packet: Packet, users: list[UserId], packet_id: str
    ) -> Awaitable[None] | None:
        names = tuple(dict.fromkeys(users))
        self.pay(tally.size(packet.text) * weight(len(names)))
        pending = self._rooms.broadcast(own, packet.text, names, packet_id)
        if absent := own.replica.absent(names):
            self.refuse(NoSuchUser(f"Header.To: not in the room: {', '.join(absent)}"), packet)
        return pending

    def _offer_ice(self, packet: Packet, seat: Seat | None) -> Awaitable[None] | None:
        own = _own(seat, packet)
        payload = packets.json_string(self._context.ice(own.user))
        self.send("ice", payload.join(around_payload(packet.text)))
        return None

    def _ping_room(self, packet: Packet, seat: Seat | None) -> Awaitable[None] | None:
        if self._context.auth.required and (seat is None or seat.room != packet.room):
            raise Unauthorized("Header.RoomId: only members may ask about a room")
        ping = (packet.text, *around_payload(packet.text))
        own = seat is not None and packet.room == seat.room and packet.user == seat.user
        if own and len(packet.text) <= MAX_PING:
            self._ping = ping  # clients repeat it every two seconds, unchanged
        if (users := self._rooms.users_here(packet.room)) is None:
            return self._begin(self._ask_users(packet.room, ping))
        self._tell_users(users, ping)
        return None

    async def _ask_users(self, room: RoomId, ping: tuple[str, str, str]) -> None:
        self._tell_users(await self._rooms.users(room), ping)

    def _tell_users(self, users: str, ping: tuple[str, str, str]) -> None:
        text = f"{ping[1]}{users}{ping[2]}"
        # Flow.add inlined, as in Replica.hear: nothing is sent more often.
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
        return self._begin(self._rooms.leave(own, LeaveReason.DISCONNECT))


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
