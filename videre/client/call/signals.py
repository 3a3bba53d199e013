"""Signals of calls as they go over the wire: docs/browser.md, "On the wire"."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from aiortc import RTCIceCandidate, RTCSessionDescription
from aiortc.sdp import candidate_from_sdp

OFFER, ANSWER, CANDIDATE = "Ice Offer", "Ice Answer", "Ice Candidate"
ASK, TURN = "Ice Ask", "Ice Turn"

# Characters of a call's name: the header of each `connect` has those of all calls.
MAX_NAME = 128

# Candidates of the other end, in a description and for a connection. No machine has more than a
# hundred or so, and the work of aioice grows with the square of their number.
MAX_CANDIDATES = 256

# Further bounds of a description, far above what browsers send. The products are those of lines in
# a section: aiortc's work grows with them. A codec is kept with each line of feedback about it.
MAX_SECTIONS, MAX_CODECS, MAX_PRODUCTS, MAX_FEEDBACK = 64, 1000, 200_000, 10_000

# The version of data transfers that this client supports.
DATA = 1


@dataclass(frozen=True, slots=True)
class Signal:
    """A well-formed signal; fields that its type lacks are None or 0."""

    type: str
    call: str | None = None  # None: from an old client
    number: int = 0  # of the offer or the turn
    description: RTCSessionDescription | None = None
    candidate: RTCIceCandidate | None = None  # None: the end of candidates
    data: int = 0  # the version of data transfers that the sender supports


def read(payload: Any) -> Signal | None:
    """Parse a broadcast's payload as a signal; return None if it is something else.

    Raises ValueError if it has the type of a signal, but is malformed.
    """
    if isinstance(payload, str):  # as the old client's documentation shows it
        try:
            payload = orjson.loads(payload)
        except ValueError:
            return None
    if not isinstance(payload, dict):
        return None
    kind, call = payload.get("Type"), payload.get("Call")
    if kind not in (OFFER, ANSWER, CANDIDATE, ASK, TURN):
        return None
    if not (call is None or (isinstance(call, str) and 1 <= len(call) <= MAX_NAME)):
        raise ValueError(f"{kind}: Call is not a string of 1 to {MAX_NAME} characters")
    if kind in (OFFER, ANSWER):
        number, data = _number(payload, "Offer"), _number(payload, "Data")
        return Signal(kind, call, number, description=_description(payload), data=data)
    if kind == CANDIDATE:
        return Signal(kind, call, candidate=_candidate(payload))
    return Signal(kind, call, _number(payload, "Turn"))


def _number(payload: dict[str, Any], key: str) -> int:
    value = payload.get(key, 0)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{payload['Type']}: {key} is not a number")
    return value


def _description(payload: dict[str, Any]) -> RTCSessionDescription:
    ice = payload.get("IcePacket")
    wanted = "offer" if payload["Type"] == OFFER else "answer"
    sdp = ice.get("sdp") if isinstance(ice, dict) and ice.get("type") == wanted else None
    if not isinstance(sdp, str):
        raise ValueError(f"{payload['Type']}: IcePacket is not an {wanted}")
    if not _is_bounded(sdp):
        raise ValueError(f"{payload['Type']}: the description has too many lines")
    return RTCSessionDescription(type=wanted, sdp=sdp)


def _is_bounded(sdp: str) -> bool:
    sections: list[Counter[str]] = [Counter()]
    types: list[Counter[int]] = [Counter()]  # of payload, and how many codecs of a section have it
    for line in sdp.splitlines():
        if line.startswith("m="):
            sections.append(Counter())
            types.append(Counter())
        name, _, value = line.partition(":")
        sections[-1][name] += 1
        if name == "a=rtpmap":
            types[-1][int(value.partition(" ")[0])] += 1
        elif name == "a=rtcp-fb" and value.startswith("* "):
            sections[-1]["about all"] += 1
    total = sum(sections, Counter())
    feedback = sum(
        each["about all"] * each["a=rtpmap"] + each["a=rtcp-fb"] * max(copies.values(), default=0)
        for each, copies in zip(sections, types, strict=True)
    )
    products = sum(
        each["a=rtpmap"] * (each["a=rtcp-fb"] + each["a=fmtp"]) + each["a=ssrc"] ** 2
        for each in sections
    )
    return (
        len(sections) <= MAX_SECTIONS
        and total["a=rtpmap"] <= MAX_CODECS
        and total["a=candidate"] <= MAX_CANDIDATES
        and products <= MAX_PRODUCTS
        and feedback <= MAX_FEEDBACK
    )


def _candidate(payload: dict[str, Any]) -> RTCIceCandidate | None:
    """Parse a candidate; old clients put its fields next to the type."""
    ice = payload.get("IcePacket") or payload
    if not isinstance(ice, dict) or not isinstance(text := ice.get("candidate"), str):
        raise ValueError(f"{CANDIDATE}: candidate is not a string")
    if not text:
        return None
    try:
        found = candidate_from_sdp(text.removeprefix("candidate:"))
    except (ValueError, IndexError, AssertionError) as error:
        raise ValueError(f"{CANDIDATE}: {text[:100]!r} is not a candidate") from error
    if not 0 < found.port < 65536:
        raise ValueError(f"{CANDIDATE}: {found.port} is not a port")
    found.sdpMid, found.sdpMLineIndex = ice.get("sdpMid"), ice.get("sdpMLineIndex")
    if not (isinstance(found.sdpMid, str) or isinstance(found.sdpMLineIndex, int)):
        raise ValueError(f"{CANDIDATE}: neither sdpMid nor sdpMLineIndex")
    return found


def write(
    kind: str,
    call: str | None,
    *,
    number: int = 0,
    description: RTCSessionDescription | None = None,
) -> dict[str, Any]:
    """Return the payload of a signal; for an old client (`call` is None), only what it knows."""
    payload: dict[str, Any] = {"Type": kind}
    if description is not None:
        payload["IcePacket"] = {"type": description.type, "sdp": description.sdp}
    if call is None:
        return payload
    payload["Call"] = call
    if description is not None:
        payload |= {"Offer": number, "Data": DATA}
    elif kind == TURN:
        payload["Turn"] = number
    return payload


def begins_call(signal: Signal, sender: str, own: str, users: Sequence[str]) -> bool:
    """Tell whether an offer begins a call; `users` are the members in joining order.

    The member present first makes the call, with its first offer. An old client's offer goes to
    all, and is meant for the next member to enter.
    """
    if sender not in users:
        return False
    their, our = users.index(sender), users.index(own)
    if signal.call is None:
        return our == their + 1 or len(users) < 3
    return signal.number == 1 and their < our
