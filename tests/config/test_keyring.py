"""The configured keys: where they are read from, and the faults of each."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from tokens import NOW, OTHER_SECRET, SECRET, private, private_pem, public_pem, token

from videre.auth import Key, NoAuth, TokenAuth, public_key, secret_key
from videre.config.keys import SCHEMA, Fault, auth, read, stored

DEFAULTS = {name: rules["default"] for name, rules in SCHEMA.items()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a folder with a file of each kind."""
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    (tmp_path / "short").write_text("hush\n")
    (tmp_path / "binary").write_bytes(b"\xf1\xf2\xf3" * 20)
    for kind in ("RS256", "ES256", "EdDSA"):
        (tmp_path / f"{kind}.pem").write_bytes(public_pem(kind))
    (tmp_path / "private.pem").write_bytes(private_pem("ES256"))
    return tmp_path


def keys(folder: Path, environ: dict[str, str] | None = None, **values: Any) -> list[Key]:
    """Return the keys that these valid values of `Auth` name."""
    found, faults = read({**DEFAULTS, **values}, folder, environ or {})
    assert faults == []
    return found


def faults(folder: Path, environ: dict[str, str] | None = None, **values: Any) -> list[Fault]:
    """Return the faults of these values of `Auth`."""
    return read({**DEFAULTS, **values}, folder, environ or {})[1]


def test_secrets(folder: Path) -> None:
    """In the order in which they are listed."""
    both = [secret_key(SECRET), secret_key(OTHER_SECRET)]
    assert keys(folder, Secrets=[SECRET, OTHER_SECRET]) == both


def test_files_of_secrets(folder: Path) -> None:
    """A file contains one secret; surrounding white space is not part of it."""
    (folder / "other").write_text(f"\n  {OTHER_SECRET}\t\r\n\n")
    (folder / "marked").write_bytes(f"{SECRET}\r\n".encode("utf-8-sig"))  # by a Windows editor
    both = [secret_key(SECRET), secret_key(OTHER_SECRET)]
    assert keys(folder, SecretFiles=["secret", "other"]) == both
    assert keys(folder, SecretFiles=["marked"]) == both[:1]


