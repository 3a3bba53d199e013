"""The contract of every engine: a subclass provides its engine, and inherits these tests.

The methods of an engine return None or an awaitable; `done` awaits it if there is one.
"""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from patience import WAIT_SECONDS

from videre import engines
from videre.engines import Engine, Gap, Resumption
from videre.engines.events import Announcement, Event, Found, Joined, Left, Moved, Sent
from videre.errors import RoomFull, Unauthorized, UserTaken
from videre.settings import JoinPolicy, Retention

HALVES: Announcement = ('{"Header": 1, "Payload": ', "}")

MAX_BYTES = 1000  # of a room's log that are kept

#: What a user missed: event, user, and texts.
Missed = list[tuple[str, ...]]

SHORT = pytest.mark.parametrize("retention", [Retention(grace=0.5)], ids=["short"])


def code_of(event: Moved | Left) -> tuple[str, ...]:
    """Return the code of an event, if it has one."""
    return () if event.code is None else (str(int(event.code)),)


def in_short(found: Resumption) -> Missed | type[Gap] | None:
    """Return the outcome of a resume: the packets that were missed."""
    if not isinstance(found, engines.Missed):
        return found if found is None else type(found)
    told: Missed = []
    for event in found.events:
        if isinstance(event, Joined):
            told.append(("joined", event.user, *event.announcement))
        elif isinstance(event, Sent):
            told.append(("sent", event.user, event.text))
        elif isinstance(event, Left):
            told.append(("left", event.user))
            if event.heir is not None:
                told.append(("promoted", event.heir))
    return told[len(told) - found.count :]


class Recorder:
    """A listener that records what it hears, in order."""

    def __init__(self) -> None:
        self.events: list[tuple[str, ...]] = []
        self.for_all: list[bool] = []  # for each packet: whether it names no receivers
        self.lasts: list[str] = []  # for each moved seat: the id of its last packet
        self.heirs: list[str | None] = []  # for each seat that was left: the new initiator
        self.hears_of_losses = False  # whether to record that all members of a room were lost

    def hear(self, room: str, event: Event) -> None:
        """See Listener.hear. A new room has no members yet; none hears of a room's end."""
        if isinstance(event, Joined):
            assert event.announcement == HALVES
            self.events.append(("joined", room, event.user, event.seat))
        elif isinstance(event, Moved):
            self.lasts.append(event.last_id)
            self.events.append(("moved", room, event.user, event.seat, event.to, *code_of(event)))
        elif isinstance(event, Left):
            self.heirs.append(event.heir)
            told = event.user, event.seat, event.reason, *code_of(event)
            self.events.append(("left", room, *told))
        elif isinstance(event, Sent):
            self.events.append(("sent", room, event.seat, event.text, *(event.to or ())))
            self.for_all.append(event.to is None)
        elif isinstance(event, Found) and (event.members or self.hears_of_losses):
            self.events.append(("found", room, *(user for user, _ in event.members)))

    async def wait(self, count: int) -> None:
        """Wait until this many events were heard: a packet may take time."""
        async with asyncio.timeout(WAIT_SECONDS):
            while len(self.events) < count:  # noqa: ASYNC110  # a listener is no event
                await asyncio.sleep(0)

    def take(self) -> list[tuple[str, ...]]:
        """Return the events since the last call."""
        events, self.events = self.events, []
        return events


async def done(result: Any) -> Any:
    """Await the result of an engine's method if needed; return its value."""
    return await result if inspect.isawaitable(result) else result


