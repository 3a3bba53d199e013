"""The documentation's transcripts, played to a real server; they cover every event and error."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from documents import BLOCKS, ROOT, Block, runs_all
from inprocess import Framing
from transcripts import play, read

from videre import errors
from videre.errors import CloseCode, PeerError
from videre.packets import CLIENT_EVENTS, Event

DOORS: dict[str, tuple[Framing, bool]] = {
    "raw": ("raw", False),
    "sockjs": ("sockjs", False),
    "redis": ("raw", True),
}
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
SPOKEN = [
    step
    for block in BLOCKS
    if block.language == "transcript" and block.document == "docs/protocol.md"
    for step in read(block).steps
]


@pytest.mark.process
@pytest.mark.parametrize("door", DOORS)
@runs_all("transcript")
async def test_a_transcript_is_true(block: Block, door: str, tmp_path: Path) -> None:
    """Each line happens through each door, and nothing else does."""
    framing, redis = DOORS[door]
    await play(block, framing, tmp_path, redis=redis)


@pytest.mark.parametrize("event", Event)
def test_each_event_is_shown(event: Event) -> None:
    """The protocol shows it sent by a client and heard from the server."""
    shown = [step.heard for step in SPOKEN if f'"Event":"{event}"' in step.text]
    assert True in shown
    assert False in shown or event not in CLIENT_EVENTS


CODES = [
    each.code
    for each in vars(errors).values()
    if isinstance(each, type) and issubclass(each, PeerError) and each is not PeerError
]


@pytest.mark.parametrize("code", CODES)
def test_each_error_is_shown(code: str) -> None:
    """The protocol has it in its table, and in a transcript."""
    assert re.search(rf"^\| `{code}` \|", PROTOCOL, re.MULTILINE)
    assert any(step.heard and f'\\"Code\\":\\"{code}\\"' in step.text for step in SPOKEN)


@pytest.mark.parametrize("code", CloseCode)
def test_each_close_code_is_listed(code: CloseCode) -> None:
    """The protocol's table has it; a transcript that shows it has its exact words."""
    assert re.search(rf"^\| {code} \|", PROTOCOL, re.MULTILINE)