def test_files_are_relative_to_the_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not to the working directory; absolute paths are allowed."""
    monkeypatch.chdir("/")
    key = [secret_key(SECRET)]
    assert keys(folder, SecretFiles=["secret"]) == key
    assert keys(folder, SecretFiles=[str(folder / "secret")]) == key


def test_a_variable_of_secrets(folder: Path) -> None:
    """White space separates them."""
    words = "the-secret-of-the-variable-number-one", "the-secret-of-the-variable-number-two"
    expected = [secret_key(word) for word in words]
    for text in (" ".join(words), "\n".join(words), f"  {words[0]}\t{words[1]} "):
        assert keys(folder, {"SECRETS": text}, SecretsVariable="SECRETS") == expected


@pytest.mark.parametrize("kind", ["RS256", "ES256", "EdDSA"])
def test_public_keys(folder: Path, kind: str) -> None:
    """From PEM files; tokens signed by their private keys are valid."""
    found = keys(folder, PublicKeys=[f"{kind}.pem"])
    assert found == [Key(kind, public_key(public_pem(kind)).material)]
    judge = auth({**DEFAULTS}, found)
    assert judge.grant(token(key=private(kind), algorithm=kind), "a", "room", NOW)


def test_all_at_once(folder: Path) -> None:
    """The secrets of the file come first: its first one signs."""
    found = keys(
        folder,
        {"MORE": OTHER_SECRET.replace(" ", "-")},
        PublicKeys=["ES256.pem", "RS256.pem"],
        SecretsVariable="MORE",
        SecretFiles=["secret"],
        Secrets=["the secret that signs, 32 bytes and more"],
    )
    algorithms = [key.algorithm for key in found]
    assert algorithms == ["HS256", "HS256", "HS256", "ES256", "RS256"]
    judge = auth({**DEFAULTS}, found)
    assert isinstance(judge, TokenAuth)
    assert judge.signing_key == secret_key("the secret that signs, 32 bytes and more")


@pytest.mark.parametrize(
    ("values", "name", "words"),
    [
        ({}, "Secrets", "name at least one key: Secrets, SecretFiles, PublicKeys, ..."),
        (
            {"Secrets": [SECRET, "hush"]},
            "Secrets",
            "secret 2: must have at least 32 bytes, not 4",
        ),
        ({"Secrets": [""]}, "Secrets", "secret 1: must have at least 32 bytes, not 0"),
        ({"SecretFiles": ["none"]}, "SecretFiles", "'none': No such file or directory"),
        ({"SecretFiles": ["."]}, "SecretFiles", "'.': Is a directory"),
        (
            {"SecretFiles": ["short"]},
            "SecretFiles",
            "'short': must have at least 32 bytes, not 4",
        ),
        ({"SecretsVariable": "NONE"}, "SecretsVariable", "'NONE': the variable is not set"),
        ({"SecretsVariable": "EMPTY"}, "SecretsVariable", "'EMPTY': the variable is not set"),
        (
            {"SecretsVariable": "SHORT"},
            "SecretsVariable",
            "'SHORT': secret 1: must have at least 32 bytes, not 4",
        ),
        ({"PublicKeys": ["none"]}, "PublicKeys", "'none': No such file or directory"),
        ({"PublicKeys": ["secret"]}, "PublicKeys", "'secret': is not a PEM public key"),
        ({"PublicKeys": ["private.pem"]}, "PublicKeys", "'private.pem': is not a PEM public key"),
    ],
)
def test_faults(folder: Path, values: dict[str, Any], name: str, words: str) -> None:
    """Each fault names its key, and which of several values it concerns."""
    environ = {"EMPTY": "  \n", "SHORT": "hush"}
    assert faults(folder, environ, **values) == [(name, words)]


@pytest.mark.parametrize("name", ["nul\0", "surrogate\ud800", "a=b"])
def test_a_name_that_no_variable_can_have(folder: Path, name: str) -> None:
    """It is that of a variable that is not set; os.environ raises other errors than a dict."""
    _, found = read({**DEFAULTS, "SecretsVariable": name}, folder, os.environ)
    assert found == [("SecretsVariable", "the variable is not set")]  # it may be the secret itself
    with pytest.raises(ValueError, match=r"^the variable is not set$"):
        stored("SecretVariable", name, folder, os.environ)


def test_all_faults_at_once(folder: Path) -> None:
    """So that nobody has to start the server five times."""
    found = faults(
        folder,
        Secrets=["hush"],
        SecretFiles=["none", "short"],
        SecretsVariable="NONE",
        PublicKeys=["none"],
    )
    assert [name for name, _ in found] == [
        "Secrets",
        "SecretFiles",
        "SecretFiles",
        "SecretsVariable",
        "PublicKeys",
    ]


@pytest.mark.parametrize("path", ["binary", "a\0b"])
def test_a_file_that_cannot_be_read_is_a_fault(folder: Path, path: str) -> None:
    """A file that is not text, or not there, is a fault, not an exception."""
    ((name, _),) = faults(folder, SecretFiles=[path])
    assert name == "SecretFiles"


def test_a_fault_of_a_binary_file_shows_no_byte_of_it(folder: Path) -> None:
    """The fault says that a secret is not text, without quoting it."""
    ((_, words),) = faults(folder, SecretFiles=["binary"])
    assert "f1" not in words


def test_a_pem_file_among_the_secrets_is_a_fault(folder: Path) -> None:
    """A public key in the wrong list would be a secret that everybody knows."""
    assert [name for name, _ in faults(folder, SecretFiles=["RS256.pem"])] == ["SecretFiles"]


def test_a_secret_is_shown_in_no_fault(folder: Path) -> None:
    """Whatever is wrong with it."""
    secret = "hush! too short for any use"
    (folder / "short").write_text(secret)
    found = faults(
        folder,
        {"SHORT": secret.replace(" ", "-")},
        Secrets=[secret],
        SecretFiles=["short"],
        SecretsVariable="SHORT",
        PublicKeys=["short"],
    )
    assert len(found) == 4 and "hush" not in str(found)


def test_no_settings_are_no_auth() -> None:
    """Without `Auth`, nobody needs a token."""
    assert auth(None, []) == NoAuth()


def test_the_settings_reach_the_judge() -> None:
    """The verifier uses Required, Issuer, Audience and Leeway."""
    settings = {
        **DEFAULTS,
        "Required": False,
        "Issuer": "me",
        "Audience": "us",
        "Leeway": 5,
    }
    judge = auth(settings, [secret_key(SECRET)])
    assert not judge.required
    good = token(iss="me", aud="us", nbf=NOW + 5)
    assert judge.grant(good, "a", "room", NOW).expires
    assert auth({**DEFAULTS}, [secret_key(SECRET)]).required
