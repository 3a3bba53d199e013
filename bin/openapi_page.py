"""Render an OpenAPI document as a page of Markdown, to read and search like the others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Node = dict[str, Any]


class Document:
    """An OpenAPI document, in which references can be looked up."""

    def __init__(self, root: Node) -> None:
        self.root = root

    def at(self, node: Node) -> Node:
        """Return the object that a node is or refers to."""
        while "$ref" in node:
            found: Any = self.root
            for name in node["$ref"].removeprefix("#/").split("/"):
                found = found[name]
            node = found
        return node

    def kind(self, schema: Node) -> str:
        """Return the type of a value in words, with a link to its schema if it has a name."""
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            return f"[{name}](#{name.lower()})"
        if "const" in schema:
            return f"`{json.dumps(schema['const'])}`"
        if "enum" in schema:
            return ", ".join(f"`{json.dumps(each)}`" for each in schema["enum"])
        for word in ("oneOf", "anyOf"):
            if word in schema:
                return " or ".join(self.kind(each) for each in schema[word])
        kinds = schema.get("type", "any")
        words = " or ".join(kinds) if isinstance(kinds, list) else str(kinds)
        if "array" in words and "items" in schema:
            words += f" of {self.kind(schema['items'])}"
        bounds = [
            f"{name} {schema[key]}"
            for key, name in (
                ("minimum", "from"),
                ("maximum", "to"),
                ("minLength", "at least"),
                ("maxLength", "at most"),
            )
            if key in schema
        ]
        return " ".join([words, *bounds])


def cell(text: str) -> str:
    """Return a text for a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def _operation(document: Document, method: str, path: str, operation: Node) -> Iterator[str]:
    yield f"### {method.upper()} {path}"
    yield f"{operation['summary']}."
    if "description" in operation:
        yield operation["description"]
    if operation.get("security") == []:
        yield "Needs no token."
    rows = []
    for each in map(document.at, operation.get("parameters", ())):
        needed = "" if each.get("required") else "optional; "
        words = cell(f"{needed}{each.get('description', '')}")
        rows.append(f"| `{each['name']}` | {document.kind(each['schema'])} | {words} |")
    if rows:
        yield "\n".join(["| in the query | type | meaning |", "|---|---|---|", *rows])
    if "requestBody" in operation:
        body = document.at(operation["requestBody"])
        for kind, media in body["content"].items():
            yield f"The body is `{kind}`: {document.kind(media['schema'])}."
    yield "\n".join(["| status | answer |", "|---|---|", *_answers(document, operation)])


def _answers(document: Document, operation: Node) -> Iterator[str]:
    for status, answer in operation["responses"].items():
        known = document.at(answer)
        bodies = [
            f"`{kind}`" + (f" {document.kind(media['schema'])}" if "schema" in media else "")
            for kind, media in known.get("content", {}).items()
        ]
        words = " ".join([cell(known["description"]), *bodies])
        yield f"| {status} | {words} |"


def _schema(document: Document, name: str, schema: Node) -> Iterator[str]:
    yield f"### {name}"
    if "description" in schema:
        yield schema["description"]
    needed = schema.get("required", ())
    rows = []
    for field, each in schema.get("properties", {}).items():
        optional = "" if field in needed else "optional; "
        words = cell(optional + document.at(each).get("description", ""))
        rows.append(f"| `{field}` | {document.kind(each)} | {words} |")
    if rows:
        yield "\n".join(["| field | type | meaning |", "|---|---|---|", *rows])


def _parts(document: Document) -> Iterator[str]:
    yield "# Admin API"
    yield document.root["info"]["description"]
    yield (
        "This page is made from the OpenAPI document, which the admin port serves at "
        "`/openapi.json`. [operations.md](operations.md#admin-port) says how to switch the port "
        "on, and has examples."
    )
    for tag in document.root["tags"]:
        yield f"## {tag['description'].rstrip('.')}"
        for path, item in document.root["paths"].items():
            for method, operation in item.items():
                if operation["tags"] == [tag["name"]]:
                    yield from _operation(document, method, path, operation)
    yield "## Schemas"
    for name, schema in document.root["components"]["schemas"].items():
        yield from _schema(document, name, schema)


def page(path: Path) -> str:
    """Return the page of the OpenAPI document in a file."""
    return "\n\n".join(_parts(Document(json.loads(path.read_text(encoding="utf-8"))))) + "\n"
