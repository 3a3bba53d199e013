"""What a test leaves in memory: its own objects, without those that other tests still hold."""

from __future__ import annotations

import gc
from collections.abc import Callable


class Alive:
    """Finds the objects made since, whose classes are wanted.

    Others' objects may live as long as the process: a failed test's are kept by its traceback,
    and those that `gc.freeze` found are never collected.
    """

    def __init__(self, wanted: Callable[[type], bool]) -> None:
        self._wanted = wanted
        gc.collect()
        self._others = self._found()  # kept, so that no new object gets the id of one

    def __call__(self) -> list[object]:
        """Return the wanted objects that are alive and were not there at the beginning."""
        known = {id(each) for each in self._others}
        return [each for each in self._found() if id(each) not in known]

    def _found(self) -> list[object]:
        return [each for each in gc.get_objects() if self._wanted(type(each))]
