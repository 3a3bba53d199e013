"""Who makes the server hold how much: when a shared bound is reached, who holds most pays."""

from __future__ import annotations

import heapq
from collections import Counter
from typing import Generic, Protocol, TypeVar


class Holder(Protocol):
    """What holds bytes on behalf of an address."""

    address: str


_Holder = TypeVar("_Holder", bound=Holder)


class Holdings(Generic[_Holder]):
    """Bytes that are held, in all, for each address and by each holder."""

    __slots__ = ("_addresses", "_holders", "total")

    def __init__(self) -> None:
        self.total = 0
        self._addresses: Counter[str] = Counter()
        self._holders: dict[_Holder, int] = {}

    def add(self, holder: _Holder, size: int) -> int:
        """Count `size` bytes more, and return what the holder holds now."""
        held = self._holders.get(holder, 0) + size
        self._holders[holder] = held
        self._addresses[holder.address] += size
        self.total += size
        return held

    def remove(self, holder: _Holder, size: int) -> None:
        """Count `size` bytes less, of those that were added for the holder."""
        held = self._holders[holder] - size
        if held:
            self._holders[holder] = held
        else:
            del self._holders[holder]
        self.total -= size
        self._addresses[holder.address] -= size
        if not self._addresses[holder.address]:
            del self._addresses[holder.address]

    def drop(self, holder: _Holder) -> None:
        """Count nothing more for a holder."""
        if held := self._holders.get(holder):
            self.remove(holder, held)

    def of(self, address: str) -> int:
        """Return the bytes that are held for an address."""
        return self._addresses.get(address, 0)

    def heaviest(self, excess: int) -> list[_Holder]:
        """Return who has to let go so that `excess` bytes less are held.

        The address that holds most pays first, with its largest holder, until another address holds
        more. Costs O(holders): let the excess be a share of the total, so that it is rarely asked.
        """
        by_address: dict[str, list[_Holder]] = {}
        for holder in sorted(self._holders, key=self._holders.__getitem__):
            by_address.setdefault(holder.address, []).append(holder)
        heap = [(-self._addresses[address], address) for address in by_address]
        heapq.heapify(heap)
        paying: list[_Holder] = []
        while excess > 0 and heap:
            held, address = heap[0]
            payer = by_address[address].pop()
            paying.append(payer)
            excess -= self._holders[payer]
            if by_address[address]:
                heapq.heapreplace(heap, (held + self._holders[payer], address))
            else:
                heapq.heappop(heap)
        return paying
