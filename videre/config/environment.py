"""The configuration's keys as variables of the environment, as containers are configured.

`MaxPacketBytes` is `VIDERE_MAX_PACKET_BYTES`: a word begins at each capital that a small letter
follows or precedes. A value is JSON, but for keys that hold a text: that is taken as it is.
An empty one is null, where a key may be null. Paths are relative to the working directory.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from videre.config.schema import SCHEMA

PREFIX = "VIDERE_"

#: Names the configuration file.
CONFIG = "VIDERE_CONFIG"

_WORD = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")

# How like a name of ours one must be to be taken for a slip: a variable that is there by chance, as
# those that Kubernetes makes for a service called videre, is less so.
LIKENESS = 0.9


def words(key: str) -> list[str]:
    """Return the words of a key: Admin and Port of `AdminPort`."""
    return _WORD.split(key)


def variable(key: str) -> str:
    """Return the variable of a key: `VIDERE_ADMIN_PORT` of `AdminPort`."""
    return PREFIX + "_".join(words(key)).upper()


VARIABLES = {variable(key): key for key in SCHEMA}
PORT = variable("Port")

#: Where a hosting platform says on which port it expects the server; VIDERE_PORT beats it.
HOSTED_PORT = "PORT"

_KUBERNETES = (
    "Kubernetes sets this for a service named videre: rename the service, "
    "or set enableServiceLinks to false"
)


def config(environ: Mapping[str, str]) -> Path | None:
    """Return the configuration file that an environment names, if it does."""
    named = environ.get(CONFIG)
    return Path(named) if named else None


def read(environ: Mapping[str, str]) -> dict[str, tuple[str, Any]]:
    """Return the values of an environment as `config.load` takes options: by key, with the name.

    An empty variable is null where the key may be. What is wrong with a value is for `load` to say.
    """
    found = {
        key: (name, _value(key, environ[name]))
        for name, key in VARIABLES.items()
        if name in environ
    }
    if environ.get(HOSTED_PORT) and PORT not in environ:
        found["Port"] = (HOSTED_PORT, _value("Port", environ[HOSTED_PORT]))
    return found


def slips(environ: Mapping[str, str]) -> list[str]:
    """Return a sentence for each variable that is, by its looks, not what somebody meant."""
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


def _value(key: str, text: str) -> Any:
    rules = SCHEMA[key]
    if not text and rules.get("nullable"):
        return None
    if rules.get("type") == "string":
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
