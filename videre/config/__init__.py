"""The configuration: a JSON file, the environment, and what the command line adds to them."""

from videre.config.config import Config, load

__all__ = ["Config", "load"]
