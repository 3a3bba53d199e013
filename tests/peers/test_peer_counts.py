"""What a session adds to the tally, its `goaway`, and which packets are parsed."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from fakes import UNLIMITED, FakeClient, World, brief, event_in, packet
from guests import ask, back, guest

from videre.packets import Decoder
from videre.tally import size


class Counting(Decoder):
    """A decoder that counts the packets it parses."""

    parsed = 0

    def decode(self, text: str) -> Any:
        """See Decoder.decode."""
        self.parsed += 1
        return super().decode(text)


def answers(client: FakeClient, event: str) -> tuple[int, int]:
    """Return how many packets of an event a client has got, and their bytes."""
    texts = [text for text in client.connection.sent if event_in(text) == event]
    return len(texts), sum(map(size, texts))


@pytest.mark.parametrize("user", ["a", "\u00e4"])
def test_answers_are_counted(user: str) -> None:
    """Each answer to a ping, the first and the repeated ones, and each error by its code."""
    world = World(limits=UNLIMITED)
    client = world.client()
    client.connect(user, "room")
    for room in ("room", "room", "room", "other"):
        client.say(packet("ping", user, room))
    sent = world.rooms.tally.sent["ping"]
    assert (sent.packets, sent.bytes) == answers(client, "ping")
    for text in (packet("broadcast", user, "other"), packet("broadcast", "x", "room"), "x", "y"):
        client.say(text)
    tally = world.rooms.tally
    errors = {code: count for code, count in tally.errors.items() if count}
    assert errors == {"not-in-room": 1, "wrong-user": 1, "malformed-packet": 2}
    assert (tally.sent["error"].packets, tally.sent["error"].bytes) == answers(client, "error")


def test_the_outcomes_of_resumes_are_counted() -> None:
    """Resumed, gone or refused."""
    world = World(limits=UNLIMITED)
    client, secret = guest(world, "a")
    guest(world, "b")
    client.end()
    back(world, "a", secret)
    ask(world.client(), "c", Resume="unknown")
    ask(world.client(), "b", Resume="wrong")
    results = {result: count for result, count in world.rooms.tally.resumes.items() if count}
    assert results == {"resumed": 1, "gone": 1, "refused": 1}
    assert not world.rooms._replica.joining  # the seats that were not granted are forgotten


def test_a_goaway_names_the_seat() -> None:
    """It says in milliseconds when to come back; without a seat its header is empty."""
    world = World()
    (a,) = world.members("a")
    stranger = world.client()
    for client, user, room in ((a, "a", "room"), (stranger, "", "")):
        client.peer.go_away(1.5)
        (text,) = client.texts()
        assert brief(text)[:3] == ("goaway", user, room)
        assert json.loads(brief(text)[3]) == {"RetryAfter": 1500}
    assert world.rooms.tally.sent["goaway"].packets == 2


def test_what_is_repeated_is_not_parsed_again() -> None:
    """A member's own ping, and a broadcast with the header of the last one."""
    world = World(limits=UNLIMITED)
    decoder = world.context.decoder = Counting(None)
    a, _ = world.members("a", "b")

    def parsed(*texts: str) -> list[int]:
        before = [decoder.parsed]
        for text in texts:
            a.say(text)
            before.append(decoder.parsed)
        return [after - now for now, after in itertools.pairwise(before)]

    ping = packet("ping", "a", "room")
    assert parsed(ping, ping, ping) == [1, 0, 0]
    other = packet("ping", "b", "room")  # not its own: nobody else's is kept
    assert parsed(other, other, ping) == [1, 1, 0]
    broadcasts = [packet("broadcast", "a", "room", number) for number in range(3)]
    assert parsed(*broadcasts, ping) == [1, 0, 0, 0]
    assert parsed(packet("broadcast", "a", "room", 1, More=1), broadcasts[0]) == [1, 1]
