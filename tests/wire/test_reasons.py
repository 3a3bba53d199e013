"""Reasons: one vocabulary, and what a close code says of the client's return."""

from __future__ import annotations

import pytest

from videre.errors import CloseCode, comes_back
from videre.reasons import SILENT, End, LeaveReason


@pytest.mark.parametrize("reason", LeaveReason)
def test_each_word_stands_for_itself(reason: LeaveReason) -> None:
    """What one node tells another through the store is understood there."""
    assert LeaveReason.of(reason.value) is reason


def test_words_of_the_application_are_a_removal() -> None:
    """Whatever it says, be it one of our own words."""
    assert LeaveReason.of("Be nice", CloseCode.REMOVED) is LeaveReason.REMOVED
    assert LeaveReason.of("moved", 4504) is LeaveReason.REMOVED


@pytest.mark.parametrize("word", ["", "grace over", "a word of another version"])
def test_an_unknown_word_is_other(word: str) -> None:
    """The metrics have no label that another version, or a client, chooses."""
    assert LeaveReason.of(word) is LeaveReason.OTHER


def test_what_the_log_says_of_an_end() -> None:
    """Only what there is to say."""
    assert SILENT.fields() == {"reason": "connection-lost", "detail": "silent"}
    assert End(LeaveReason.CLOSED_BY_CLIENT, 1000).fields() == {
        "reason": "closed-by-client",
        "code": 1000,
    }


def test_who_comes_back() -> None:
    """The table of protocol.md: 1001 and 4000 to 4499 ask for it."""
    back = {code for code in CloseCode if code.comes_back}
    assert back == {1001, 4000, 4001, 4002, 4003, 4004, 4005}
    assert not any(map(comes_back, (1000, 1002, 3000, 3999, 4500, 4999)))
