"""Read the signing keys and the admin token: from values, files and environment variables."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from videre.auth import Auth, Key, NoAuth, TokenAuth, public_key, secret_key
from videre.config.checks import finite
from videre.settings import LARGEST, LEEWAY

_STRINGS = {"type": "list", "schema": {"type": "string"}, "default": []}
_STRING = {"type": "string", "nullable": True, "default": None, "minlength": 1}

#: The schema of `Auth`. Secrets are for HS256. Several allow rotation: any of them verifies, the
#: first one signs. `SecretsVariable` names an environment variable of blank-separated secrets.
SCHEMA: dict[str, Any] = {
    "Required": {"type": "boolean", "default": True},
    "Secrets": _STRINGS,
    "SecretFiles": _STRINGS,
    "SecretsVariable": _STRING,
    "PublicKeys": _STRINGS,
    "Issuer": _STRING,
    "Audience": _STRING,
    # 60 s: a client whose token has expired asks its site for a fresh one.
    "Leeway": {
        "type": "number",
        "min": 0,
        "max": LARGEST,
        "check_with": finite,
        "default": LEEWAY,
    },
}

#: The keys for the admin port's token: the token itself, a file, or an environment variable.
ADMIN_KEYS = ("AdminToken", "AdminTokenFile", "AdminTokenVariable")
#: Shortest admin token, in characters: it can only be guessed online, one try at a time.
MIN_ADMIN_TOKEN = 16
_BEARER = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750, 2.1: the syntax of a bearer token

#: The name of a variable, in capitals as is usual. Any other may be a secret in the wrong key.
VARIABLE = re.compile("[A-Z_][A-Z0-9_]*")

Fault = tuple[str, str]


def read(
    auth: Mapping[str, Any], folder: Path, environ: Mapping[str, str]
) -> tuple[list[Key], list[Fault]]:
    """Return the keys that `Auth` names, and the faults: (key of Auth, what is wrong).

    Files are relative to `folder`. Faults contain no secrets.
    """
    keys: list[Key] = []
    faults: list[Fault] = []

    def add(name: str, where: str, make: Callable[[], Key]) -> None:
        try:
            keys.append(make())
        except OSError as error:
            faults.append((name, f"{where}: {error.strerror}"))
        except ValueError as error:
            faults.append((name, f"{where}: {error}"))

    for number, secret in enumerate(auth["Secrets"], 1):
        add("Secrets", f"secret {number}", partial(secret_key, secret))
    for file in auth["SecretFiles"]:
        add("SecretFiles", repr(file), partial(_secret_file, file, folder))
    if (variable := auth["SecretsVariable"]) is not None:
        secrets: list[str] = []
        with contextlib.suppress(ValueError):
            secrets = stored("SecretsVariable", variable, folder, environ).split()
        where = _where("SecretsVariable", variable)
        if not secrets:
            faults.append(("SecretsVariable", f"{where}the variable is not set"))
        for number, secret in enumerate(secrets, 1):
            add("SecretsVariable", f"{where}secret {number}", partial(secret_key, secret))
    for file in auth["PublicKeys"]:
        add("PublicKeys", repr(file), partial(_key_file, folder / file))
    if not keys and not faults:
        faults.append(("Secrets", "name at least one key: Secrets, SecretFiles, PublicKeys, ..."))
    return keys, faults


def _where(key: str, value: str) -> str:
    """Return the place of a secret and a colon for a fault; "" if it may be the secret itself."""
    is_place = key.endswith("File") or (key.endswith("Variable") and VARIABLE.fullmatch(value))
    return f"{value!r}: " if is_place else ""


def stored(key: str, value: str, folder: Path, environ: Mapping[str, str]) -> str:
    """Return a key's secret: read from a file for `...File`, from a variable for `...Variable`.

    Raises OSError or ValueError; their messages contain no secrets.
    """
    if key.endswith("File"):
        try:
            # Windows editors begin a file with a byte order mark, which is no part of the secret.
            return (folder / value).read_text(encoding="utf-8-sig").strip()
        except UnicodeDecodeError:  # its message would quote a byte of the secret
            raise ValueError("is not UTF-8 text") from None
    if key.endswith("Variable"):
        try:
            return environ[value]
        except (KeyError, UnicodeEncodeError):  # of a lone surrogate, which no name can hold
            raise ValueError("the variable is not set") from None
    return value


def admin_token(
    settings: Mapping[str, Any], folder: Path, environ: Mapping[str, str]
) -> tuple[str | None, list[Fault]]:
    """Return the admin port's token (None if there is none), and its faults.

    Files are relative to `folder`. Faults contain no secrets.
    """
    for key in ADMIN_KEYS:
        if (value := settings[key]) is None:
            continue
        where = _where(key, value)
        try:
            token = stored(key, value, folder, environ)
        except OSError as error:
            return None, [(key, f"{where}{error.strerror}")]
        except ValueError as error:
            return None, [(key, f"{where}{error}")]
        if not _BEARER.fullmatch(token):
            words = "must consist of letters, digits and -._~+/, with = only at its end"
            return None, [(key, f"{where}{words}")]
        if len(token) < MIN_ADMIN_TOKEN:
            words = f"must have at least {MIN_ADMIN_TOKEN} characters, not {len(token)}"
            return None, [(key, f"{where}{words}")]
        return token, []
    return None, []


def _secret_file(file: str, folder: Path) -> Key:
    return secret_key(stored("SecretFile", file, folder, {}))


def _key_file(path: Path) -> Key:
    return public_key(path.read_bytes())


def auth(settings: Mapping[str, Any] | None, keys: Sequence[Key]) -> Auth:
    """Return the token verifier for these settings and keys; NoAuth if `settings` is None."""
    if settings is None:
        return NoAuth()
    return TokenAuth(
        keys,
        required=settings["Required"],
        issuer=settings["Issuer"],
        audience=settings["Audience"],
        leeway=settings["Leeway"],
    )
