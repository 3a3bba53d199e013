"""`IceServers` in the configuration: which entries are valid, and the fault of each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from documents import Block, runs
from hypothesis import given, settings
from hypothesis import strategies as st
from patience import examples

from videre.config import Config, load
from videre.config.ice_servers import SCHEMA, W3C
from videre.errors import ConfigError
from videre.ice import TTL, IceServers, SharedSecret, StaticServer

STUN, TURN = "stun:stun.example.com", "turn:turn.example.com"
SECRET = "a-secret-of-coturn"
HUSH = "hush! this one is secret"
STATIC = {"Urls": TURN, "Username": "me", "Credential": "password"}


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """Return the path of a configuration file not yet written."""
    return tmp_path / "conf.json"


def good(conf: Path, *entries: object, environ: dict[str, str] | None = None) -> Config:
    """Return the configuration with these `IceServers`."""
    conf.write_text(json.dumps({"IceServers": entries}))
    return load(conf, None, environ or {})


def bad(conf: Path, *entries: object, environ: dict[str, str] | None = None, **more: Any) -> Any:
    """Return the faults of a configuration with these `IceServers`."""
    conf.write_text(json.dumps({"IceServers": entries, **more}))
    with pytest.raises(ConfigError) as caught:
        load(conf, None, environ or {})
    return caught.value.faults


def test_entries_of_all_kinds(conf: Path) -> None:
    """Static ones in either spelling; secrets in the file, in other files, in the environment."""
    (conf.parent / "turn-secret").write_text("the-secret-of-a-file\n")
    config = good(
        conf,
        {"Urls": STUN},
        STATIC,
        {"urls": [STUN, TURN], "username": "you", "credential": "word"},
        {"urls": STUN},
        {"Urls": [TURN], "Secret": SECRET},
        {"Urls": TURN, "SecretFile": "turn-secret", "Ttl": 60},
        {"Urls": [STUN, TURN], "SecretVariable": "TURN_SECRET", "Ttl": 86400},
        environ={"TURN_SECRET": "the-secret-of-the-environment"},
    )
    assert config.ice == IceServers(
        [
            StaticServer((STUN,)),
            StaticServer((TURN,), "me", "password"),
            StaticServer((STUN, TURN), "you", "word"),
            StaticServer((STUN,)),
            SharedSecret((TURN,), SECRET, TTL),
            SharedSecret((TURN,), "the-secret-of-a-file", 60),
            SharedSecret((STUN, TURN), "the-secret-of-the-environment", 86400),
        ]
    )


def test_the_default_ttl(conf: Path) -> None:
    """Four hours; clients receive it."""
    config = good(conf, {"Urls": TURN, "Secret": SECRET})
    assert config.ice.offer("peer1", 0)["IceTtl"] == 14400


def test_the_environment_is_that_of_the_process(
    conf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless the caller passes another one."""
    monkeypatch.setenv("VIDERE_TEST_TURN", SECRET)
    entry = {"Urls": TURN, "SecretVariable": "VIDERE_TEST_TURN"}
    conf.write_text(json.dumps({"IceServers": [entry]}))
    assert load(conf).ice == IceServers([SharedSecret((TURN,), SECRET)])


@pytest.mark.parametrize(
    "url",
    [
        "stun:stun.example.com:19302",
        "stuns:stun.example.com",
        "turn:192.0.2.1",
        "turn:[2001:db8::1]",
        "turn:[2001:db8::1]:3478?transport=tcp",
        "turn:[::ffff:192.0.2.1]:1",
        "turn:localhost:65535?transport=udp",
        "turns:turn.example.com:443?transport=tcp",
        "turn:coturn_1:3478",
        "turn:4.example.com",
        "turn:xn--drer-0ra.example.com.",
    ],
)
def test_urls_that_are_good(conf: Path, url: str) -> None:
    """As in RFC 7064 and 7065."""
    (entry,) = good(conf, {**STATIC, "Urls": url}).ice.entries
    assert entry.urls == (url,)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "turn.example.com",
        "turn.example.com:3478",
        "http://turn.example.com",
        "turn://turn.example.com",
        "turn:",
        "turn::3478",
        "turn:turn.example.com:",
        "turn:turn.example.com:0",
        "turn:turn.example.com:65536",
        "turn:turn.example.com:١",
        "turn:turn.example.com?transport=tls",
        "turn:turn.example.com?transport=udp&a=b",
        "turn:turn.example.com?",
        "stun:stun.example.com?transport=udp",
        "stuns:stun.example.com?transport=tcp",
        "TURN:turn.example.com",
        "turn:2001:db8::1",
        "turn:[2001:db8::1",
        "turn:[2001:db8:::1]",
        "turn:[192.0.2.1]",
        "turn:[]",
        "turn:192.0.2.256",
        "turn:192.0.2",
        "turn:.example.com",
        "turn:a..example.com",
        "turn:-a.example.com",
        "turn:a-.example.com",
        "turn:dürer.example.com",
        "turn:turn example.com",
        " turn:turn.example.com",
        "turn:turn.example.com\n",
        "turn:turn.example.com/",
    ],
)
def test_urls_that_are_none(conf: Path, url: str) -> None:
    """A browser refuses a whole RTCPeerConnection for one of them; the fault names it."""
    for value in (url, [TURN, url]):
        (fault,) = bad(conf, {**STATIC, "Urls": value})
        assert fault.startswith(f"{conf}: IceServers[0].Urls: {json.dumps(url)}: must look like ")


