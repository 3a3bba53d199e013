"""Where the command logs to.

JSON lines in a rotating file, written by a thread of its own, and lines for people on the
terminal; or, without a file, all of it on the standard output.
"""

from __future__ import annotations

import logging
from pathlib import Path

from videre.logs.files import File
from videre.logs.formatters import TERMINAL_LINES, JSONFormatter, TextFormatter
from videre.logs.writers import Output, Writer, end
from videre.settings import Form

# Whose records are written, and of which level at least.
_LOGGERS = {"videre": logging.DEBUG, "aiohttp": logging.WARNING, "asyncio": logging.WARNING}


class Handler(logging.Handler):
    """Gives records to a writer; its formatter is used in the writer's thread."""

    def __init__(self, target: str, writer: Writer, formatter: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self.target = target  # of which there is one each
        self.writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record; the writer's thread formats it."""
        self.writer.put(lambda: self.format(record), len(getattr(record, "lines", (None,))))


class Logging:
    """Where videre and aiohttp log to, until `end`. For applications: a site has its own.

    With a `file`: JSON lines into it at `level`, and on the terminal (the standard error output)
    what is info or above. Without one: all of it on the standard output, and nothing elsewhere.
    What is not in the file is text for people, or JSON lines, as `form` says. Raises OSError if
    `file` cannot be opened.
    """

    def __init__(
        self,
        level: str,
        file: Path | None,
        *,
        form: Form = "text",
        max_bytes: int = 0,
        backups: int = 0,
    ) -> None:
        most = TERMINAL_LINES if file else None  # it is the log itself, or beside it
        self._shown = TextFormatter(most=most) if form == "text" else JSONFormatter()
        tell_lost = _lost_text if form == "text" else _lost_line
        if file is None:
            self._writers = [Writer(Output(1), tell_lost)]
            self._terminal = Handler("terminal", self._writers[0], self._shown)
            handlers = [self._terminal]
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            target = File(file, max_bytes=max_bytes, backups=backups)
            self._writers = [Writer(Output(2), tell_lost), Writer(target, _lost_line)]
            self._terminal = Handler("terminal", self._writers[0], self._shown)
            handlers = [self._terminal, Handler("file", self._writers[1], JSONFormatter())]
        self._handlers = handlers
        self._least = logging.DEBUG if file is None else logging.INFO
        self.set_level(level)
        for name in _LOGGERS:
            for handler in handlers:
                logging.getLogger(name).addHandler(handler)
        for writer in self._writers:
            writer.start()

    def set_level(self, level: str) -> None:
        """Log what is of this level or above; of aiohttp and asyncio, no more than warnings."""
        threshold = logging.getLevelNamesMapping()[level.upper()]
        self._shown.level = max(threshold, self._least)
        self._terminal.setLevel(self._shown.level)
        for name, least in _LOGGERS.items():
            logging.getLogger(name).setLevel(max(threshold, least))

    def reopen(self) -> None:
        """Go on in a new file of the same name: whoever rotates it has moved the old one away."""
        for writer in self._writers:
            writer.reopen()

    def end(self) -> None:
        """Write the last records, and log no more."""
        for name in _LOGGERS:
            logging.getLogger(name).setLevel(logging.NOTSET)
            for handler in self._handlers:
                logging.getLogger(name).removeHandler(handler)
        end(self._writers)


def _lost(count: int) -> logging.LogRecord:
    return logging.makeLogRecord(
        {
            "name": "videre",
            "levelno": logging.WARNING,
            "levelname": "WARNING",
            "msg": "log-records-lost",
            "fields": {"count": count},
        }
    )


def _lost_line(count: int) -> str:
    return JSONFormatter().format(_lost(count))


def _lost_text(count: int) -> str:
    return TextFormatter().format(_lost(count))
