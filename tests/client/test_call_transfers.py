"""Transfers over data channels, piece by piece, exactly as in docs/browser.md, "Data"."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import pytest
from patience import patient

from videre.client import TransferError
from videre.client.call.incoming import Inbound, Incoming
from videre.client.call.outgoing import BUFFERED, Outgoing
from videre.client.call.values import (
    ACK,
    HEADER,
    MAX_ID,
    MAX_MESSAGE,
    MAX_SIZE,
    MAX_TOGETHER,
    MAX_TRANSFERS,
    WINDOW,
    Encoded,
    encode,
)


def piece(identity: int, offset: int, data: bytes) -> bytes:
    """Return a piece in its wire format."""
    return struct.pack("!II", identity, offset) + data


class Receiver:
    """A receiving end, with its answers, accepted values and events."""

    refusing = False  # reported ones

    def __init__(self, max_bytes: int = MAX_SIZE) -> None:
        self.said: list[dict[str, Any]] = []
        self.taken: list[Any] = []
        self.told: list[tuple[int, int]] = []
        self.inbound = Inbound(
            "ann",
            text=self.said.append,
            progress=self._tell,
            taken=self.taken.append,
            max_bytes=max_bytes,
        )

    def _tell(self, transfer: Incoming) -> None:
        self.told.append((transfer.bytes, transfer.size))
        if self.refusing:
            transfer.refuse()
            transfer.refuse()  # once is enough

    def start(self, identity: Any = 1, kind: Any = "bytes", size: Any = 3, **more: Any) -> bool:
        """Start a transfer."""
        message = {"Type": "Start", "Id": identity, "Kind": kind, "Size": size, **more}
        return self.inbound.start(message)

    def refusals(self) -> list[tuple[int, str]]:
        """Return the refused transfers, and why."""
        return [(each["Id"], each["Code"]) for each in self.said if each["Type"] == "Refuse"]


def test_a_value_in_pieces() -> None:
    """It is acknowledged as it arrives, and at the end, when it was accepted."""
    receiver = Receiver()
    size = 3 * ACK
    assert receiver.start(size=size)
    data = bytes(range(256)) * (size // 256)
    for offset in range(0, size, ACK // 2):
        assert receiver.taken == []
        end = offset + ACK // 2
        for begin in range(offset, end, 65_528):
            part = data[begin : min(end, begin + 65_528)]
            assert receiver.inbound.piece(piece(1, begin, part))
    assert receiver.taken == [data]
    acks = [each["Bytes"] for each in receiver.said]
    assert acks == [ACK, 2 * ACK, size]
    assert receiver.told == [(ack, size) for ack in (0, *acks)]


@pytest.mark.parametrize(
    ("kind", "data", "value"),
    [
        ("text", "é".encode(), "é"),
        ("json", b'{"a": [1, null]}', {"a": [1, None]}),
        ("bytes", b"abc", b"abc"),
    ],
)
def test_kinds_of_values(kind: str, data: bytes, value: Any) -> None:
    """Each is delivered with its type."""
    receiver = Receiver()
    receiver.start(kind=kind, size=len(data))
    receiver.inbound.piece(piece(1, 0, data))
    assert receiver.taken == [value]


def test_an_empty_value() -> None:
    """It is complete at once; for JSON, which has no empty text, it is malformed."""
    receiver = Receiver()
    receiver.start(size=0)
    assert receiver.taken == [b""]
    assert receiver.said == [{"Type": "Ack", "Id": 1, "Bytes": 0}]
    receiver.start(2, kind="json", size=0)
    assert receiver.refusals() == [(2, "malformed")]


@pytest.mark.parametrize(
    "wrong",
    [
        *({"kind": "file"}, {"kind": None}, {"kind": 1}),
        *({"size": -1}, {"size": 1.0}, {"size": "3"}, {"size": True}, {"size": None}),
        *({"Name": "a"}, {"kind": "blob", "Name": 1}, {"kind": "blob", "Mime": "x" * 256}),
        *({"kind": "blob", "Name": "\U0001f600" * 128}, {"kind": "blob", "Name": "a\ud83d"}),
    ],
    ids=ascii,
)
def test_a_malformed_start(wrong: dict[str, Any]) -> None:
    """It is refused; its pieces are dropped silently, and the next transfer is accepted."""
    receiver = Receiver()
    assert receiver.start(**wrong)
    assert receiver.refusals() == [(1, "malformed")]
    assert receiver.inbound.piece(piece(1, 0, b"abc"))
    receiver.start(2)
    receiver.inbound.piece(piece(2, 0, b"abc"))
    assert receiver.taken == [b"abc"]
    assert len(receiver.refusals()) == 1


@pytest.mark.parametrize("identity", [0, -1, MAX_ID + 1, "1", 1.0, True, None])
def test_a_start_without_an_id(identity: Any) -> None:
    """It is no message of transfers."""
    receiver = Receiver()
    assert not receiver.start(identity)
    assert receiver.said == []


def test_ids_rise() -> None:
    """An id that is not higher than the last one is invalid."""
    receiver = Receiver()
    assert receiver.start(5)
    assert not receiver.start(5)
    assert not receiver.start(4)
    assert receiver.start(MAX_ID)


def test_pieces_out_of_order() -> None:
    """They fail their own transfer only."""
    for offset in (0, 2, 5):
        receiver = Receiver()
        receiver.start(1, size=9)
        receiver.start(2, size=3)
        receiver.inbound.piece(piece(1, 0, b"abc"))
        receiver.inbound.piece(piece(1, offset, b"def"))
        assert receiver.refusals() == [(1, "out-of-order")]
        receiver.inbound.piece(piece(1, 3, b"def"))
        receiver.inbound.piece(piece(2, 0, b"abc"))
        assert receiver.taken == [b"abc"]
        assert len(receiver.said) == 2


def test_a_value_that_the_application_refuses() -> None:
    """It can refuse at the start; it cannot refuse a value that has arrived."""
    receiver = Receiver()
    receiver.refusing = True
    receiver.start(1, size=9)
    receiver.start(2, size=0)
    assert receiver.refusals() == [(1, "cancelled"), (2, "cancelled")]
    assert receiver.inbound.piece(piece(1, 0, b"abc"))
    assert receiver.taken == []
    receiver.refusing = False
    receiver.start(3, size=3)
    receiver.refusing = True
    receiver.inbound.piece(piece(3, 0, b"abc"))
    assert (receiver.taken, len(receiver.refusals())) == ([b"abc"], 2)


def test_too_many_bytes() -> None:
    """More than the limit, and more than announced."""
    receiver = Receiver(max_bytes=10)
    receiver.start(1, size=11)
    receiver.start(2, size=10)
    receiver.inbound.piece(piece(2, 0, bytes(11)))
    receiver.start(3, size=MAX_SIZE + 1)
    assert receiver.refusals() == [(1, "too-large"), (2, "too-large"), (3, "too-large")]


def test_too_many_transfers() -> None:
    """At once, or by their sum; one that ends frees its place."""
    receiver = Receiver()
    for identity in range(1, MAX_TRANSFERS + 2):
        receiver.start(identity, size=9)
    assert receiver.refusals() == [(MAX_TRANSFERS + 1, "too-many")]
    assert receiver.inbound.cancel(1)
    receiver.start(MAX_TRANSFERS + 2)
    assert len(receiver.refusals()) == 1
    receiver = Receiver()
    for identity in range(1, MAX_TOGETHER // MAX_SIZE + 2):
        receiver.start(identity, size=MAX_SIZE)
    assert receiver.refusals() == [(MAX_TOGETHER // MAX_SIZE + 1, "too-many")]


@pytest.mark.parametrize("data", [("text", b"\xff"), ("json", b"{"), ("json", b"[1,]")], ids=str)
def test_an_invalid_value(data: tuple[str, bytes]) -> None:
    """It is refused and not acknowledged."""
    receiver = Receiver()
    receiver.start(kind=data[0], size=len(data[1]))
    receiver.inbound.piece(piece(1, 0, data[1]))
    assert (receiver.refusals(), receiver.taken, len(receiver.said)) == ([(1, "malformed")], [], 1)


def test_invalid_pieces() -> None:
    """Too short, too long, or of an unknown transfer; pieces of an ended one are no fault."""
    receiver = Receiver()
    receiver.start(2)
    for wrong in (b"", bytes(8), piece(2, 0, bytes(MAX_MESSAGE - 7)), piece(0, 0, b"a")):
        assert not receiver.inbound.piece(wrong)
    assert not receiver.inbound.piece(piece(3, 0, b"a"))
    assert receiver.inbound.cancel(2) and receiver.inbound.piece(piece(2, 0, b"a"))
    assert not receiver.inbound.cancel(3)
    assert receiver.said == []


class Wire:
    """A sending end, and what it has sent."""

    def __init__(self) -> None:
        self.texts: list[dict[str, Any]] = []
        self.pieces: list[tuple[int, int, int]] = []  # id, offset, bytes
        self.buffered = 0
        self.outgoing = Outgoing(
            "bob", text=self.texts.append, piece=self._take, buffered=lambda: self.buffered
        )

    def _take(self, data: bytes) -> None:
        identity, offset = struct.unpack_from("!II", data)
        assert HEADER < len(data) <= MAX_MESSAGE
        self.pieces.append((identity, offset, len(data) - HEADER))

    def send(self, size: int, told: list[Any] | None = None) -> asyncio.Task[None]:
        """Send this many bytes."""
        progress = None if told is None else (lambda *done: told.append(done))
        return asyncio.create_task(self.outgoing.send(Encoded("bytes", bytes(size)), progress))

    def on_the_way(self, identity: int) -> int:
        """Return how many bytes of a transfer were sent."""
        return sum(size for each, _, size in self.pieces if each == identity)


async def test_the_window() -> None:
    """No more is sent without an acknowledgement; the last one completes the transfer."""
    wire, told = Wire(), list[Any]()
    size = WINDOW + 500_000
    sending = wire.send(size, told)
    await asyncio.sleep(0)
    assert wire.texts == [{"Type": "Start", "Id": 1, "Kind": "bytes", "Size": size}]
    first = wire.on_the_way(1)
    assert WINDOW <= first < WINDOW + MAX_MESSAGE
    assert wire.outgoing.acknowledge(1, ACK)
    assert wire.on_the_way(1) >= first + ACK - MAX_MESSAGE
    assert wire.outgoing.acknowledge(1, wire.on_the_way(1))
    assert wire.on_the_way(1) == size and not sending.done()
    assert wire.outgoing.acknowledge(1, size)
    await sending
    assert [done for done, _ in told][-1] == size
    assert wire.outgoing.acknowledge(1, size)  # later acknowledgements of it are known
    offsets = [offset for _, offset, _ in wire.pieces]
    assert offsets == sorted(set(offsets))


async def test_the_channel_is_not_flooded() -> None:
    """Nothing is added to its buffer until that has drained."""
    wire = Wire()
    wire.buffered = BUFFERED
    sending = wire.send(100)
    await asyncio.sleep(0)
    assert wire.pieces == []
    wire.buffered = 0
    wire.outgoing.pump()
    assert wire.on_the_way(1) == 100
    wire.outgoing.acknowledge(1, 100)
    await sending


async def test_transfers_take_turns() -> None:
    """They alternate piece by piece; beyond a number of them, the others wait in order."""
    wire = Wire()
    wire.buffered = BUFFERED
    sendings = [wire.send(200_000) for _ in range(MAX_TRANSFERS + 2)]
    await asyncio.sleep(0)
    wire.buffered = 0
    wire.outgoing.pump()
    assert [each["Id"] for each in wire.texts] == list(range(1, MAX_TRANSFERS + 1))
    turns = [identity for identity, *_ in wire.pieces]
    assert turns[: 2 * MAX_TRANSFERS] == [*range(1, MAX_TRANSFERS + 1)] * 2
    for identity in range(1, MAX_TRANSFERS + 3):
        wire.outgoing.acknowledge(identity, 200_000)
    await asyncio.gather(*sendings)
    assert [each["Id"] for each in wire.texts] == list(range(1, MAX_TRANSFERS + 3))


async def test_the_sum_of_transfers() -> None:
    """A value that would exceed it waits, even as the third one."""
    wire = Wire()
    wire.buffered = BUFFERED
    big = Encoded("bytes", bytes(MAX_SIZE))
    sendings = [asyncio.create_task(wire.outgoing.send(big, None)) for _ in "abc"]
    await asyncio.sleep(0)
    assert len(wire.texts) == MAX_TOGETHER // MAX_SIZE == 2
    sendings[0].cancel()
    await asyncio.wait([sendings[0]])
    assert wire.texts[2:] == [
        {"Type": "Cancel", "Id": 1},
        {"Type": "Start", "Id": 3, "Kind": "bytes", "Size": MAX_SIZE},
    ]
    wire.outgoing.close()
    results = await asyncio.gather(*sendings, return_exceptions=True)
    assert [getattr(each, "code", None) for each in results] == [None, "gone", "gone"]


async def test_a_closed_channel() -> None:
    """Nothing waits for it."""
    wire = Wire()
    wire.outgoing.close()
    with pytest.raises(TransferError, match="gone"):
        await asyncio.wait_for(wire.send(100), patient(10))
    assert (wire.texts, wire.pieces) == ([], [])


async def test_a_refusal_fails_one_transfer() -> None:
    """The error has its code and user; the other transfer goes on."""
    wire = Wire()
    one, two = wire.send(100), wire.send(100)
    await asyncio.sleep(0)
    assert wire.outgoing.refuse(1, "cancelled")
    with pytest.raises(TransferError, match=r"bob refused 100 bytes \(cancelled\)") as failed:
        await one
    assert (failed.value.code, failed.value.user) == ("cancelled", "bob")
    assert wire.outgoing.refuse(1, "cancelled")  # it is over
    wire.outgoing.acknowledge(2, 100)
    await two


async def test_invalid_answers() -> None:
    """To unknown transfers, backwards, beyond the bytes sent, or of another type."""
    wire = Wire()
    sending = wire.send(100)
    await asyncio.sleep(0)
    assert wire.outgoing.acknowledge(1, 50)
    for arrived in (49, 101, -1, "60", 60.0, True, None):
        assert not wire.outgoing.acknowledge(1, arrived)
    assert not wire.outgoing.acknowledge(2, 0)
    assert not wire.outgoing.refuse(2, "cancelled")
    assert not wire.outgoing.refuse(1, 7)
    assert not sending.done()
    wire.outgoing.acknowledge(1, 100)
    await sending


async def test_a_receiver_of_small_messages() -> None:
    """Pieces are as long as its description allows."""
    wire = Wire()
    wire.outgoing.max_message = 1200
    sending = wire.send(5000)
    await asyncio.sleep(0)
    assert {size for *_, size in wire.pieces} == {1192, 5000 % 1192}
    wire.outgoing.acknowledge(1, 5000)
    await sending


def test_the_limit_of_a_value() -> None:
    """256 MiB: one more byte is an error before anything is sent."""
    assert len(encode(bytes(MAX_SIZE)).data) == MAX_SIZE
    with pytest.raises(ValueError, match=f"data must have at most {MAX_SIZE} bytes"):
        encode(bytes(MAX_SIZE + 1))
