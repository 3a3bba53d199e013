"""The cluster under a scheduler that injects faults; simulation.py lists what is checked."""

from __future__ import annotations

from typing import Any

import pytest
import simulation
from patience import examples
from simulated_server import _Step

pytestmark = pytest.mark.process

#: Runs in one test; 100,000 were made once (docs/cluster.md).
RUNS = examples(50)


@pytest.mark.parametrize("first", range(0, 8 * RUNS, RUNS))
def test_the_cluster_keeps_its_promises(first: int) -> None:
    """Whatever fails, nobody hears anything untrue, and all recover in time."""
    for seed in range(first, first + RUNS):
        found = simulation.run(seed)
        assert found is None, f"simulation.py --runs 1 --seed {seed} --trace: {found}"


def test_a_seed_replays() -> None:
    """The seed decides all that happens in a run."""
    assert simulation.story(3) == simulation.story(3)
    assert simulation.story(3) != simulation.story(4)


def test_the_simulation_finds_ghosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reports the ghosts of a node that does not settle unfinished leaves."""

    async def nothing(*_: object) -> None:
        pass

    monkeypatch.setattr(simulation.duties.Duties, "_settle", nothing)  # type: ignore[attr-defined]
    assert any(simulation.run(seed) is not None for seed in range(50))


def test_the_simulation_finds_a_lost_broadcast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within 2,000 runs it detects a store that accepts packets meant for data it has lost."""
    publish, since = _Step._op_publish, _Step._op_since

    def forgiving(step: _Step, *arguments: str) -> Any:
        *most, _ = arguments
        return publish(step, *most, "")  # type: ignore[call-arg]

    def forgetful(step: _Step, seq: str, born: str) -> Any:
        anew = step._room is not None and step._room.born != born
        return ["lost", []] if anew else since(step, seq, born)

    monkeypatch.setattr(_Step, "_op_publish", forgiving)
    monkeypatch.setattr(_Step, "_op_since", forgetful)
    # In 2,000 runs from 0, six find it; the first does at 591.
    found = next(filter(None, map(simulation.run, range(550, 2550))), "")
    assert "was never told" in found
