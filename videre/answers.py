"""Responses that a hosting site's middlewares cannot break; they process every response."""

from __future__ import annotations

from aiohttp import hdrs, web
from aiohttp.web_response import ContentCoding


class Answer(web.Response):
    """A response that a middleware may compress, even if its body is empty or compressed already.

    aiohttp fails to compress a missing body, and compresses a compressed one a second time.
    """

    def enable_compression(
        self, force: bool | ContentCoding | None = None, strategy: int | None = None
    ) -> None:
        """Compress the body, unless there is none, or it is compressed already."""
        if self.body and hdrs.CONTENT_ENCODING not in self.headers:
            super().enable_compression(force, strategy)


def is_timed_out(request: web.BaseRequest) -> bool:
    """Tell whether a middleware's time limit cancelled a request's handler.

    False if its connection is lost, or the server or the event loop stops: these cancel the task
    of the whole connection, too.
    """
    lost = request.transport is None or request.transport.is_closing()
    return not lost and not request.task.cancelling()
