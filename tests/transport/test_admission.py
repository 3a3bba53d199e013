"""Who may open a session: the rate of each address, and how many addresses are remembered."""

from __future__ import annotations

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from videre.settings import Options
from videre.tally import Tally
from videre.transport import admission
from videre.transport.admission import Admission


def opens(door: Admission, address: str) -> bool:
    """Tell whether an address may open a session."""
    request = make_mocked_request("GET", "/", headers={"X-Forwarded-For": address})
    try:
        door.new_client(request.clone(remote=address))
    except web.HTTPServiceUnavailable:
        return False
    return True


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Admission:
    """Give an admission that lets an address in once a day, and remembers two of them."""
    monkeypatch.setattr(admission, "MAX_PACED_ADDRESSES", 2)
    return Admission(Options(connects_per_second_per_address=1 / 86_400), Tally(lambda: 0.0))


async def test_each_address_has_its_own_rate(door: Admission) -> None:
    """One that has used it up waits, and nobody else does."""
    assert [opens(door, "192.0.2.1") for _ in range(3)] == [True, False, False]
    assert opens(door, "192.0.2.2")


async def test_the_least_recently_used_address_is_forgotten(door: Admission) -> None:
    """No more are remembered than that: not who came first, but who came last stays."""
    assert opens(door, "192.0.2.1") and opens(door, "192.0.2.2")
    assert not opens(door, "192.0.2.1")
    assert opens(door, "192.0.2.3")
    assert not opens(door, "192.0.2.1"), "who came again was forgotten"
    assert opens(door, "192.0.2.2"), "more are remembered than that"


async def test_no_more_addresses_are_remembered_than_that(door: Admission) -> None:
    """However many come."""
    for number in range(1, 100):
        assert opens(door, f"192.0.2.{number}")
    assert len(door._buckets) == 2
