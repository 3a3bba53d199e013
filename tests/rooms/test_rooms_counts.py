"""Rooms: what they count of packets, rooms and timed broadcasts."""

from __future__ import annotations

from collections import Counter

from fakes import UNLIMITED, World, event_in, packet
from guests import ask
from test_found import Frank, find

from videre.engines.events import Dropped
from videre.rooms.census import Census
from videre.tally import size


class Counted(World):
    """A namespace that compares its tally with what the connections have received."""

    def check(self) -> None:
        """Compare the packets that rooms send, by event, and their bytes."""
        packets: Counter[str] = Counter()
        sizes: Counter[str] = Counter()
        for connection in self.connections:
            for text in connection.sent:
                packets[event_in(text)] += 1
                sizes[event_in(text)] += size(text)
        for event in ("connect", "disconnect", "broadcast", "role", "welcome"):
            flow = self.rooms.tally.sent[event]
            assert (flow.packets, flow.bytes) == (packets[event], sizes[event]), event


def test_a_join_is_logged() -> None:
    """With the role of the member, and how many there are."""
    world = World()
    world.members("a", "b")
    joined = [(each["user"], each["initiator"], each["members"]) for each in world.log.of("join")]
    assert joined == [("a", True, 1), ("b", False, 2)]


def test_a_packet_counts_for_each_who_gets_it() -> None:
    """Joins, broadcasts, leaves with and without an heir, repeats, and what a resume brings."""
    world = Counted(limits=UNLIMITED)
    clients = [world.client() for _ in "abcd"]
    for client, user in zip(clients, "abcd", strict=True):
        ask(client, user, Welcome=user != "d")
        world.check()
    a, b, c, d = clients
    for to in ("", "b", ["a", "d"]):
        c.say(packet("broadcast", "c", "room", "\u20ac", **({"To": to} if to else {})))
        world.check()
    ask(d, "d", Welcome=True)
    world.check()
    d.say(packet("disconnect", "d", "room"))
    world.check()
    secret = b.connection.secret
    assert secret is not None
    b.end()
    a.say(packet("broadcast", "a", "room", 1))
    a.say(packet("broadcast", "a", "room", 2))
    a.end(1000, clean=True)
    ask(world.client(), "b", Resume=secret)
    world.check()
    tally = world.rooms.tally
    assert (tally.joins, tally.promotions, sum(tally.leaves.values())) == (4, 1, 2)


def test_members_that_are_gone_are_not_counted() -> None:
    """An engine finds that several have lost their seats: only those who stay hear of it."""
    world = Counted(Frank)
    clients = {user: world.client() for user in "abc"}
    for user, client in clients.items():
        client.connect(user, "room")
    find(world, "c")
    world.check()


def test_a_dropped_room_counts_no_more() -> None:
    """The engine says that a room has ended; the census forgets its members."""
    world = World(Frank)
    world.members("a", "b")
    assert world.rooms.census.members == 2
    engine = world.engine
    assert isinstance(engine, Frank)
    engine.listener.hear("room", Dropped())
    assert (len(world.rooms), world.rooms.census.members) == (0, 0)
    engine.listener.hear("room", Dropped())  # unknown by now
    assert world.rooms.census.members == 0


def test_the_first_of_the_largest() -> None:
    """Among owners of a size, the one that has had it longest comes first."""
    census: Census[str] = Census()
    for name in "ab":
        census.change(name, 0, 2)
    census.change("a", 2, 2)
    assert census.largest(1) == [("a", 2)]
    census.change("a", 2, 3)
    census.change("a", 3, 2)
    assert census.largest(1) == [("b", 2)]


def test_timed_broadcasts() -> None:
    """Each one that was delivered at once counts, while a chunk is timed."""
    world = World()
    a, _ = world.members("a", "b")
    relays = world.rooms.tally.relays
    a.say(packet("broadcast", "a", "room", 1))
    assert relays.written == 0  # no chunk is timed
    relays.begin()
    a.say(packet("broadcast", "a", "room", 2))
    a.say(packet("broadcast", "a", "room", 3))
    assert relays.written == 2
