"""What every engine does: a subclass names its engine, and inherits these tests.

The methods of an engine return None or an awaitable; `done` waits where there is something to.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from videre.engines import Announcement, Engine, Terms
from videre.errors import RoomFull, UserTaken

HEARD_SECONDS = 10  # a safety net

HALVES: Announcement = ('{"Header": 1, "Payload": ', "}")


class Recorder:
    """A listener that writes down what it hears, in order."""

    def __init__(self) -> None:
        self.events: list[tuple[str, ...]] = []

    def joined(self, room: str, user: str, seat: str, announcement: Announcement) -> None:
        """See Listener.joined."""
        assert tuple(announcement) == HALVES
        self.events.append(("joined", room, user, seat))

    def moved(self, room: str, user: str, seat: str, to: str, code: int | None) -> None:
        """See Listener.moved."""
        told = () if code is None else (str(int(code)),)
        self.events.append(("moved", room, user, seat, to, *told))

    def found(self, room: str, members: Sequence[tuple[str, str]]) -> None:
        """See Listener.found; a room that begins has nobody yet."""
        if members:
            self.events.append(("found", room, *(user for user, _ in members)))

    def dropped(self, room: str) -> None:
        """See Listener.dropped: this is nothing that members hear of."""

    def left(self, room: str, user: str, seat: str, reason: str, code: int | None) -> None:
        """See Listener.left."""
        told = () if code is None else (str(int(code)),)
        self.events.append(("left", room, user, seat, reason, *told))

    def sent(self, room: str, seat: str, text: str, to: Sequence[str] | None) -> None:
        """See Listener.sent."""
        self.events.append(("sent", room, seat, text, *(to or ())))

    async def wait(self, count: int) -> None:
        """Return when so many events were heard: a packet may take its time."""
        async with asyncio.timeout(HEARD_SECONDS):
            while len(self.events) < count:  # noqa: ASYNC110  # a listener is no event
                await asyncio.sleep(0)

    def take(self) -> list[tuple[str, ...]]:
        """Return what was heard since the last call."""
        events, self.events = self.events, []
        return events


async def done(result: Any) -> Any:
    """Return what a method's result comes to."""
    return await result if inspect.isawaitable(result) else result


