"""Names sorted only when they are listed: the same result as a sorted set, at a low cost."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import pytest
from growth import check
from hypothesis import given
from hypothesis import strategies as st

from videre.engines import names as module
from videre.engines.names import Names

STEPS = st.lists(st.tuples(st.sampled_from(["turn", "page"]), st.integers(0, 12)), max_size=80)


@given(steps=STEPS, few=st.sampled_from([0, 3, 64]))
def test_pages_are_those_of_a_sorted_set(steps: Sequence[tuple[str, int]], few: int) -> None:
    """The pages agree, whatever names come and go between two of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "FEW", few)
        names, model = Names(), set[str]()
        for step, number in steps:
            name = f"room {number}"
            if step == "page":
                expected = sorted(each for each in model if each > name)[:3]
                assert names.page(name, 3) == expected
            elif name in model:
                model.remove(name)
                names.remove(name)
            else:
                model.add(name)
                names.add(name)
        assert names.page(None, 100) == sorted(model)


@pytest.mark.parametrize("few", [0, 64])
def test_names_that_come_before_sorted_ones(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are listed in their places, however many come at once."""
    monkeypatch.setattr(module, "FEW", few)
    names = Names()
    for pair in (("b", "d"), ("c", "a")):
        for name in pair:
            names.add(name)
        names.page(None, 1)
    assert names.page(None, 9) == ["a", "b", "c", "d"]


def test_names_that_come_and_go_leave_nothing() -> None:
    """They leave nothing even if nobody ever lists them."""
    names = Names()
    for number in range(1000):
        names.add(str(number))
        names.remove(str(number))
    assert not (names._sorted or names._added or names._removed)


def test_pages_of_many_names() -> None:
    """All pages together cost in proportion to the names, despite a change before each page."""
    made = [secrets.token_hex(8) for _ in range(2**14)]

    def fill(size: int) -> Names:
        names = Names()
        for name in made[:size]:
            names.add(name)
        return names

    def list_all(names: Names) -> None:
        after: str | None = None
        while page := names.page(after, 100):
            after = page[-1]
            names.remove(after)

    check(fill, list_all, largest=len(made), weigh=lambda names: len(names._added))


def test_adding_a_name() -> None:
    """It costs the same among 100,000 others, which are not sorted until somebody lists them."""
    made = [secrets.token_hex(8) for _ in range(2**17)]

    def add(some: Sequence[str]) -> None:
        names = Names()
        for name in some:
            names.add(name)

    check(lambda size: made[:size], add, largest=len(made))
