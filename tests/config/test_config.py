"""The configuration: every key, the precedence of sources, and the fault of each bad value."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
from cerberus.schema import DefinitionSchema
from hypothesis import given, settings
from hypothesis import strategies as st
from patience import examples
from process import self_signed

from videre.admin import requests
from videre.auth import NoAuth
from videre.config import Config, ice_servers, load
from videre.config.schema import SCHEMA, StrictValidator
from videre.errors import ConfigError
from videre.ice import IceServers, StaticServer
from videre.settings import LARGEST, SOCKJS_INTEGRITY, Options

# Each key: where its value stands in a Config, its default there, values (as the file has them, as
# the Config has them), and values that are refused.
KEYS: dict[str, tuple[str, Any, list[tuple[Any, Any]], list[Any]]] = {
    "Host": (
        "host",
        "0.0.0.0",
        [
            ("::1", "::1"),
            ("*", "*"),
            (["::1"], "::1"),
            (["::1", "a"], ("::1", "a")),
            (["0.0.0.0", "::1", "a"], ("0.0.0.0", "::1", "a")),
            (["*", "::", "0.0.0.0", "unix:/s"], ("*", "::", "0.0.0.0", "unix:/s")),
            ("unix:/run/videre.sock", "unix:/run/videre.sock"),
        ],
        [
            *("", 5, [], [""], ["a", 5], ["a", "a"], {}, None),
            *("unix:", "unix:/a/", "unix:\0", "unix:\ud800"),
            *(["*", "127.0.0.1"], ["a", "*"], ["::1", "::"], ["localhost", "0.0.0.0"]),
        ],
    ),
    "ProxyProtocol": ("proxy_protocol", False, [(True, True)], [1, None, "yes"]),
    "KeepAlive": ("keep_alive", 75.0, [(600, 600), (1.5, 1.5)], [0, "1", None, True, 1e9]),
    "Port": ("port", 1111, [(0, 0), (65535, 65535)], [-1, 65536, "1111", 1.5, [1]]),
    "Prefix": (
        "prefixes",
        ("/echo",),
        [
            ("/a", ("/a",)),
            (["/a", "/b/c/"], ("/a", "/b/c")),
            ("", ("",)),
            ("/", ("",)),
            ("/.a/b../...", ("/.a/b../...",)),
        ],
        [
            *("echo", "/a b", "/a?b", "/{a}", "//", 5, [], {"/a": 1}, ["/a", "b"]),
            *("/.", "/../a", "/a/..", "/a/./b/", "/health", ["/a", "/ready/"]),
        ],
    ),
    "AdminHost": (
        "admin_host",
        "127.0.0.1",
        [("::1", "::1")],
        ["", 5, None, ["::1"], "unix:", "unix:/run/admin.sock"],
    ),
    "AdminPort": (
        "admin_port",
        None,
        [(None, None), (0, 0), (65535, 65535)],
        [-1, 65536, "1111", 1.5, True],
    ),
    "AdminToken": ("admin_token", None, [(None, None), ("a" * 16, "a" * 16)], []),
    "AdminTokenFile": ("admin_token", None, [(None, None)], []),
    "AdminTokenVariable": ("admin_token", None, [(None, None)], []),
    "TLS": ("tls", False, [(False, False)], [1, "true", []]),
    "Cert": ("cert", None, [(None, None), ("/c.pem", Path("/c.pem"))], [5, ["/c"]]),
    "Key": ("key", None, [(None, None), ("/k.pem", Path("/k.pem"))], [5, ["/k"]]),
    "LogFile": ("log_file", None, [(None, None), ("/l", Path("/l"))], ["", 5, ["/l"]]),
    "LogLevel": ("log_level", "info", [("debug", "debug"), ("error", "error")], ["DEBUG", "x", 5]),
    "LogFormat": ("log_format", "text", [("json", "json")], ["JSON", "xml", None, 5]),
    "LogMaxBytes": ("log_max_bytes", 10 * 1024 * 1024, [(0, 0), (5, 5)], [-1, "5", 0.5]),
    "LogBackups": ("log_backups", 5, [(0, 0), (1000, 1000)], [-1, 1001, "5"]),
    "DrainSeconds": ("drain_seconds", 30.0, [(0, 0), (1.5, 1.5)], [-1, "1", None, True]),
    "Duplicate": ("duplicate", "replace", [("reject", "reject")], ["ask", True, 5]),
    "MaxPacketBytes": (
        "max_packet_bytes",
        65536,
        [(None, None), (256, 256), (2**28, 2**28)],
        [255, "1", 0.5, 2**28 + 1],
    ),
    "MaxBacklogBytes": (
        "transport.max_backlog_bytes",
        1024 * 1024,
        [(None, None), (4096, 4096), (2**31 - 1, 2**31 - 1)],
        [4095, "1", 2**31],
    ),
    "MaxConnections": ("transport.max_connections", 0, [(None, 0), (9, 9)], [-1, "1"]),
    "MaxConnectionsPerAddress": (
        "transport.max_connections_per_address",
        0,
        [(None, 0), (9, 9)],
        [-1, "1"],
    ),
    "MaxSockets": ("max_sockets", None, [(None, None), (16, 16)], [15, 0, "16", True]),
    "MaxSocketsPerAddress": ("max_sockets_per_address", None, [(1, 1)], [0, "1", 0.5]),
    "ConnectsPerSecondPerAddress": (
        "transport.connects_per_second_per_address",
        None,
        [(None, None), (0.5, 0.5), (10, 10)],
        [0, -1, "1", True],
    ),
    "RoomCapacity": ("limits.room_capacity", None, [(None, None), (2, 2)], [0, 1.5, "2"]),
    "MaxRooms": ("limits.max_rooms", None, [(None, None), (1, 1)], [0, "2"]),
    "PacketsPerSecond": (
        "limits.packets_per_second",
        50.0,
        [(None, None), (0.5, 0.5)],
        [0, -1, "1"],
    ),
    "PacketBurst": ("limits.packet_burst", 400, [(1, 1)], [0, None, "1"]),
    "BytesPerSecond": (
        "limits.bytes_per_second",
        65536,
        [(None, None), (0.5, 0.5)],
        [0, -1, "1", True],
    ),
    "ByteBurst": ("limits.byte_burst", 512 * 1024, [(1, 1)], [0, None, "1", 0.5]),
    "Workers": ("workers", 1, [(1, 1)], [0, 257, 1.5, None, "2", True, 2]),
    "WorkerPorts": ("worker_ports", "each", [("shared", "shared")], [None, "one", 7]),
    "Engine": (
        "engine",
        "memory://",
        [("redis://:secret@[::1]:7000/1", "redis://:secret@[::1]:7000/1")],
        [None, "", 7, "http://example.com", "redis://", "memory://x", "redis://a b"],
    ),
    "NodeTimeout": ("node_timeout", 10.0, [(1, 1), (2.5, 2.5)], [0.5, None, "1"]),
    "Grace": ("limits.grace", 20.0, [(0, 0), (2.5, 2.5)], [-1, None, "1", True]),
    "MaxResumeBytes": (
        "limits.max_resume_bytes",
        256 * 1024,
        [(None, None), (0, 0)],
        [-1, 1.5, "1"],
    ),
    "MaxLostSeatsPerAddress": (
        "limits.max_lost_seats_per_address",
        1000,
        [(None, None), (1, 1)],
        [0, 1.5, "2"],
    ),
    "JoinTimeout": ("limits.join_timeout", 120.0, [(None, None), (60, 60)], [0, "1"]),
    "Auth": ("auth", NoAuth(), [(None, NoAuth())], [5, []]),
    "FrontPage": ("front_page", True, [(True, True), (False, False)], [None, 0, "false"]),
    "ClientModule": ("client_module", True, [(True, True), (False, False)], [None, 1, "true"]),
    "Demo": ("demo", None, [(None, None), (True, True), (False, False)], [1, "true", []]),
    "IceServers": (
        "ice",
        IceServers(),
        [
            ([], IceServers()),
            ([{"Urls": "stun:a"}], IceServers([StaticServer(("stun:a",))])),
        ],
        [5, {}, True],
    ),
    "Origins": (
        "transport.origins",
        ("*",),
        [(["https://*.example.com"], ("https://*.example.com",)), ([], ()), (["null"], ("null",))],
        ["*", ["example.com"], ["https://example.com/"], ["https://a b"], [5], [["*"]]],
    ),
    "TrustedProxies": (
        "transport.trusted_proxies",
        (),
        [(["10.0.0.0/8", "::1", "unix:"], ("10.0.0.0/8", "::1", "unix:"))],
        ["10.0.0.0/8", ["10.0.0.0/33"], ["proxy"], [5], ["unix"]],
    ),
    "ClientAddressHeader": (
        "transport.client_address_header",
        "X-Forwarded-For",
        [("Forwarded", "Forwarded"), ("CF-Connecting-IP", "CF-Connecting-IP")],
        [None, "", "X Real", "X-Real-IP\n", "X-Real-IP:", 5],
    ),
    "Subprotocols": (
        "transport.subprotocols",
        ("videre",),
        [(["chat", "v2.chat"], ("chat", "v2.chat")), ([], ())],
        ["chat", [""], ["a b"], ["a,b"], ["a\n"], ["é"], [5]],
    ),
    "Compression": ("transport.compression", False, [(True, True)], [1, "yes"]),
    "SessionCookie": ("transport.cookie", False, [(True, True)], [1, "yes"]),
    "HTMLFile": ("transport.htmlfile", False, [(True, True)], [1, "yes"]),
    "JSONP": ("transport.jsonp", False, [(True, True)], [1, "yes"]),
    "SockJSUrl": (
        "transport.sockjs_url",
        "https://cdn.jsdelivr.net/npm/sockjs-client@1.6.1/dist/sockjs.min.js",
        [("/sockjs.js", "/sockjs.js"), ("http://a/b.js", "http://a/b.js")],
        ["sockjs.js", "javascript:x", '/"><script>', "/a b", 5],
    ),
    "SockJSIntegrity": (
        "transport.sockjs_integrity",
        None,
        [(None, None), (f"sha384-{'a' * 64}", f"sha384-{'a' * 64}")],
        [f"sha1-{'a' * 27}=", "sha384-a", f'sha384-{"a" * 63}"', f"sha384-{'a' * 64}\n", 5],
    ),
}
GOOD = [(key, *pair) for key, (_, _, pairs, _) in KEYS.items() for pair in pairs]
BAD = [(key, value) for key, (_, _, _, values) in KEYS.items() for value in values]

Read = Callable[..., Config]


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """Return the path of a configuration file not yet written."""
    return tmp_path / "conf.json"


@pytest.fixture
def read(conf: Path) -> Read:
    """Return a function that reads a file with these values, under these options."""

    def read(values: object, **options: tuple[str, Any]) -> Config:
        conf.write_text(json.dumps(values))
        return load(conf, options)

    return read


def faults(read: Callable[..., object], *args: Any, **options: Any) -> tuple[str, ...]:
    """Return the faults of the ConfigError that a call raises."""
    with pytest.raises(ConfigError) as caught:
        read(*args, **options)
    assert str(caught.value) == "\n".join(caught.value.faults)
    return caught.value.faults


def test_every_key_is_tested() -> None:
    """This module's table has each key of the schema."""
    assert set(KEYS) == set(SCHEMA)