class EngineContract:
    """The suite; a subclass overrides `made`."""

    engine: Engine
    heard: Recorder

    @pytest.fixture
    def retention(self) -> Retention:
        """Return what the engine must keep."""
        return Retention(max_bytes=MAX_BYTES)

    @pytest.fixture
    def made(self, retention: Retention) -> Engine:
        """Return a new engine that shares nothing with others."""
        raise NotImplementedError

    def pass_seconds(self, seconds: float) -> None:
        """Advance time, if the engine has a clock that a test can set."""

    @pytest.fixture(autouse=True)
    async def _engine(self, made: Engine) -> AsyncIterator[None]:
        self.engine, self.heard = made, Recorder()
        await done(self.engine.start(self.heard))
        yield
        await done(self.engine.close())

    async def join(
        self,
        room: str,
        user: str,
        seat: str,
        *,
        replace: bool = True,
        capacity: int | None = None,
        max_rooms: int | None = None,
        ticket: str | None = None,
    ) -> None:
        policy = JoinPolicy(replace=replace, capacity=capacity, max_rooms=max_rooms)
        await done(self.engine.join(room, user, seat, HALVES, policy, ticket))

    async def renew(self, user: str, seat: str, to: str, ticket: str) -> None:
        await done(self.engine.renew("room", user, seat, to, ticket))

    def lose(self, user: str, seat: str) -> None:
        self.engine.lose("room", user, seat)

    async def publish(
        self, seat: str, text: str, to: Sequence[str] | None = None, packet_id: str = ""
    ) -> None:
        await done(self.engine.publish("room", seat, text, to, packet_id))

    async def resume(
        self, user: str, to: str, shown: str, ticket: str = "new", received: int = 0
    ) -> Missed | type[Gap] | None:
        """Resume in "room"; return the outcome in short form."""
        found = await done(self.engine.resume("room", user, to, shown, ticket, received))
        return in_short(found)

    async def leave(self, room: str, user: str, seat: str, reason: str = "why") -> None:
        await self.engine.leave(room, user, seat, reason)

    async def members(self, room: str) -> list[str]:
        members = await done(self.engine.members(room))
        assert type(members) is list
        return members

    async def test_the_id_of_the_last_packet_belongs_to_the_seat(self) -> None:
        """The id moves from seat to seat and to nobody else; a new member has none."""
        await self.join("room", "a", "1", ticket="t1")
        await self.join("room", "b", "2")
        await self.renew("a", "1", "3", "t2")
        await self.publish("3", "text", packet_id='"first"')
        await self.publish("2", "text", packet_id="7")
        await self.publish("3", "text")  # the id stays the same
        self.lose("a", "3")
        assert await self.resume("a", "4", "t2", "t3", received=1) == []
        await self.publish("4", "text", packet_id="8.5")
        assert await self.resume("a", "5", "t3", "t4") == []
        await self.publish("5", "text", packet_id="null")
        await self.renew("a", "5", "6", "t5")
        await self.publish("6", "text", packet_id="9")
        await self.leave("room", "a", "6")
        await self.join("room", "a", "7", ticket="t6")
        await self.renew("a", "7", "8", "t7")
        await self.publish("2", "the end")
        await self.heard.wait(16)
        assert self.heard.take()[-1] == ("sent", "room", "2", "the end")
        assert self.heard.lasts == ["null", '"first"', "8.5", "null", "null"]

    async def test_a_join_is_heard_with_its_announcement(self) -> None:
        """A join is heard once, before the call returns."""
        await self.join("room", "a", "1")
        assert self.heard.take() == [("joined", "room", "a", "1")]

    async def test_a_leave_is_heard_with_its_reason(self) -> None:
        """A leave is heard once, with its reason."""
        await self.join("room", "a", "1")
        await self.leave("room", "a", "1", "disconnect")
        assert self.heard.take()[1:] == [("left", "room", "a", "1", "disconnect")]

    async def test_members_stand_in_joining_order(self) -> None:
        """The first to join comes first, whatever the names."""
        for seat, user in enumerate("cab"):
            await self.join("room", user, str(seat))
        assert await self.members("room") == ["c", "a", "b"]

    async def test_a_member_that_rejoins_is_last(self) -> None:
        """A member that leaves and joins again loses its place."""
        for seat, user in enumerate("abc"):
            await self.join("room", user, str(seat))
        await self.leave("room", "a", "0")
        await self.join("room", "a", "3")
        assert await self.members("room") == ["b", "c", "a"]

    async def test_an_unknown_room_has_no_members(self) -> None:
        """Asking for a room's members does not create the room."""
        assert await self.members("nowhere") == []
        assert await self.members("nowhere") == []
        assert self.heard.take() == []

    async def test_an_emptied_room_has_no_members(self) -> None:
        """A room ends with its last member, and can begin again."""
        await self.join("room", "a", "1")
        await self.leave("room", "a", "1")
        assert await self.members("room") == []
        await self.join("room", "b", "2")
        assert await self.members("room") == ["b"]

    async def test_the_list_of_members_is_the_callers_own(self) -> None:
        """Changing the returned list does not change the room."""
        await self.join("room", "a", "1")
        (await self.members("room")).clear()
        assert await self.members("room") == ["a"]

    async def test_a_duplicate_replaces(self) -> None:
        """With `replace`, the old seat is given up first; the new seat gets the last place."""
        await self.join("room", "a", "1")
        await self.join("room", "b", "2")
        self.heard.take()
        await self.join("room", "a", "3")
        assert self.heard.take() == [
            ("left", "room", "a", "1", "replaced", "4503"),
            ("joined", "room", "a", "3"),
        ]
        assert await self.members("room") == ["b", "a"]

    async def test_a_duplicate_replaces_in_a_room_of_its_own(self) -> None:
        """A room continues when its only member is replaced."""
        await self.join("room", "a", "1")
        await self.join("room", "a", "2")
        assert [event[0] for event in self.heard.take()] == ["joined", "left", "joined"]
        assert await self.members("room") == ["a"]

    async def test_a_duplicate_is_rejected(self) -> None:
        """Without `replace`, the join raises UserTaken; nothing changes and nothing is heard."""
        await self.join("room", "a", "1")
        self.heard.take()
        with pytest.raises(UserTaken):
            await self.join("room", "a", "2", replace=False)
        assert self.heard.take() == []
        assert await self.members("room") == ["a"]
        await self.leave("room", "a", "1")
        assert self.heard.take() == [("left", "room", "a", "1", "why")]

    async def test_a_rejected_user_may_join_once_the_other_has_left(self) -> None:
        """A name is free once its user has left."""
        await self.join("room", "a", "1")
        await self.leave("room", "a", "1")
        await self.join("room", "a", "2", replace=False)
        assert await self.members("room") == ["a"]

    @pytest.mark.parametrize(
        ("room", "user", "seat"),
        [("room", "a", "1"), ("room", "a", "9"), ("room", "z", "2"), ("other", "a", "2")],
        ids=["replaced", "never-was", "of-another-user", "of-another-room"],
    )
    async def test_leaving_a_missing_seat_is_no_error(
        self, room: str, user: str, seat: str
    ) -> None:
        """Leaving a seat that does not exist does nothing, and nobody hears of it."""
        await self.join("room", "a", "1")
        await self.join("room", "a", "2")
        self.heard.take()
        await self.leave(room, user, seat)
        assert self.heard.take() == []
        assert await self.members("room") == ["a"]

    async def test_a_seat_is_left_once(self) -> None:
        """The second leave of one seat is not heard."""
        await self.join("room", "a", "1")
        await self.leave("room", "a", "1", "first")
        await self.leave("room", "a", "1", "second")
        assert [event[-1] for event in self.heard.take()[1:]] == ["first"]

    async def test_a_seat_is_taken_away(self) -> None:
        """Whichever the user has: its session is closed with REMOVED and the words."""
        for seat, user in enumerate("aba"):
            await self.join("room", user, str(seat))
        self.heard.take()
        assert await self.engine.remove("room", "a", "why") is True
        assert await self.engine.remove("room", "b", "so") is True
        assert self.heard.take() == [
            ("left", "room", "a", "2", "why", "4504"),
            ("left", "room", "b", "1", "so", "4504"),
        ]
        assert await self.members("room") == []

    @pytest.mark.parametrize(("room", "user"), [("room", "z"), ("other", "a")])
    async def test_removing_an_absent_user_is_no_error(self, room: str, user: str) -> None:
        """Taking away any seat of an absent user does nothing, and says so."""
        await self.join("room", "a", "1")
        self.heard.take()
        assert await self.engine.remove(room, user, "why") is False
        assert self.heard.take() == [] and await self.members("room") == ["a"]

    async def test_a_packet_for_some_is_heard_with_their_names(self) -> None:
        """The receivers are passed on; the engine does not check whether they are present."""
        await self.join("room", "a", "1")
        await done(self.engine.publish("room", "1", "text", ("b", "a")))
        await done(self.engine.publish("room", "", "from the server"))
        await self.heard.wait(3)
        assert self.heard.take()[1:] == [
            ("sent", "room", "1", "text", "b", "a"),
            ("sent", "room", "", "from the server"),
        ]
        assert self.heard.for_all == [False, True]

    async def test_a_packet_for_nobody_is_for_nobody(self) -> None:
        """An empty list of receivers means nobody, also for a user that resumes."""
        await self.join("room", "a", "1")
        await self.join("room", "b", "2", ticket="t")
        await self.publish("1", "for nobody", ())
        await self.publish("1", "for b", ("b",))
        await self.heard.wait(4)
        assert self.heard.for_all == [False, False]
        assert await self.resume("b", "3", "t", received=0) == [("sent", "a", "for b")]

    async def test_the_rooms_with_members(self) -> None:
        """Every room is listed once; an emptied room is not listed."""
        for seat, (room, user) in enumerate([("one", "a"), ("one", "b"), ("two", "a")]):
            await self.join(room, user, str(seat))
        assert await done(self.engine.rooms(None, 1000)) == ["one", "two"]
        await self.leave("two", "a", "2")
        assert await done(self.engine.rooms(None, 1000)) == ["one"]

    async def test_a_node_alone(self) -> None:
        """It sees itself, with its process and its seats."""
        (one,) = self.engine.nodes()
        assert one.here and one.name and one.silent >= 0.0
        assert one.about is not None and one.about.age >= 0
        assert one.about.process.endswith(f":{os.getpid()}")

    async def test_rooms_come_in_pages(self) -> None:
        """Pages are sorted by character, and begin after a name, whether it exists or not."""
        names = ["", "(", "-", "A", "a", "a\x7f", "a\u00e9", "b", "\ufffd", "\U0001f600"]
        for seat, name in enumerate(reversed(names[1:])):
            await self.join(name, "user", str(seat))
        for limit in (1, 2, 3, 9, 10):
            pages = [[""]]
            while pages[-1]:
                pages.append(await done(self.engine.rooms(pages[-1][-1] or None, limit)))
                assert len(pages[-1]) <= limit
            assert [name for page in pages for name in page] == names
        await self.leave("a", "user", str(len(names) - 2 - names[1:].index("a")))
        assert await done(self.engine.rooms("A", 2)) == ["a\x7f", "a\u00e9"]
        assert await done(self.engine.rooms("a", 1)) == ["a\x7f"]
        assert await done(self.engine.rooms("\U0001f600", 1)) == []

    async def test_a_packet_is_heard_as_it_was_published(self) -> None:
        """A published text arrives unchanged, with its sender's seat."""
        text = '{"Payload" : "\u00e9\\u00e9 \U0001f600"}\n'
        await self.join("room", "a", "1")
        await done(self.engine.publish("room", "1", text))
        await self.heard.wait(2)
        assert self.heard.take()[1:] == [("sent", "room", "1", text)]

    async def test_events_are_heard_in_order(self) -> None:
        """The joins, packets and leaves of a room have one order."""
        await self.join("room", "a", "1")
        await self.join("room", "b", "2")
        for number in range(5):
            await done(self.engine.publish("room", "12"[number % 2], str(number)))
        await self.leave("room", "a", "1")
        await done(self.engine.publish("room", "2", "last"))
        await self.heard.wait(9)
        kinds = [event[0] for event in self.heard.events]
        texts = [event[3] for event in self.heard.take() if event[0] == "sent"]
        assert kinds == [*["joined"] * 2, *["sent"] * 5, "left", "sent"]
        assert texts == ["0", "1", "2", "3", "4", "last"]

    async def test_a_room_takes_as_many_as_its_capacity(self) -> None:
        """One more raises RoomFull and changes nothing; leaving frees a place."""
        await self.join("room", "a", "1", capacity=2)
        await self.join("room", "b", "2", capacity=2)
        self.heard.take()
        with pytest.raises(RoomFull):
            await self.join("room", "c", "3", capacity=2)
        assert self.heard.take() == [] and await self.members("room") == ["a", "b"]
        await self.leave("room", "a", "1")
        await self.join("room", "c", "4", capacity=2)
        assert await self.members("room") == ["b", "c"]

    async def test_a_duplicate_takes_no_extra_place(self) -> None:
        """A duplicate may replace a member of a full room."""
        await self.join("room", "a", "1", capacity=1)
        await self.join("room", "a", "2", capacity=1)
        assert await self.members("room") == ["a"]

    async def test_the_number_of_rooms_is_limited(self) -> None:
        """One more raises RoomFull; existing rooms stay open, and an emptied one makes room."""
        await self.join("one", "a", "1", max_rooms=2)
        await self.join("two", "a", "2", max_rooms=2)
        with pytest.raises(RoomFull):
            await self.join("three", "a", "3", max_rooms=2)
        await self.join("two", "b", "4", max_rooms=2)
        await self.leave("one", "a", "1")
        await self.join("three", "a", "5", max_rooms=2)
        assert await self.members("three") == ["a"]

    async def test_rooms_are_independent(self) -> None:
        """One user may have seats in two rooms; leaving one does not affect the other."""
        await self.join("room", "a", "1")
        await self.join("other", "a", "2")
        await self.leave("room", "a", "1")
        assert await self.members("room") == []
        assert await self.members("other") == ["a"]

    @pytest.mark.parametrize("name", ["__proto__", "constructor", "a b", "*", "\u00e9\U0001f600"])
    async def test_no_name_is_special(self, name: str) -> None:
        """Names have no meaning to an engine."""
        assert await self.members(name) == []
        await self.join(name, name, "1")
        assert await self.members(name) == [name]
        assert self.heard.take() == [("joined", name, name, "1")]

    async def test_a_closed_engine_is_silent(self) -> None:
        """Closing is not heard: it is not a leave."""
        await self.join("room", "a", "1")
        self.heard.take()
        await done(self.engine.close())
        assert self.heard.take() == []

    # Seats that may be resumed.

    async def test_a_lost_seat_is_resumed(self) -> None:
        """A resume gives another seat at the same place, and all missed packets."""
        await self.join("room", "a", "1", ticket="t")
        await self.join("room", "b", "2")
        self.lose("a", "1")
        await self.publish("2", "hello")
        await self.heard.wait(3)
        self.heard.take()
        assert await self.resume("a", "3", "t") == [
            ("joined", "b", *HALVES),
            ("sent", "b", "hello"),
        ]
        assert self.heard.take() == [("moved", "room", "a", "1", "3", "4503")]
        assert await self.members("room") == ["a", "b"]

    async def test_missed_events_come_in_order(self) -> None:
        """Missed joins, packets, leaves and promotions come in order, without one's own packets."""
        await self.join("room", "a", "1")
        await self.join("room", "b", "2", ticket="t")
        await self.publish("2", "of b's own")
        self.lose("b", "2")
        await self.publish("1", "one")
        await self.join("room", "c", "3")
        await self.publish("3", "to b", ["x", "b"])
        await self.publish("3", "not to b", ["a", "x"])
        await self.publish("", "from the server")
        await self.publish("", "from the server to a", ["a"])
        await self.leave("room", "a", "1")
        await self.leave("room", "c", "3")
        assert await self.resume("b", "4", "t") == [
            ("sent", "a", "one"),
            ("joined", "c", *HALVES),
            ("sent", "c", "to b"),
            ("sent", "", "from the server"),
            ("left", "a"),
            ("promoted", "b"),
            ("left", "c"),
        ]

    async def test_a_promotion_of_another_is_heard(self) -> None:
        """An absent user also hears that another one was promoted."""
        for seat, user in enumerate("abc"):
            await self.join("room", user, str(seat), ticket=user)
        self.lose("c", "2")
        await self.leave("room", "a", "0")
        assert await self.resume("c", "3", "c") == [("left", "a"), ("promoted", "b")]

    async def test_an_absent_initiator_keeps_its_place(self) -> None:
        """Nobody is promoted during the grace; the resumed seat has the first place again."""
        await self.join("room", "a", "1", ticket="t")
        await self.join("room", "b", "2")
        self.lose("a", "1")
        self.heard.take()
        assert await self.members("room") == ["a", "b"]
        assert await self.resume("a", "3", "t", received=1) == []
        assert await self.members("room") == ["a", "b"]
        assert [event[0] for event in self.heard.take()] == ["moved"]

    @pytest.mark.parametrize(
        ("received", "missed"),
        [(0, ["0", "1", "2"]), (1, ["1", "2"]), (3, []), (99, [])],
    )
    async def test_the_user_knows_best_what_it_received(
        self, received: int, missed: list[str]
    ) -> None:
        """It gets all packets after its count; a count beyond the last means none."""
        await self.join("room", "a", "1")
        await self.join("room", "b", "2", ticket="t")
        for number in range(3):
            await self.publish("1", str(number))
        self.lose("b", "2")
        found = await self.resume("b", "3", "t", received=received)
        assert found == [("sent", "a", text) for text in missed]

    async def test_a_leave_received_without_its_promotion(self) -> None:
        """A user that got an initiator's leave, but not the promotion, gets just the promotion."""
        await self.join("room", "a", "1")
        await self.join("room", "b", "2", ticket="t")
        await self.leave("room", "a", "1")
        self.lose("b", "2")
        assert await self.resume("b", "3", "t", received=1) == [("promoted", "b")]

    async def test_a_seat_that_is_not_lost_yet_is_resumed(self) -> None:
        """A second connection may show the ticket before the first is known to be dead."""
        await self.join("room", "a", "1")
        await self.join("room", "b", "2", ticket="t")
        await self.publish("1", "one")
        await self.publish("1", "two")
        assert await self.resume("b", "3", "t", "u", received=1) == [("sent", "a", "two")]
        assert await self.resume("b", "4", "u", "v", received=1) == []

    async def test_a_late_loss_of_a_resumed_seat_is_ignored(self) -> None:
        """The end of the first connection does not harm the second."""
        await self.join("room", "a", "1", ticket="t")
        await self.resume("a", "2", "t", "u")
        self.lose("a", "1")
        await self.leave("room", "a", "1")
        assert await self.members("room") == ["a"]
        assert await self.resume("a", "3", "u") == []

    async def test_a_new_ticket_counts_missed_packets(self) -> None:
        """Packets that a resume sent, and that may be lost, are sent again by the next resume."""
        await self.join("room", "a", "1")
        await self.join("room", "b", "2", ticket="t")
        self.lose("b", "2")
        await self.publish("1", "one")
        await self.publish("1", "two")
        one, two, three = (("sent", "a", text) for text in ("one", "two", "three"))
        assert await self.resume("b", "3", "t", "u") == [one, two]
        await self.publish("1", "three")
        self.lose("b", "3")
        assert await self.resume("b", "4", "u", "v", received=1) == [two, three]
        assert await self.resume("b", "5", "v", "w", received=0) == [two, three]

    async def test_a_ticket_is_valid_once(self) -> None:
        """A ticket that was used or never issued is refused, and changes nothing."""
        await self.join("room", "a", "1", ticket="t")
        self.lose("a", "1")
        await self.resume("a", "2", "t", "u")
        self.heard.take()
        for shown in ("t", "guessed", ""):
            with pytest.raises(Unauthorized):
                await self.resume("a", "3", shown)
        assert self.heard.take() == []
        await self.leave("room", "a", "2")
        assert [event[0] for event in self.heard.take()] == ["left"]

    async def test_a_seat_without_a_ticket_is_not_resumed(self) -> None:
        """No ticket resumes such a seat."""
        await self.join("room", "a", "1")
        await self.join("room", "b", "2", ticket="t")
        for shown in ("", "t"):
            with pytest.raises(Unauthorized):
                await self.resume("a", "3", shown)
        assert await self.members("room") == ["a", "b"]

    async def test_nothing_to_resume(self) -> None:
        """Resuming returns None for an unknown room, an unknown user, and a seat that was left."""
        assert await self.resume("a", "1", "t") is None
        await self.join("room", "b", "2")
        assert await self.resume("a", "3", "t") is None
        await self.join("room", "a", "4", ticket="t")
        await self.leave("room", "a", "4")
        assert await self.resume("a", "5", "t") is None
        assert await self.members("room") == ["b"]

    async def test_a_gap(self) -> None:
        """A Gap changes nothing: a client that missed less may still resume."""
        await self.join("room", "a", "1")
        await self.join("room", "b", "2", ticket="t")
        self.lose("b", "2")
        texts = [letter * (2 * MAX_BYTES // 5) for letter in "xyz"]
        for text in texts:
            await self.publish("1", text)
        await self.heard.wait(5)
        self.heard.take()
        assert await self.resume("b", "3", "t") is Gap
        assert self.heard.take() == []
        found = await self.resume("b", "4", "t", received=1)
        assert found == [("sent", "a", text) for text in texts[1:]]

    async def test_bytes_are_counted_as_utf8(self) -> None:
        """The log is bounded in bytes, not in characters."""
        await self.join("room", "a", "1")
        await self.join("room", "b", "2", ticket="t")
        self.lose("b", "2")
        await self.publish("1", "\u8996" * (MAX_BYTES // 3 + 1))
        assert await self.resume("b", "3", "t") is Gap

    async def test_a_seat_is_renewed(self) -> None:
        """It gets another seat and ticket at the same place, and counts as having received all."""
        await self.join("room", "a", "1", ticket="t")
        await self.join("room", "b", "2")
        await self.publish("2", "one")
        await self.heard.wait(3)
        self.heard.take()
        await self.renew("a", "1", "3", "u")
        assert [event[:5] for event in self.heard.take()] == [("moved", "room", "a", "1", "3")]
        assert await self.members("room") == ["a", "b"]
        with pytest.raises(Unauthorized):
            await self.resume("a", "4", "t")
        await self.publish("2", "two")
        assert await self.resume("a", "4", "u", received=0) == [("sent", "b", "two")]

    async def test_a_seat_without_a_ticket_gets_one(self) -> None:
        """A member that asks for a welcome later can resume from then on."""
        await self.join("room", "a", "1")
        await self.renew("a", "1", "2", "t")
        self.lose("a", "2")
        await self.join("room", "b", "3")
        assert await self.resume("a", "4", "t") == [("joined", "b", *HALVES)]

    @pytest.mark.parametrize(("user", "seat"), [("a", "1"), ("a", "9"), ("z", "2")])
    async def test_a_missing_seat_is_neither_renewed_nor_lost(self, user: str, seat: str) -> None:
        """Nothing changes, and nobody hears of it."""
        await self.join("room", "a", "1", ticket="t")
        await self.join("room", "a", "2", ticket="u")
        self.heard.take()
        await self.renew(user, seat, "3", "v")
        self.lose(user, seat)
        assert self.heard.take() == []
        assert await self.resume("a", "4", "u") == []

    async def test_an_absent_user_is_replaced(self) -> None:
        """A join under the name of a user in its grace replaces that user's seat."""
        await self.join("room", "a", "1", ticket="t")
        await self.join("room", "b", "2")
        self.lose("a", "1")
        self.heard.take()
        await self.join("room", "a", "3", ticket="u")
        assert [event[:4] for event in self.heard.take()] == [
            ("left", "room", "a", "1"),
            ("joined", "room", "a", "3"),
        ]
        with pytest.raises(Unauthorized):
            await self.resume("a", "4", "t")

    @SHORT
    async def test_a_grace_ends(self, retention: Retention) -> None:
        """A seat that is not resumed in time is left."""
        await self.join("room", "a", "1", ticket="t")
        await self.join("room", "b", "2")
        self.lose("a", "1")
        self.heard.take()
        self.pass_seconds(retention.grace)
        await self.heard.wait(1)
        assert self.heard.take() == [("left", "room", "a", "1", "grace-over")]
        assert await self.members("room") == ["b"]
        assert await self.resume("a", "3", "t") is None

    @SHORT
    async def test_the_grace_of_the_last_member_ends(self, retention: Retention) -> None:
        """The room ends, and can begin again."""
        await self.join("room", "a", "1", ticket="t")
        self.lose("a", "1")
        self.pass_seconds(retention.grace)
        await self.heard.wait(2)
        assert await done(self.engine.rooms(None, 1000)) == []
        await self.join("room", "a", "2", replace=False)
        assert await self.members("room") == ["a"]

    @SHORT
    async def test_a_resumed_seat_outlives_its_grace(self, retention: Retention) -> None:
        """The end of a grace spares a seat resumed before it; another's end marks the time."""
        await self.join("room", "a", "1", ticket="t")
        await self.join("room", "b", "2", ticket="u")
        self.lose("a", "1")
        await self.resume("a", "3", "t")
        self.lose("b", "2")
        self.heard.take()
        self.pass_seconds(retention.grace)
        await self.heard.wait(1)
        assert self.heard.take() == [("left", "room", "b", "2", "grace-over")]
        assert await self.members("room") == ["a"]
