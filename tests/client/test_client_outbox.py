"""The Python client's outbox: which packets are sent again, and which are not."""

from __future__ import annotations

from videre.client.outbox import MAX_BYTES, Outbox


def filled(*identities: int) -> Outbox:
    """Return an outbox with packets of these ids."""
    outbox = Outbox()
    for identity in identities:
        outbox.add(identity, str(identity))
    return outbox


def test_unconfirmed_packets_are_sent_again_in_order() -> None:
    """All those after the last one that the server received."""
    outbox = filled(1, 3, 4, 7)
    outbox.confirm(3)
    assert outbox.texts() == ["4", "7"]
    assert [outbox.has_sent(identity) for identity in (1, 3, 4, 7, 8)] == [True] * 4 + [False]


def test_an_id_in_between_confirms_earlier_packets() -> None:
    """A ping has an id, too."""
    outbox = filled(1, 3)
    outbox.confirm(2)
    assert outbox.texts() == ["3"]


def test_packets_given_up() -> None:
    """Nobody knows whether they arrived, so they are not sent again."""
    outbox = filled(1, 2)
    outbox.confirm(1)
    outbox.clear()
    assert outbox.texts() == []
    assert outbox.has_sent(1) and not outbox.has_sent(2)


def test_it_is_bounded() -> None:
    """The oldest are dropped, never the newest."""
    outbox = Outbox()
    for identity in range(1, 4):
        outbox.add(identity, "x" * (MAX_BYTES // 2))
    assert [len(text) for text in outbox.texts()] == [MAX_BYTES // 2] * 2
    outbox.add(4, "y" * (2 * MAX_BYTES))
    assert [text[0] for text in outbox.texts()] == ["y"]
