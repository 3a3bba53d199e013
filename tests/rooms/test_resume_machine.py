"""Connections are lost and seats resumed in any order, and every packet equals the model's."""

from __future__ import annotations

from hypothesis import settings
from later_engine import LaterEngine
from patience import examples
from resume_machine import ResumeMachine
from test_rooms_machine import RUNS


class Replace(ResumeMachine):
    """A second join under the same name replaces the first."""


class Reject(ResumeMachine):
    """A second join without the secret is refused."""

    duplicate = "reject"


class Gaps(ResumeMachine):
    """Nothing is kept: every missed packet is a gap."""

    keeps = False


class Later(ResumeMachine):
    """An engine that answers later."""

    engine = LaterEngine


TestReplace = Replace.TestCase
TestReject = Reject.TestCase
TestGaps = Gaps.TestCase
TestLater = Later.TestCase
TestReplace.settings = settings(RUNS, max_examples=examples(60))
TestReject.settings = TestGaps.settings = TestLater.settings = settings(
    RUNS, max_examples=examples(30)
)