@pytest.mark.parametrize("key", KEYS)
def test_defaults(key: str, read: Read) -> None:
    """A missing key has its default, with or without a file."""
    field, default, _, _ = KEYS[key]
    assert attrgetter(field)(read({})) == default
    assert load() == read({}) == Config()


@pytest.mark.parametrize(("key", "given", "found"), GOOD)
def test_good_values(key: str, given: Any, found: Any, read: Read) -> None:
    """A good value is accepted."""
    assert attrgetter(KEYS[key][0])(read({key: given})) == found


LISTS = ("Origins", "TrustedProxies", "Subprotocols")


@pytest.mark.parametrize(("key", "value"), BAD)
def test_bad_values(key: str, value: Any, read: Read, conf: Path) -> None:
    """A value of a wrong type or out of bounds is refused; the fault names file, key and value."""
    secret = key in ("Auth", "IceServers") or (key == "Engine" and not isinstance(value, str))
    entries = value if isinstance(value, list) and key in LISTS else [value]
    starts = [f"{conf}: {key}: " + ("" if secret else f"{json.dumps(each)}: ") for each in entries]
    found = faults(read, {key: value})
    assert found and all(fault.startswith(tuple(starts)) for fault in found)
    assert not set(found) & set(starts)


def test_the_wrong_entries_of_a_list_are_shown(read: Read, conf: Path) -> None:
    """Not the list, of which a fault shows the beginning only."""
    good = [f"https://site-{number}.example" for number in range(20)]
    found = faults(read, {"Origins": [*good, "https://a:443", *good, "https://b/path"]})
    assert [fault.removeprefix(f"{conf}: Origins: ").split(": ")[0] for fault in found] == [
        '"https://a:443"',
        '"https://b/path"',
    ]


