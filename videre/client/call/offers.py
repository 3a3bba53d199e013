"""Later offers, with payload types and extension ids that keep their meaning.

aiortc numbers the codecs and header extensions of every offer in its own way. Once we have answered
a browser's offer, the browser's numbers apply and must not change (RFC 9429, 5.2.2): Chromium
refuses a changed offer, and media still sent under the old numbers would be lost.
"""

from __future__ import annotations

import copy
from typing import Any

from aiortc import RTCSessionDescription, sdp

PAYLOAD_TYPES, EXTENSIONS = range(96, 128), range(1, 15)


def renumbered(
    offer: RTCSessionDescription, before: RTCSessionDescription | None
) -> RTCSessionDescription:
    """Renumber an offer like our previous description, if there is one.

    A section that existed keeps its codecs and extensions. A new one copies those of another
    section of its kind, or else keeps its own, moved to free numbers.
    """
    if before is None:
        return offer
    description, known = (sdp.SessionDescription.parse(each.sdp) for each in (offer, before))
    sections = {media.rtp.muxId: media for media in known.media if media.rtp.codecs}
    kinds = {media.kind: media for media in sections.values()}
    for media in description.media:
        if not media.rtp.codecs:
            continue
        if pattern := sections.get(media.rtp.muxId) or kinds.get(media.kind):
            _copy(media, pattern)
        else:
            _avoid(media, list(sections.values()))
    return RTCSessionDescription(sdp=str(description), type=offer.type)


def _copy(media: Any, pattern: Any) -> None:
    media.fmt = list(pattern.fmt)
    media.rtp.codecs = copy.deepcopy(pattern.rtp.codecs)
    media.rtp.headerExtensions = copy.deepcopy(pattern.rtp.headerExtensions)
    if not any(codec.name.lower() == "rtx" for codec in media.rtp.codecs):
        media.ssrc_group = []  # of the retransmission source
        del media.ssrc[1:]


def _avoid(media: Any, others: list[Any]) -> None:
    """Move numbers that other sections use with another meaning."""
    codecs = {codec.payloadType: str(codec) for each in others for codec in each.rtp.codecs}
    moved: dict[int, int] = {}
    for codec in media.rtp.codecs:
        number = codec.payloadType
        if codecs.get(number, str(codec)) != str(codec):
            taken = {*codecs, *(each.payloadType for each in media.rtp.codecs)}
            codec.payloadType = next(free for free in PAYLOAD_TYPES if free not in taken)
            moved[number] = codec.payloadType
    for codec in media.rtp.codecs:
        if (of := codec.parameters.get("apt")) in moved:
            codec.parameters["apt"] = moved[of]
    media.fmt = [codec.payloadType for codec in media.rtp.codecs]
    uris = {each.id: each.uri for other in others for each in other.rtp.headerExtensions}
    ids = {uri: number for number, uri in uris.items()}
    for extension in media.rtp.headerExtensions:
        if extension.uri in ids:
            extension.id = ids[extension.uri]
        elif extension.id in uris:
            taken = {*uris, *(each.id for each in media.rtp.headerExtensions)}
            extension.id = next(free for free in EXTENSIONS if free not in taken)
