"""The URL of an engine: its forms and its faults, and no message that shows a password."""

from __future__ import annotations

import json
import ssl
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oneshot import run
from process import self_signed

from videre.config import load
from videre.engine_url import EngineURL, fault, read, shown
from videre.errors import ConfigError

#: URLs, and those of their parts that differ from the defaults.
GOOD: dict[str, dict[str, Any]] = {
    "redis://h": {"kind": "server", "servers": (("h", 6379),)},
    "redis://h/": {"kind": "server", "servers": (("h", 6379),)},
    "valkey://h:7/2": {"kind": "server", "servers": (("h", 7),), "database": 2},
    "redis://:@h": {"kind": "server", "servers": (("h", 6379),)},
    "redis://[::1]:7000": {"kind": "server", "servers": (("::1", 7000),)},
    "redis://[fe80::1%eth0]": {"kind": "server", "servers": (("fe80::1%eth0", 6379),)},
    "redis://h?db=3": {"kind": "server", "servers": (("h", 6379),), "database": 3},
    "redis://me:a%40%2F%23%25%3Fb:c@h": {
        "kind": "server",
        "servers": (("h", 6379),),
        "username": "me",
        "password": "a@/#%?b:c",
    },
    "redis://:päss%C3%A4@h": {"kind": "server", "servers": (("h", 6379),), "password": "pässä"},
    "rediss://h?ssl_cert_reqs=NONE&ssl_check_hostname=false&ssl_ca_certs=%2Fa%20b": {
        "kind": "server",
        "tls": True,
        "sentinel_tls": True,
        "servers": (("h", 6379),),
        "ssl": {"ssl_cert_reqs": "none", "ssl_check_hostname": False, "ssl_ca_certs": "/a b"},
    },
    "valkeys+cluster://a,b:1,[::2]:3": {
        "kind": "cluster",
        "tls": True,
        "sentinel_tls": True,
        "servers": (("a", 6379), ("b", 1), ("::2", 3)),
    },
    "redis+cluster://a/0": {"kind": "cluster", "servers": (("a", 6379),)},
    "redis+sentinel://a,[::1],b:1/main": {
        "kind": "sentinel",
        "servers": (("a", 26379), ("::1", 26379), ("b", 1)),
        "service": "main",
    },
    "redis+sentinel://:p@a/main/2?sentinel_username=u&sentinel_password=%26&sentinel_tls=yes": {
        "kind": "sentinel",
        "servers": (("a", 26379),),
        "service": "main",
        "database": 2,
        "password": "p",
        "sentinel_login": ("u", "&"),
        "sentinel_tls": True,
    },
    "rediss+sentinel://a/main?sentinel_tls=false": {
        "kind": "sentinel",
        "tls": True,
        "servers": (("a", 26379),),
        "service": "main",
    },
    f"redis://a_b.{'c' * 63}.": {"kind": "server", "servers": ((f"a_b.{'c' * 63}.", 6379),)},
    f"unix:///{'a' * 106}": {"kind": "unix", "path": f"/{'a' * 106}"},
    "unix:///run/valkey.sock": {"kind": "unix", "path": "/run/valkey.sock"},
    "unix://u:p@/run/a%20b?db=1": {
        "kind": "unix",
        "path": "/run/a b",
        "username": "u",
        "password": "p",
        "database": 1,
    },
}

#: Unusable URLs, and a part of the message for each. SECRET stands for the password.
BAD = {
    "http://h": "must be memory://",
    "h:6379": "must be memory://",
    "redis:/h": "must be memory://",
    "memory://x": "must be memory://",
    "redis+what://h": "must be memory://",
    "unix+cluster:///x": "must be memory://",
    "redis://": "no host",
    "redis:///1": "no host",
    "redis://:SECRET": "no host",
    "redis://me:SECRET": "port",
    "redis://me@h": "user:password@",
    "redis://me:@h": "user:password@",
    "redis://:SECRET#x@h": "# in the user, the password or an option as %23",
    "redis://:SECRET?x@h": "as %3F",
    "redis://:SECRET/x@h": "as %2F",
    "redis://:SECRET@x@h": "as %40",
    "redis://:SECRET[x@h": "as %5B",
    "redis://:SECRET]x@h": "as %5D",
    "redis://:SECRET x@h": "as %20",
    "redis://:SECRET\nx@h": "as %0A",
    "redis://:SECRET%x@h": "% in the password as %25",
    "redis://:SECRET%FF@h": "UTF-8",
    "redis://h?sentinel_password=SECRET@x": "as %3F",
    "redis://:SECRET@h#x": "%23",
    "redis://h x": "white space",
    "redis://h:": "without a port",
    "redis://h:0": "from 1 to 65535",
    "redis://h:65536": "from 1 to 65535",
    "redis://h:99999999999999999999": "from 1 to 65535",
    "redis://h:\u0663": "from 1 to 65535",
    "redis://h:-1": "from 1 to 65535",
    "redis://[::1]:x": "from 1 to 65535",
    "redis://::1": "brackets",
    "redis://::1:6379": "brackets",
    "redis://[h]": "IPv6",
    "redis://[::1": "neither a name nor an address",
    "redis://h\u00f6": "neither a name nor an address",
    "redis://a..b": "neither a name nor an address",
    "redis://.a": "neither a name nor an address",
    f"redis://{'a' * 64}.b": "neither a name nor an address",
    "redis://a,b": "several servers",
    "redis+cluster://a,": "no host",
    "redis+cluster://a/1": "database",
    "redis+cluster://a?db=1": "database",
    "redis://h/main": "number of a database",
    "redis://h/1/2": "number of a database",
    "redis://h/1?db=2": "twice",
    "redis+sentinel://a": "service",
    "redis+sentinel://a/": "service",
    "redis+sentinel://a/m m": "white space",
    "redis+sentinel://a/main/x": "number of a database",
    "redis+sentinel://a:99999/main": "from 1 to 65535",
    "redis+sentinel://a/main?sentinel_username=u": "sentinel_password",
    "redis://h?sentinel_password=SECRET": "redis+sentinel://",
    "redis://h?foo=1": "option foo",
    "redis://h?max_connections=abc": "option max_connections",
    "redis://h?": "option",
    "redis://h?ssl_cert_reqs=none": "rediss://",
    "rediss://h?ssl_cert_reqs=SECRET": "required, optional or none",
    "rediss://h?ssl_check_hostname=perhaps": "true or false",
    "rediss://h?ssl_ca_certs=": "a file",
    "rediss://h?ssl_keyfile=/x": "ssl_certfile",
    "redis://h?db=x": "a number",
    "redis://h?db=1&db=2": "twice",
    "unix://run/x": "three slashes",
    "unix:///": "three slashes",
    "unix:///a%00b": "none of them zero",
}


