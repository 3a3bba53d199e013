"""Where the Payload stands in the text of a packet, which is replaced in place.

So every other key keeps its value, spelling and order. All functions take the text of a packet that
was read as one. What is known to be JSON is skipped in long strides, by regular expressions and in
C, and no character is looked at more than a few times: what honest clients send takes a few
microseconds, and a byte of anything at most some tens of nanoseconds.
"""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

#: Longest head that `head_of` returns, in characters: a client's has 100. Each session keeps one.
MAX_HEAD = 1024

# Possessive repetition of more than one character has a bug before Python 3.11.5: hence (?>...).
_STRING = r'"[^"\\]*+(?>(?:\\.[^"\\]*+)*)"'
_SCALAR = r'[^\s,"{}\[\]]++'


def _nested(levels: int) -> str:
    """Return a pattern of an object or array with so many levels; what is deeper fails early."""
    inner = ""
    for _ in range(levels):
        inner = rf'|[\[{{](?>(?:[^"\[\]{{}}]++|{_STRING}{inner})*)[\]}}]'
    return inner[1:]


_NESTED = _nested(8)
_VALUE = rf"(?:{_STRING}|{_SCALAR}|{_NESTED})"
# Any of its characters may be an escape.
_NAME = "".join(rf"(?:{letter}|\\u(?i:{ord(letter):04x}))" for letter in "Payload")
_KEY = rf'"(?=[P\\]){_NAME}"\s*+:\s*+'

# Within the packet's braces: what is no Payload, then a Payload (group 1) with its value (group 2).
# Any value that is deeper ends it early.
_STRIDE = re.compile(
    rf'(?>(?:[^"{{}}\[\]]++|(?!{_KEY}){_STRING}|{_NESTED})*)({_KEY}({_VALUE})?)?',
    re.DOTALL,
)
# Behind one Payload: those that follow it at once and are not the last.
_MORE = r'\s*+,\s*+"Payload"\s*+:\s*+'
_MEMBER = re.compile(_MORE + _VALUE, re.DOTALL)
_RUN = re.compile(rf"(?>(?:{_MORE}{_VALUE}(?={_MORE}))*)", re.DOTALL)

_SIMPLE = re.compile(rf"\s*+:\s*+({_STRING}|{_SCALAR})?", re.DOTALL)
_READER = json.JSONDecoder(parse_int=float)  # which reads any digits in linear time


def around_payload(text: str) -> tuple[str, str]:
    """Return what stands before and after the Payload's value.

    Where the key stands more than once, readers take the last: so does this, and the values
    before it are emptied, since what they hold must not be shown to anyone either.
    """
    *earlier, (start, end, _) = _values(text)
    pieces: list[str] = []
    at = 0
    for first, last, emptied in earlier:
        pieces += text[at:first], emptied
        at = last
    return "".join(pieces) + text[at:start], text[end:]


def head_of(text: str) -> str | None:
    """Return a packet up to its Payload's value.

    None if it is longer than MAX_HEAD, if something else than `}` follows the value, or if the key
    stands there more than once.
    """
    (start, end, _), *more = _values(text)
    return text[:start] if not more and start <= MAX_HEAD and text[end:] == "}" else None


def _values(text: str) -> list[tuple[int, int, str]]:
    """Return where the values of Payload stand, and what is to take their place."""
    key = text.find('"Payload"')
    if key < 0 or text.find('"Payload"', key + 1) >= 0 or "\\u00" in text:
        return _all_values(text)
    # Nothing else can be the key: as in every packet of an honest client.
    simple: Any = _SIMPLE.match(text, key + len('"Payload"'))  # which always matches
    start, end = simple.span(1) if simple[1] else (simple.end(), _long_end(text, simple.end()))
    return [(start, end, "")]


def _all_values(text: str) -> list[tuple[int, int, str]]:
    values: list[tuple[int, int, str]] = []
    at = text.index("{") + 1
    while True:
        stride: Any = _STRIDE.match(text, at)  # which always matches
        at = stride.end()
        if stride[1]:
            start, end = stride.span(2) if stride[2] else (at, _deep_end(text, at))
            emptied, at = '""', end
            if text.startswith(',"Payload":', end) and (run := _RUN.match(text, end)):
                emptied += _MEMBER.sub(',"Payload":""', run[0])
                at = run.end()
            values.append((start, at, emptied))
        elif text[at] == "}":
            return values
        else:
            at = _deep_end(text, at)


def _deep_end(text: str, at: int) -> int:
    """Return where the object or array that begins at `at` ends."""
    try:
        return _READER.raw_decode(text, at)[1]
    except RecursionError:  # nearly as deep as a packet may be: there are few of them
        return _long_end(text, at)


def _long_end(text: str, at: int) -> int:
    """Return the same: orjson says what comes after a value, builds nothing, but needs a copy."""
    try:
        orjson.loads(text[at:])
    except orjson.JSONDecodeError as error:
        return at + len(text[at : at + error.pos].rstrip())
    raise ValueError("no packet: nothing follows its Payload")
