"""The admin port in the test's process, and a client that checks each of its answers."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import web
from inprocess import Server, serving

import videre
from videre import admin
from videre.app import NAMESPACES
from videre.config import Config
from videre.namespace import Namespace

TOKEN = "correct-horse-battery"

DOCUMENT: dict[str, Any] = admin.openapi()
JSON_TYPES = ("application/json", "application/problem+json")


@dataclasses.dataclass
class Answer:
    """An answer of the admin port, already compared with the document."""

    status: int
    body: Any
    headers: Any

    @property
    def code(self) -> str:
        """The code of a problem."""
        code: str = self.body["code"]
        assert self.body["type"] == f"urn:videre:problem:{code}"
        assert self.body["status"] == self.status
        return code


class Admin:
    """A client of the admin port at `url`; `drained` counts the requests to drain."""

    def __init__(
        self,
        namespaces: Sequence[Namespace],
        signaller: Server,
        port: Server,
        app: web.Application,
    ) -> None:
        self.namespaces = namespaces
        self.signaller = signaller
        self.port = port
        self.app = app
        self.http = port.http
        self.url = port.url
        self.token: str | None = None
        self.drained = 0

    async def ask(
        self, method: str, path: str, *, json: Any = None, headers: Any = None, **query: Any
    ) -> Answer:
        """Send a request, and compare the answer with the document."""
        sent = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        async with self.http.request(
            method, self.url + path, params=query, json=json, headers=sent | (headers or {})
        ) as response:
            await response.read()
            return await checked(method, path, response)

    async def get(self, path: str, **query: Any) -> Answer:
        """Send a GET."""
        return await self.ask("GET", path, **query)


async def checked(method: str, path: str, response: aiohttp.ClientResponse) -> Answer:
    """Return an answer; fail if the document does not describe it."""
    described = DOCUMENT["paths"].get(path, {}).get(method.lower())
    is_json = response.content_type in JSON_TYPES
    body = await response.json(content_type=None) if is_json else await response.text()
    answer = Answer(response.status, body, response.headers)
    if described is None:  # unknown path or method: then the answer must say so
        assert response.content_type == "application/problem+json"
        conforms(body, {"$ref": "#/components/schemas/Problem"})
        return answer
    told = resolved(described["responses"][str(response.status)])
    for name in told.get("headers", {}):
        assert name in response.headers
    if "content" not in told:
        assert body == ""
        return answer
    conforms(body, told["content"][response.content_type]["schema"])
    return answer


def resolved(part: dict[str, Any]) -> dict[str, Any]:
    """Return a part of the document, following a reference."""
    if "$ref" not in part:
        return part
    found: Any = DOCUMENT
    for step in part["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    return dict(found)


def conforms(value: Any, schema: dict[str, Any]) -> None:
    """Fail unless a value matches a schema of the document."""
    from jsonschema import Draft202012Validator  # takes 1.5 s, here in one worker alone

    whole = {**schema, "components": DOCUMENT["components"]}
    Draft202012Validator(whole, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(value)


def routes(app: web.Application) -> set[tuple[str, str]]:
    """Return each method and path of an application; each GET has a HEAD."""
    found = set()
    for route in app.router.routes():
        assert route.resource is not None
        found.add((route.method, re.sub(r"{(\w+)[^}]*}", r"{\1}", route.resource.canonical)))
    return {(method, path) for method, path in found if method != "HEAD"}


@asynccontextmanager
async def administered(
    config: Config | None = None, *, token: str | None = None
) -> AsyncIterator[Admin]:
    """Run a server and its admin port, and give a client that shows the token."""
    config = dataclasses.replace(config or Config(), admin_token=token)
    async with AsyncExitStack() as stack:
        app = videre.create_app(config)
        signaller = await stack.enter_async_context(serving(app))

        def drain() -> None:
            client.drained += 1

        admin_app = admin.create_app(app[NAMESPACES], config=config, drain=drain)
        port = await stack.enter_async_context(serving(admin_app))
        client = Admin(app[NAMESPACES], signaller, port, admin_app)
        client.token = token
        yield client
