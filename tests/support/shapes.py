"""Texts of any size that stress a parser: brackets, (repeated) keys, escapes, lone surrogates."""

from __future__ import annotations

import dataclasses

from hypothesis import strategies as st

#: Elements of an array, each valid JSON; `%d` is the element's number.
VALUES = (
    *("0", "-1.5e3", "null", "true", '""', '"a"', '"u%d"', "[]", "{}", "[[]]", '[["",[{}]]]'),
    *('{"a":0}', '{"Payload":1}', '"\\u0050ayload"', '"\\"\\\\"', '"}{]["', '"\\n"', '"\u00e9"'),
    *('"\\ud83d\\ude00"', '"\\u0000"', "[0,[0],0]", '{"k%d":[]}', '{"Payload":{"Payload":[]}}'),
)
#: Members of an object: distinct keys, equal keys, and keys with a special meaning.
MEMBERS = (
    *('"k%d":0', '"k":0', '"":""', '"k%d":[]', '"k%d":{}', '"Payload":""', '"Payload":[]'),
    *('"\\u0050ayload":0', '"\\u0050aylo\\u0061d" : {"a":[]}', '"Payloae":1', '"UserId":""'),
    *('"To":[0]', '"k%d":"\\"}"', '"\\ud83d\\ude00%d":null', '"\u00e9%d":"\u00e9"', '"Id":0'),
    *('"Header":{}', '"Token":[]', '"Welcome":1', '"Resume":[]', '"Received":{}'),
    *('"k%d":{"Payload":""}', ' "k%d"\n:\t0 ', '"Payload":{"a":"}"}', '"k%d":"Payload"'),
)
#: Contents of a string.
RUNS = (
    *("x", "\\n", '\\"', "\\\\", "\\u0050", "\\ud83d\\ude00", "\\ud800", "\u00e9", "\U0001f600"),
    *("{", "[", "}{", "][", "\x7f", "*", ".", " ", "\\u0000", "0", "a.", "_-"),
)
_DEEP = "[" * 900 + "]" * 900  # almost as deep as orjson accepts
_POOLS = {
    "array": VALUES,
    "object": MEMBERS,
    "string": RUNS,
    "deep": (_DEEP, '{"a":' + _DEEP + "}"),
}


def repeat(piece: str, size: int, *, between: str = ",") -> str:
    """Repeat `piece` to fill `size` characters, at least once.

    `%d` in a piece becomes its number, which makes keys distinct.
    """
    if "%d" not in piece:
        return between.join([piece] * max(1, (size + len(between)) // len(piece + between)))
    pieces = [piece.replace("%d", "0")]
    length = len(pieces[0])
    while True:
        made = piece.replace("%d", str(len(pieces)))
        length += len(between) + len(made)
        if length > size:
            return between.join(pieces)
        pieces.append(made)


@dataclasses.dataclass(frozen=True)
class Shape:
    """A JSON text of any size: its kind (array, object, string or deep) and what it repeats."""

    kind: str
    pieces: tuple[str, ...]

    def __call__(self, size: int) -> str:
        """Return a text of about `size` characters."""
        if self.kind == "string":
            return f'"{repeat("".join(self.pieces), size - 2, between="")}"'
        inner = repeat(",".join(self.pieces), size - 2)
        return f"{{{inner}}}" if self.kind == "object" else f"[{inner}]"

    def members(self, size: int) -> str:
        """Return the members of an object's text, without braces; only for the kind `object`."""
        return self(size)[1:-1]


def shapes(*kinds: str) -> st.SearchStrategy[Shape]:
    """Return the Shapes of these kinds, or all."""
    return st.sampled_from(kinds or tuple(_POOLS)).flatmap(
        lambda kind: st.builds(
            Shape,
            st.just(kind),
            st.lists(st.sampled_from(_POOLS[kind]), min_size=1, max_size=3).map(tuple),
        )
    )
