"""Later offers of the Python Call keep the numbers of the first description."""

from __future__ import annotations

import re

from aiortc import (
    AudioStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCSessionDescription,
    VideoStreamTrack,
    sdp,
)

from videre.client.call.offers import renumbered


def as_browsers(offer: RTCSessionDescription) -> RTCSessionDescription:
    """Return an offer of aiortc's, with a browser's numbers."""
    text = offer.sdp
    parts = re.split(r"(?=^m=)", text, flags=re.MULTILINE)
    for index, part in enumerate(parts):
        moves = {"96": "111"} if part.startswith("m=audio") else {"97": "96", "98": "97"}
        if not part.startswith(("m=audio", "m=video")):
            continue
        for old, new in moves.items():
            part = re.sub(rf"(a=(?:rtpmap|fmtp|rtcp-fb):){old}\b", rf"\g<1>{new}", part)
            part = part.replace(f"apt={old}\r", f"apt={new}\r")
            part = re.sub(rf"^(m=.*?) {old}\b", rf"\g<1> {new}", part)
        part = re.sub(r"a=extmap:(\d+)", lambda found: f"a=extmap:{int(found[1]) + 3}", part)
        parts[index] = part
    return RTCSessionDescription(sdp="".join(parts), type=offer.type)


def numbers(description: RTCSessionDescription) -> list[dict[str, int | None]]:
    """Return the numbers of codecs and extensions in each section of media."""
    found = []
    for media in sdp.SessionDescription.parse(description.sdp).media:
        if media.rtp.codecs:
            codecs = {
                f"{codec} {codec.parameters}": codec.payloadType for codec in media.rtp.codecs
            }
            extensions: dict[str, int | None] = {
                each.uri: each.id for each in media.rtp.headerExtensions
            }
            found.append(codecs | extensions)
    return found


async def answered(*tracks: type) -> RTCPeerConnection:
    """Return a connection that has answered an offer of these kinds, with a browser's numbers."""
    caller, called = (RTCPeerConnection(RTCConfiguration([])) for _ in "ab")
    for track in tracks:
        caller.addTrack(track())
    await called.setRemoteDescription(as_browsers(await caller.createOffer()))
    await called.setLocalDescription()
    await caller.close()
    return called


async def test_sections_keep_their_numbers() -> None:
    """aiortc's own offer would change them."""
    called = await answered(AudioStreamTrack, VideoStreamTrack)
    before = called.localDescription
    offer = await called.createOffer()
    assert numbers(offer)[:2] != numbers(before)
    assert numbers(renumbered(offer, before)) == numbers(before)
    await called.setLocalDescription(renumbered(offer, before))
    assert numbers(called.localDescription) == numbers(before)
    await called.close()


async def test_a_new_section_takes_free_numbers() -> None:
    """Its own numbers already stand for something else."""
    called = await answered(VideoStreamTrack)
    before = called.localDescription
    called.addTrack(AudioStreamTrack())
    offer = renumbered(await called.createOffer(), before)
    video, audio = numbers(offer)
    assert [video] == numbers(before)
    shared = {name: number for name, number in audio.items() if name in video}
    assert all(video[name] == number for name, number in shared.items())
    others = {number for name, number in audio.items() if name not in video}
    assert not others & set(video.values())
    await called.setLocalDescription(offer)
    await called.close()


async def test_a_new_section_of_a_known_kind() -> None:
    """It has the kind's numbers, and the very first description is left unchanged."""
    called = await answered(VideoStreamTrack)
    before = called.localDescription
    called.addTrack(VideoStreamTrack())
    called.addTrack(VideoStreamTrack())
    first, second = numbers(renumbered(await called.createOffer(), before))
    assert first == second == numbers(before)[0]
    offer = await called.createOffer()
    assert renumbered(offer, None) is offer
    await called.close()
