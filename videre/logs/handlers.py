"""Where the command logs to.

With a log file: JSON lines in a rotating file, and lines for people on the terminal. Without one:
everything on standard output. Each target has its own writer thread.
"""

from __future__ import annotations

import logging
from pathlib import Path

from videre.logs.files import File
from videre.logs.formatters import TERMINAL_LINES, JSONFormatter, Line, TextFormatter
from videre.logs.writers import Output, Writer, end
from videre.settings import Form

#: The loggers to write, and the lowest level to write of each.
LOGGERS = {"videre": logging.DEBUG, "aiohttp": logging.WARNING, "asyncio": logging.WARNING}


class Handler(logging.Handler):
    """Passes records to a writer, whose thread formats them."""

    def __init__(self, target: str, writer: Writer, formatter: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self.target = target  # unique per handler
        self.writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record; the writer's thread formats it."""
        batch: list[Line] | None = getattr(record, "lines", None)
        if batch is None:
            self.writer.put(lambda: self.format(record))
            return
        # The queue must hold and count only what this handler writes.
        lines = [line for line in batch if line[1] >= self.level]
        part = logging.makeLogRecord({"lines": lines})
        self.writer.put(lambda: self.format(part), len(lines))


class Logging:
    """The handlers of videre, aiohttp and asyncio, until `end`; for commands, not for libraries.

    With a `file`: JSON lines at `level` in the file, and info or above on the terminal (standard
    error). Without one: everything on standard output only. `form` is the format outside the file:
    text for people, or JSON lines. Raises OSError if `file` cannot be opened.
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
        most = TERMINAL_LINES if file else None  # without a file, it is the log itself
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
        for name in LOGGERS:
            for handler in handlers:
                logging.getLogger(name).addHandler(handler)
        for writer in self._writers:
            writer.start()

    def set_level(self, level: str) -> None:
        """Log records of this level or above; those of aiohttp and asyncio from warning upwards."""
        threshold = logging.getLevelNamesMapping()[level.upper()]
        self._shown.level = max(threshold, self._least)
        self._terminal.setLevel(self._shown.level)
        for name, least in LOGGERS.items():
            logging.getLogger(name).setLevel(max(threshold, least))

    def reopen(self) -> None:
        """Continue in a new file of the same name, after logrotate has moved the old one."""
        for writer in self._writers:
            writer.reopen()

    def end(self) -> None:
        """Remove the handlers, and write the remaining records."""
        for name in LOGGERS:
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
