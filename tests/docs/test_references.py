"""The references in docs/ are complete: they name everything that the code offers."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest
from documents import DOCUMENTS, ROOT
from process import node

import videre
import videre.client
from videre.client import Backoff, Client
from videre.rooms import Rooms
from videre.rooms.hosting import Hosting

TEXT = {path.stem: path.read_text(encoding="utf-8") for path in DOCUMENTS}


def in_code(document: str, name: str) -> bool:
    """Return whether a document contains a name as code."""
    return re.search(rf"`[^`\n]*\b{re.escape(name)}\b[^`\n]*`", TEXT[document]) is not None


def public(kind: type) -> list[str]:
    """Return the public names of a class."""
    return [name for name in vars(kind) if not name.startswith("_")]


# The Python client: docs/client.md.

EXPORTED = [name for name in videre.client.__all__ if name != "Event"]  # the union of the events
PARAMETERS = dict(inspect.signature(Client).parameters)
FIELDS = [
    f"{name}.{field.name}"
    for name in EXPORTED
    if dataclasses.is_dataclass(kind := getattr(videre.client, name))
    for field in dataclasses.fields(kind)
    if not field.name.startswith("_")
]


@pytest.mark.parametrize("name", [*EXPORTED, *PARAMETERS, *public(Client)])
def test_the_python_client(name: str) -> None:
    """The reference has all exports, options, methods and properties."""
    assert in_code("client", name)


@pytest.mark.parametrize("field", FIELDS)
def test_the_fields_of_the_python_client(field: str) -> None:
    """The reference has the fields of each event, and of Backoff next to its name."""
    kind, name = field.split(".")
    assert re.search(rf"`{kind}\([^)]*\b{name}\b[^)]*\)", TEXT["client"])


def test_the_defaults_of_the_python_client() -> None:
    """The defaults in the options' table are the real ones."""
    rows = dict(re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", TEXT["client"], re.MULTILINE))
    told = {name: rows.get(name) for name in PARAMETERS if name not in ("url", "user", "room")}
    backoff = told.pop("backoff")
    assert backoff and eval(backoff, {"Backoff": Backoff}) == Backoff()
    assert told == {name: repr(PARAMETERS[name].default) for name in told}


# The browser client: docs/browser.md.

BROWSER = ROOT / "videre" / "browser"
TYPES = (BROWSER / "videre.d.ts").read_text(encoding="utf-8")
SOURCES = {
    kind: "".join((BROWSER / "videre" / f"{part}.js").read_text(encoding="utf-8") for part in parts)
    for kind, parts in {"Signaller": ["signaller"], "Videre": ["call", "peer", "transfers"]}.items()
}
#: Public in JavaScript, but only for the module's own classes.
BETWEEN_CLASSES = {
    "Signaller": set(),
    "Videre": {"failed", "received", "track"},
    "Peer": {"call", "close", "hear", "repair", "replace", "send"},
}
#: Local names of options, which are called something else as options.
OPTIONS_KEPT = {"signallerURL", "localVideoElement", "remoteVideoElement", "constraints"}
OPTIONS_KEPT |= {"configuration", "maxTransferBytes"}


@pytest.fixture(scope="module")
def members() -> dict[str, Any]:
    """Return the public names of the module and its classes."""
    path = ROOT / "videre" / "browser" / "videre.js"
    (line,) = asyncio.run(node("members.mjs", str(path)))
    return line


def interface(name: str) -> str:
    """Return the members of an interface of the types."""
    return TYPES.partition(f"\nexport interface {name} {{\n")[2].partition("\n}\n")[0]


def section(title: str) -> str:
    """Return a section of docs/browser.md."""
    return TEXT["browser"].partition(f"\n## {title}\n")[2].partition("\n## ")[0]


@pytest.mark.process
@pytest.mark.parametrize("kind", ["Signaller", "Videre"])
def test_the_browser_client(members: dict[str, Any], kind: str) -> None:
    """Every method and property is in the section of its class."""
    names = set(members[kind]) - BETWEEN_CLASSES[kind]
    assert len(names) > 10
    assert [
        name for name in sorted(names) if not re.search(rf"`[^`\n]*\b{name}\b", section(kind))
    ] == []


@pytest.mark.process
def test_the_other_classes_of_the_browser_client(members: dict[str, Any]) -> None:
    """Each is named, with its members."""
    assert [
        name for name in members["exports"] if name != "default" and not in_code("browser", name)
    ] == []
    others = {*members["Peer"], *members["SignallerError"]} - BETWEEN_CLASSES["Peer"]
    assert others and [name for name in sorted(others) if not in_code("browser", name)] == []


@pytest.mark.parametrize(("kind", "least"), [("Signaller", 7), ("Videre", 8)])
def test_the_options_of_the_browser_client(kind: str, least: int) -> None:
    """The document has those of the types."""
    options = re.findall(r"^  (\w+)\??:", interface(f"{kind}Options"), re.MULTILINE)
    assert len(options) >= least
    assert [name for name in options if not re.search(rf"`{name}`", section(kind))] == []


@pytest.mark.parametrize(("kind", "least"), [("Signaller", 9), ("Videre", 6)])
def test_the_events_of_the_browser_client(kind: str, least: int) -> None:
    """The document has those that the class or its parts emit; the types have the same."""
    events = {
        name
        for arguments in re.findall(r"(?:\.emit|tell)\(([^,)]+)", SOURCES[kind])
        for name in re.findall(r'"(\w+)"', arguments)
    }
    assert events == set(re.findall(r"^  (\w+):", interface(f"{kind}Events"), re.MULTILINE))
    assert len(events) >= least, events
    assert [name for name in sorted(events) if f"\n| `{name}` |" not in section(kind)] == []


# What a site can call: docs/hosting.md.

#: What rooms offer to the application; the rest is for peers and metrics.
FOR_SITES = {"on_join", "on_leave", "rooms", "members", "nodes", "kick", "send", "ready", "fault"}
FOR_PEERS = {"census", "start", "close", "join", "resume", "renew", "leave", "lose", "broadcast"}
FOR_PEERS |= {"is_initiator", "absent", "users", "users_here", "sizes"}
INSIDE = {"context", "ice", "log", "tally", "lag", "journal", "VidereError", "__version__"}
NAMESPACE = {*public(videre.Namespace), *videre.Namespace.__annotations__}


def called(function: Callable[..., Any]) -> str:
    """Return a function's arguments as a caller sees them: `(a, *, b=None)`."""
    signature = inspect.signature(function)
    told = [
        each.replace(annotation=each.empty)
        for name, each in signature.parameters.items()
        if name not in INSIDE | {"self"}
    ]
    plain = signature.replace(parameters=told, return_annotation=signature.empty)
    return str(plain).replace("'", '"')


def test_what_rooms_offer() -> None:
    """The document has each method with its arguments and defaults."""
    assert {*public(Rooms), *public(Hosting)} - FOR_PEERS == FOR_SITES
    for name in ("rooms", "members", "kick", "send"):
        assert f"`await {name}{called(getattr(Rooms, name))}`" in TEXT["hosting"]
    for name in ("setup", "create_app"):
        assert f"`videre.{name}{called(getattr(videre, name))}`" in TEXT["hosting"]
    assert all(
        f"`{name}`" in TEXT["hosting"]
        for name in ("@on_join", "@on_leave", "nodes()", "ready", "fault")
    )


@pytest.mark.parametrize("name", sorted((NAMESPACE | {*videre.__all__}) - INSIDE))
def test_what_a_site_can_call(name: str) -> None:
    """The document has the package's exports, and the result of `setup`."""
    assert in_code("hosting", name)
