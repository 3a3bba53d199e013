"""How much each address holds: the sums are right, and the largest holder pays."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from growth import check
from hypothesis import given
from hypothesis import strategies as st

from videre.transport.holdings import Holdings


@dataclass(unsafe_hash=True)
class Holder:
    """One holder at an address."""

    address: str
    number: int = 0


HOLDERS = st.builds(Holder, st.sampled_from("abc"), st.integers(0, 3))
HELD = st.dictionaries(HOLDERS, st.integers(1, 50), max_size=12)


def holdings_of(held: dict[Holder, int]) -> Holdings[Holder]:
    holdings: Holdings[Holder] = Holdings()
    for holder, size in held.items():
        holdings.add(holder, size)
    return holdings


@given(st.lists(st.tuples(HOLDERS, st.integers(1, 50), st.booleans()), max_size=30))
def test_the_sums(steps: list[tuple[Holder, int, bool]]) -> None:
    """They equal what was added less what was removed, and empty holders are forgotten."""
    holdings: Holdings[Holder] = Holdings()
    model: Counter[Holder] = Counter()
    for holder, size, dropped in steps:
        model[holder] += size
        assert holdings.add(holder, size) == model[holder]
        if dropped:
            holdings.drop(holder)
            del model[holder]
        elif size % 2:
            holdings.remove(holder, size)
            model[holder] -= size
        assert holdings.total == model.total()
        for address in "abc":
            mine = sum(held for each, held in model.items() if each.address == address)
            assert holdings.of(address) == mine
    for holder in list(model):
        holdings.drop(holder)
    assert (holdings.total, len(holdings._addresses), len(holdings._holders)) == (0, 0, 0)


@given(HELD, st.integers(0, 700))
def test_the_largest_holder_pays(held: dict[Holder, int], excess: int) -> None:
    """Just enough is released, and each payer's address held most at that moment."""
    holdings = holdings_of(held)
    paying = holdings.heaviest(excess)
    assert len(set(paying)) == len(paying)
    left = dict(held)
    for number, payer in enumerate(paying):
        assert sum(held[each] for each in paying[:number]) < excess, "more than is needed"
        totals: Counter[str] = Counter()
        for each, size in left.items():
            totals[each.address] += size
        assert totals[payer.address] == max(totals.values())
        assert left[payer] == max(s for each, s in left.items() if each.address == payer.address)
        del left[payer]
    assert not left or sum(held[each] for each in paying) >= excess


def test_cost_grows_with_the_holders() -> None:
    """Finding a payer costs no more than sorting the holders."""

    def made(count: int) -> Holdings[Holder]:
        return holdings_of({Holder(str(n % 300), n): n % 7 + 1 for n in range(count)})

    check(
        made,
        lambda holdings: holdings.heaviest(holdings.total),
        largest=16384,
        weigh=lambda holdings: len(holdings._holders),
    )
