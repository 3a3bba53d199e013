"""Members that talk all the time: each hears the others, or their sender gets an error."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable
from types import TracebackType

from cluster import Brief, Client, brief
from patience import WAIT_SECONDS
from signalling import Packet

PAUSE = 0.02  # seconds between two packets of one member


class Talker:
    """A member that numbers its packets, and records what it hears and which were refused."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.user = client.user
        self.said = 0
        self.refused: set[int] = set()  # numbers of refused broadcasts
        self.heard: dict[str, list[int]] = defaultdict(list)  # by user
        self.else_heard: list[Brief] = []

    async def says(self) -> int:
        """Send the next number."""
        packet = self.client.signalling.packet("broadcast", self.said)
        packet["Header"]["Id"] = self.said
        self.said += 1
        await self.client.signalling.send(packet)
        return self.said - 1

    def takes(self, packet: Packet) -> None:
        """Record what arrives."""
        header, payload = packet["Header"], packet["Payload"]
        if header["Event"] == "broadcast":
            self.heard[header["UserId"]].append(payload)
        elif header["Event"] == "error" and json.loads(payload)["Code"] == "unavailable":
            self.refused.add(header["Id"])
        else:
            self.else_heard.append(brief(packet))


class Talk:
    """All members, until the end: then each packet was heard by all, or refused."""

    def __init__(self, *clients: Client) -> None:
        self.talkers = [Talker(client) for client in clients]
        self._quiet = False
        self._news = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Talk:
        self._tasks = [
            asyncio.create_task(do(talker))
            for talker in self.talkers
            for do in (self._talks, self._listens)
        ]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._quiet = True
            for talker in self.talkers:
                await self._is_heard(talker)
        for task in self._tasks:
            task.cancel()
        for ended in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended
        if error is None:
            for talker in self.talkers:
                self._check(talker)

    async def goes_on(self) -> None:
        """Return when each has heard from each a packet sent after this call."""
        since = {talker.user: talker.said for talker in self.talkers}
        await self._until(
            lambda: all(
                talker.heard[other.user] and talker.heard[other.user][-1] >= since[other.user]
                for talker in self.talkers
                for other in self.talkers
                if other is not talker
            )
        )

    async def _talks(self, talker: Talker) -> None:
        while not self._quiet:
            await talker.says()
            await asyncio.sleep(PAUSE)

    async def _listens(self, talker: Talker) -> None:
        try:
            while True:
                talker.takes(await talker.client.signalling.receive())
                self._news.set()
        finally:
            self._news.set()

    async def _is_heard(self, talker: Talker) -> None:
        """Send once more until all others have heard it: earlier packets have then arrived."""
        others = [each for each in self.talkers if each is not talker]
        number = -1

        def decided() -> bool:
            heard = all(number in other.heard[talker.user] for other in others)
            return heard or number in talker.refused

        while number < 0 or number in talker.refused:
            number = await talker.says()
            await self._until(decided)

    async def _until(self, met: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            while not met():
                for task in self._tasks:
                    if task.done():
                        task.result()  # why it has ended
                self._news.clear()
                await self._news.wait()

    def _check(self, talker: Talker) -> None:
        for other in self.talkers:
            if other is not talker:
                heard = talker.heard[other.user]
                assert heard == sorted(set(heard)), (
                    f"{talker.user}: not in order, or twice: {heard}"
                )
                lost = set(range(other.said)) - set(heard) - other.refused
                assert not lost, (
                    f"{talker.user} never heard {lost} of {other.user}, who was not told"
                )
        assert not talker.else_heard, (talker.user, talker.else_heard)