@pytest.mark.parametrize("url", GOOD)
def test_the_parts_of_a_url(url: str) -> None:
    """They are decoded, and missing ones have their defaults."""
    assert fault(url) is None
    assert read(url) == EngineURL(**GOOD[url])


@pytest.mark.parametrize("url", BAD)
def test_an_unusable_url(url: str) -> None:
    """The fault of Engine says why, and shows no part of a password."""
    assert BAD[url] in str(fault(url))
    with pytest.raises(ConfigError) as caught:
        load(None, {"Engine": ("VIDERE_ENGINE", url)})
    (words,) = caught.value.faults
    assert words.startswith(f"VIDERE_ENGINE: Engine: {json.dumps(shown(url))}: ")
    assert str(fault(url)) in words
    assert "SECRET" not in words


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (f"redis://{'a.' * 127}", "neither a name nor an address"),
        (f"unix:///{'a' * 107}", "at most 107 bytes"),
        (f"unix:///{'%C3%A4' * 54}", "at most 107 bytes"),
    ],
)
def test_a_url_that_is_too_long(url: str, words: str) -> None:
    """No system looks up such a host, or opens such a socket."""
    assert words in str(fault(url))


@given(st.text(min_size=1), st.text(alphabet="ab@:/?#[]%,&= \n", max_size=30))
def test_any_password_can_be_written(password: str, rest: str) -> None:
    """An encoded one is read unchanged; any URL is either read or refused with a message."""
    try:
        code = "".join(f"%{byte:02X}" for byte in password.encode())
    except UnicodeEncodeError:
        return  # half a surrogate pair, which is no text
    assert read(f"redis://:{code}@h").password == password
    for start in ("redis://", "redis+sentinel://", "unix://", ""):
        words = fault(start + rest)
        assert words is None or words[0].isalpha()


@pytest.mark.parametrize("kind", ["missing", "no PEM", "no key of it"])
def test_unusable_files(kind: str, tmp_path: Path) -> None:
    """Files named by the URL are checked before the start."""
    certificate, key = self_signed(tmp_path)
    (tmp_path / "text").write_text("no PEM", encoding="utf-8")
    option, words = {
        "missing": (f"ssl_ca_certs={tmp_path}/none", "ssl_ca_certs: cannot be read: No such file"),
        "no PEM": (f"ssl_ca_certs={tmp_path}/text", "ssl_ca_certs: not a usable PEM file"),
        "no key of it": (
            f"ssl_certfile={key}",
            "ssl_certfile and ssl_keyfile: not a usable PEM file",
        ),
    }[kind]
    with pytest.raises(ConfigError, match=words):
        load(None, {"Engine": ("VIDERE_ENGINE", f"rediss://h?{option}")})
    good = f"rediss://h?ssl_ca_certs={certificate}&ssl_certfile={certificate}&ssl_keyfile={key}"
    load(None, {"Engine": ("VIDERE_ENGINE", good)})


def test_a_file_removed_between_two_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a fault of the configuration: another error in a reload would end the workers."""
    certificate, _ = self_signed(tmp_path)
    load_locations = ssl.SSLContext.load_verify_locations

    def removed(context: ssl.SSLContext, *args: Any) -> None:
        certificate.unlink()
        load_locations(context, *args)

    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", removed)
    url = f"rediss://h?ssl_ca_certs={certificate}"
    with pytest.raises(ConfigError, match="ssl_ca_certs: cannot be read: No such file"):
        load(None, {"Engine": ("VIDERE_ENGINE", url)})


@pytest.mark.parametrize("check", [["--check"], []])
def test_the_command_refuses_it(check: list[str], tmp_path: Path) -> None:
    """The start and --check end with code 2 and one sentence, without a traceback."""
    config = tmp_path / "conf.json"
    config.write_text(json.dumps({"Engine": "redis://:sec#ret@h"}), encoding="utf-8")
    done = run("--config", str(config), *check)
    words = "percent-encode # in the user, the password or an option as %23"
    assert done.returncode == 2
    assert done.stderr == f'videre-server: {config}: Engine: "redis://...": {words}\n'