SHARED = {"Urls": TURN, "Secret": SECRET}


@pytest.mark.parametrize(
    ("entry", "key", "words"),
    [
        ({}, "Urls", "required"),
        ({"Urls": None}, "Urls", "null"),
        ({"Urls": 5}, "Urls", "must be"),
        ({"Urls": {"a": STUN}}, "Urls", "must be"),
        ({"Urls": []}, "Urls", "[]: must name"),
        ({"Urls": [STUN, 5]}, "Urls", "must be a string"),
        ({"Urls": [[STUN]]}, "Urls", "must be a string"),
        ({"urls": []}, "urls", "[]: must name"),
        ({"urls": "x"}, "urls", '"x": must look like'),
        ({"Urls": TURN}, "Username", "turn needs it together with Credential, or a shared secret"),
        ({"urls": [STUN, TURN]}, "username", "turn needs it together with credential"),
        ({"Urls": TURN, "Username": "me"}, "Credential", "Username needs it"),
        ({"Urls": STUN, "Credential": "x"}, "Username", "Credential needs it"),
        ({"urls": STUN, "username": "x"}, "credential", "username needs it"),
        ({**STATIC, "Username": ""}, "Username", "length"),
        ({**STATIC, "Username": 5}, "Username", "string"),
        ({**STATIC, "Username": None}, "Username", "null"),
        ({**STATIC, "Credential": ""}, "Credential", "length"),
        ({**STATIC, "Credential": [1]}, "Credential", "string"),
        ({**STATIC, "Credential": "\ud800"}, "Credential", "printable"),
        ({**STATIC, "Username": "a\nb"}, "Username", "printable"),
        ({**STATIC, "Ttl": 600}, "Ttl", "600: only applies to a shared secret"),
        ({**STATIC, "Password": "x"}, "Password", "unknown"),
        ({"urls": STUN, "credentialType": "password"}, "credentialType", "unknown"),
        ({**SHARED, "Username": "me"}, "Username", "is not needed with Secret"),
        ({**SHARED, "Credential": "x"}, "Credential", "is not needed with Secret"),
        ({**SHARED, "SecretFile": "conf.json"}, "SecretFile", "only one of"),
        ({**SHARED, "username": "me"}, "username", "unknown"),
        ({**SHARED, "Urls": STUN}, "Urls", f'"{STUN}": Secret only applies to turn'),
        ({**SHARED, "Urls": [STUN, "stuns:b"]}, "Urls", "Secret only applies to turn"),
        ({**SHARED, "Urls": None}, "Urls", "null"),
        ({**SHARED, "Secret": None}, "Secret", "null"),
        ({**SHARED, "Secret": 5}, "Secret", "string"),
        ({**SHARED, "Secret": [SECRET]}, "Secret", "string"),
        ({**SHARED, "Secret": f"{SECRET}\n{SECRET}"}, "Secret", "printable"),
        ({**SHARED, "Secret": f"{SECRET}\udcff"}, "Secret", "printable"),
        ({**SHARED, "Ttl": None}, "Ttl", "null"),
        ({**SHARED, "Ttl": 59}, "Ttl", "59: min"),
        ({**SHARED, "Ttl": 10**20}, "Ttl", "max"),
        ({**SHARED, "Ttl": 600.5}, "Ttl", "600.5: must be"),
        ({**SHARED, "Ttl": "600"}, "Ttl", "must be"),
        ({**SHARED, "Ttl": True}, "Ttl", "true: must be"),
        ({"Urls": TURN, "SecretFile": ""}, "SecretFile", "length"),
        ({"Urls": TURN, "SecretFile": "none"}, "SecretFile", '"none": No such file'),
        ({"Urls": TURN, "SecretFile": "."}, "SecretFile", "Is a directory"),
        ({"Urls": TURN, "SecretFile": "weak"}, "SecretFile", "16 characters, not 4"),
        ({"Urls": TURN, "SecretFile": "lines"}, "SecretFile", "one line"),
        ({"Urls": TURN, "SecretFile": "bytes"}, "SecretFile", "is not UTF-8 text"),
        ({"Urls": TURN, "SecretFile": "a\0b"}, "SecretFile", "printable"),
        ({"Urls": TURN, "SecretVariable": "NONE"}, "SecretVariable", '"NONE": the variable is not'),
        ({"Urls": TURN, "SecretVariable": "WEAK"}, "SecretVariable", "16 characters, not 4"),
        ({"Urls": TURN, "SecretVariable": "BYTES"}, "SecretVariable", "printable"),
        ({"Urls": TURN, "SecretVariable": "a b"}, "SecretVariable", "regex"),
        ({"Urls": TURN, "SecretVariable": ["WEAK"]}, "SecretVariable", "string"),
    ],
)
def test_faults_name_the_file_and_the_key(
    conf: Path, entry: dict[str, Any], key: str, words: str
) -> None:
    """And there are no further faults; entries count from 0."""
    (conf.parent / "weak").write_text("weak\n")
    (conf.parent / "lines").write_text(f"static-auth-secret={SECRET}\nrealm=example.com\n")
    (conf.parent / "bytes").write_bytes(b"\xff" * 32)
    environ = {"WEAK": "weak", "BYTES": SECRET + "\udcff"}
    (fault,) = bad(conf, {"Urls": STUN}, entry, environ=environ)
    start = f"{conf}: IceServers[1].{key}: "
    assert fault.startswith(start) and words in fault.removeprefix(start)
    assert SECRET not in fault and "password" not in fault.lower().removeprefix(start.lower())