class EngineContract:
    """The suite; a subclass overrides `made`."""

    engine: Engine
    heard: Recorder

    @pytest.fixture
    def made(self) -> Engine:
        """Give a new engine that shares nothing with any other."""
        raise NotImplementedError

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
    ) -> None:
        terms = Terms(replace=replace, capacity=capacity, max_rooms=max_rooms)
        await done(self.engine.join(room, user, seat, HALVES, terms))

    async def leave(self, room: str, user: str, seat: str, reason: str = "why") -> None:
        await done(self.engine.leave(room, user, seat, reason))

    async def members(self, room: str) -> list[str]:
        members = await done(self.engine.members(room))
        assert type(members) is list
        return members

    async def test_a_join_is_heard_with_its_announcement(self) -> None:
        """A join is heard once, when the work is done."""
        await self.join("room", "a", "1")
        assert self.heard.take() == [("joined", "room", "a", "1")]

    async def test_a_leave_is_heard_with_its_reason(self) -> None:
        """A leave is heard once, and says why."""
        await self.join("room", "a", "1")
        await self.leave("room", "a", "1", "disconnect")
        assert self.heard.take()[1:] == [("left", "room", "a", "1", "disconnect")]

    async def test_members_stand_in_joining_order(self) -> None:
        """Who joined first stands first, whatever the names."""
        for seat, user in enumerate("cab"):
            await self.join("room", user, str(seat))
        assert await self.members("room") == ["c", "a", "b"]

    async def test_who_comes_back_stands_last(self) -> None:
        """A member that left and joined again has lost its place."""
        for seat, user in enumerate("abc"):
            await self.join("room", user, str(seat))
        await self.leave("room", "a", "0")
        await self.join("room", "a", "3")
        assert await self.members("room") == ["b", "c", "a"]

    async def test_an_unknown_room_has_no_members(self) -> None:
        """Asking for a room's members does not make the room."""
        assert await self.members("nowhere") == []
        assert await self.members("nowhere") == []
        assert self.heard.take() == []

    async def test_an_emptied_room_has_no_members(self) -> None:
        """A room is gone with its last member, and begins anew."""
        await self.join("room", "a", "1")
        await self.leave("room", "a", "1")
        assert await self.members("room") == []
        await self.join("room", "b", "2")
        assert await self.members("room") == ["b"]

    async def test_the_list_of_members_is_the_callers_own(self) -> None:
        """Changing the list that was returned changes no room."""
        await self.join("room", "a", "1")
        (await self.members("room")).clear()
        assert await self.members("room") == ["a"]

    async def test_a_duplicate_replaces(self) -> None:
        """With `replace` the old seat is given up first, then the new one is taken, the last."""
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
        """A room whose only member is replaced goes on."""
        await self.join("room", "a", "1")
        await self.join("room", "a", "2")
        assert [event[0] for event in self.heard.take()] == ["joined", "left", "joined"]
        assert await self.members("room") == ["a"]

    async def test_a_duplicate_is_rejected(self) -> None:
        """Without `replace` the join raises UserTaken, and nothing has changed or is heard."""
        await self.join("room", "a", "1")
        self.heard.take()
        with pytest.raises(UserTaken):
            await self.join("room", "a", "2", replace=False)
        assert self.heard.take() == []
        assert await self.members("room") == ["a"]
        await self.leave("room", "a", "1")
        assert self.heard.take() == [("left", "room", "a", "1", "why")]

    async def test_a_rejected_user_may_join_once_the_other_has_left(self) -> None:
        """A name that was given up is free."""
        await self.join("room", "a", "1")
        await self.leave("room", "a", "1")
        await self.join("room", "a", "2", replace=False)
        assert await self.members("room") == ["a"]

    @pytest.mark.parametrize(
        ("room", "user", "seat"),
        [("room", "a", "1"), ("room", "a", "9"), ("room", "z", "2"), ("other", "a", "2")],
        ids=["replaced", "never-was", "of-another-user", "of-another-room"],
    )
    async def test_a_seat_that_is_gone_is_no_error(self, room: str, user: str, seat: str) -> None:
        """Leaving a seat that is not there does nothing and nobody hears of it."""
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
        """With a code the leave is one that the holder is told of, also whichever seat it has."""
        for seat, user in enumerate("ab"):
            await self.join("room", user, str(seat))
        self.heard.take()
        await done(self.engine.leave("room", "a", "0", "why", 4504))
        await done(self.engine.leave("room", "b", None, "so", 4504))
        assert self.heard.take() == [
            ("left", "room", "a", "0", "why", "4504"),
            ("left", "room", "b", "1", "so", "4504"),
        ]

    @pytest.mark.parametrize(("room", "user"), [("room", "z"), ("other", "a")])
    async def test_whichever_seat_of_nobody_is_no_error(self, room: str, user: str) -> None:
        """Who is not there has no seat that could be taken away."""
        await self.join("room", "a", "1")
        self.heard.take()
        await done(self.engine.leave(room, user, None, "why"))
        assert self.heard.take() == [] and await self.members("room") == ["a"]

    async def test_a_packet_for_some_is_heard_with_their_names(self) -> None:
        """To whom a packet goes is handed on; whether they are there is not the engine's."""
        await self.join("room", "a", "1")
        await done(self.engine.publish("room", "1", "text", ("b", "a")))
        await done(self.engine.publish("room", "", "from the server"))
        await self.heard.wait(3)
        assert self.heard.take()[1:] == [
            ("sent", "room", "1", "text", "b", "a"),
            ("sent", "room", "", "from the server"),
        ]

    async def test_the_rooms_that_have_members(self) -> None:
        """Every room is named once; an emptied one is no more."""
        for seat, (room, user) in enumerate([("one", "a"), ("one", "b"), ("two", "a")]):
            await self.join(room, user, str(seat))
        assert sorted(await done(self.engine.rooms())) == ["one", "two"]
        await self.leave("two", "a", "2")
        assert await done(self.engine.rooms()) == ["one"]

    async def test_a_packet_is_heard_as_it_was_published(self) -> None:
        """What is published comes with its sender's seat, character by character."""
        text = '{"Payload" : "\u00e9\\u00e9 \U0001f600"}\n'
        await self.join("room", "a", "1")
        await done(self.engine.publish("room", "1", text))
        await self.heard.wait(2)
        assert self.heard.take()[1:] == [("sent", "room", "1", text)]

    async def test_events_are_heard_in_the_order_they_were_asked_for(self) -> None:
        """Joins, packets and leaves of a room have one order."""
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
        """One more raises RoomFull and changes nothing; a place that is given up is free."""
        await self.join("room", "a", "1", capacity=2)
        await self.join("room", "b", "2", capacity=2)
        self.heard.take()
        with pytest.raises(RoomFull):
            await self.join("room", "c", "3", capacity=2)
        assert self.heard.take() == [] and await self.members("room") == ["a", "b"]
        await self.leave("room", "a", "1")
        await self.join("room", "c", "4", capacity=2)
        assert await self.members("room") == ["b", "c"]

    async def test_a_duplicate_takes_no_further_place(self) -> None:
        """Who replaces a member of a full room gets the place of that one."""
        await self.join("room", "a", "1", capacity=1)
        await self.join("room", "a", "2", capacity=1)
        assert await self.members("room") == ["a"]

    async def test_there_are_as_many_rooms_as_may_be(self) -> None:
        """One more raises RoomFull; rooms that exist are open, and an emptied one makes place."""
        await self.join("one", "a", "1", max_rooms=2)
        await self.join("two", "a", "2", max_rooms=2)
        with pytest.raises(RoomFull):
            await self.join("three", "a", "3", max_rooms=2)
        await self.join("two", "b", "4", max_rooms=2)
        await self.leave("one", "a", "1")
        await self.join("three", "a", "5", max_rooms=2)
        assert await self.members("three") == ["a"]

    async def test_rooms_have_nothing_in_common(self) -> None:
        """The same user may sit in two rooms; leaving one leaves the other alone."""
        await self.join("room", "a", "1")
        await self.join("other", "a", "2")
        await self.leave("room", "a", "1")
        assert await self.members("room") == []
        assert await self.members("other") == ["a"]

    @pytest.mark.parametrize("name", ["__proto__", "constructor", "a b", "*", "\u00e9\U0001f600"])
    async def test_any_name_is_an_ordinary_one(self, name: str) -> None:
        """Names mean nothing to an engine."""
        assert await self.members(name) == []
        await self.join(name, name, "1")
        assert await self.members(name) == [name]
        assert self.heard.take() == [("joined", name, name, "1")]

    async def test_a_closed_engine_is_silent(self) -> None:
        """Nothing is heard of closing: it is nobody's leave."""
        await self.join("room", "a", "1")
        self.heard.take()
        await done(self.engine.close())
        assert self.heard.take() == []