CHOICES = {key: rules["allowed"] for key, rules in SCHEMA.items() if "allowed" in rules}


@pytest.mark.parametrize("key", CHOICES)
def test_the_allowed_values_are_named(key: str, read: Read, conf: Path) -> None:
    """Instead of the whole value, which may be long."""
    (fault,) = faults(read, {key: "x" * 10_000})
    assert fault.startswith(f'{conf}: {key}: "xx') and len(fault) < len(str(conf)) + 200
    assert all(each in fault for each in CHOICES[key])


@pytest.mark.parametrize(
    "text", ['{"a\\nb": 1}', '{"a\\u001b": 1, "a\\u001b": 1}', '{"Auth": {"\\n": 1}}']
)
def test_a_fault_is_one_line(text: str, conf: Path) -> None:
    """A key with a line break or an escape sequence is shown escaped."""
    conf.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(conf)
    (fault,) = caught.value.faults
    assert fault.isprintable() and "\\" in fault


@pytest.mark.parametrize("key", ["Port", "LogMaxBytes", "MaxConnections"])
def test_true_is_no_number(key: str, read: Read) -> None:
    """A boolean is refused for a number, although Python's True equals 1."""
    assert f"{key}: true" in faults(read, {key: True})[0]


NUMBERS = [key for key in KEYS if SCHEMA[key].get("type") in ("integer", "number")]


