"""Many peers join and leave, and every packet that each hears equals the model's."""

from __future__ import annotations

from hypothesis import Phase, settings
from later_engine import LaterEngine
from patience import examples
from rooms_machine import RoomsMachine


class Replace(RoomsMachine):
    """A second join under the same name replaces the first."""


class Reject(RoomsMachine):
    """A second join under the same name is refused."""

    duplicate = "reject"


class Later(RoomsMachine):
    """An engine that answers later."""

    engine = LaterEngine


# Without `explain`, and one failure at a time, so that a failure reports quickly.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate, Phase.target, Phase.shrink)
RUNS = settings(
    max_examples=examples(50), stateful_step_count=40, phases=PHASES, report_multiple_bugs=False
)

TestReplace = Replace.TestCase
TestReject = Reject.TestCase
TestLater = Later.TestCase
TestReplace.settings = TestReject.settings = RUNS
TestLater.settings = settings(RUNS, max_examples=examples(20))
