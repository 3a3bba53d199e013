"""Values of any size between pages, in real Chromium."""

from __future__ import annotations

from typing import Any

import pytest
from browser import Page
from client_site import Site, every, room, site

__all__ = ["room", "site"]

pytestmark = [pytest.mark.process, pytest.mark.long, pytest.mark.asyncio(loop_scope="session")]

#: Page code that makes values, compares them, and imitates other clients.
TOOLS = """
globalThis.bytes = (size) => {
  const made = new Uint8Array(size);
  for (let at = 0; at < size; at++) made[at] = (at * 31 + (at >> 8)) % 251;
  return made;
};
globalThis.hash = async (data) => {
  const digest = await crypto.subtle.digest("SHA-256", data);
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16)).join("");
};
const heard = (wanted) =>
  v.heard.filter(({ type }) => type === wanted).map(({ detail }) => detail);
globalThis.messages = () => heard("message");
globalThis.errors = () => heard("error").map(({ code }) => code);
globalThis.ignored = () => heard("ignored").map(({ reason }) => reason);
/** Describes a value so that it can be compared. */
globalThis.describe = async (data) => {
  if (data instanceof Blob) {
    const { constructor, name = null, type, size } = data;
    return [constructor.name, name, type, size, await hash(await data.arrayBuffer())];
  }
  if (data?.byteLength !== undefined) return ["bytes", data.byteLength, await hash(data)];
  const text = JSON.stringify(data);
  return [typeof data, text.length, await hash(new TextEncoder().encode(text))];
};
/** The other end as a program of its own: raw access to the channel of transfers. */
globalThis.raw = () => {
  const { data } = v.peers.values().next().value;
  const controls = [];
  const pieces = [];
  data.onmessage = ({ data }) =>
    typeof data === "string" ? controls.push(JSON.parse(data)) : pieces.push(new Uint8Array(data));
  const say = (message) =>
    data.send(typeof message === "string" ? message : JSON.stringify(message));
  const piece = (id, offset, size) => {
    const made = new Uint8Array(8 + size);
    new DataView(made.buffer).setUint32(0, id);
    new DataView(made.buffer).setUint32(4, offset);
    made.set(bytes(offset + size).subarray(offset), 8);
    data.send(made);
  };
  return { controls, pieces, say, piece };
};
"""
OPEN = """
await until(() => v.peers.size === arg);
const peers = [...v.peers.values()];
await Promise.all(peers.map(({ data }) => until(() => data.readyState === "open")));
"""


async def together(site: Site, room: str, *users: str, options: str = "{}") -> list[Page]:
    """Open pages whose clients can exchange data, without cameras."""
    pages = []
    for user in users:
        page = await site.open(init=TOOLS)
        code = f"""
        globalThis.v = client({{ userId: arg[0], constraints: false, ...{options} }});
        await v.connect(arg[1]);
        """
        await page.run(code, [user, room])
        pages.append(page)
    await every(pages, OPEN, len(users) - 1)
    return pages