@pytest.mark.parametrize("key", NUMBERS)
def test_numbers_have_bounds(key: str, read: Read) -> None:
    """Python reads NaN, infinity and integers of any length; clocks and counters do not."""
    for value in (float("nan"), float("inf"), -float("inf"), 10**400, LARGEST + 1):
        assert f"{key}: " in faults(read, {key: value})[0]
    with pytest.raises(ConfigError):
        read({"Auth": {"Secrets": ["x" * 32], "Leeway": LARGEST + 1}})


@pytest.mark.parametrize("key", [key for key in KEYS if not SCHEMA[key].get("nullable")])
def test_null_is_refused_where_nothing_can_be_switched_off(key: str, read: Read) -> None:
    """null has the wrong type there; the default is not used silently."""
    assert f"{key}: null" in faults(read, {key: None})[0]


@pytest.mark.parametrize("value", [[1], [["/a"]], ["/a", None], [{}]])
def test_prefixes_that_are_no_strings_are_a_fault(value: Any, read: Read) -> None:
    """A list of anything but strings is refused without a crash."""
    assert "Prefix" in faults(read, {"Prefix": value})[0]


def test_a_fault_in_a_list_of_prefixes_is_told_once(read: Read) -> None:
    """Cerberus's complaint that a list is not a string is left out."""
    assert "string type" not in str(faults(read, {"Prefix": ["/a", "b c"]}))


@pytest.mark.parametrize("value", [["/a", "/a"], ["/a", "/a/"], ["", "/"]])
def test_the_same_prefix_twice_is_a_fault(value: list[str], read: Read) -> None:
    """Two spellings of one path are refused."""
    (fault,) = faults(read, {"Prefix": value})
    assert "twice" in fault and json.dumps(value) in fault


def test_a_sockjs_url_ends_where_it_ends(read: Read) -> None:
    """A trailing line break, which would get into the iframe page, is refused."""
    assert "SockJSUrl" in faults(read, {"SockJSUrl": "/a\n"})[0]


def test_a_conf_json_of_the_original(read: Read, conf: Path) -> None:
    """The original's configuration files work unchanged."""
    plain = read({"Port": 1111, "TLS": False})
    assert plain == Config() and plain.ssl_context() is None
    self_signed(conf.parent)
    names = {"Cert": "certificate.pem", "Key": "key.pem"}
    assert read({"Port": 1111, "TLS": False, **names}).ssl_context() is None
    config = read({"Port": 1111, "TLS": True, **names})
    assert (config.cert, config.key) == (conf.parent / "certificate.pem", conf.parent / "key.pem")
    assert isinstance(config.ssl_context(), ssl.SSLContext)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"Port": %b1%b}' % (b"[" * 900, b"]" * 900), "nested too deep"),
        (b'{"Port": 1,}', "not JSON"),
        (b'{"Port": %s}' % (b"9" * 5000), "not JSON"),
        (b"\xff\xfe{\0}\0", "UTF-8"),
        (b"[]", "must hold a JSON object"),
        (b'"' + b"a" * 500 + b'"', "must hold a JSON object"),
        (b"null", "must hold a JSON object"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_files_that_hold_no_configuration(content: bytes, words: str, conf: Path) -> None:
    """A file without a usable JSON object is refused, with a short message that names it."""
    conf.write_bytes(content)
    (fault,) = faults(load, conf)
    assert fault.startswith(f"{conf}: ") and words in fault
    assert len(fault) < len(str(conf)) + 200


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('{"Port": 1, "Host": "a", "Port": 1}', "Port"),
        ('{"Auth": {"Leeway": 1, "Leeway": 2}}', "Leeway"),
        ('{"IceServers": [{"Urls": "stun:a", "Urls": "stun:b"}]}', "Urls"),
    ],
)
def test_a_key_is_given_once(text: str, key: str, conf: Path) -> None:
    """Otherwise one of the values would be ignored without a word."""
    conf.write_text(text)
    assert faults(load, conf) == (f"{conf}: {key}: is given twice",)


