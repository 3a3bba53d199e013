"""Why the store cannot be used: find the reason in the errors, and log it, not too often."""

from __future__ import annotations

import logging
import os
import re
import socket
import ssl
from collections.abc import Iterator

from redis.asyncio.sentinel import MasterNotFoundError
from redis.exceptions import AskError, AuthenticationError, RedisClusterException, RedisError
from redis.exceptions import TimeoutError as RedisTimeout

from videre.errors import EngineError

logger = logging.getLogger("videre.engines")

# Seconds after which a lasting reason is logged again: often enough for readers of the log's end,
# and 1,440 lines a day.
REMINDER_SECONDS = 60.0

# Distinct reasons in one outage, and characters of one; some come from the server.
MAX_REASONS = 8
MAX_REASON = 300

FULL = "it is full"


class StoreFull(EngineError):
    """The store has no space for a step, and has not taken it. Steps that need none still work."""


#: Errors that mean that the store cannot be used; others may be bugs, ours or a library's.
KNOWN = (EngineError, OSError, RedisError, RedisClusterException)

NO_ANSWER = "no answer in time"
CLUSTERED = "it is one server of a cluster, which needs redis+cluster://"
CLOSED = ("Connection closed by server", "Connection reset by peer")  # redis-py and Linux
POOLED = "Connection has data"  # redis-py, of a pooled connection that it then replaces
CONNECTING = re.compile(r"Error (\d+) connecting to ")  # redis-py, which then loses the OSError


class Outage:
    """Logs that the store cannot be used: at once, for each new reason, and once a minute.

    `where` is the store's URL without its secrets. Times are in seconds, on one clock.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._tls = where.startswith(("rediss", "valkeys"))
        self._told: dict[str, float] = {}  # when each reason was logged, in this outage
        #: Why the store cannot be used now, without addresses; "" if it can.
        self.reason = ""
        self._told_full = False  # whether it was logged that it is full, and not yet over

    def tell(self, error: BaseException, now: float) -> None:
        """Record an error, and log it unless that was done within the last minute."""
        again = bool(self.reason)
        self.reason = self.words(error)
        last = self._told.get(self.reason)
        if last is None and len(self._told) >= MAX_REASONS:
            last = max(self._told.values())
        if last is None or now - last >= REMINDER_SECONDS:
            self._told = {self.reason: now} if len(self._told) >= MAX_REASONS else self._told
            self._told[self.reason] = now
            self._told_full |= self.reason == FULL
            still = "still " if again else ""
            logger.error("the store %scannot be used: %s (%s)", still, self.reason, self._where)

    def words(self, error: BaseException) -> str:
        """Return the reason, with a hint if the URL's scheme may be wrong.

        If only one side speaks TLS, both wait, or the connection closes at once.
        """
        words = reason(error)
        if self._tls and words == NO_ANSWER:
            return f"{words}; does it speak TLS?"
        if not self._tls and words in CLOSED:
            return f"{words}; does it require TLS?"
        return words

    def relieve(self) -> bool:
        """Record that a beat found space; return whether the log says that there is none.

        Another shard may have none.
        """
        if self.reason == FULL:
            self.reason = ""  # what was logged stays so: no line for each refused step
        told, self._told_full = self._told_full, False
        return told

    def pause(self) -> None:
        """Record that the store can be used, but perhaps not for all rooms."""
        self.reason = ""

    def end(self) -> None:
        """Record that all rooms could be reached: what comes now is another outage."""
        self._told = {told: at for told, at in self._told.items() if told == self.reason}


def reason(error: BaseException) -> str:
    """Return why a store cannot be used, in words, without addresses or secrets."""
    chain = [each for each in _chain(error) if str(each) != POOLED]
    for each in [each for each in chain if isinstance(each, KNOWN)] or chain:
        if words := _words(each):
            return " ".join(words.split())[:MAX_REASON].rstrip(".")
    return type(error).__name__


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the causes of an error, the root cause first, then the error."""
    found: list[BaseException] = []
    next_: BaseException | None = error
    while next_ is not None and next_ not in found:
        found.append(next_)
        next_ = next_.__cause__ or (None if next_.__suppress_context__ else next_.__context__)
    return reversed(found)


def _words(error: BaseException) -> str:
    """Return what an error says about the store; "" if nothing."""
    if isinstance(error, StoreFull):
        return FULL
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is invalid: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS fails: {getattr(error, 'reason', None) or error.strerror}"
    if isinstance(error, (TimeoutError, RedisTimeout)):
        return NO_ANSWER
    if isinstance(error, OSError):
        return _system_words(error)
    if isinstance(error, AuthenticationError) and str(error).startswith("HELLO must be called"):
        return "it requires a password"
    if isinstance(error, AskError):  # MovedError, too
        return CLUSTERED
    if isinstance(error, MasterNotFoundError):
        return _sentinel_words(str(error))
    if (number := CONNECTING.match(str(error))) is not None:
        return os.strerror(int(number[1]))
    return str(error)


def _system_words(error: OSError) -> str:
    if error.errno is None or isinstance(error, socket.gaierror):
        return error.strerror or str(error)
    return os.strerror(error.errno)


def _sentinel_words(text: str) -> str:
    """Describe that no Sentinel names a server; the library's own text contains its objects."""
    kinds = sorted({*re.findall(r"> - (?:\w+:)?(\w+)", text)})
    service = re.match(r"No master found for '(.*?)'", text)
    named = f" called {service[1]!r}" if service else ""
    return f"no Sentinel knows a server{named}" + (f" ({', '.join(kinds)})" if kinds else "")
