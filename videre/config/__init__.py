"""The configuration: a JSON file, the environment, and what the command line adds to them."""

from videre.config.config import Config
from videre.config.file import load

__all__ = ["Config", "load"]
