"""Which origins match which patterns: a table to keep."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from multidict import CIMultiDict

from videre.transport.clients import Origins

TRIED = [
    "https://example.com",
    "https://a.example.com",
    "https://a.b.example.com",
    "https://evil.com",
    "https://a.example.com.evil.com",
    "https://evilexample.com",
    "https://a.example.com:8443",
    "https://example.com:8443",
    "http://a.example.com",
    "null",
    "",
    "https://a.example.com/",
    "https://a@b.example.com",
    "https://evil.com#.example.com",
    "https://evil.com?.example.com",
    "https://evil.com\\.example.com",
    "https://.example.com",
    "https://a.example.com\n",
    "HTTPS://A.EXAMPLE.COM",
    "https://xn--e1afmkfd.example.com",
    "https://a_b.example.com",
    "https://[::1].example.com",
    "https://a.example.com, https://evil.com",
    "https://\xff.example.com",
]

#: The origins that each pattern allows, from the list above.
PASSES = {
    "https://example.com": {"https://example.com"},
    "https://example.com:*": {"https://example.com:8443"},
    "https://*.example.com": {
        "https://a.example.com",
        "https://a.b.example.com",
        "https://.example.com",
        "HTTPS://A.EXAMPLE.COM",
        "https://xn--e1afmkfd.example.com",
    },
    "https://*": {
        "https://example.com",
        "https://a.example.com",
        "https://a.b.example.com",
        "https://evil.com",
        "https://a.example.com.evil.com",
        "https://evilexample.com",
        "https://.example.com",
        "HTTPS://A.EXAMPLE.COM",
        "https://xn--e1afmkfd.example.com",
    },
    "null": {"null"},
    "*": set(TRIED),
}


def request(*origins: str) -> Any:
    """Return a request with these Origin headers."""
    return SimpleNamespace(headers=CIMultiDict([("Origin", each) for each in origins]))


@pytest.mark.parametrize("pattern", PASSES)
def test_which_origins_pass(pattern: str) -> None:
    """A wildcard stands for labels of a host, never for anything that leads to another host."""
    origins = Origins([pattern])
    assert {each for each in TRIED if origins.allow(request(each))} == PASSES[pattern]
    assert origins.allow(request()), "no browser sent it"


@pytest.mark.parametrize("first", TRIED)
@pytest.mark.parametrize("second", TRIED)
def test_several_origins(first: str, second: str) -> None:
    """A request with two origins needs both to be allowed."""
    origins = Origins(["https://*.example.com"])
    both = origins.allow(request(first)) and origins.allow(request(second))
    assert origins.allow(request(first, second)) == both


@example(pattern="a*b*a", origin="a-a")
@example(pattern="a*b*a", origin="aba")
@given(
    pattern=st.text("*ab-:/", max_size=9).filter(lambda pattern: pattern != "*"),
    origin=st.text("ab-:/", max_size=12),
)
def test_wildcards_match_like_backtracking(pattern: str, origin: str) -> None:
    """Several wildcards allow what an expression that tries every way to match them allows."""
    every_way = "[a-z0-9.-]*".join(map(re.escape, pattern.split("*")))
    expected = re.fullmatch(every_way, origin) is not None
    assert Origins([pattern]).allow(request(origin)) == expected
