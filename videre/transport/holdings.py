"""Counts the bytes held for each address and holder; at a shared bound the largest holders pay."""

from __future__ import annotations

import heapq
from collections import Counter
from typing import Generic, Protocol, TypeVar


class Holder(Protocol):
    """Holds bytes on behalf of an address."""

    address: str


_Holder = TypeVar("_Holder", bound=Holder)


class Holdings(Generic[_Holder]):
    """The bytes held in total, for each address and by each holder."""

    __slots__ = ("_addresses", "_holders", "total")

    def __init__(self) -> None:
        self.total = 0
        self._addresses: Counter[str] = Counter()
        self._holders: dict[_Holder, int] = {}

    def add(self, holder: _Holder, size: int) -> int:
        """Add `size` bytes to a holder, and return its new total."""
        held = self._holders.get(holder, 0) + size
        self._holders[holder] = held
        self._addresses[holder.address] += size
        self.total += size
        return held

    def remove(self, holder: _Holder, size: int) -> None:
        """Subtract `size` bytes, added before, from a holder."""
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
        """Subtract everything a holder has."""
        if held := self._holders.get(holder):
            self.remove(holder, held)

    def of(self, address: str) -> int:
        """Return the bytes held for an address."""
        return self._addresses.get(address, 0)

    def heaviest(self, excess: int) -> list[_Holder]:
        """Return the holders to drop in order to free `excess` bytes.

        The address with the most bytes pays first, with its largest holder, until another address
        has more. Costs O(holders): make the excess a share of the total, so that calls are rare.
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
