"""Members and clients of the resume machine: the truth, and what a client believes."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from fakes import COUNTED, Brief, FakeClient, brief


@dataclasses.dataclass(eq=False)
class Seat:
    """The model's view of a member."""

    user: str
    room: str
    asked: bool
    session: Session | None  # None: in grace
    secret: str | None = None
    log: list[Brief] = dataclasses.field(default_factory=list)  # counted, since the last welcome
    times: list[float] = dataclasses.field(default_factory=list)
    dropped: int = 0  # of the log
    last_id: int | None = None  # the id of its user's last broadcast
    due: float = 0.0  # once lost: the end of the grace
    history: list[Brief] = dataclasses.field(default_factory=list)  # counted, since it was taken


@dataclasses.dataclass
class Ticket:
    """What a client still has when its connection is gone."""

    user: str
    room: str
    secret: str
    received: int
    story: list[Brief]
    exact: bool  # whether the story is complete so far


class Session:
    """A client, the model's view of it, and its own beliefs."""

    def __init__(self, client: FakeClient) -> None:
        self.client = client
        self.seat: Seat | None = None
        self.code: int | None = None
        self.expected: list[tuple[str, str, str, Any]] = []
        self.received = 0  # counted packets since the last welcome
        self.secret = ""
        self.role = ""
        self.initiator = ""
        self.users: set[str] = set()
        self.story: list[Brief] = []
        self.base: list[Brief] | None = None  # the story so far, when a seat is taken
        self.exact = True

    def hear(self, text: str, user: str) -> None:
        """Process a packet, as `user`."""
        event, who, _, payload = heard = brief(text)
        if event in COUNTED:
            self.received += 1
            self.story.append(heard)
        if event == "welcome":
            welcome = json.loads(payload)
            self.secret, self.initiator = welcome["Resume"], welcome["Initiator"]
            self.users = set(welcome["Users"])
            self.received = 0
            if self.base is not None:
                self.story, self.base = list(self.base), None
        elif event == "connect":
            self.users.add(who)
            if who == user:
                self.role = payload
                if payload == "true":
                    self.initiator = who
        elif event == "role":
            self.initiator = who
        elif event == "disconnect":
            assert who != user, "its own disconnect"
            self.users.discard(who)

    def ticket(self, cut: int = 0) -> Ticket:
        """Return what the client holds, if its last `cut` packets have not arrived."""
        assert self.seat is not None
        story = self.story[: len(self.story) - cut]
        received = self.received - cut
        return Ticket(self.seat.user, self.seat.room, self.secret, received, story, self.exact)
