"""The routes of one prefix: who may request what, with which methods."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import hdrs, web
from sockjs.route import SockJSRoute
from sockjs.transports.utils import CACHE_CONTROL, cache_headers

from videre.answers import Answer
from videre.transport.bodies import Body
from videre.transport.clients import Client
from videre.transport.http import HTTPSession
from videre.transport.manager import Manager
from videre.transport.requests import TRANSPORTS, Sending
from videre.transport.resources import has_cors_of_site
from videre.transport.session import Session
from videre.transport.upgrade import upgrade

# The parts of a session URL: printable ASCII without dots (SockJS protocol), short enough to log.
_PART = re.compile(r"[ -\-0-~]{1,64}")

# Longest body of a request that needs none, in bytes: it would stay in memory for a whole poll.
MAX_NEEDLESS = 1024

# Marks the requests whose responses `finish_headers` must give CORS headers.
_ROUTE: web.RequestKey[Any] = web.RequestKey("videre-route", object)


class Route(SockJSRoute):  # type: ignore[misc]  # the plugin has no types
    """The handlers below one prefix."""

    manager: Manager

    def __init__(self, name: str, manager: Manager) -> None:
        options = manager.options
        wanted = {
            "websocket": options.websocket,
            "websocket-raw": options.websocket,
            "htmlfile": options.htmlfile,
            "jsonp-polling": options.jsonp,
        }
        disabled = {transport for transport, on in wanted.items() if not on}
        script = options.sockjs_url
        if (integrity := options.integrity) is not None:  # appends attributes to the script element
            script += f'" integrity="{integrity}" crossorigin="anonymous'
        super().__init__(name, manager, script, TRANSPORTS, disabled, options.cookie)

    # Handlers for aiohttp. They raise HTTPExceptions for refused requests.

    async def transport(self, request: web.Request) -> web.StreamResponse:
        """Serve `/<server>/<session>/<transport>`."""
        name = request.match_info["transport"]
        if name == "websocket":
            client = self._upgradable(request, sockjs_framing=True)
            return await upgrade(request, self.manager, client, sockjs_framing=True)
        transport = TRANSPORTS.get(name)
        if transport is None or transport.name in self.disable_transports:
            raise web.HTTPNotFound
        session_id = self._session_id(request)
        if (answer := self._admit(request, transport.methods)) is not None:
            return answer
        return await _until_lost(self._process(request, transport, session_id))

    async def websocket(self, request: web.Request) -> web.StreamResponse:
        """Serve `/websocket`, the raw WebSocket."""
        client = self._upgradable(request, sockjs_framing=False)
        return await upgrade(request, self.manager, client, sockjs_framing=False)

    async def info(self, request: web.Request) -> web.StreamResponse:
        """Serve `/info`, which SockJS clients request before they open a session."""
        if (answer := self._admit(request, ("GET", "HEAD"), allow="OPTIONS, GET")) is not None:
            return answer
        self.manager.admission.require_open()
        info = {
            "entropy": secrets.randbelow(2**32),
            "websocket": self.manager.options.websocket,
            "cookie_needed": self.manager.options.cookie,
            "origins": ["*:*"],
            "transports": self._transport_names,
        }
        headers = {
            hdrs.CONTENT_TYPE: "application/json; charset=UTF-8",
            hdrs.CACHE_CONTROL: CACHE_CONTROL,
        }
        return web.Response(text=json.dumps(info), headers=headers)

    async def greet(self, request: web.Request) -> web.StreamResponse:
        """Serve the prefix itself."""
        return await self._page(request, self.greeting)

    async def page(self, request: web.Request) -> web.StreamResponse:
        """Serve the page for iframe transports; only allowed origins may frame it."""
        return await self._page(request, self._iframe)

    async def _iframe(self, request: web.Request) -> web.Response:
        # The plugin answers 304 to any ETag, even one for a page with another SockJSUrl.
        policy = self.manager.admission.origins.policy
        if policy is None:
            etag = f'"{self.iframe_html_hxd}"'
            headers = dict(cache_headers())  # for a year, as the SockJS protocol has it
        else:  # a reload may change it, so that browsers must ask each time
            tag = hashlib.sha256(f"{self.iframe_html_hxd} {policy}".encode()).hexdigest()[:32]
            etag = f'"{tag}"'
            headers = {"Content-Security-Policy": policy, hdrs.CACHE_CONTROL: "no-cache"}
        headers[hdrs.ETAG] = etag
        known = [tag.strip() for tag in request.headers.get(hdrs.IF_NONE_MATCH, "").split(",")]
        if etag in known or f"W/{etag}" in known:
            return Answer(status=304, headers={**headers, hdrs.CONTENT_TYPE: ""})
        headers[hdrs.CONTENT_TYPE] = "text/html; charset=UTF-8"
        return web.Response(body=self.iframe_html, headers=headers)

    # Helpers.

    @staticmethod
    async def _page(
        request: web.Request, serve: Callable[[web.Request], Awaitable[web.Response]]
    ) -> web.StreamResponse:
        if request.method not in ("GET", "HEAD"):
            raise _NotAllowed("GET, HEAD")
        return await serve(request)

    def _upgradable(self, request: web.Request, *, sockjs_framing: bool) -> Client:
        """Return the client that requests a WebSocket; raise an HTTPException to refuse it."""
        if "websocket" in self.disable_transports:
            raise web.HTTPNotFound
        if sockjs_framing:
            self._session_id(request)  # it names no session, but must be well-formed
        if request.method != "GET":
            raise _NotAllowed("GET")
        self.manager.admission.check_origin(request)
        return self.manager.admission.new_client(request)

    def _admit(
        self, request: web.Request, methods: tuple[str, ...], allow: str = ""
    ) -> web.Response | None:
        """Check origin and method; return the answer to a preflight, None for other requests."""
        self.manager.admission.check_origin(request)
        request[_ROUTE] = self
        allow = allow or f"OPTIONS, {', '.join(methods)}"
        if request.method == "OPTIONS":
            headers = dict(cache_headers())
            headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = allow
            if asked := request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS):
                headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = asked
            return Answer(status=204, headers=headers)
        if request.method not in methods:
            raise _NotAllowed(allow)
        return None

    async def _process(
        self, request: web.Request, transport: Any, session_id: str
    ) -> web.StreamResponse:
        if request.body_exists and not issubclass(transport, Sending):
            await self._skip_body(request)
        session = self._session(request, transport, session_id)
        receiver = transport(self.manager, session, request)
        if getattr(receiver, "maxsize", 0):
            receiver.maxsize = self.manager.options.streaming_limit
        response: web.StreamResponse = await receiver.process()
        return response

    async def _skip_body(self, request: web.Request) -> None:
        """Read a body that nobody needs; raise an HTTPException if it is long, slow or broken."""
        address = self.manager.admission.proxies.client(request).address
        await Body(request, address, self.manager.shared.bodies).read(MAX_NEEDLESS)

    @staticmethod
    def _session_id(request: web.Request) -> str:
        """Return the session id of a URL; raise HTTPNotFound if it is malformed."""
        session_id = request.match_info["session"]
        if not (_PART.fullmatch(session_id) and _PART.fullmatch(request.match_info["server"])):
            raise web.HTTPNotFound
        return session_id

    def _session(self, request: web.Request, transport: Any, session_id: str) -> Session:
        """Return a request's session; a receiving request may open a new one."""
        manager = self.manager
        session = manager.sessions.get(session_id)
        is_sender = issubclass(transport, Sending)
        if not is_sender:
            transport.check(request)
        if session is not None:
            # Knowing a URL, perhaps from a log, does not make someone the owner of the session.
            # The proxies may have been reloaded since it was opened.
            proxies = session.proxies or manager.admission.proxies
            if session.address != proxies.client(request).address:
                raise web.HTTPNotFound
            if is_sender and session.is_over:
                raise web.HTTPNotFound
            return session
        if is_sender:
            raise web.HTTPNotFound
        client = self.manager.admission.new_client(request)
        opened = HTTPSession(session_id, manager, client, transport.name)
        opened.proxies = manager.admission.proxies
        manager.opened(opened)
        return opened

    def _finish_headers(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        headers = response.headers
        origin = request.headers.get(hdrs.ORIGIN)
        if not has_cors_of_site(request):
            headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin or "*"
            if origin:
                headers[hdrs.ACCESS_CONTROL_ALLOW_CREDENTIALS] = "true"
        headers.add(hdrs.VARY, hdrs.ORIGIN)


async def finish_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Add CORS headers to responses of our routes; leave the site's other responses alone."""
    # Popped, because an application with two prefixes calls this twice.
    if (route := request.pop(_ROUTE, None)) is not None:
        route._finish_headers(request, response)


async def _until_lost(response: Awaitable[web.StreamResponse]) -> web.StreamResponse:
    """Return a response; an empty one if the client left, which is no error to log."""
    try:
        return await response
    except ConnectionError:
        return Answer()


class _NotAllowed(Answer, web.HTTPException):
    """405 without a body or Content-Type, as SockJS requires."""

    status_code = 405
    empty_body = True

    def __init__(self, allow: str) -> None:
        super().__init__(headers={hdrs.ALLOW: allow})
