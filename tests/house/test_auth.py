"""Tokens: what each claim must be, and what a token grants."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import VALUES
from tokens import NOW, SECRET, TTL, base64url, claims, hs256, token

from videre.auth import (
    MAX_TOKEN,
    MIN_RSA_BITS,
    MIN_SECRET_BYTES,
    Grant,
    NoAuth,
    TokenAuth,
    secret_key,
    sign,
)
from videre.errors import PeerError, TokenExpired, Unauthorized

AUTH = TokenAuth([secret_key(SECRET)])


def grant(shown: object, user: str = "a", room: str = "room", *, now: float = NOW) -> Grant:
    """Return what a token grants."""
    return AUTH.grant(shown, user, room, now)


def refused(shown: object, user: str = "a", room: str = "room", *, auth: TokenAuth = AUTH) -> str:
    """Return the message with which a token is refused; it repeats nothing of the token."""
    with pytest.raises(Unauthorized) as caught:
        auth.grant(shown, user, room, NOW)
    assert not isinstance(shown, str) or len(shown) < 8 or shown[:8] not in str(caught.value)
    return str(caught.value)


def test_a_good_token() -> None:
    """It grants a seat until it expires, and leaves the room's capacity alone."""
    assert grant(token()) == Grant(NOW + TTL, None)


def test_no_token() -> None:
    """If tokens are required, nobody enters without one; otherwise everybody, for ever."""
    assert refused(None) == "A token is required"
    assert AUTH.required
    lenient = TokenAuth([secret_key(SECRET)], required=False)
    assert not lenient.required
    assert lenient.grant(None, "a", "room", NOW) == Grant(None, None)


def test_a_wrong_token_is_refused_also_where_none_is_required() -> None:
    """A token that is sent must be valid."""
    lenient = TokenAuth([secret_key(SECRET)], required=False)
    refused(token("b"), auth=lenient)
    refused("nonsense", auth=lenient)


def test_without_auth_no_token_is_looked_at() -> None:
    """Without `Auth`, any token is ignored."""
    assert not NoAuth().required
    for shown in (None, "nonsense", 5, token("b")):
        assert NoAuth().grant(shown, "a", "room", NOW) == Grant(None, None)


@pytest.mark.parametrize("user", ["b", "A", "a ", "", "aa", "*"])
def test_another_user(user: str) -> None:
    """`sub` must equal the UserId exactly."""
    assert refused(token("a"), user) == "The token is for a different user"


def test_a_star_is_no_user() -> None:
    """Only `room` has wildcards."""
    refused(token("*"), "a")
    refused(token("a*"), "ab")


@pytest.mark.parametrize(
    ("claim", "room"),
    [
        ("room", "room"),
        ("room*", "room"),
        ("ro*", "room"),
        ("*", "room"),
        ("*", ""),
        (["other", "room"], "room"),
        (["x*", "ro*"], "room"),
        (["*"], "room"),
        ("ro*m", "ro*m"),
        ("a**", "a*b"),
        ("\u00e9*", "\u00e9\U0001f600"),
        ([5, None, "room"], "room"),
    ],
)
def test_rooms_that_a_token_is_for(claim: Any, room: str) -> None:
    """A room or a list of rooms; a star at the end matches anything."""
    assert grant(token(room=claim), room=room)


@pytest.mark.parametrize(
    ("claim", "room"),
    [
        ("room", "room2"),
        ("room", "roo"),
        ("room", "ROOM"),
        ("room", " room"),
        ("room2*", "room"),
        ("*room", "a room"),
        ("ro*m", "room"),
        ("", "room"),
        ([], "room"),
        (["other", "another"], "room"),
        ([["room"]], "room"),
        ({"room": 1}, "room"),
        ("r.*", "room"),
        ("[a-z]*", "room"),
        ("?*", "room"),
        (True, "True"),
        (5, "5"),
    ],
)
def test_rooms_that_a_token_is_not_for(claim: Any, room: str) -> None:
    """Nothing else is a wildcard, and only strings are rooms."""
    assert refused(token(room=claim), room=room) == "The token is for a different room"


