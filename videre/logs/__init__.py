"""The log: events of rooms and packets, and where the command writes them."""

from videre.logs.handlers import Logging
from videre.logs.journal import EventLog, Journal
from videre.settings import Form

__all__ = ["EventLog", "Form", "Journal", "Logging"]
