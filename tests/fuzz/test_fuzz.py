"""The fuzzers' invariants, checked with hypothesis; see tests/fuzz/README.md."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import fuzz_costs
import fuzz_decode
import fuzz_frames
import fuzz_sockjs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from patience import WAIT_SECONDS, examples
from strategies import ALMOST_PACKETS, ANY_TEXT, VALUES, mutated

FUZZ = Path(__file__).resolve().parent

TARGETS = [fuzz_decode, fuzz_frames, fuzz_sockjs]
THOROUGH = settings(max_examples=examples(75), suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module", autouse=True)
def room_to_recurse() -> Iterator[None]:
    """Allow the recursion that orjson's nesting needs; close the frames' event loop at the end."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(5000)
    yield
    sys.setrecursionlimit(before)
    fuzz_frames.end()


def near(seeds: list[bytes]) -> st.SearchStrategy[bytes]:
    """Return seeds with some bytes replaced, repeated or left out."""

    @st.composite
    def bent(draw: st.DrawFn) -> bytes:
        data = draw(st.sampled_from(seeds))
        for _ in range(draw(st.integers(0, 4))):
            at = draw(st.integers(0, len(data)))
            to = min(len(data), at + draw(st.integers(0, 8)))
            data = data[:at] + draw(st.one_of(st.binary(max_size=6), st.just(data[at:to] * 2)))
            data += draw(st.sampled_from(seeds))[to:]
        return data

    return bent()


def encoded(texts: st.SearchStrategy[str]) -> st.SearchStrategy[bytes]:
    """Return texts as bytes, lone surrogates included."""
    return texts.map(lambda text: text.encode("utf-8", "surrogatepass"))


@st.composite
def conversations(draw: st.DrawFn) -> bytes:
    """Draw a client's data: frames of any kind around packets of any kind, cut anywhere."""
    flags = draw(st.integers(0, 255))
    sent = [bytes((flags,))]
    for _ in range(draw(st.integers(0, 6))):
        text = draw(
            st.one_of(
                mutated(),
                ALMOST_PACKETS.map(json.dumps),
                st.sampled_from(["connect", "broadcast", "ping", "disconnect"]).map(
                    lambda event: fuzz_frames.packet(event).decode()
                ),
            )
        )
        if flags & fuzz_frames.SOCKJS:
            text = json.dumps([text] * draw(st.integers(0, 3)))
        data = text.encode("utf-8", "surrogatepass")
        first = draw(st.sampled_from([0x81, 0x81, 0x81, 0x82, 0x01, 0x00, 0x80, 0xC1, 0x89, 0x88]))
        if first & 0x40:
            data = fuzz_frames.deflated(data)
        if first & 0x08:
            data = data[:20]
        mask = draw(st.sampled_from([b"\x00" * 4, b"abcd", None]))
        sent.append(fuzz_frames.frame(data[:60_000], first, mask))
    return b"".join(sent)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.__name__)
def test_the_seeds(target: ModuleType) -> None:
    """The fuzzers' first inputs keep the invariants, and run without atheris."""
    for seed in target.SEEDS:
        target.one_input(seed)
    assert "atheris" not in sys.modules


@THOROUGH
@given(st.one_of(st.binary(), encoded(ANY_TEXT), near(fuzz_decode.SEEDS)))
def test_decode(data: bytes) -> None:
    """Any bytes are a Packet or a documented error, and only a Packet's Payload is replaced."""
    fuzz_decode.one_input(data)


@THOROUGH
@given(st.one_of(st.binary(), conversations(), near(fuzz_frames.SEEDS)))
def test_frames(data: bytes) -> None:
    """Any bytes on a WebSocket are parsed without an exception, and leave nothing behind."""
    fuzz_frames.one_input(data)


@THOROUGH
@given(
    st.one_of(
        st.binary(),
        encoded(st.lists(ANY_TEXT).map(json.dumps)),
        encoded(VALUES.map(json.dumps)),
        near(fuzz_sockjs.SEEDS),
    )
)
def test_sockjs(data: bytes) -> None:
    """Any bytes are a list of strings or a ValueError."""
    fuzz_sockjs.one_input(data)


@pytest.mark.process
def test_a_corpus_is_replayed(tmp_path: Path) -> None:
    """Inputs found by a fuzzer can be run without it."""
    (tmp_path / "found").write_bytes(b'["a"]')
    command = [sys.executable, str(FUZZ), "replay", "sockjs", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_SECONDS, check=True)
    found, dearest, *more = done.stdout.splitlines()
    assert found == "1 inputs, nothing found"
    assert dearest.startswith("dearest: ") and "5 bytes: b'[\"a\"]'" in dearest
    assert more == []


def test_expensive_inputs_are_kept(tmp_path: Path) -> None:
    """An input that costs more per byte than all before is kept; noise makes no record."""
    clock = [0.0]
    prices = {b"cheap": [1e-6] * 2, b"noisy": [9e-6, 2e-7], b"dear": [5e-6] * 9}

    def work(data: bytes) -> None:
        clock[0] += prices[data].pop() if len(prices[data]) > 1 else prices[data][0]

    costs = fuzz_costs.Costs(work, tmp_path, clock=lambda: clock[0])
    for data in (b"cheap", b"dear", b"noisy", b"cheap"):
        costs.note(data)
    assert costs.dearest == b"dear"
    assert (tmp_path / "dearest").read_bytes() == b"dear"
    assert str(costs).startswith("dearest: 10 ns a byte, 4 bytes: b'dear'")


def test_each_level_of_cost_has_its_own_code() -> None:
    """A fuzzer then takes a record for progress."""
    assert [fuzz_costs.reach(2.0**power) for power in range(3, 12)] == [0, 1, 2, 3, 4, 5, 6, 7, 7]


@pytest.mark.parametrize("target", [fuzz_decode, fuzz_sockjs], ids=lambda target: target.__name__)
def test_the_measured_work_accepts_any_input(target: ModuleType) -> None:
    """It accepts the same inputs as the invariant."""
    for seed in target.SEEDS:
        target.work(seed)
