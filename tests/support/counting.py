"""Counts the cost of code without a clock."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


def operations(work: Callable[[], object]) -> int:
    """Return how many bytecode instructions `work` executes."""
    count = 0

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # 3.12 looks for it in settrace alone
    gc.disable()  # it would finalise other tests' leftovers, in Python code
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
        gc.enable()
    return count


class Unwalkable(dict[Key, Value]):
    """A dictionary that allows only look-ups by key: C code cannot iterate over it unnoticed."""

    def _refuse(self, *_arguments: object) -> NoReturn:
        raise AssertionError("all keys were walked through")

    __iter__ = __reversed__ = keys = values = items = copy = _refuse
