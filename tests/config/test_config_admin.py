"""The admin port in the configuration: where it listens, and its token."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from videre.config import Config, load
from videre.config.schema import is_loopback
from videre.errors import ConfigError

TOKEN = "a-token-of-the-admin-port+/=="
SHORT = "hush-hush"


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """Return the path of a configuration file not yet written."""
    return tmp_path / "conf.json"


def good(conf: Path, environ: Mapping[str, str] | None = None, **values: Any) -> Config:
    """Return the configuration with these values."""
    conf.write_text(json.dumps(values))
    return load(conf, None, environ or {})


def bad(conf: Path, environ: Mapping[str, str] | None = None, **values: Any) -> list[str]:
    """Return the faults of a configuration with these values, without the file's name."""
    conf.write_text(json.dumps(values))
    with pytest.raises(ConfigError) as caught:
        load(conf, None, environ or {})
    return [fault.removeprefix(f"{conf}: ") for fault in caught.value.faults]


def test_it_is_off(conf: Path) -> None:
    """Without AdminPort there is none, whatever AdminHost says."""
    assert load().admin_port is None
    assert good(conf, AdminHost="0.0.0.0").admin_port is None


@pytest.mark.parametrize("ending", ["", "\n"])
def test_where_the_token_stands(conf: Path, ending: str) -> None:
    """In the configuration, in a file, or in a variable."""
    (conf.parent / "token").write_text(TOKEN + ending)
    assert good(conf, AdminToken=TOKEN).admin_token == TOKEN
    assert good(conf, AdminTokenFile="token").admin_token == TOKEN
    assert good(conf, {"T": TOKEN}, AdminTokenVariable="T").admin_token == TOKEN
    assert good(conf).admin_token is None


def test_the_file_of_an_option_is_found_from_where_we_are(
    conf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Like all paths in options."""
    (conf.parent / "token").write_text(TOKEN)
    monkeypatch.chdir(conf.parent)
    elsewhere = conf.parent / "etc" / "conf.json"
    elsewhere.parent.mkdir()
    elsewhere.write_text("{}")
    found = load(elsewhere, {"AdminTokenFile": ("VIDERE_ADMIN_TOKEN_FILE", "token")}, {})
    assert found.admin_token == TOKEN


def test_no_token_shows(conf: Path) -> None:
    """Its repr does not contain the token."""
    assert TOKEN not in repr(good(conf, AdminToken=TOKEN))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "admin.example.com", "127.1"])
def test_others_need_a_token(conf: Path, host: str) -> None:
    """A port that others can reach needs a token."""
    (fault,) = bad(conf, AdminHost=host, AdminPort=9)
    words = "others can reach it, so it needs one of AdminToken, AdminTokenFile, AdminTokenVariable"
    assert fault == f'AdminHost: "{host}": {words}'
    assert good(conf, AdminHost=host, AdminPort=9, AdminToken=TOKEN).admin_host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost", "LocalHost"])
def test_this_machine_needs_none(conf: Path, host: str) -> None:
    """On loopback the token is optional."""
    assert is_loopback(host)
    assert good(conf, AdminHost=host, AdminPort=9).admin_token is None


FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"AdminToken": SHORT}, "AdminToken: must have at least 16 characters, not 9"),
    ({"AdminToken": ""}, "AdminToken: must consist of letters"),
    ({"AdminToken": f"{TOKEN} {SHORT}"}, "AdminToken: must consist of letters"),
    (
        {"AdminToken": f"{SHORT}-\N{GREEK SMALL LETTER ALPHA}" * 3},
        "AdminToken: must consist of letters",
    ),
    ({"AdminToken": [SHORT]}, "AdminToken: "),
    ({"AdminToken": 5}, "AdminToken: "),
    ({"AdminTokenFile": "none"}, "AdminTokenFile: 'none': No such file or directory"),
    ({"AdminTokenFile": "."}, "AdminTokenFile: '.': Is a directory"),
    ({"AdminTokenFile": "binary"}, "AdminTokenFile: 'binary': is not UTF-8 text"),
    ({"AdminTokenFile": "short"}, "AdminTokenFile: 'short': must have at least 16 characters"),
    ({"AdminTokenFile": "two"}, "AdminTokenFile: 'two': must consist of letters"),
    ({"AdminTokenFile": ""}, "AdminTokenFile: "),
    ({"AdminTokenVariable": "NONE"}, "AdminTokenVariable: 'NONE': the variable is not set"),
    ({"AdminTokenVariable": "SHORT"}, "AdminTokenVariable: 'SHORT': must have at least 16"),
    ({"AdminTokenVariable": f"{SHORT} x"}, "AdminTokenVariable: "),
    ({"AdminToken": TOKEN, "AdminTokenFile": "short"}, "AdminTokenFile: only one of AdminToken"),
]


@pytest.mark.parametrize(("values", "words"), FAULTS)
def test_a_token_that_is_none(conf: Path, values: dict[str, Any], words: str) -> None:
    """The fault says where it is and what is wrong, without quoting it."""
    (conf.parent / "short").write_text(SHORT)
    (conf.parent / "two").write_text(f"{TOKEN}\n{SHORT}\n")
    (conf.parent / "binary").write_bytes(b"\xff" + SHORT.encode())
    (fault,) = bad(conf, {"SHORT": SHORT}, **values)
    assert fault.startswith(words)
    assert SHORT not in fault and TOKEN not in fault


STORE: dict[str, Any] = {"Engine": "redis://h", "AdminToken": TOKEN}


@pytest.mark.parametrize(
    ("values", "port"),
    [
        ({"AdminPort": 1111}, 1111),
        ({"AdminPort": 1111, "AdminHost": "*", "Host": "::1"}, 1111),
        ({"AdminPort": 1111, "AdminHost": "a", "Host": ["b", "a"]}, 1111),
        ({"AdminPort": 1112, "Workers": 2}, 1112),
        ({"AdminPort": 1110, "Workers": 3, "WorkerPorts": "shared"}, 1111),
        ({"AdminPort": 1112, "Workers": 2, "WorkerPorts": "shared"}, None),
        ({"AdminPort": 1113, "Workers": 2}, None),
        ({"AdminPort": 1111, "Host": "10.0.0.1"}, None),
        ({"AdminPort": 1111, "AdminHost": "::1"}, None),
        ({"AdminPort": 1111, "AdminHost": "*", "Host": "unix:/run/s"}, None),
        ({"AdminPort": 1111, "Port": 0}, None),
        ({"AdminPort": 0, "Port": 1111}, None),
    ],
)
def test_clients_have_another_port(conf: Path, values: dict[str, Any], port: int | None) -> None:
    """One that is both could not be opened; the fault names it."""
    if port is None:
        assert good(conf, **STORE, **values)
        return
    (fault,) = bad(conf, **STORE, **values)
    assert fault.startswith(f"AdminPort: {values['AdminPort']}: {port} is also a port for clients")


def test_every_worker_has_a_port(conf: Path) -> None:
    """Consecutive ports, up to the last one there is."""
    many: dict[str, Any] = {"Workers": 3, "Engine": "redis://h", "WorkerPorts": "shared"}
    assert good(conf, AdminPort=65533, **many).admin_port == 65533
    (fault,) = bad(conf, AdminPort=65534, **many)
    assert fault == "Workers: 3: not enough ports after AdminPort"
