"""Generate the table in docs/configuration.md from the settings.

`python -m videre.config.reference` updates the document; a test compares the two.
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

#: The keys that `null` switches off, if they allow it.
LIMITS = settings.of(settings.Limits, settings.Options)

#: The lines that enclose the table in the document.
BEGIN, END = "<!-- settings -->\n", "<!-- end of settings -->\n"


def table() -> str:
    """Return the table in Markdown, one row per key."""
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
    """Return the document with the table replaced; raises ValueError without BEGIN and END."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no lines {BEGIN.strip()} and {END.strip()}")
    return f"{before}{BEGIN}{table()}{END}{after}"


if __name__ == "__main__":
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/configuration.md")
    path.write_text(written(path.read_text(encoding="utf-8")), encoding="utf-8")
