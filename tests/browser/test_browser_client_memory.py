"""The memory that a large file needs in two pages of a real Chromium."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from browser import Page, chromium
from client_site import Site

pytestmark = [pytest.mark.process, pytest.mark.long, pytest.mark.asyncio(loop_scope="session")]

MB = 1_000_000
SIZE = 60 * MB  # three times what is allowed above it, so a second copy shows
ABOVE = 20 * MB  # issue 20: what is allowed in addition to the file itself

#: Bytes that the pages hold in their common process: objects, buffers, and what belongs to the
#: browser's own objects. Up to 64 MiB of unreachable data are collected first; both requests are
#: sent at once, or what a busy machine makes of data between them would count, too.
HELD = """
const session = await page.context().newCDPSession(page);
const [, held] = await Promise.all(
  ["HeapProfiler.collectGarbage", "Runtime.getHeapUsage"].map((each) => session.send(each)),
);
await session.detach();
return held.usedSize + held.embedderHeapUsedSize + held.backingStorageSize;
"""


@pytest_asyncio.fixture(loop_scope="session")
async def site() -> AsyncIterator[Site]:
    """Serve a Chromium of its own, without other pages."""
    async with chromium() as running:
        site = Site(running)
        await site.start()
        try:
            yield site
        finally:
            await running.close()
            await site.stop()
        assert running.faults == []


async def held(pages: list[Page]) -> list[int]:
    """Return the bytes that each page holds, or their common process."""
    return [int(await page.drive(HELD)) for page in pages]


async def most_held(pages: list[Page], task: asyncio.Task[object]) -> tuple[list[int], int]:
    """Return the most that was held until a task ended, and the number of samples."""
    most, looks = await held(pages), 1
    while not task.done():
        most = list(map(max, most, await held(pages)))
        looks += 1
    return list(map(max, most, await held(pages))), looks


#: In small parts, which the browser has taken over once the last byte can be read.
MAKE = """
const piece = new Uint8Array(4_000_000);
for (let at = 0; at < piece.length; at++) piece[at] = (at * 31 + (at >> 8)) % 251;
const parts = [];
while (parts.length < arg / piece.length) {
  const part = new Blob([piece]);
  await part.slice(-1).arrayBuffer();
  parts.push(part);
}
globalThis.value = new Blob(parts);
await value.slice(-1).arrayBuffer();
"""
#: The values sent, and the receiving page's own share: a Blob belongs to the browser.
KINDS = {"a Blob": ("value", 0), "bytes": ("new Uint8Array(await value.arrayBuffer())", SIZE)}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_large_file_needs_its_size(site: Site, kind: str) -> None:
    """60 MB take the receiver's copy, and at most 20 MB for everything in flight."""
    made, own = KINDS[kind]
    ann, bob = [await site.open() for _ in "ab"]
    connect = "globalThis.v = client({ userId: arg, constraints: false }); await v.connect('room');"
    await ann.run(connect, "ann")
    await bob.run(connect, "bob")
    await ann.run(MAKE, SIZE)
    await ann.run(f"globalThis.sent = {made};")
    for page in (ann, bob):
        await page.run("await until(() => [...v.peers.values()][0]?.data.readyState === 'open');")
    before = await held([ann, bob])
    code = "const { delivered, failed } = await v.send(sent); return [delivered, failed.length];"
    sending = asyncio.create_task(ann.run(code))
    most, looks = await most_held([ann, bob], sending)
    assert await sending == [["bob"], 0]
    size = """
    const messages = v.heard.filter(({ type }) => type === "message");
    return messages.map(({ detail: { data } }) => data.size ?? data.byteLength);
    """
    assert await bob.run(size) == [SIZE]
    grown = [each - base for each, base in zip(most, before, strict=True)]
    print(f"{kind}: {[each / MB for each in grown]} MB of {SIZE / MB:.0f} MB, {looks} looks")
    assert max(grown) < own + ABOVE, grown
    assert looks > 3
    # The gauge works: it shows the receiver's copy and other data that is kept.
    await bob.run("globalThis.probe = new Uint8Array(50_000_000).fill(1);")
    (after,) = await held([bob])
    assert after - before[1] > own + 49 * MB