@pytest.mark.parametrize("secret", ["", "north", "x" * 15, "é" * 15])
def test_a_weak_secret(conf: Path, secret: str) -> None:
    """It is refused: one credential would be enough to guess it."""
    words = f"must have at least 16 characters, not {len(secret)}"
    assert bad(conf, {**SHARED, "Secret": secret}) == (f"{conf}: IceServers[0].Secret: {words}",)
    good(conf, {**SHARED, "Secret": "x" * 16})


@pytest.mark.parametrize("entry", [5, None, STUN, [STUN], f"turn:me:{HUSH}@turn.example.com"])
def test_an_entry_that_is_no_object(conf: Path, entry: object) -> None:
    """The fault names it without its value, which may be a secret."""
    assert bad(conf, entry) == (f"{conf}: IceServers[0]: must be an object",)


def test_spellings_do_not_mix(conf: Path) -> None:
    """The W3C's spelling has no secrets: the fault suggests the other one."""
    assert sorted(bad(conf, {"urls": TURN, "Secret": SECRET})) == [
        f"{conf}: IceServers[0].Urls: required field",
        f'{conf}: IceServers[0].urls: "{TURN}": unknown field',
    ]


def test_faults_come_all_at_once(conf: Path) -> None:
    """From all entries and keys, together with any other faults."""
    found = bad(
        conf,
        {"Urls": ["turn", "http:a"], "Secret": "north", "Ttl": 5},
        5,
        {"Urls": TURN, "SecretFile": "none", "Username": "me"},
        {"Urls": TURN, "SecretVariable": "NONE", "Secret": "weak", "Sekret": "x"},
        Port=-1,
        Auth={"Secrets": ["short"]},
    )
    assert sorted(fault.split(": ")[1] for fault in found) == sorted(
        [
            "Port",
            "Auth.Secrets",
            "IceServers[0].Urls",
            "IceServers[0].Urls",
            "IceServers[0].Secret",
            "IceServers[0].Ttl",
            "IceServers[1]",
            "IceServers[2].SecretFile",
            "IceServers[2].Username",
            "IceServers[3].Secret",
            "IceServers[3].SecretVariable",
            "IceServers[3].Sekret",
        ]
    )


