"""The log: events of rooms and packets, and where the command writes them."""

from videre.logs.files import is_plain
from videre.logs.handlers import LOGGERS, Logging
from videre.logs.journal import EventLog, Journal
from videre.settings import Form

__all__ = ["LOGGERS", "EventLog", "Form", "Journal", "Logging", "is_plain"]
