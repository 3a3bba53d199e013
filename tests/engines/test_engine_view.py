"""The states of a view: the table alone, and what happens to a view that is over."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from engine_nodes import simulated

from videre.engines.redis.view import KNOWN, MOVES, OVER, STRAYED, UNKNOWN, OwnSeat, View, ViewState
from videre.errors import EngineError
from videre.ids import RoomId, SeatId, UserId
from videre.reasons import LeaveReason

#: All that may happen to a view; nothing else may.
ALLOWED = {
    *itertools.product((UNKNOWN, KNOWN, STRAYED), (UNKNOWN, KNOWN, STRAYED)),
    (UNKNOWN, OVER),  # the seat that was wanted was refused
    (KNOWN, OVER),  # the last seat here has gone
    (STRAYED, OVER),  # the same, while the room is restored
}


def view_in(state: ViewState) -> View:
    """Return a view in a state."""
    view = View(RoomId("room"), asyncio.get_running_loop().create_task(asyncio.sleep(0)))
    view.state = state
    return view


@pytest.mark.parametrize(("before", "after"), [*itertools.product(ViewState, ViewState)])
async def test_the_table(before: ViewState, after: ViewState) -> None:
    """Each state to each: what is not allowed raises, and changes nothing."""
    view = view_in(before)
    if (before, after) in ALLOWED:
        view.become(after)
        assert view.state is after
    else:
        with pytest.raises(ValueError, match=f"{before} cannot be {after}"):
            view.become(after)
        assert view.state is before


def test_the_table_has_all_states() -> None:
    """Each one has a row, and what is over stays over."""
    assert MOVES.keys() == set(ViewState)
    assert {(a, b) for a, row in MOVES.items() for b in row} == ALLOWED
    assert not MOVES[OVER]


@pytest.mark.parametrize("state", ViewState)
async def test_which_life_of_the_room_is_known(state: ViewState) -> None:
    """That of the state that is believed; without one, a step asks for it."""
    view = view_in(state)
    view.born = "7"
    assert view.known_as == ("7" if state is KNOWN else "")


@pytest.mark.parametrize("leaving", [False, True])
async def test_a_seat_that_is_given_up_is_not_granted(leaving: bool) -> None:
    """The members had to reconnect while a step asked for it: the session must not keep it."""
    view = view_in(KNOWN)
    own = OwnSeat(SeatId("1"), UserId("a"), RoomId("room"), None, place=1.0)
    if leaving:
        own.leaving = LeaveReason.ENGINE
        with pytest.raises(EngineError):
            await view.seated(own, 0)
    else:
        await view.seated(own, 0)


async def test_nothing_is_heard_of_a_room_after_the_last_seat_in_it() -> None:
    """A node missed that its member was replaced elsewhere, and that others came after it.

    Of these it hears nothing: it would keep the room for ever.
    """
    async with simulated("one", "two", node_timeout=60.0) as (cluster, [one, two]):
        await one.join("a")
        view = one.engine._node.views[RoomId("room")]
        cluster.stores[0].channels.clear()  # messages are lost from now on
        await two.join("a")
        await two.join("b")
        await one.engine._following.fetch(view)
        assert (view.state, one.engine._node.views) == (OVER, {})
        await one.hears("joined", "left")
