"""Read and validate API requests: the query and the body, with cerberus.

Cerberus copies and compares much of its input, so it gets known names only, and no values that may
be any JSON.
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
from cerberus.schema import UnvalidatedSchema

from videre.admin.problems import Problem
from videre.config.schema import StrictValidator, sentences
from videre.packets import MAX_ROOM_ID, MAX_TO, MAX_USER_ID, outlined
from videre.transport.checks import media_type

#: Default and maximum of `limit`, the number of entries in a response.
PAGE = 100
MAX_PAGE = 1000

#: Seconds that a body may take to arrive, as on the public port (transport.bodies).
BODY_SECONDS = 30.0

# Faults to report per request; more would not help the client.
MAX_FAULTS = 8

#: Schemas of the query's parameters. Room and user take less than 5 KB of a URL: up to four bytes
#: per character, and each byte as `%xx`.
PREFIX = {"prefix": {"type": "string"}}
ROOM = {"room": {"type": "string", "required": True, "minlength": 1, "maxlength": MAX_ROOM_ID}}
USER = {"user": {"type": "string", "required": True, "minlength": 1, "maxlength": MAX_USER_ID}}
REASON = {"reason": {"type": "string"}}


def _number(given: str | int) -> str | int:
    """Convert a decimal parameter to an int; return anything else as it is, for the validator."""
    is_number = isinstance(given, int) or re.fullmatch("[0-9]{1,9}", given)
    return int(given) if is_number else given


def paged(longest: int) -> dict[str, Any]:
    """Return the schema of the paging parameters `limit` and `after`.

    `after` is the last name of the previous page, of up to `longest` characters.
    """
    return {
        "limit": {"type": "integer", "min": 1, "max": MAX_PAGE, "coerce": _number, "default": PAGE},
        "after": {"type": "string", "minlength": 1, "maxlength": longest},
    }


_NAME = {"type": "string", "maxlength": MAX_USER_ID}
_TO = {**_NAME, "minlength": 1}

# Fields that may be any JSON value. Cerberus gets null instead.
_ANYTHING = frozenset({"Payload"})

#: The schema of a packet to send.
PACKET: dict[str, Any] = {
    "Payload": {"required": True, "nullable": True},
    "To": {"anyof": [_TO, {"type": "list", "minlength": 1, "maxlength": MAX_TO, "schema": _TO}]},
    "UserId": {**_NAME, "default": ""},
}


def read_query(request: web.Request, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the query's parameters, defaults included; raises Problem."""
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
    """Return the request's body, a JSON object; raises Problem."""
    if media_type(request) != "application/json":  # a form on another site cannot send JSON
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
    """Return a short stand-in for a value, valid exactly when the value is."""
    if key in _ANYTHING:
        return None
    if key != "To" or type(value) is not list or not value:
        return outlined(value)
    wrong = _first(each for each in value if not _is_user(each))
    # Add valid names up to the list's own length, or to one more than allowed.
    return [*map(outlined, wrong), *["a"] * (min(len(value), MAX_TO + 1) - len(wrong))]


def _is_user(value: Any) -> bool:
    """Tell whether a value in a list satisfies `_TO`."""
    return type(value) is str and 0 < len(value) <= MAX_USER_ID


async def _read(request: web.Request) -> bytes:
    """Read the body, up to the application's client_max_size; raises Problem."""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.read()
    except TimeoutError:
        detail = f"Send the body within {BODY_SECONDS:g} seconds."
        raise Problem("request-timeout", detail, headers={hdrs.CONNECTION: "close"}) from None
    except (ConnectionError, HttpProcessingError, web.RequestPayloadError):
        detail = "The body broke off, or is malformed."
        raise Problem("invalid-request", detail, headers={hdrs.CONNECTION: "close"}) from None


def _first(found: Iterable[Any]) -> list[Any]:
    return list(itertools.islice(found, MAX_FAULTS))


def _judge(document: dict[str, Any], schema: Mapping[str, Any], where: str) -> dict[str, Any]:
    validator = StrictValidator(UnvalidatedSchema(schema))
    if not validator.validate(document):
        faults = {key: "; ".join(sentences(found)) for key, found in validator.errors.items()}
        raise _invalid(faults, where)
    judged: dict[str, Any] = validator.document
    return judged


def _invalid(faults: Mapping[str, str], where: str) -> Problem:
    errors = [{"in": where, "name": str(key)[:200], "detail": faults[key]} for key in faults]
    told = ", ".join(f"{error['name']}: {error['detail']}" for error in errors)
    return Problem("invalid-request", told[:500], errors=errors)
