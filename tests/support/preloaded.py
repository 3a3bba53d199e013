"""What the process that servers are forked from has imported: all that one may need (forked.py)."""

import gc
import importlib
from contextlib import suppress

MODULES = [
    "asyncio.sslproto",
    "encodings.idna",
    "encodings.utf_8_sig",
    "uvloop",
    "videre.admin",
    "videre.auth",
    "videre.command.cli",
    "videre.demo",
    "videre.engines.redis",
]

for name in MODULES:
    with suppress(ImportError):  # an extra that is not installed
        importlib.import_module(name)

gc.collect()
gc.freeze()  # or the first collection of each server would copy the memory of all these objects
