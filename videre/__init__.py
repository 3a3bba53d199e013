"""videre: a WebRTC signalling server for aiohttp.

videre.setup(app, prefix="/echo")            # into an application
site.add_subapp("/rtc", videre.create_app()) # or as one
"""

from videre.app import Namespace, create_app, setup
from videre.config import Config
from videre.errors import ConfigError, VidereError
from videre.version import __version__

__all__ = [
    "Config",
    "ConfigError",
    "Namespace",
    "VidereError",
    "__version__",
    "create_app",
    "setup",
]
