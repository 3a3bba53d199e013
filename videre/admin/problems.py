"""Problems: the admin port's errors as problem+json (RFC 9457), with stable codes.

Handlers raise a Problem, and `tell_problems` sends it. It also turns all other errors into
problems: unknown paths, bodies that are too large, an engine that does not answer, bugs.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler

from videre.errors import EngineError

logger = logging.getLogger("videre.admin")

#: The prefix of a `type`; the code follows.
TYPE = "urn:videre:problem:"
CONTENT_TYPE = "application/problem+json"

#: Status and title by code. Clients may rely on code, type and status.
CODES: dict[str, tuple[int, str]] = {
    "invalid-request": (400, "The request is invalid"),
    "unauthorized": (401, "The token is missing or wrong"),
    "cross-site": (403, "Pages of other sites may not use this"),
    "not-found": (404, "Nothing is here"),
    "no-such-prefix": (404, "No such prefix is served"),
    "no-such-room": (404, "The room has no members"),
    "no-such-user": (404, "The user is not in the room"),
    "method-not-allowed": (405, "The method is not allowed here"),
    "request-timeout": (408, "The body did not arrive in time"),
    "cursor-gone": (409, "The list has changed, start again"),
    "request-too-large": (413, "The request is too large"),
    "unsupported-media-type": (415, "The body must be JSON"),
    "wrong-host": (421, "This port does not serve that Host"),
    "too-many-tries": (429, "Too many wrong tokens came from this address"),
    "internal-error": (500, "Internal error"),
    "unavailable": (503, "The engine that keeps the rooms does not answer"),
}

#: Retry-After for `unavailable`, in seconds: about as long as a server takes to restart.
RETRY_AFTER = 2

_OF_STATUS = {
    400: "invalid-request",
    404: "not-found",
    405: "method-not-allowed",
    413: "request-too-large",
    415: "unsupported-media-type",
}


@dataclasses.dataclass
class Problem(Exception):
    """A refused request. `detail` is for people; `errors` lists the request's faults."""

    code: str
    detail: str
    errors: Sequence[Mapping[str, str]] = ()
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def response(self) -> web.Response:
        """Return the problem+json response."""
        status, title = CODES[self.code]
        body: dict[str, Any] = {
            "type": TYPE + self.code,
            "code": self.code,
            "title": title,
            "status": status,
            "detail": self.detail,
        }
        if self.errors:
            body["errors"] = self.errors
        return web.Response(
            body=orjson.dumps(body), status=status, headers=self.headers, content_type=CONTENT_TYPE
        )


@web.middleware
async def tell_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every error behind this middleware into a problem+json response."""
    try:
        return await handler(request)
    except Problem as problem:
        return problem.response()
    except web.HTTPException as error:
        if error.status < 400:
            raise
        code = _OF_STATUS.get(error.status, "invalid-request")
        kept = {key: error.headers[key] for key in ("Allow",) if key in error.headers}
        return Problem(code, f"{request.method} {request.path}"[:200], headers=kept).response()
    except EngineError:  # its message may name the engine
        detail = "The outcome is unknown. Try again."
        headers = {"Retry-After": str(RETRY_AFTER)}
        return Problem("unavailable", detail, headers=headers).response()
    except Exception:
        logger.exception("a request to the admin port failed")
        return Problem("internal-error", "The server's log has the details.").response()
