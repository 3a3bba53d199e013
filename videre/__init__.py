"""videre: a WebRTC signalling server for aiohttp.

videre.setup(app, prefix="/echo")            # into an application
site.add_subapp("/rtc", videre.create_app()) # or as one

The server is loaded when one of its names is first used, so that `import videre.client` does not
load it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from videre.version import __version__

if TYPE_CHECKING:
    from videre.app import Namespace, create_app, setup
    from videre.config import Config
    from videre.errors import ConfigError, VidereError

__all__ = [
    "Config",
    "ConfigError",
    "Namespace",
    "VidereError",
    "__version__",
    "create_app",
    "setup",
]

_MODULES = {
    "Config": "videre.config",
    "ConfigError": "videre.errors",
    "Namespace": "videre.app",
    "VidereError": "videre.errors",
    "create_app": "videre.app",
    "setup": "videre.app",
}

if not TYPE_CHECKING:  # type checkers would believe that every name exists

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module 'videre' has no attribute {name!r}", name=name, obj=None)
        value = globals()[name] = getattr(importlib.import_module(_MODULES[name]), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
