"""What a request to the API holds: its query and its body, judged by cerberus.

Cerberus copies and compares much of what it is given: it sees known names alone, and none of the
values that may be anything.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from videre.admin.problems import Problem
from videre.config.schema import StrictValidator, sentences
from videre.packets import MAX_ROOM_ID, MAX_TO, MAX_USER_ID, outlined

#: Entries of a list that an answer holds, unless `limit` says otherwise, and at the most.
PAGE = 100
MAX_PAGE = 1000

#: Seconds in which a body must have come: as on the public port (transport.bodies).
BODY_SECONDS = 30.0

# Faults of a request that an answer names: who sends a thousand knows enough by then.
MAX_FAULTS = 8

#: The longest query by far is a room's and a user's, each character four bytes, each byte `%xx`.
PREFIX = {"prefix": {"type": "string"}}
ROOM = {"room": {"type": "string", "required": True, "minlength": 1, "maxlength": MAX_ROOM_ID}}
USER = {"user": {"type": "string", "required": True, "minlength": 1, "maxlength": MAX_USER_ID}}
REASON = {"reason": {"type": "string"}}


def _number(given: str | int) -> str | int:
    """Return the number that a parameter is; what is none stays, to be complained of."""
    is_number = isinstance(given, int) or re.fullmatch("[0-9]{1,9}", given)
    return int(given) if is_number else given


def paged(longest: int) -> dict[str, Any]:
    """Return what says which page of a list is asked for; `after` is a name of so many characters.

    It is the last name of the page before.
    """
    return {
        "limit": {"type": "integer", "min": 1, "max": MAX_PAGE, "coerce": _number, "default": PAGE},
        "after": {"type": "string", "minlength": 1, "maxlength": longest},
    }


_NAME = {"type": "string", "maxlength": MAX_USER_ID}
_TO = {**_NAME, "minlength": 1}

# What may be any JSON value. Cerberus is given null instead.
_ANYTHING = frozenset({"Payload"})

#: A packet to be sent.
PACKET: dict[str, Any] = {
    "Payload": {"required": True, "nullable": True},
    "To": {"anyof": [_TO, {"type": "list", "minlength": 1, "maxlength": MAX_TO, "schema": _TO}]},
    "UserId": {**_NAME, "default": ""},
}


def read_query(request: web.Request, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a query, the defaults among them; raises Problem."""
    given: dict[str, str] = {}
    faults: dict[str, str] = {}
    for key, value in request.query.items():
        if key not in schema:
            faults[key] = "unknown field"
        elif key in given:
            faults[key] = "must be given once"
        given[key] = value
        if len(faults) == MAX_FAULTS:
            break
    if faults:
        raise _invalid(faults, "query")
    return _judge(given, schema, "query")


async def read_body(request: web.Request, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON object that is a request's body; raises Problem."""
    if request.content_type != "application/json":  # which a form of another site cannot send
        raise Problem("unsupported-media-type", "Send Content-Type: application/json.")
    if hdrs.CONTENT_ENCODING in request.headers:
        raise Problem("unsupported-media-type", "Send the body without a Content-Encoding.")
    try:
        body = orjson.loads(await _read(request))
    except ValueError as error:
        raise Problem("invalid-request", f"The body is not JSON: {error}"[:200]) from None
    if not isinstance(body, dict):
        raise Problem("invalid-request", "The body must be a JSON object.")
    unknown = _first(key for key in body if key not in schema)
    if unknown:
        raise _invalid(dict.fromkeys(unknown, "unknown field"), "body")
    return {**_judge({key: _outlined(key, body[key]) for key in body}, schema, "body"), **body}


def _outlined(key: str, value: Any) -> Any:
    """Return what cerberus sees of a value: as good or bad as the whole, and short."""
    if key in _ANYTHING:
        return None
    if key != "To" or type(value) is not list or not value:
        return outlined(value)
    wrong = _first(each for each in value if not _is_user(each))
    # Good names up to the list's own length, or to one too many.
    return [*map(outlined, wrong), *["a"] * (min(len(value), MAX_TO + 1) - len(wrong))]


def _is_user(value: Any) -> bool:
    """Tell what `_TO` says of a name in a list."""
    return type(value) is str and 0 < len(value) <= MAX_USER_ID


async def _read(request: web.Request) -> bytes:
    """Return a body, of which no more is read than the application's client_max_size."""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.read()
    except TimeoutError:
        detail = f"Send the body within {BODY_SECONDS:g} seconds."
        raise Problem("request-timeout", detail, headers={hdrs.CONNECTION: "close"}) from None
    except (ConnectionError, HttpProcessingError, web.RequestPayloadError):
        detail = "The body is broken."
        raise Problem("invalid-request", detail, headers={hdrs.CONNECTION: "close"}) from None


def _first(found: Iterable[Any]) -> list[Any]:
    return list(itertools.islice(found, MAX_FAULTS))


def _judge(document: dict[str, Any], schema: Mapping[str, Any], where: str) -> dict[str, Any]:
    validator = StrictValidator(schema)
    if not validator.validate(document):
        faults = {key: "; ".join(sentences(found)) for key, found in validator.errors.items()}
        raise _invalid(faults, where)
    judged: dict[str, Any] = validator.document
    return judged


def _invalid(faults: Mapping[str, str], where: str) -> Problem:
    errors = [{"in": where, "name": str(key)[:200], "detail": faults[key]} for key in faults]
    told = ", ".join(f"{error['name']}: {error['detail']}" for error in errors)
    return Problem("invalid-request", told[:500], errors=errors)