HUSH = "hush-1234567890-hush"
PEM = f"-----BEGIN PRIVATE KEY-----\n{HUSH}\n-----END PRIVATE KEY-----\n"


@pytest.mark.parametrize(
    "values",
    [
        HUSH,
        [HUSH],
        {"AdminToken": 1234567890},
        {"AdminToken": {"a": 1234567890}},
        {"AdminTokenVariable": HUSH},
        {"AdminTokenVariable": HUSH.replace("-", "_")},
        {"Auth": 1234567890},
        {"Auth": {"SecretsVariable": HUSH.replace("-", "_")}},
        {"Cert": "none", "Key": PEM, "TLS": True},
        {"Engine": [f"redis://:{HUSH}@valkey"]},
        {"Engine": {"Url": f"redis://:{HUSH}@valkey"}},
        {"Engine": 1234567890},
        {"EnginePassword": HUSH},
        {"IceServers": 1234567890},
        {"IceServers": [{"Urls": "turn:a", "SecretVariable": HUSH.replace("-", "_")}]},
        {"Key": [PEM]},
        {"Password": 1234567890},
    ],
    ids=lambda values: str(values)[:50],
)
def test_a_fault_shows_no_secret(values: Any, conf: Path) -> None:
    """Of whatever type it is, and in whatever wrong place: standard error and the log have it."""
    conf.write_text(json.dumps(values))
    found = "".join(faults(load, conf, None, {}))
    assert found and "hush" not in found and "1234567890" not in found


def test_a_byte_of_a_file_is_not_shown(conf: Path) -> None:
    """It may be a part of a secret."""
    conf.write_bytes(b'{"AdminToken": "\xa7"}')
    assert faults(load, conf) == (f"{conf}: is not UTF-8 at byte 16",)


def test_a_unix_socket_of_the_file(read: Read, conf: Path) -> None:
    """Its path is relative to the file, like all paths in it; that of an option is not."""
    assert read({"Host": "unix:a/b"}).host == f"unix:{conf.parent}/a/b"
    assert read({"Host": ["unix:a", "::1"]}).host == (f"unix:{conf.parent}/a", "::1")
    assert read({}, Host=("--host", "unix:a")).host == "unix:a"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """The fault names a file that is missing or unreadable."""
    missing = tmp_path / "missing.json"
    assert faults(load, missing) == (f"{missing}: cannot be read: No such file or directory",)
    assert faults(load, tmp_path) == (f"{tmp_path}: cannot be read: Is a directory",)


def test_a_byte_order_mark_is_accepted(conf: Path) -> None:
    """Windows editors write one."""
    conf.write_bytes(b'\xef\xbb\xbf{"Port": 5}\r\n')
    assert load(conf).port == 5


def test_faults_are_reported_at_once(read: Read, conf: Path) -> None:
    """Every fault names its source: the file, or the option that overrides it."""
    values = {"Host": 5, "Prt": 1, "TLS": True, "Key": "k", "Port": "x", "LogLevel": "x"}
    port, level = ("--port", 70000), ("--log-level", "y")
    found = faults(read, values, Port=port, LogLevel=level)
    assert sorted(fault.rsplit(": ", 1)[0] for fault in found) == sorted(
        [
            f"{conf}: Host: 5",
            f"{conf}: Prt",
            f"{conf}: Cert: null",
            "--port: Port: 70000",
            '--log-level: LogLevel: "y"',
        ]
    )


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, None),
        ({"ByteBurst": 1024 * 1024}, None),
        ({"ByteBurst": 1024 * 1024 + 1}, "ByteBurst: 1048577: a member may send 1048577 bytes"),
        ({"MaxBacklogBytes": 8192, "ByteBurst": 8192}, None),
        ({"MaxBacklogBytes": 8192}, "ByteBurst: 524288: a member may send 524288 bytes"),
        ({"BytesPerSecond": None}, "BytesPerSecond: null: a member may send 26214400 bytes"),
        ({"BytesPerSecond": None, "PacketBurst": 16}, None),
        (
            {"BytesPerSecond": None, "PacketsPerSecond": None},
            "BytesPerSecond: null: a member may send any number of bytes",
        ),
        ({"BytesPerSecond": None, "MaxBacklogBytes": None}, None),
        ({"PacketsPerSecond": None}, None),
    ],
    ids=str,
)
def test_a_burst_above_the_backlog(read: Read, values: dict[str, Any], words: str | None) -> None:
    """If one member could get others closed, the configuration is used but reported."""
    complaints = read(values).complaints()
    assert len(complaints) == (words is not None)
    assert words is None or (words in complaints[0] and "(MaxBacklogBytes)" in complaints[0])