def test_expiry() -> None:
    """A token is valid before the second `exp`; from then on it is `token-expired`."""
    assert grant(token(), now=NOW + TTL - 0.001)
    for now in (NOW + TTL, NOW + TTL + 0.001, NOW * 1000):
        with pytest.raises(TokenExpired) as caught:
            grant(token(), now=now)
        assert caught.value.code == "token-expired"


def test_an_expired_token_for_another_is_no_expired_one() -> None:
    """The user is checked first: nobody is asked to renew a token that was never valid."""
    for wrong in (token("b", exp=NOW - 1), token(room="other", exp=NOW - 1)):
        refused(wrong)


def test_not_before() -> None:
    """`nbf` may be ahead of our clock by the leeway."""
    auth = TokenAuth([secret_key(SECRET)], leeway=5)
    assert auth.grant(token(nbf=NOW + 5), "a", "room", NOW)
    assert auth.grant(token(nbf=NOW - 500), "a", "room", NOW)
    assert refused(token(nbf=NOW + 5.5), auth=auth) == "The token is not valid yet"


def test_the_clock_is_an_argument() -> None:
    """The library looks at no other: what is not valid before 2255 is granted then."""
    then = 9_000_000_000
    assert grant(token(iat=then + 5, nbf=then, exp=then + 10), now=then) == Grant(then + 10, None)


def test_the_bounds_of_a_time() -> None:
    """Within the calendar: 1e12 is none, a second less is."""
    last = 10**12 - 1
    assert grant(token(exp=last)) == Grant(last, None)
    assert refused(token(exp=10**12)) == "The token is not valid"


def test_the_bounds_of_keys_and_tokens() -> None:
    """Those of docs/tokens.md."""
    assert (MIN_SECRET_BYTES, MIN_RSA_BITS, MAX_TOKEN) == (32, 2048, 8192)
    assert secret_key("x" * 32).algorithm == "HS256"
    with pytest.raises(ValueError, match="at least 32 bytes, not 31"):
        secret_key("x" * 31)


def test_a_key_of_another_kind_is_no_secret() -> None:
    """A public key that stands where the secret should is refused: everybody knows it."""
    with pytest.raises(ValueError, match="a key of another kind"):
        secret_key("-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----\n")


def test_when_it_was_made_does_not_matter() -> None:
    """`iat` is ignored: a signer's clock that is ahead prevents no call."""
    assert grant(token(iat=NOW + 1e6))


@pytest.mark.parametrize("capacity", [1, 2, 1000])
def test_capacity(capacity: int) -> None:
    """`max` is the room's capacity."""
    assert grant(token(max=capacity)) == Grant(NOW + TTL, capacity)


@pytest.mark.parametrize("name", ["sub", "room", "exp"])
def test_a_claim_that_is_missing(name: str) -> None:
    """Three claims are required, and null counts as missing."""
    refused(token(exp=None) if name == "exp" else hs256(claims() | {name: None}))
    body = claims()
    del body[name]
    refused(hs256(body))


def pairs(name: str, *values: object) -> list[tuple[str, object]]:
    """Return a claim with each of these values."""
    return [(name, value) for value in values]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *pairs("sub", 5, True, ["a"], {"a": 1}, ""),
        *pairs("exp", "2000", True, [], {}, ""),
        *pairs("nbf", "0", False, [], {}),
        *pairs("max", 0, -1, 1.5, 2.0, "2", True, [2], {}),
    ],
)
def test_a_claim_of_the_wrong_type(name: str, value: Any) -> None:
    """It is refused; nothing is guessed."""
    refused(hs256(claims() | {name: value}))


@pytest.mark.parametrize("name", ["exp", "nbf"])
@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "Infinity", "1" + 400 * "0"])
def test_a_time_that_is_no_finite_number_is_refused(name: str, number: str) -> None:
    """A timer for NaN would break the event loop's order."""
    body = json.dumps(claims() | {name: 12345}).replace("12345", number)
    with pytest.raises(PeerError):
        grant(hs256(body.encode()))


