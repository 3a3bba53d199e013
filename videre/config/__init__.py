"""The configuration: a JSON file, environment variables and command-line options."""

from videre.config.config import Config
from videre.config.file import load

__all__ = ["Config", "load"]
