"""The configuration's keys as environment variables, for containers.

`MaxPacketBytes` is `VIDERE_MAX_PACKET_BYTES`: a word begins at each capital before or after a
lower-case letter. Values are JSON, except that those of string keys are taken literally. An empty
value is null if the key may be null. Paths are relative to the working directory.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from videre.config.file import parsed
from videre.config.schema import SCHEMA

PREFIX = "VIDERE_"

#: The variable that names the configuration file.
CONFIG = "VIDERE_CONFIG"

_WORD = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")

# How similar an unknown variable must be to one of ours to count as a typo (difflib's ratio, 0 to
# 1). Unrelated ones, such as those Kubernetes sets for a service named videre, are less similar.
LIKENESS = 0.9


def words(key: str) -> list[str]:
    """Split a key into its words: `AdminPort` into Admin and Port."""
    return _WORD.split(key)


def variable(key: str) -> str:
    """Return the variable for a key: `VIDERE_ADMIN_PORT` for `AdminPort`."""
    return PREFIX + "_".join(words(key)).upper()


VARIABLES = {variable(key): key for key in SCHEMA}
PORT = variable("Port")

#: Variable in which a hosting platform passes the port; VIDERE_PORT overrides it.
HOSTED_PORT = "PORT"

_KUBERNETES = (
    "Kubernetes sets this for a service named videre: rename the service, "
    "or set enableServiceLinks to false"
)


def config(environ: Mapping[str, str]) -> Path | None:
    """Return the configuration file that the environment names; None if it names none."""
    named = environ.get(CONFIG)
    return Path(named) if named else None


def read(environ: Mapping[str, str]) -> dict[str, tuple[str, Any]]:
    """Return the environment's values as options for `config.load`: key -> (variable, value).

    An empty variable is null if the key may be null. `load` validates the values. Raises
    ConfigError for JSON that has a key twice.
    """
    found = {
        key: (name, _value(key, name, environ[name]))
        for name, key in VARIABLES.items()
        if name in environ
    }
    if environ.get(HOSTED_PORT) and PORT not in environ:
        found["Port"] = (HOSTED_PORT, _value("Port", HOSTED_PORT, environ[HOSTED_PORT]))
    return found


def slips(environ: Mapping[str, str]) -> list[str]:
    """Return a sentence for each variable that looks like a mistake."""
    sentences = []
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name == CONFIG:
            continue
        if name in VARIABLES:
            if name == PORT and environ[name].startswith("tcp://"):
                sentences.append(f"{name}: {_KUBERNETES}")
        elif meant := difflib.get_close_matches(name, VARIABLES, 1, LIKENESS):
            sentences.append(f"{name}: unknown key, ignored; did you mean {meant[0]}?")
    return sentences


def _value(key: str, name: str, text: str) -> Any:
    rules = SCHEMA[key]
    if not text and rules.get("nullable"):
        return None
    if rules.get("type") == "string":
        return text
    try:
        return parsed(text, name)
    except (ValueError, RecursionError):
        return text
