"""Who may open a session: each address has a rate, and a bounded number is remembered."""

from __future__ import annotations

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from videre.settings import Options
from videre.tally import Tally
from videre.transport import admission
from videre.transport.admission import Admission


def opens(door: Admission, address: str) -> bool:
    """Return whether an address may open a session."""
    request = make_mocked_request("GET", "/", headers={"X-Forwarded-For": address})
    try:
        door.new_client(request.clone(remote=address))
    except web.HTTPServiceUnavailable:
        return False
    return True


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Admission:
    """Give an admission that allows an address one session a day, and remembers two addresses."""
    monkeypatch.setattr(admission, "MAX_PACED_ADDRESSES", 2)
    return Admission(Options(connects_per_second_per_address=1 / 86_400), Tally(lambda: 0.0))


async def test_each_address_has_its_own_rate(door: Admission) -> None:
    """An address that has used up its rate waits; others do not."""
    assert [opens(door, "192.0.2.1") for _ in range(3)] == [True, False, False]
    assert opens(door, "192.0.2.2")


async def test_the_least_recently_used_address_is_forgotten(door: Admission) -> None:
    """It is the one seen longest ago, not the one seen first."""
    assert opens(door, "192.0.2.1") and opens(door, "192.0.2.2")
    assert not opens(door, "192.0.2.1")
    assert opens(door, "192.0.2.3")
    assert not opens(door, "192.0.2.1"), "who came again was forgotten"
    assert opens(door, "192.0.2.2"), "more are remembered than that"


async def test_the_number_of_remembered_addresses_is_bounded(door: Admission) -> None:
    """It stays so however many addresses come."""
    for number in range(1, 100):
        assert opens(door, f"192.0.2.{number}")
    assert len(door._buckets) == 2


@pytest.mark.parametrize(("seconds", "told"), [(None, "1"), (0.0, "1"), (0.2, "1"), (2.2, "3")])
async def test_when_to_come_back(door: Admission, seconds: float | None, told: str) -> None:
    """A client refused at a shutdown hears the time in whole seconds, at least one."""
    door.close(seconds)
    with pytest.raises(web.HTTPServiceUnavailable) as refusal:
        door.require_open()
    assert refusal.value.headers["Retry-After"] == told


async def test_each_refusal_is_counted() -> None:
    """One refused client is one, under the reason for it."""
    tally = Tally(lambda: 0.0)
    door = Admission(Options(connects_per_second_per_address=1 / 86_400), tally)
    assert [opens(door, "192.0.2.1") for _ in range(2)] == [True, False]
    door.close()
    assert not opens(door, "192.0.2.1")
    assert tally.refused["connects-per-second"] == tally.refused["stopping"] == 1
