"""The table of docs/configuration.md, written from the settings.

`python -m videre.config.reference` writes it into the document; a test compares.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from videre import settings
from videre.config.environment import variable
from videre.config.schema import SCHEMA, SETTINGS
from videre.settings import Setting

#: The keys that `null` switches off, where it is allowed.
LIMITS = settings.of(settings.Limits, settings.Options)

#: The lines of the document between which the table is.
BEGIN, END = "<!-- settings -->\n", "<!-- end of settings -->\n"


def table() -> str:
    """Return the table, in Markdown: a row for each key."""
    head = "| key | default | unit | reloaded | meaning |\n|---|---|---|---|---|\n"
    return head + "".join(f"| {' | '.join(_row(known))} |\n" for known in SETTINGS.values())


def _row(known: Setting) -> Iterator[str]:
    rules = SCHEMA[known.key]
    yield f'<a id="{known.key.lower()}"></a>`{known.key}`<br>`{variable(known.key)}`'
    yield known.shown if known.shown is not None else f"`{json.dumps(rules['default'])}`"
    yield known.unit
    yield "yes" if known.reloaded else ""
    off = known.key in LIMITS and known.rules.get("nullable") and rules["default"] != 0
    says_null = known.shown is not None and "`null`" in known.shown
    yield known.meaning + ("; `null`: no limit" if off and not says_null else "")


def written(document: str) -> str:
    """Return a document with the table in its place; raises ValueError where there is none."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no lines {BEGIN.strip()} and {END.strip()}")
    return f"{before}{BEGIN}{table()}{END}{after}"


if __name__ == "__main__":
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/configuration.md")
    path.write_text(written(path.read_text(encoding="utf-8")), encoding="utf-8")
