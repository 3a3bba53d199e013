"""Hypothesis strategies for packets: names, headers, texts in any spelling, and broken ones."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

#: Characters for packets; those that stress a parser are more frequent.
TEMPTING = '"\\{}[]:,/ \t\n\r\x00\x1f\x7f\x85\u00a0\u00e9\u2028\ufeff\U0001f600'
CHARACTERS = st.one_of(st.sampled_from(TEMPTING), st.characters(exclude_categories=["Cs"]))
TEXT = st.text(CHARACTERS, max_size=12)

#: All JSON values; numbers in the range of both a double and 64 bits.
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    TEXT,
    st.sampled_from(["", "Payload", '"Payload": 1', "}", "]", "connect", "a\\", '\\"']),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(TEXT, st.just("Payload")), inner, max_size=4),
    ),
    max_leaves=10,
)

NAMES = st.one_of(
    st.sampled_from(["a", "b", "__proto__", "constructor", "toString", "hasOwnProperty", "0"]),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20),
)
EVENTS = st.sampled_from(["connect", "broadcast", "ping", "disconnect"])
EXTRAS = st.dictionaries(
    TEXT.filter(lambda key: key not in ("Event", "UserId", "RoomId")), VALUES, max_size=3
)


@st.composite
def headers(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a valid header, with its keys in any order."""
    header = {
        "Event": draw(EVENTS),
        "UserId": draw(NAMES),
        "RoomId": draw(NAMES),
        **draw(EXTRAS),
    }
    return dict(draw(st.permutations(list(header.items()))))


def almost(valid: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return values, most of which are valid."""
    return st.one_of(valid, valid, valid, VALUES, st.text(CHARACTERS, min_size=120, max_size=300))


#: Bodies that are packets except for some field.
ALMOST_PACKETS = st.fixed_dictionaries(
    {},
    optional={
        "Header": almost(
            st.fixed_dictionaries(
                {},
                optional={
                    "Event": almost(EVENTS),
                    "UserId": almost(NAMES),
                    "RoomId": almost(NAMES),
                    "Id": VALUES,
                },
            )
        ),
        "Payload": VALUES,
        "Extra": VALUES,
    },
)

WHITE = st.text(" \t\r\n", max_size=3)


@st.composite
def spelled(draw: st.DrawFn, value: str) -> str:
    """Draw a JSON string for `value`: any character may be escaped."""
    parts = ['"']
    for character in value:
        escape = json.dumps(character)[1:-1]
        if escape == character and draw(st.integers(0, 3)):
            parts.append(character)
        elif len(escape) != len(character) and draw(st.booleans()):
            parts.append(escape)  # \n, \", \u00e9 or a pair of surrogates
        else:
            units = character.encode("utf-16-be")
            code = "".join(
                f"\\u{units[at]:02x}{units[at + 1]:02X}" for at in range(0, len(units), 2)
            )
            parts.append(code)
    return "".join([*parts, '"'])


@st.composite
def written(draw: st.DrawFn, value: Any) -> str:
    """Draw a JSON text of `value`, with white space and escapes anywhere."""
    if isinstance(value, str):
        return draw(spelled(value))
    if isinstance(value, dict):
        return draw(written_object(list(value.items())))
    if isinstance(value, list):
        items = [draw(WHITE) + draw(written(item)) + draw(WHITE) for item in value]
        return f"[{','.join(items) or draw(WHITE)}]"
    return json.dumps(value)


@st.composite
def written_object(draw: st.DrawFn, pairs: list[tuple[str, Any]]) -> str:
    """Draw a JSON text of an object with these keys and values, in order and also repeated."""
    members = []
    for key, value in pairs:
        before, after, last = (draw(WHITE) for _ in range(3))
        members.append(
            f"{before}{draw(spelled(key))}{draw(WHITE)}:{after}{draw(written(value))}{last}"
        )
    return f"{{{','.join(members) or draw(WHITE)}}}"


#: The top-level keys of a valid packet, in any order, with `Payload` at least once.
@st.composite
def pairs(draw: st.DrawFn) -> list[tuple[str, Any]]:
    """Draw the keys and values of a valid packet."""
    payloads = draw(st.lists(VALUES, min_size=1, max_size=3))
    extras = draw(st.lists(st.tuples(TEXT, VALUES), max_size=3))
    members = [("Header", draw(headers())), *(("Payload", value) for value in payloads)]
    members += [(key, value) for key, value in extras if key not in ("Header", "Payload")]
    return list(draw(st.permutations(members)))


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """Draw a packet's text with some characters removed, inserted or repeated."""
    text = draw(written_object(draw(pairs())))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(text)))
        to = min(len(text), at + draw(st.integers(0, 4)))
        text = (
            text[:at] + draw(st.one_of(st.text(max_size=2), st.just(text[at:to] * 2))) + text[to:]
        )
    return text


#: Any text that may arrive, lone surrogates included, which a str can hold.
ANY_TEXT = st.one_of(
    st.text(),
    st.text(st.characters()),
    st.text(st.characters(categories=["Cs", "Po", "Ps", "Pe"])),
    mutated(),
    VALUES.map(json.dumps),
    ALMOST_PACKETS.map(json.dumps),
)
