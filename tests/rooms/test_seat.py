"""The states of a seat: which changes the table allows, and what a seat then drops."""

from __future__ import annotations

import itertools
import re

import pytest
from fakes import FakeConnection
from process import ROOT

from videre.rooms.room import ASKED, ELSEWHERE, GONE, HELD, LOST, MOVES, NOBODY, Seat, SeatState

#: All changes that may happen to a seat; any other is an error.
ALLOWED = {
    (ASKED, HELD),  # the engine grants it
    (ASKED, GONE),  # the engine refuses it, or fails
    (HELD, LOST),  # its connection breaks
    (HELD, GONE),  # it is left, taken away, or moved to another connection
    (LOST, GONE),  # its grace is over, or its user comes back
    (ELSEWHERE, GONE),  # another node's member leaves or moves
}


def seat_in(state: SeatState) -> Seat:
    """Return a seat in a state."""
    return Seat("1", "a", "room", state=state, connection=FakeConnection(), since=0.0)


@pytest.mark.parametrize(("before", "after"), [*itertools.product(SeatState, SeatState)])
def test_allowed_changes(before: SeatState, after: SeatState) -> None:
    """A change that is not allowed raises, and has no effect."""
    seat = seat_in(before)
    connection = seat.connection
    if (before, after) in ALLOWED:
        seat.become(after)
        assert seat.state is after
        assert seat.connection is (connection if after is HELD else NOBODY)
    else:
        with pytest.raises(ValueError, match=f"{before} cannot be {after}"):
            seat.become(after)
        assert (seat.state, seat.connection) == (before, connection)


def test_the_table_has_all_states() -> None:
    """Each state has a row, and a gone seat stays gone."""
    assert MOVES.keys() == set(SeatState)
    assert {(a, b) for a, row in MOVES.items() for b in row} == ALLOWED
    assert not MOVES[GONE]


@pytest.mark.parametrize("state", SeatState)
def test_local_seats(state: SeatState) -> None:
    """A seat is this node's while it is held or may be resumed."""
    assert seat_in(state).local is (state in (HELD, LOST))


def test_the_default_seat() -> None:
    """It is on another node, and has no connection here."""
    elsewhere = Seat("2", "b", "room", since=0.0)
    assert (elsewhere.state, elsewhere.connection) == (ELSEWHERE, NOBODY)
    elsewhere.connection.send("into the void")
    elsewhere.connection.close(4503, "why")


def test_only_the_replica_moves_seats() -> None:
    """No other module changes a seat's state or connection."""
    moves = re.compile(r"\.become\(|\bseat\.(?:state|connection) = ")
    files = [*(ROOT / "videre/rooms").glob("*.py"), *(ROOT / "videre/peers").glob("*.py")]
    assert {file.stem for file in files if moves.search(file.read_text("utf-8"))} == {"replica"}