@pytest.mark.parametrize(
    "shown",
    [
        "",
        ".",
        "..",
        "...",
        "nonsense",
        "a.b.c",
        5,
        True,
        [],
        {},
        [token()],
        f" {token()}",
        f"{token()} ",
        f"Bearer {token()}",
        token()[:-4],
        token().rpartition(".")[0],
        token().rpartition(".")[0] + ".",
        token() + ".x",
        "\u00e9.\u00e9.\u00e9",
        "\x00",
        "." * MAX_TOKEN,
        hs256(b"[]"),
        hs256(b"5"),
        hs256(b"null"),
        hs256(b""),
        hs256(b"\xff"),
        hs256(claims(), b"[]"),
        hs256(claims(), b"5"),
        hs256(claims(), b"{}"),
        hs256(claims(), b'{"alg":["HS256"]}'),
        hs256(claims(), b'{"alg":"HS256","kid":5}'),
        hs256(claims(), b'{"alg":"HS256","crit":["x"]}'),
        hs256(claims(), b'{"alg":"HS256","b64":false}'),
        hs256(b'{"sub":' + b"[" * 4000),
        base64url(b"[" * 5000) + ".e30.x",
        base64url(b'{"a":' * 1000) + ".e30.x",
    ],
    ids=lambda shown: None,
)
def test_what_is_no_token(shown: object) -> None:
    """It is refused with the same message, whatever it is."""
    assert refused(shown) == "The token is not valid"


def test_a_token_of_a_lone_surrogate_is_no_token() -> None:
    """A str can contain one, UTF-8 cannot."""
    assert refused("\ud800.\ud800.\ud800") == "The token is not valid"


def test_a_giant_token_is_not_looked_at() -> None:
    """Even if correctly signed; a token of the maximum length is accepted."""
    spare = MAX_TOKEN - len(token(x=""))
    at_most = next(
        text for n in range(spare) if len(text := token(x="x" * (spare * 3 // 4 - n))) <= MAX_TOKEN
    )
    assert grant(at_most)
    over = token(x="x" * spare)
    assert len(over) > MAX_TOKEN
    assert refused(over) == "The token is not valid"


def test_what_we_sign_we_grant() -> None:
    """`grant` accepts what `sign` makes, until it expires."""
    signed = sign(secret_key(SECRET), "a", ["x", "room*"], now=NOW, ttl=TTL, max=2)
    assert grant(signed, room="room 5") == Grant(NOW + TTL, 2)
    with pytest.raises(TokenExpired):
        grant(signed, now=NOW + TTL)


SHOWN = st.one_of(VALUES, st.text(max_size=40), st.text("abcd.=_-", max_size=40))
_CLAIMS = {
    name: st.one_of(st.just(value), st.just(value), VALUES)
    for name, value in claims(nbf=NOW, max=2, iss="me", aud="us", iat=NOW, jti="1").items()
}
_NEEDED = {name: _CLAIMS[name] for name in ("sub", "room", "exp")}
_OTHERS = {name: values for name, values in _CLAIMS.items() if name not in _NEEDED}
CLAIMS = st.one_of(
    st.fixed_dictionaries({}, optional=_CLAIMS),
    st.fixed_dictionaries(_NEEDED, optional=_OTHERS),
)
STRICT = TokenAuth([secret_key(SECRET)], issuer="me", audience="us")


@given(SHOWN)
def test_anything_shown_is_refused(shown: object) -> None:
    """Whatever a stranger sends, the result is a PeerError."""
    with pytest.raises(Unauthorized):
        grant(shown)


@given(CLAIMS, st.sampled_from([AUTH, STRICT]))
def test_any_claims_are_granted_or_refused(body: dict[str, Any], auth: TokenAuth) -> None:
    """Whatever a signed token claims, the result is a Grant or one of two PeerErrors."""
    try:
        found = auth.grant(hs256(body), "a", "room", NOW)
    except (Unauthorized, TokenExpired):
        return
    assert found.expires == body["exp"] > NOW
    assert found.capacity == body.get("max")
    assert body["sub"] == "a"
