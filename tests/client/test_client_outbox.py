"""The Python client's outbox: what is sent again, and what is not."""

from __future__ import annotations

from videre.client.outbox import MAX_BYTES, Outbox


def filled(*identities: int) -> Outbox:
    """Return an outbox with these packets, each by its id."""
    outbox = Outbox()
    for identity in identities:
        outbox.add(identity, str(identity))
    return outbox


def test_what_was_not_confirmed_is_sent_again_in_order() -> None:
    """All after the one that the server has got last."""
    outbox = filled(1, 3, 4, 7)
    outbox.confirm(3)
    assert outbox.texts() == ["4", "7"]
    assert [outbox.has_sent(identity) for identity in (1, 3, 4, 7, 8)] == [True] * 4 + [False]


def test_an_id_between_two_confirms_those_before_it() -> None:
    """A ping has an id, too."""
    outbox = filled(1, 3)
    outbox.confirm(2)
    assert outbox.texts() == ["3"]


def test_what_is_given_up_was_not_sent() -> None:
    """Nobody knows whether it was."""
    outbox = filled(1, 2)
    outbox.confirm(1)
    outbox.clear()
    assert outbox.texts() == []
    assert outbox.has_sent(1) and not outbox.has_sent(2)


def test_it_is_bounded() -> None:
    """The oldest are let go, never the newest."""
    outbox = Outbox()
    for identity in range(1, 4):
        outbox.add(identity, "x" * (MAX_BYTES // 2))
    assert [len(text) for text in outbox.texts()] == [MAX_BYTES // 2] * 2
    outbox.add(4, "y" * (2 * MAX_BYTES))
    assert [text[0] for text in outbox.texts()] == ["y"]
