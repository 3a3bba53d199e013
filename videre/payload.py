"""Find the Payload in the text of a packet, to replace it in place.

Every other key keeps its value, spelling and order. All functions take the text of a packet that
parsed. Regular expressions and C code skip known-valid JSON in long strides and read no character
more than a few times: an honest client's packet takes a few microseconds, hostile input at most
some tens of nanoseconds per byte.
"""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

#: Longest head that `head_of` returns, in characters (a client's has 100). Each session keeps one.
MAX_HEAD = 1024

# Before Python 3.11.5, possessive repetition of more than one character has a bug: hence (?>...).
_STRING = r'"[^"\\]*+(?>(?:\\.[^"\\]*+)*)"'
_SCALAR = r'[^\s,"{}\[\]]++'


def _nested(levels: int) -> str:
    """Return a pattern for an object or array of up to `levels` levels; deeper ones fail early."""
    inner = ""
    for _ in range(levels):
        inner = rf'|[\[{{](?>(?:[^"\[\]{{}}]++|{_STRING}{inner})*)[\]}}]'
    return inner[1:]


_NESTED = _nested(8)
_VALUE = rf"(?:{_STRING}|{_SCALAR}|{_NESTED})"
# Any of its characters may be an escape.
_NAME = "".join(rf"(?:{letter}|\\u(?i:{ord(letter):04x}))" for letter in "Payload")
_KEY = rf'"(?=[P\\]){_NAME}"\s*+:\s*+'

# Inside the packet's braces: text without a Payload, then a Payload (group 1) and its value
# (group 2). A deeper value ends the match early.
_STRIDE = re.compile(
    rf'(?>(?:[^"{{}}\[\]]++|(?!{_KEY}){_STRING}|{_NESTED})*)({_KEY}({_VALUE})?)?',
    re.DOTALL,
)
# After one Payload: further ones that follow it immediately, except the last.
_MORE = r'\s*+,\s*+"Payload"\s*+:\s*+'
_MEMBER = re.compile(_MORE + _VALUE, re.DOTALL)
_RUN = re.compile(rf"(?>(?:{_MORE}{_VALUE}(?={_MORE}))*)", re.DOTALL)

# A small flat object, as of a `connect`: orjson's error costs 3 us (`_long_end`).
_FLAT = rf'\{{(?>(?:[^"\[\]{{}}]++|{_STRING}){{0,32}})\}}'
_SIMPLE = re.compile(rf"\s*+:\s*+({_STRING}|{_SCALAR}|{_FLAT})?", re.DOTALL)
_READER = json.JSONDecoder(parse_int=float)  # reads any number of digits in linear time


def around_payload(text: str) -> tuple[str, str]:
    """Return the text before and after the Payload's value.

    If the key is repeated, the last one counts, as it does for JSON parsers. The earlier values are
    emptied, because nobody may see what they contain either.
    """
    *earlier, (start, end, _) = _values(text)
    pieces: list[str] = []
    at = 0
    for first, last, emptied in earlier:
        pieces += text[at:first], emptied
        at = last
    return "".join(pieces) + text[at:start], text[end:]


def head_of(text: str) -> str | None:
    """Return the text of a packet up to its Payload's value.

    None if that is longer than MAX_HEAD, if anything but `}` follows the value, or if the key is
    repeated.
    """
    (start, end, _), *more = _values(text)
    return text[:start] if not more and start <= MAX_HEAD and text[end:] == "}" else None


def _values(text: str) -> list[tuple[int, int, str]]:
    """Return the start and end of each Payload value, and the text that replaces it."""
    key = text.find('"Payload"')
    if key < 0 or text.find('"Payload"', key + 1) >= 0 or "\\u00" in text:
        return _all_values(text)
    # Nothing else can be the key: true for every packet of an honest client.
    simple: Any = _SIMPLE.match(text, key + len('"Payload"'))  # always matches
    start, end = simple.span(1) if simple[1] else (simple.end(), _long_end(text, simple.end()))
    return [(start, end, "")]


def _all_values(text: str) -> list[tuple[int, int, str]]:
    values: list[tuple[int, int, str]] = []
    at = text.index("{") + 1
    while True:
        stride: Any = _STRIDE.match(text, at)  # always matches
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
    """Return where the object or array that starts at `at` ends."""
    try:
        return _READER.raw_decode(text, at)[1]
    except RecursionError:  # nearly the deepest packet allowed: rare
        return _long_end(text, at)


def _long_end(text: str, at: int) -> int:
    """Do the same with orjson: its error gives the end; it builds nothing, but needs a copy."""
    try:
        orjson.loads(text[at:])
    except orjson.JSONDecodeError as error:
        return at + len(text[at : at + error.pos].rstrip())
    raise ValueError("no packet: nothing follows its Payload")