VALUES = {
    "no text": "''",
    "a text": "'Grüße, 世界 👋'",
    "the longest plain text": "'x'.repeat(65_536)",
    "a longer text": "'x'.repeat(65_537)",
    "a text that is longer in UTF-8": "'世'.repeat(30_000)",
    "a byte order mark": "'\\ufeff' + 'x'.repeat(70_000)",
    "no bytes": "new Uint8Array()",
    "bytes": "bytes(1_000)",
    "the case of the issue": "bytes(262_145)",
    "a view of some": "new DataView(bytes(300_000).buffer, 7, 200_001)",
    "a buffer": "bytes(100_000).buffer",
    "a Blob": "new Blob([bytes(3_000_000)], { type: 'image/png' })",
    "an empty Blob": "new Blob([])",
    "a file": "new File([bytes(5_000_000)], 'a b.png', { type: 'image/png' })",
    "an object": "({ a: [1, 'two', null, { three: 3.5 }] })",
    "a number": "0",
    "null": "null",
    "a list": "Array.from({ length: 50_000 }, (_, index) => index)",
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
async def test_values_arrive_whole(site: Site, room: str, value: str) -> None:
    """Values of every kind and size keep their type."""
    ann, bob = await together(site, room, "ann", "bob")
    expected = await ann.run(
        f"""
        const value = {value};
        const sent = await v.send(value);
        if (sent.delivered[0] !== "bob" || sent.failed.length) throw sent.failed[0].error;
        return describe(value);
        """
    )
    code = """
    const [{ user, data }] = await until(() => messages().length && messages());
    return [user, await describe(data)];
    """
    assert await bob.run(code) == ["ann", expected]
    assert await every([ann, bob], "return [errors(), ignored()];") == [[[], []], [[], []]]


async def test_progress(site: Site, room: str) -> None:
    """Both sides hear it up to the end; a plain message has one step."""
    ann, bob = await together(site, room, "ann", "bob")
    await bob.run("globalThis.seen = []; v.on('progress', (each) => seen.push(each));")
    steps = await ann.run(
        """
        const steps = [];
        const onProgress = (step) => steps.push(step);
        await v.send(new File([bytes(1_000_000)], "a.txt", { type: "text/plain" }), { onProgress });
        await v.send("a", { onProgress });
        await until(() => steps.at(-1).size === 1);
        return steps;
        """
    )
    assert {step["user"] for step in steps} == {"bob"}
    counts = [step["bytes"] for step in steps if step["size"] == 1_000_000]
    assert len(counts) >= 3 and counts == sorted(counts) and counts[-1] == 1_000_000
    assert steps[-1] == {"user": "bob", "bytes": 1, "size": 1}
    seen = await bob.run("return seen.map((each) => ({ ...each, refuse: typeof each.refuse }));")
    told = {"user": "ann", "kind": "blob", "size": 1_000_000, "name": "a.txt", "mime": "text/plain"}
    assert seen[0] == {**told, "bytes": 0, "refuse": "function"}
    assert [each["bytes"] for each in seen] == [0, *counts]


async def test_many_at_once(site: Site, room: str) -> None:
    """256 pieces of 64 KiB in a row overflow no queue in either direction, and stay in order."""
    ann, bob = await together(site, room, "ann", "bob")
    sent = """
    const sending = [];
    for (let number = 0; number < 256; number++) {
      const each = bytes(65_536);
      each[0] = number;
      sending.push(v.send(each));
    }
    const ends = await Promise.all(sending);
    return ends.every(({ delivered, failed }) => delivered.length && !failed.length);
    """
    assert await every([ann, bob], sent) == [True, True]
    order = """
    await until(() => messages().length === 256);
    return messages().every(({ data }, index) => new Uint8Array(data)[0] === index);
    """
    assert await every([ann, bob], order) == [True, True]


async def test_a_small_value_overtakes_a_large_one(site: Site, room: str) -> None:
    """Transfers take turns piece by piece, and plain messages overtake them."""
    ann, bob = await together(site, room, "ann", "bob")
    await ann.run(
        """
        globalThis.ends = [];
        const note = (name) => () => ends.push(name);
        const sending = [v.send(new Blob([bytes(40_000_000)])).then(note("large"))];
        await until(() => v.peers.get("bob").data.bufferedAmount);
        sending.push(v.send(bytes(500_000)).then(note("small")));
        sending.push(v.send("plain").then(note("plain")));
        await Promise.all(sending);
        """
    )
    assert await ann.run("return ends;") == ["plain", "small", "large"]
    sizes = "return messages().map(({ data }) => data.size ?? data.byteLength ?? data.length);"
    assert await bob.run(sizes) == [5, 500_000, 40_000_000]


async def test_only_transfers_to_a_leaving_member_fail(site: Site, room: str) -> None:
    """The others still get theirs; each failure has the user and the reason."""
    ann, bob, cid = await together(site, room, "ann", "bob", "cid")
    # It acknowledges the first part and then goes deaf, or it might have all before it is closed.
    await cid.run(
        """
        globalThis.see = new Promise((resolve) =>
          v.on("progress", ({ bytes }) => {
            if (!bytes) return;
            v.peers.get("ann").data.onmessage = null;
            resolve();
          }));
        """
    )
    await ann.run("globalThis.sending = v.send(new Blob([bytes(20_000_000)]));")
    await cid.run("await see;")
    await cid.close()
    sent = await ann.run(
        """
        const { delivered, failed } = await sending;
        const [{ user, error }] = failed;
        const isOurs = error instanceof TransferError;
        return [delivered, failed.length, user, isOurs, error.code, error.user];
        """
    )
    assert sent == [["bob"], 1, "cid", True, "gone", "cid"]
    assert await ann.run("return errors();") == ["gone"]
    assert (
        await bob.run("await until(() => messages().length); return messages()[0].data.size;")
        == 20_000_000
    )


async def test_receivers_of_a_value(site: Site, room: str) -> None:
    """One, some or all; the error names those without a call."""
    ann, bob, cid = await together(site, room, "ann", "bob", "cid")
    ends = await ann.run(
        """
        const ends = [];
        for (const to of ["bob", ["bob", "cid"], undefined, [], "eve", ["eve", "bob"]]) {
          const { delivered, failed } = await v.send({ to: to ?? "all" }, { to });
          ends.push([delivered, failed.map(({ user, error }) => [user, error.code])]);
        }
        return ends;
        """
    )
    eve = ["eve", "no-such-user"]
    assert ends == [
        [["bob"], []],
        [["bob", "cid"], []],
        [["bob", "cid"], []],
        [[], []],
        [[], [eve]],
        [["bob"], [eve]],
    ]
    heard = "await until(() => messages().length === arg); return messages().length;"
    assert await bob.run(heard, 4) == 4
    assert await cid.run(heard, 2) == 2


async def test_cancelled_transfers(site: Site, room: str) -> None:
    """The sender cancels before or during one, or the receiver does; no other is affected."""
    ann, bob = await together(site, room, "ann", "bob")
    await bob.run(
        "v.on('progress', ({ name, bytes, refuse }) => name === 'no' && bytes && refuse());"
    )
    codes = await ann.run(
        """
        const codes = [];
        const code = ({ failed }) => failed.map(({ error }) => error.code).join();
        for (const when of [0, 300_000]) {
          const control = new AbortController();
          if (!when) control.abort();
          const onProgress = ({ bytes }) => bytes > when && control.abort();
          const { signal } = control;
          codes.push(code(await v.send(new Blob([bytes(9_000_000)]), { signal, onProgress })));
        }
        codes.push(code(await v.send(new File([bytes(9_000_000)], "no"))));
        codes.push(code(await v.send({ after: "all" })));
        return codes;
        """
    )
    assert codes == ["cancelled", "cancelled", "cancelled", ""]
    code = """
    await until(() => messages().length);  // nobody acknowledges a short value
    return [messages().map(({ data }) => data), errors(), ignored()];
    """
    assert await bob.run(code) == [[{"after": "all"}], ["cancelled"], []]


async def test_a_value_cancelled_before_it_can_be_sent(site: Site, room: str) -> None:
    """It fails at once, although its channel never opens; what was sent after it arrives."""
    ann = await site.client("ann", room)
    await ann.run(
        """
        v.on("call", (peer) => {
          const control = new AbortController();
          const sent = v.send("cancelled", { signal: control.signal });
          const { channel } = peer;
          const ended = ({ failed: [{ error }] }) => [error.code, channel.readyState];
          globalThis.found = sent.then(ended);
          v.send("sent");
          control.abort();
        });
        """
    )
    bob = await site.client("bob", room)
    assert await ann.run("return until(() => globalThis.found);") == ["cancelled", "connecting"]
    heard = "return until(() => v.heard.find(({ type }) => type === 'message')?.detail.data);"
    assert await bob.run(heard) == "sent"


async def test_a_value_that_is_too_large(site: Site, room: str) -> None:
    """Above the general limit it fails at once; above a receiver's own limit, it is refused."""
    ann, bob = await together(site, room, "ann", "bob", options="{ maxTransferBytes: 1_000_000 }")
    codes = await ann.run(
        """
        const codes = [];
        const parts = Array.from({ length: 257 }, () => new Uint8Array(2 ** 20));
        try {
          v.send(new Blob(parts));
        } catch (error) {
          codes.push([error instanceof TransferError, error.code]);
        }
        for (const size of [1_000_001, 1_000_000]) {
          const { failed } = await v.send(bytes(size));
          codes.push(failed.map(({ error }) => error.code));
        }
        return codes;
        """
    )
    assert codes == [[True, "too-large"], ["too-large"], []]
    assert await bob.run("return [messages().length, errors()];") == [1, ["too-large"]]


async def test_a_file_that_changes(site: Site, room: str) -> None:
    """A file that can no longer be read fails, and the next one is sent."""
    ann, bob = await together(site, room, "ann", "bob")
    codes = await ann.run(
        """
        const file = (end) => {
          let read = 0;
          const pull = (controller) => {
            if ((read += 500_000) > 2_000_000) end(controller);
            else controller.enqueue(bytes(500_000));
          };
          return Object.assign(new Blob([bytes(5_000_000)]), {
            stream: () => new ReadableStream({ pull }),
          });
        };
        const broken = file((controller) => controller.error(new DOMException("Gone")));
        const shorter = file((controller) => controller.close());
        const ends = [];
        for (const each of [broken, shorter, new Blob([bytes(5_000_000)])]) {
          ends.push((await v.send(each)).failed.map(({ error }) => error.code));
        }
        return ends;
        """
    )
    assert codes == [["unreadable"], ["unreadable"], []]
    assert await bob.run("return messages().length;") == 1


WRONG = {
    "undefined": ("v.send(undefined)", "data takes a string, bytes, a Blob or a JSON value"),
    "a function": ("v.send(() => {})", "data takes a string"),
    "a symbol": ("v.send(Symbol())", "data takes a string"),
    "a bigint": ("v.send(1n)", "data takes a string"),
    "to": ("v.send('a', { to: 7 })", "to takes a user's name or a list"),
    "onProgress": ("v.send('a', { onProgress: 7 })", "onProgress takes a function"),
    "signal": ("v.send('a', { signal: 'stop' })", "signal takes an AbortSignal"),
    "typo": ("v.send('a', { onprogress() {} })", "no option onprogress"),
    "connect": ("v.connect()", "room takes a string of 1 to 256"),
    "kind": ("v.useDevice('smell')", 'kind takes "audio" or "video"'),
    "id": ("v.useDevice('video', 7)", "id takes a string"),
    "track": ("v.replaceTrack('video', {})", "track takes a MediaStreamTrack or null"),
    "levels": ("client({ levels: 'yes' })", "levels takes a number of milliseconds"),
    "maxTransferBytes": ("client({ maxTransferBytes: -1 })", "maxTransferBytes takes a number"),
    "element": ("client({ localVideoElement: 'video' })", "localVideoElement takes a media"),
    "constraints": ("client({ constraints: true })", "constraints takes an object or false"),
    "configuration": ("client({ configuration: [] })", "configuration takes an object"),
    "initComplete": ("client({ initComplete: 1 })", "initComplete takes a function"),
    "unknown": ("client({ signalerURL: '/echo' })", "no option signalerURL"),
    "no url": ("new Videre({})", "signallerURL takes an http:"),
    "nothing": ("new Videre()", "takes an object of options"),
}


async def test_wrong_options(site: Site) -> None:
    """Each is a TypeError that names the fault, before a connection is opened."""
    page = await site.open(init=TOOLS)
    told = await page.run(
        """
        let opened = 0;
        for (const name of ["WebSocket", "RTCPeerConnection"]) {
          globalThis[name] = class { constructor() { opened++; } };
        }
        navigator.mediaDevices.getUserMedia = async () => opened++;
        globalThis.v = client();
        const AsyncFunction = Object.getPrototypeOf(async () => {}).constructor;
        const told = {};
        for (const [name, code] of Object.entries(arg)) {
          const error = await new AsyncFunction(`return ${code}`)().catch((error) => error);
          told[name] = error instanceof TypeError ? error.message : `no TypeError: ${error}`;
        }
        return [told, opened];
        """,
        {name: code for name, (code, _) in WRONG.items()},
    )
    assert told[1] == 0
    wrong = {name: said for name, said in told[0].items() if WRONG[name][1] not in said}
    assert wrong == {}


async def test_the_wire_format(site: Site, room: str) -> None:
    """It is that of docs/browser.md, byte by byte, so another kind of client can be the peer."""
    ann, bob = await together(site, room, "ann", "bob")
    await bob.run("globalThis.wire = raw();")
    await ann.run(
        "globalThis.sending = v.send(new File([bytes(3_000_000)], 'a.png', { type: 'image/png' }));"
    )
    size = """
    const size = () => wire.pieces.reduce((sum, each) => sum + each.length - 8, 0);
    await until(() => size() === arg);
    return size();
    """
    # Without an Ack, no more than the window is sent.
    assert await bob.run(size, 2_097_152) == 2_097_152
    start = {"Type": "Start", "Id": 1, "Kind": "blob", "Size": 3_000_000}
    assert await bob.run("return wire.controls;") == [
        {**start, "Name": "a.png", "Mime": "image/png"}
    ]
    heads = await bob.run(
        """
        return wire.pieces.map((piece) => {
          const head = new DataView(piece.buffer);
          return [head.getUint32(0), head.getUint32(4), piece.length - 8];
        });
        """
    )
    offset = 0
    for id_, at, length in heads:
        assert (id_, at) == (1, offset) and 1 <= length <= 65_528
        offset += length
    assert offset == 2_097_152
    await bob.run("wire.say({ Type: 'Ack', Id: 1, Bytes: 1_000_000 });")
    assert await bob.run(size, 3_000_000) == 3_000_000
    assert (
        await ann.run(
            "return Promise.race([sending, new Promise((r) => setTimeout(r, 50, 'waits'))]);"
        )
        == "waits"
    )
    await bob.run("wire.say({ Type: 'Ack', Id: 1, Bytes: 3_000_000 });")
    assert await ann.run("return (await sending).delivered;") == ["bob"]
    # The numbers of the other direction are independent.
    await bob.run(
        """
        wire.say({ Type: "Start", Id: 7, Kind: "json", Size: 9 });
        const body = new TextEncoder().encode('{"a": 1 }');
        const piece = new Uint8Array(8 + body.length);
        new DataView(piece.buffer).setUint32(0, 7);
        piece.set(body, 8);
        v.peers.get("ann").data.send(piece);
        await until(() => wire.controls.length === 2);
        """
    )
    assert await bob.run("return wire.controls[1];") == {"Type": "Ack", "Id": 7, "Bytes": 9}
    assert await ann.run("return messages()[0].data;") == {"a": 1}
    assert await ann.run("return [errors(), ignored()];") == [[], []]


REFUSED: dict[str, tuple[str, str]] = {
    "a gap": ("start({ Size: 100 }); piece(ID, 10, 10);", "out-of-order"),
    "the same again": ("start({ Size: 100 }); piece(ID, 0, 10); piece(ID, 0, 10);", "out-of-order"),
    "more than its size": ("start({ Size: 10 }); piece(ID, 0, 11);", "too-large"),
    "over the limit": ("start({ Size: 2 ** 28 + 1 });", "too-large"),
    "no size": ("start({ Size: undefined });", "malformed"),
    "half a size": ("start({ Size: 1.5 });", "malformed"),
    "less than nothing": ("start({ Size: -1 });", "malformed"),
    "another kind": ("start({ Kind: 'code' });", "malformed"),
    "a name that is none": ("start({ Name: 7 });", "malformed"),
    "a name of bytes": ("start({ Kind: 'bytes', Name: 'a' });", "malformed"),
    "a long name": ("start({ Name: 'x'.repeat(256) });", "malformed"),
    "a type that is none": ("start({ Mime: {} });", "malformed"),
    "text that is not UTF-8": (
        "start({ Kind: 'text', Size: 9 }); piece(ID, 192, 9, 0);",
        "malformed",
    ),
    "what is not JSON": ("start({ Kind: 'json', Size: 9 }); piece(ID, 0, 9);", "malformed"),
}
IGNORED = {
    "no JSON": "say('{');",
    "no object": "say('7');",
    "null": "say('null');",
    "a list": "say('[]');",
    "no type": "say({ Id: 1 });",
    "an unknown type": "say({ Type: 'Stop', Id: 1 });",
    "a type that is none": "say({ Type: { a: 1 } });",
    "a long text": "say({ Type: 'Start', Id: 99, Kind: 'text', Size: 1, x: 'x'.repeat(5000) });",
    "no Id": "say({ Type: 'Start', Kind: 'text', Size: 1 });",
    "an Id of another kind": "say({ Type: 'Start', Id: '99', Kind: 'text', Size: 1 });",
    "an Id of nought": "say({ Type: 'Start', Id: 0, Kind: 'text', Size: 1 });",
    "an Id too large": "say({ Type: 'Start', Id: 2 ** 32, Kind: 'text', Size: 1 });",
    "a piece of nothing": "piece(99, 0, 5);",
    "an empty piece": "piece(1, 0, 0);",
    "a piece without a header": "channel.send(new Uint8Array(3));",
    "a piece too large": "piece(99, 0, 70_000);",
    "an Ack of nothing": "say({ Type: 'Ack', Id: 99, Bytes: 1 });",
    "a refusal of nothing": "say({ Type: 'Refuse', Id: 99, Code: 'too-large' });",
    "a cancel of nothing": "say({ Type: 'Cancel', Id: 99 });",
    "an Ack of an Id that is none": "say({ Type: 'Ack', Id: null, Bytes: 1 });",
}
#: Acts as the other end, in the terms of the tables above.
SPEAK = """
const { controls, piece: cut, say } = (globalThis.wire ??= raw());
const channel = v.peers.get("ann").data;
globalThis.ID ??= 0;
let id = 0;
const start = (more) => say({ Type: "Start", Id: (id = ++ID), Kind: "blob", Size: 10, ...more });
const piece = (_id, offset, size, at = offset) => {
  if (at === offset) return cut(_id === 99 ? 99 : id, offset, size);
  const made = new Uint8Array(8 + size).fill(offset, 8); // bytes that are no UTF-8, from the start
  new DataView(made.buffer).setUint32(0, id);
  channel.send(made);
};
"""


async def test_a_peer_that_breaks_the_rules_loses_its_transfer(site: Site, room: str) -> None:
    """Both sides get the reason; the call and a valid transfer beside it go on."""
    ann, bob = await together(site, room, "ann", "bob")
    await bob.run(f"{SPEAK} start({{ Size: 40 }}); piece(ID, 0, 20); globalThis.good = id;")
    for number, (name, (code, expected)) in enumerate(REFUSED.items()):
        told = await bob.run(
            f"""
            {SPEAK} {code}
            await until(() => controls.length === arg);
            return controls.at(-1);
            """,
            number + 1,
        )
        assert (told["Type"], told["Code"]) == ("Refuse", expected), name
        assert await ann.run("return errors();") == [
            code for _, code in list(REFUSED.values())[: number + 1]
        ]
    # Pieces of these that are in flight are dropped silently.
    await bob.run(
        f"{SPEAK} for (let each = good + 1; each <= ID; each++) {{ id = each; cut(each, 10, 10); }}"
    )
    await bob.run(f"{SPEAK} cut(good, 20, 20); await until(() => controls.at(-1).Type === 'Ack');")
    assert await ann.run("return [messages().map(({ data }) => data.size), ignored()];") == [
        [40],
        [],
    ]
    await ann.run("await v.send('still here');")
    heard = "await until(() => messages().length); return messages()[0].data;"
    assert await bob.run(heard) == "still here"


async def test_unknown_messages_are_reported_and_ignored(site: Site, room: str) -> None:
    """Each causes an event, but no answer and no end."""
    ann, bob = await together(site, room, "ann", "bob")
    for number, (name, code) in enumerate(IGNORED.items()):
        await bob.run(f"{SPEAK} {code}")
        told = await ann.run(
            "await until(() => ignored().length === arg); return ignored();", number + 1
        )
        assert all(isinstance(reason, str) and reason for reason in told), name
    assert await bob.run("return wire.controls;") == []
    assert await ann.run("return errors();") == []
    await bob.run(
        f"{SPEAK} start({{ Size: 10 }}); piece(ID, 0, 10); await until(() => controls.length);"
    )
    assert await ann.run("return messages().length;") == 1


async def test_limits_of_concurrent_transfers(site: Site, room: str) -> None:
    """Beyond 16 transfers, or 512 MiB, a peer's new one is refused."""
    ann, bob = await together(site, room, "ann", "bob")
    codes = await bob.run(
        f"""
        {SPEAK}
        for (let number = 0; number < 20; number++) start({{ Size: 100 }});
        await until(() => controls.length === 4);
        const first = controls.map(({{ Id, Code }}) => [Id, Code]);
        for (let each = 1; each <= 16; each++) say({{ Type: "Cancel", Id: each }});
        for (let number = 0; number < 3; number++) start({{ Size: 2 ** 28 }});
        await until(() => controls.length === 5);
        return [...first, [controls[4].Id, controls[4].Code]];
        """
    )
    assert codes == [[each, "too-many"] for each in (17, 18, 19, 20, 23)]
    # Our own client keeps to it: further ones wait for their turn.
    sent = "return (await Promise.all(Array.from({ length: 40 }, () => v.send([0])))).length;"
    assert (
        await ann.run(
            f"v.peers.get('bob'); return Promise.race([(async () => {{ {sent} }})(), 'waits']);"
        )
        == "waits"
    )
    starts = "return wire.controls.filter(({ Type }) => Type === 'Start').length;"
    assert await bob.run(f"await until(() => (() => {{ {starts} }})() === 16); {starts}") == 16
    await bob.run("for (let id = 1; id <= 16; id++) wire.say({ Type: 'Ack', Id: id, Bytes: 3 });")
    assert await bob.run(f"await until(() => (() => {{ {starts} }})() === 32); {starts}") == 32


async def test_an_older_client(site: Site, room: str) -> None:
    """It does not offer `Data`, so it gets only plain messages, up to its maximum size."""
    ann, bob = await together(site, room, "ann", "bob", options="{}")
    await ann.run("v.disconnect();")
    await bob.run(
        """
        const { signaller } = v;
        const { broadcast } = Object.getPrototypeOf(signaller);
        signaller.broadcast = (payload, options) =>
          broadcast.call(signaller, { ...payload, Data: undefined }, options);
        """
    )
    await ann.run("await v.connect(arg);", room)
    await every(
        [ann, bob],
        "await until(() => v.peers.values().next().value?.channel.readyState === 'open');",
    )
    codes = await ann.run(
        """
        const ends = [];
        const blob = new Blob([bytes(1_000)]);
        for (const value of ["a", bytes(200_000), { b: 1 }, blob, bytes(300_000)]) {
          ends.push((await v.send(value)).failed.map(({ error }) => error.code));
        }
        return ends;
        """
    )
    assert codes == [[], [], [], [], ["too-large"]]
    got: list[Any] = await bob.run(
        """
        await until(() => messages().length === 4);
        return messages().map(({ data }) => data.byteLength ?? data);
        """
    )
    assert got == ["a", 200_000, '{"b":1}', 1_000]


async def test_invalid_signals(site: Site, room: str) -> None:
    """A member's packet that only resembles a signal is ignored and reported; the call goes on."""
    ann, bob = await together(site, room, "ann", "bob")
    eve = await site.eve(room)
    signals: list[Any] = [
        {"Type": "Ice Offer"},
        {"Type": "Ice Offer", "IcePacket": None, "Call": "x", "Offer": 1},
        {"Type": "Ice Offer", "IcePacket": {"type": "answer", "sdp": ""}, "Call": "x", "Offer": 1},
        {"Type": "Ice Offer", "IcePacket": {"type": "offer", "sdp": 7}, "Call": "x", "Offer": 1},
        {"Type": "Ice Offer", "IcePacket": {"type": "offer", "sdp": ""}, "Call": {}, "Offer": 1},
        {"Type": "Ice Offer", "IcePacket": {"type": "offer", "sdp": ""}, "Call": "x", "Offer": "1"},
        {"Type": "Ice Answer", "IcePacket": "v=0"},
        {"Type": "Ice Candidate"},
        {"Type": "Ice Candidate", "IcePacket": {"candidate": 7}},
        {"Type": "Ice Turn", "Turn": -1, "Call": "x"},
        {"Type": "Ice Ask", "Call": 7},
    ]
    for signal in signals:
        head = {"Event": "broadcast", "UserId": "eve", "RoomId": room}
        await eve.send_json({"Header": head, "Payload": signal})
    count = len(signals)
    told = await ann.run("await until(() => ignored().length === arg); return ignored();", count)
    assert told == [f"malformed {signal['Type']}" for signal in signals]
    # An application's own messages are not signals.
    words: object
    for words in ("{", None, {"Type": "Ice"}, {"Type": ["Ice Offer"]}, [], 7):
        head = {"Event": "broadcast", "UserId": "eve", "RoomId": room}
        await eve.send_json({"Header": head, "Payload": words})
    await bob.run("v.signaller.broadcast('last');")
    await ann.run("await until(() => v.told.some(({ detail }) => detail?.payload === 'last'));")
    code = "return [ignored().length, errors(), [...v.peers.keys()]];"
    assert await ann.run(code) == [count, [], ["bob", "eve"]]