@pytest.mark.parametrize(
    "entry",
    [
        {"Urls": TURN, "Secret": [HUSH]},
        {"Urls": TURN, "Secret": {"a": HUSH}},
        {"Urls": TURN, "Secret": HUSH[:15]},
        {"Urls": TURN, "Secret": f"{HUSH}\n"},
        {"Urls": STUN, "Secret": HUSH},
        {"Urls": TURN, "secret": HUSH},
        {"urls": TURN, "secret": HUSH},
        {"urls": TURN, "Secret": HUSH},
        {"Urls": TURN, "SecretVariable": HUSH},
        {"Urls": TURN, "SecretFile": [HUSH]},
        {"Urls": TURN, "Credential": HUSH},
        {"Urls": TURN, "Credential": [HUSH], "Username": "me"},
        {"Urls": TURN, "Username": [HUSH], "Credential": HUSH},
        {"Urls": TURN, "Password": HUSH},
        {"Urls": f"turn:me:{HUSH}@turn.example.com", "Secret": HUSH},
        {"Urls": [STUN, f"turn:{HUSH}@turn.example.com"], "Ttl": 5},
        {"Urls": {"Secret": HUSH}},
        {"Urls": [{"Secret": HUSH}]},
        {"Urls": TURN, "Secret": SECRET, "Ttl": HUSH},
        {"Urls": TURN, "Secret": SECRET, "Ttl": [HUSH]},
    ],
)
def test_a_fault_shows_no_secret_and_no_credential(conf: Path, entry: dict[str, Any]) -> None:
    """Whatever is wrong: many people read terminals and logs."""
    assert "hush" not in "".join(bad(conf, entry))


@pytest.mark.parametrize(
    "values",
    [
        {"IceServers": HUSH},
        {"IceServers": {"Urls": TURN, "Secret": HUSH}},
        {"iceServers": [{"urls": TURN, "credential": HUSH}]},
        {"Turn": {"Urls": TURN, "Password": HUSH}},
        {"Credential": HUSH},
        {"TurnSecret": HUSH},
    ],
)
def test_a_fault_shows_no_secret_that_stands_in_the_wrong_place(
    conf: Path, values: dict[str, Any]
) -> None:
    """Under a misspelled key, or one level too high."""
    conf.write_text(json.dumps(values))
    with pytest.raises(ConfigError) as caught:
        load(conf, None, {})
    assert "hush" not in str(caught.value)


def test_the_secret_of_a_file_shows_nowhere(conf: Path) -> None:
    """Neither in a fault nor in a repr."""
    (conf.parent / "hush").write_text(f"{HUSH}\x01")
    (fault,) = bad(conf, {"Urls": TURN, "SecretFile": "hush"})
    assert HUSH not in fault
    (conf.parent / "hush").write_text(HUSH)
    config = good(conf, {"Urls": TURN, "SecretFile": "hush"}, {**STATIC, "Credential": HUSH})
    assert HUSH not in f"{config!r}{config}"


@runs("docs/turn.md", '"IceServers": [')
def test_the_example_of_the_readme(block: Block, conf: Path) -> None:
    """It is valid as it stands, with the secret made next to it."""
    conf.write_text(block.text)
    (conf.parent / "turn-secret").write_text(f"{SECRET}\n")
    stun, turn = load(conf).ice.entries
    assert isinstance(stun, StaticServer) and isinstance(turn, SharedSecret)
    assert (turn.secret, turn.ttl) == (SECRET, TTL)


ANY = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
LIKELY = st.one_of(
    st.fixed_dictionaries(
        {"Urls": st.sampled_from([TURN, [STUN, TURN]]), "Secret": st.just(SECRET) | st.text()},
        optional={"Ttl": st.integers(min_value=60) | ANY},
    ),
    st.fixed_dictionaries(
        {"urls": st.sampled_from([STUN, TURN]) | ANY},
        optional={"username": st.text(), "credential": st.text()},
    ),
    st.dictionaries(
        st.sampled_from([*SCHEMA, *W3C]) | st.text(max_size=3),
        st.sampled_from([STUN, TURN, SECRET, "conf.json", "SET"]) | st.lists(ANY) | ANY,
    ),
)


@settings(derandomize=True, max_examples=examples(50))
@given(entries=st.lists(LIKELY | ANY, max_size=3))
def test_any_entries_are_good_or_faults(
    entries: list[Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Any entries are either faults, or can be offered as JSON in UTF-8."""
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps({"IceServers": entries}))
    try:
        config = load(path, None, {"SET": SECRET})
    except ConfigError as error:
        assert error.faults
        assert all(fault.startswith(f"{path}: IceServers[") for fault in error.faults)
    else:
        offer = config.ice.offer("peer1", 1_700_000_000)
        assert len(offer["IceServers"]) == len(entries)
        json.dumps(offer, ensure_ascii=False).encode()
