"""The keys of a connect's Payload, and how wrong ones are refused."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from cerberus import Validator
from hypothesis import given
from hypothesis import strategies as st
from strategies import ANY_TEXT, VALUES

from videre.errors import InvalidPacket
from videre.peers.connect_options import (
    MAX_SECRET,
    NOTHING,
    SCHEMA,
    ConnectOptions,
    connect_options,
)

#: Each payload is tried as an object and as the JSON text of that object.
either = pytest.mark.parametrize("form", [lambda payload: payload, json.dumps], ids=["", "text"])


@pytest.mark.parametrize(
    "payload",
    [
        *("", "{}", {}, None, 5, 1.5, True, [], ["Welcome"], "Welcome", '["Welcome"]', "null"),
        *("nonsense", "{", "[" * 5000, '{"Welcome":' * 5000, '{"Welcome":NaN}', '"\ud800"'),
        *({"welcome": True, "resume": "s", "RECEIVED": "?"}, {"Header": {"Welcome": True}}),
        *({"Payload": {"Resume": "s"}}, json.dumps(json.dumps({"Welcome": True}))),
    ],
    ids=lambda payload: None,
)
def test_most_payloads_ask_for_nothing(payload: Any) -> None:
    """A payload that is no object, or has only unknown keys, counts as the real client's `{}`."""
    assert connect_options(payload) == NOTHING == ConnectOptions()
    assert NOTHING.greeting is None


def resumes(secret: str, received: int, token: object = None) -> ConnectOptions:
    """Return the options of a client that resumes its seat."""
    return ConnectOptions(token=token, welcome=True, resume=(secret, received), again=True)


@either
@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ({"Welcome": True}, ConnectOptions(welcome=True)),
        ({"Welcome": False}, NOTHING),
        ({"Welcome": None, "Resume": None, "Received": None}, NOTHING),
        ({"Welcome": True, "Other": {"Welcome": 1}}, ConnectOptions(welcome=True)),
        ({"Token": "t"}, ConnectOptions(token="t")),
        ({"Token": 5}, ConnectOptions(token=5)),
        ({"Resume": "s"}, ConnectOptions(welcome=True, again=True)),
        ({"Resume": "s", "Received": None}, ConnectOptions(welcome=True, again=True)),
        ({"Resume": "s", "Welcome": False, "Received": 1}, resumes("s", 1)),
        ({"Resume": "s" * MAX_SECRET, "Received": 0}, resumes("s" * MAX_SECRET, 0)),
        ({"Received": 2**53, "Token": "t", "Resume": "s"}, resumes("s", 2**53, token="t")),
        ({"Received": 5}, NOTHING),
    ],
    ids=lambda value: None,
)
def test_what_is_asked_for(form: Any, payload: Any, expected: ConnectOptions) -> None:
    """Each key works alone and with others; a resuming client always gets a welcome."""
    assert connect_options(form(payload)) == expected


@either
@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("Welcome", [1, 0, "true", "", [], {}, 1.5]),
        ("Resume", ["", "s" * (MAX_SECRET + 1), 5, True, ["s"], {"s": 1}]),
        ("Received", [-1, 1.5, 1.0, "1", True, False, [1], {}]),
    ],
)
def test_wrong_types(form: Any, key: str, values: list[Any]) -> None:
    """The message names the key at fault, whatever else the payload asks for."""
    for value in values:
        for more in ({}, {"Token": "t"}, {"Other": 1}):
            with pytest.raises(InvalidPacket) as caught:
                connect_options(form({key: value, **more}))
            assert str(caught.value).startswith(f"Payload.{key}: ")


def test_every_fault_is_named() -> None:
    """One message names all faulty keys in alphabetical order; the token is left to auth."""
    with pytest.raises(InvalidPacket) as caught:
        connect_options({"Welcome": "yes", "Token": [], "Resume": 5, "Received": True})
    assert str(caught.value) == (
        "Payload.Received: must be of integer type; Payload.Resume: must be of string type; "
        "Payload.Welcome: must be of boolean type"
    )


def test_null_is_no_fault() -> None:
    """A message does not name the keys that are null."""
    asked = {"Welcome": None, "Resume": None, "Received": None}
    for key in asked:
        with pytest.raises(InvalidPacket) as caught:
            connect_options({**asked, key: -1})
        assert str(caught.value).count("Payload.") == 1


def test_an_empty_secret() -> None:
    """The message says how short a secret may be."""
    with pytest.raises(InvalidPacket, match=r"^Payload.Resume: min length is 1$"):
        connect_options({"Resume": ""})


def test_no_message_repeats_a_secret() -> None:
    """No error message contains a token or secret, valid or not."""
    for payload in ({"Resume": "secret" * 99}, {"Resume": ["secret"]}, {"Received": "secret"}):
        with pytest.raises(InvalidPacket) as caught:
            connect_options(payload)
        assert "secret" not in str(caught.value)


def test_the_welcome_after_a_fresh_join() -> None:
    """The welcome says that the resumption failed, but only to a client that tried to resume."""
    assert connect_options({"Welcome": True}).greeting == {}
    for resume in ({"Resume": "s"}, {"Resume": "s", "Received": 0}):
        assert connect_options(resume).greeting == {"Resumed": False}


KEYS = st.sampled_from(["Welcome", "Resume", "Received", "Token", "__proto__", "welcome"])


@given(payload=st.one_of(ANY_TEXT, VALUES, st.dictionaries(KEYS, VALUES)))
def test_any_payload_is_answered(payload: Any) -> None:
    """Every payload yields options or InvalidPacket; an object and its JSON text mean the same."""

    def answer(payload: Any) -> ConnectOptions | str:
        try:
            return connect_options(payload)
        except InvalidPacket as error:
            return str(error)

    asked = payload
    if isinstance(payload, str):
        try:
            asked = orjson.loads(payload)
        except ValueError:
            asked = None
    options = answer(payload)
    if not isinstance(asked, dict):
        assert options == NOTHING
        return
    known = {key: asked[key] for key in SCHEMA if key in asked}
    if Validator(SCHEMA).validate(known, normalize=False):
        secret, received = asked.get("Resume"), asked.get("Received")
        assert options == ConnectOptions(
            token=asked.get("Token"),
            welcome=asked.get("Welcome") is True or secret is not None,
            resume=None if secret is None or received is None else (secret, received),
            again=secret is not None,
        )
    else:
        assert isinstance(options, str)
    if isinstance(payload, dict):
        assert answer(json.dumps(payload)) == options


WRONG = st.one_of(VALUES, st.text(min_size=126, max_size=130), st.integers(-1, 1), st.booleans())
ASKED = st.dictionaries(st.sampled_from(sorted(SCHEMA)), WRONG, min_size=1)


@given(asked=ASKED)
def test_options_agree_with_the_schema(asked: dict[str, Any]) -> None:
    """It accepts and refuses the same, in the same words, though cerberus sees only an outline."""
    whole = Validator(SCHEMA)
    good = whole.validate(asked, normalize=False)
    try:
        connect_options({**asked, "Other": []})
    except InvalidPacket as error:
        words = [f"Payload.{key}: {words[0]}" for key, words in sorted(whole.errors.items())]
        assert not good
        assert str(error) == "; ".join(words)
    else:
        assert good
