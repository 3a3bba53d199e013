"""Generate what is written about the settings elsewhere, from the settings.

`python -m videre.config.reference` updates the table in docs/configuration.md, the JSON Schema for
editors, and the one for the values of the Helm chart. Tests compare them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from videre import settings
from videre.config import json_schema
from videre.config.environment import variable
from videre.config.schema import SCHEMA, SETTINGS
from videre.settings import Setting

#: The keys that `null` switches off, if they allow it.
LIMITS = settings.of(settings.Limits, settings.Options)

#: The lines that enclose the table in the document.
BEGIN, END = "<!-- settings -->\n", "<!-- end of settings -->\n"

#: The generated files, in the repository.
TABLE, SCHEMA_FILE = Path("docs/configuration.md"), Path("docs/videre.schema.json")
CHART_VALUES = Path("charts/videre/values.schema.json")


def table() -> str:
    """Return the table in Markdown, one row per key."""
    head = "| key | default | unit | reloaded | since | meaning |\n|---|---|---|---|---|---|\n"
    return head + "".join(f"| {' | '.join(_row(known))} |\n" for known in SETTINGS.values())


def _row(known: Setting) -> Iterator[str]:
    rules = SCHEMA[known.key]
    yield f'<a id="{known.key.lower()}"></a>`{known.key}`<br>`{variable(known.key)}`'
    yield known.shown if known.shown is not None else f"`{json.dumps(rules['default'])}`"
    yield known.unit
    yield "yes" if known.reloaded else ""
    yield known.since
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


def chart_values(schema: str) -> str:
    """Return the JSON Schema of the chart's values, with `config` as a conf.json has it."""
    values = json.loads(schema)
    config = json_schema.schema()
    del config["$schema"], config["properties"]["$schema"]
    values["properties"]["config"] = config
    return dumped(values)


def dumped(document: object) -> str:
    """Return JSON for people."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def generated(root: Path) -> dict[Path, str]:
    """Return the generated files of the repository at `root`, and what they should contain."""
    table, chart = root / TABLE, root / CHART_VALUES
    return {
        table: written(table.read_text(encoding="utf-8")),
        root / SCHEMA_FILE: dumped(json_schema.schema()),
        chart: chart_values(chart.read_text(encoding="utf-8")),
    }


if __name__ == "__main__":
    for path, text in generated(Path()).items():
        path.write_text(text, encoding="utf-8")