def test_options_beat_the_file_which_beats_the_defaults(read: Read) -> None:
    """Each value comes from the first source that has it."""
    values = {"Host": "::1", "Port": 1, "Prefix": ["/a", "/b"], "LogLevel": "debug"}
    config = read(values, Port=("--port", 2), Prefix=("--prefix", ["/c"]))
    assert (config.host, config.port, config.prefixes) == ("::1", 2, ("/c",))
    assert (config.log_level, config.duplicate) == ("debug", "replace")


def test_paths_are_relative_to_who_names_them(
    read: Read, conf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path in the file is relative to the file, one in an option to the working directory."""
    self_signed(conf.parent)
    (conf.parent / "work").mkdir()
    (conf.parent / "certificate.pem").rename(conf.parent / "work" / "c.pem")
    monkeypatch.chdir(conf.parent / "work")
    values = {"LogFile": "../a.log", "Cert": "no.pem", "Key": "key.pem"}
    config = read(values, Cert=("--cert", "c.pem"))
    assert config.log_file == conf.parent / "../a.log"
    assert config.cert is not None and config.cert.absolute() == conf.parent / "work" / "c.pem"
    assert config.key == conf.parent / "key.pem"
    assert read(values, LogFile=("--log-file", "b"), Cert=("--cert", "c.pem")).log_file == Path("b")


def test_naming_a_certificate_switches_tls_on(read: Read, conf: Path) -> None:
    """--cert or --key implies TLS, whatever the file says, and needs the other."""
    paths = map(str, self_signed(conf.parent))
    cert, key = zip(("--cert", "--key"), paths, strict=True)
    assert read({"TLS": False}, Cert=cert, Key=key).tls
    assert read({"TLS": False, "Key": "key.pem"}, Cert=cert).tls
    assert "Key: null: required by TLS" in faults(read, {}, Cert=cert)[0]
    assert "Cert: null: required by TLS" in faults(load, None, {"Key": key})[0]


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
LIKELY = st.sampled_from([value for _, value, _ in GOOD] + [value for _, value in BAD])
OBJECTS = st.dictionaries(st.sampled_from([*KEYS, "", "port"]) | st.text(), ANY | LIKELY)


@settings(derandomize=True, max_examples=examples(50))
@given(values=OBJECTS)
def test_any_object_is_a_configuration_or_its_faults(
    values: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """For any JSON object, `load` returns a Config or raises a ConfigError."""
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(values))
    try:
        config = load(path)
    except ConfigError as error:
        assert error.faults and all(fault.startswith(f"{path}: ") for fault in error.faults)
    else:
        assert set(values) <= set(SCHEMA) and 0 <= config.port <= 65535


def test_which_script_an_iframe_page_accepts() -> None:
    """The default's hash belongs to the default's URL; another URL has only what is configured."""
    mine = f"sha256-{'A' * 43}="
    assert Options().integrity == SOCKJS_INTEGRITY
    assert Options(sockjs_integrity=mine).integrity == mine
    assert Options(sockjs_url="https://example.com/sockjs.js").integrity is None


@pytest.mark.parametrize(
    "schema",
    [
        *(SCHEMA, ice_servers.SCHEMA, ice_servers.W3C, requests.PACKET, requests.paged(9)),
        requests.PREFIX | requests.ROOM | requests.USER | requests.REASON,
    ],
)
def test_the_schemas_are_valid(schema: dict[str, Any]) -> None:
    """Cerberus accepts them, and has no abbreviations to expand: the server skips both."""
    assert DefinitionSchema(StrictValidator(), schema).schema == schema
