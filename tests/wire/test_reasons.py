"""Reasons of a leave: one vocabulary, and whether a close code asks the client to return."""

from __future__ import annotations

import pytest

from videre.errors import CloseCode, comes_back
from videre.reasons import SILENT, End, LeaveReason


@pytest.mark.parametrize("reason", LeaveReason)
def test_each_reason_survives_the_store(reason: LeaveReason) -> None:
    """Another node reads from the store the same reason that was written."""
    assert LeaveReason.of(reason.value) is reason


def test_the_applications_words_are_a_removal() -> None:
    """This holds even if they equal one of our own reasons."""
    assert LeaveReason.of("Be nice", CloseCode.REMOVED) is LeaveReason.REMOVED
    assert LeaveReason.of("moved", 4504) is LeaveReason.REMOVED


@pytest.mark.parametrize("word", ["", "grace over", "a word of another version"])
def test_an_unknown_reason_is_other(word: str) -> None:
    """No label of the metrics is chosen by another version or a client."""
    assert LeaveReason.of(word) is LeaveReason.OTHER


def test_the_log_of_an_end() -> None:
    """It has only the fields that have a value."""
    assert SILENT.fields() == {"reason": "connection-lost", "detail": "silent"}
    assert End(LeaveReason.CLOSED_BY_CLIENT, 1000).fields() == {
        "reason": "closed-by-client",
        "code": 1000,
    }


def test_which_codes_ask_to_return() -> None:
    """The table of protocol.md: 1001 and 4000 to 4499 do."""
    back = {code for code in CloseCode if code.comes_back}
    assert back == {1001, 4000, 4001, 4002, 4003, 4004, 4005}
    assert not any(map(comes_back, (1000, 1002, 3000, 3999, 4500, 4999)))
