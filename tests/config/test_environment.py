"""Keys as environment variables: their names, precedence and errors."""

from __future__ import annotations

import json
import os
import re
from operator import attrgetter
from pathlib import Path
from typing import Any

import jwt
import oneshot
import pytest
from process import ROOT, self_signed
from test_config import GOOD, KEYS
from tokens import SECRET

from videre.config import Config, environment, load
from videre.config.schema import SCHEMA
from videre.errors import ConfigError

HUSH = "hush! nobody may read this"
OURS = {name: value for name, value in os.environ.items() if not name.startswith("VIDERE_")}


def as_text(key: str, value: Any) -> str:
    """Return a value as a variable holds it: strings unchanged, null as "", others as JSON."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(value)


def read(path: Path | None = None, **variables: str) -> Config:
    """Return the configuration from a file and variables."""
    return load(path, environment.read(variables), variables)


def faults(path: Path | None = None, **variables: str) -> tuple[str, ...]:
    """Return the faults of a file and variables."""
    with pytest.raises(ConfigError) as caught:
        read(path, **variables)
    return caught.value.faults


def run(*args: str, cwd: Path, **variables: str) -> oneshot.Done:
    """Run the command to its end, with only these variables of ours."""
    return oneshot.run(*args, environ={**OURS, **variables}, cwd=cwd, default_config=None)


NAMES = {
    "Port": "VIDERE_PORT",
    "TLS": "VIDERE_TLS",
    "LogFile": "VIDERE_LOG_FILE",
    "MaxPacketBytes": "VIDERE_MAX_PACKET_BYTES",
    "ConnectsPerSecondPerAddress": "VIDERE_CONNECTS_PER_SECOND_PER_ADDRESS",
    "IceServers": "VIDERE_ICE_SERVERS",
    "HTMLFile": "VIDERE_HTML_FILE",
    "JSONP": "VIDERE_JSONP",
    "SockJSUrl": "VIDERE_SOCK_JS_URL",
}


@pytest.mark.parametrize("key", NAMES)
def test_names(key: str) -> None:
    """A word begins at each capital before or after a lower-case letter."""
    assert environment.variable(key) == NAMES[key]


TABLE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^\| `(VIDERE_\w+)` \| (?:`(.*?)`)? ?\| `(\w+)`", TABLE, re.MULTILINE)


def test_the_examples_of_the_documentation() -> None:
    """Each is the variable of its key with a valid value; all of them together, too."""
    assert len(EXAMPLES) > 10
    assert [environment.variable(key) for _, _, key in EXAMPLES] == [row[0] for row in EXAMPLES]
    variables = {name: value for name, value, _ in EXAMPLES}
    config = load(None, environment.read(variables), {"OUR_SECRETS": SECRET.replace(" ", "-")})
    assert config.sources == {key: name for name, _, key in EXAMPLES}


def test_no_two_keys_have_one_variable() -> None:
    """Each key has its own variable, which a shell can set."""
    names = {environment.variable(key) for key in SCHEMA} | {environment.CONFIG}
    assert len(names) == len(SCHEMA) + 1
    assert all(name.replace("_", "").isalpha() and name.isupper() for name in names)


@pytest.mark.parametrize(("key", "given", "found"), GOOD)
def test_each_key_is_a_variable(key: str, given: Any, found: Any, tmp_path: Path) -> None:
    """Every value valid in a file is valid in a variable: those of test_config.py."""
    variables = {environment.variable(key): as_text(key, given)}
    if key in ("Cert", "Key"):  # which would have to be there, to be used
        variables["VIDERE_TLS"] = "false"
    assert attrgetter(KEYS[key][0])(read(None, **variables)) == found


@pytest.mark.parametrize("key", [key for key in SCHEMA if SCHEMA[key].get("nullable")])
def test_an_empty_variable_is_null(key: str, tmp_path: Path) -> None:
    """If the key may be null, it switches off what the file sets."""
    conf = tmp_path / "conf.json"
    value = next((value for value, _ in KEYS[key][2] if value is not None), None)
    conf.write_text(json.dumps({"TLS": False, key: value}))
    assert read(conf, **{environment.variable(key): ""}).document[key] is None


def test_what_cannot_be_null_cannot_be_empty() -> None:
    """It is a fault, not silently the default: the variable was set by mistake."""
    assert faults(VIDERE_PORT="") == ('VIDERE_PORT: Port: "": must be of integer type',)
    assert faults(VIDERE_HOST="")[0].startswith('VIDERE_HOST: Host: "": ')


def test_an_option_beats_a_variable_which_beats_the_file(tmp_path: Path) -> None:
    """And the file overrides the defaults."""
    conf = tmp_path / "conf.json"
    conf.write_text('{"Port": 1, "Host": "a", "Prefix": "/a", "LogLevel": "error"}')
    variables = {"VIDERE_PORT": "2", "VIDERE_HOST": "b", "VIDERE_PREFIX": '["/b", "/c"]'}
    options = {**environment.read(variables), "Port": ("--port", 3)}
    config = load(conf, options, {})
    assert (config.port, config.host, config.prefixes) == (3, "b", ("/b", "/c"))
    assert (config.log_level, config.duplicate) == ("error", "replace")
    assert config.sources["Port"] == "--port" and config.sources["Host"] == "VIDERE_HOST"


@pytest.mark.parametrize(
    ("variables", "port", "source"),
    [
        ({"PORT": "8080"}, 8080, "PORT"),
        ({"PORT": "8080", "VIDERE_PORT": "9090"}, 9090, "VIDERE_PORT"),
        ({"PORT": ""}, 1, None),
    ],
)
def test_the_port_of_a_hosting_platform(
    tmp_path: Path, variables: dict[str, str], port: int, source: str | None
) -> None:
    """PORT is used if VIDERE_PORT is not set; it overrides the file, like any variable."""
    conf = tmp_path / "conf.json"
    conf.write_text('{"Port": 1}')
    config = load(conf, environment.read(variables), {})
    assert config.port == port
    assert source is None or config.sources["Port"] == source


def test_a_port_of_a_hosting_platform_that_is_none() -> None:
    """The fault names the variable."""
    assert faults(PORT="abc") == ('PORT: Port: "abc": must be of integer type',)


def test_all_faults_are_told_at_once_each_with_its_source(tmp_path: Path) -> None:
    """From variables, options and the file; in the real command."""
    conf = tmp_path / "conf.json"
    conf.write_text('{"MaxRooms": 0, "Port": "beaten"}')
    variables = {
        "VIDERE_CONFIG": str(conf),
        "VIDERE_PORT": "abc",
        "VIDERE_LOG_LEVEL": "loud",
        "VIDERE_LOG_FORMAT": "xml",
        "VIDERE_COMPRESSION": "yes",
        "VIDERE_ORIGINS": "https://example.com",
    }
    done = run("--log-level", "info", "--workers", "0", cwd=tmp_path, **variables)
    assert (done.returncode, done.stdout) == (2, "")
    said = sorted(line.removeprefix("videre-server: ") for line in done.stderr.splitlines())
    assert said == sorted(
        [
            f"{conf}: MaxRooms: 0: min value is 1",
            'VIDERE_PORT: Port: "abc": must be of integer type',
            'VIDERE_LOG_FORMAT: LogFormat: "xml": must be text or json',
            'VIDERE_COMPRESSION: Compression: "yes": must be of boolean type',
            'VIDERE_ORIGINS: Origins: "https://example.com": must be of list type',
            "--workers: Workers: 0: min value is 1",
        ]
    )


@pytest.mark.parametrize(
    ("key", "text", "twice"),
    [
        ("Auth", '{"Required": true, "Secrets": ["a"], "Required": false}', "Required"),
        ("IceServers", '[{"Urls": "stun:a", "Urls": "stun:b"}]', "Urls"),
    ],
)
def test_a_key_is_given_once(key: str, text: str, twice: str) -> None:
    """As in the file: one of the values would be ignored without a word."""
    name = environment.variable(key)
    assert faults(None, **{name: text}) == (f"{name}: {twice}: is given twice",)


@pytest.mark.parametrize(
    "variables",
    [
        {"VIDERE_AUTH": HUSH},
        {"VIDERE_AUTH": json.dumps({"Secrets": [HUSH[:20]]})},
        {"VIDERE_AUTH": json.dumps({"Secrets": HUSH})},
        {"VIDERE_AUTH": f'{{"Secrets": ["{HUSH}"'},
        {"VIDERE_ICE_SERVERS": HUSH},
        {"VIDERE_ICE_SERVERS": json.dumps([{"Urls": "turn:a", "Secret": HUSH[:8]}])},
        {"VIDERE_ADMIN_TOKEN": HUSH},
        {"VIDERE_ADMIN_TOKEN": "hush! no"},
        {"VIDERE_ADMIN_TOKEN_VARIABLE": HUSH},
        {"VIDERE_AUTH": json.dumps({"SecretsVariable": HUSH})},
        {"VIDERE_KEY": f"PRIVATE KEY {HUSH}", "VIDERE_CERT": "none"},
        {"VIDERE_ENGINE": f"radis://:{HUSH}@host"},
        {"VIDERE_AUHT": HUSH},
    ],
    ids=lambda variables: str(variables)[:60],
)
def test_no_secret_is_shown(variables: dict[str, str], tmp_path: Path) -> None:
    """Whatever is wrong with a variable that contains one."""
    done = run("--port", "70000", cwd=tmp_path, **variables)
    assert done.returncode == 2 and next(iter(variables)) in done.stderr, done.stderr
    assert HUSH[:8] not in done.stderr


@pytest.mark.parametrize(
    ("variables", "sentences"),
    [
        (
            {"VIDERE_LOGLEVEL": "debug", "VIDERE_PORTS": "1"},
            [
                "VIDERE_LOGLEVEL: unknown key, ignored; did you mean VIDERE_LOG_LEVEL?",
                "VIDERE_PORTS: unknown key, ignored; did you mean VIDERE_PORT?",
            ],
        ),
        ({"VIDERE_LOG_LEVEL": "debug", "VIDERE_CONFIG": "a", "VIDERE_SECRETS": "b"}, []),
        ({"LOG_LEVEL": "x", "XVIDERE_PORTS": "1", "VIDERE_TEST_ALL": "1"}, []),
        (  # what Kubernetes says of a service called videre-web
            {
                "VIDERE_WEB_SERVICE_HOST": "10.0.0.1",
                "VIDERE_WEB_SERVICE_PORT": "1111",
                "VIDERE_WEB_PORT": "tcp://10.0.0.1:1111",
                "VIDERE_WEB_PORT_1111_TCP": "tcp://10.0.0.1:1111",
                "VIDERE_WEB_PORT_1111_TCP_PROTO": "tcp",
                "VIDERE_WEB_PORT_1111_TCP_PORT": "1111",
                "VIDERE_WEB_PORT_1111_TCP_ADDR": "10.0.0.1",
            },
            [],
        ),
    ],
    ids=["slips", "ours", "none of ours", "of Kubernetes"],
)
def test_slips(variables: dict[str, str], sentences: list[str]) -> None:
    """A variable that looks like a misspelled key is reported; others may have other purposes."""
    assert environment.slips(variables) == sentences


def test_what_kubernetes_says_of_a_service_called_videre(tmp_path: Path) -> None:
    """Its VIDERE_PORT is not a port: the fault explains its origin and the remedy."""
    done = run("--check", cwd=tmp_path, VIDERE_PORT="tcp://10.0.0.1:1111")
    assert done.returncode == 2
    hint, fault = done.stderr.splitlines()
    assert "Kubernetes" in hint and "enableServiceLinks" in hint
    assert fault == (
        'videre-server: VIDERE_PORT: Port: "tcp://10.0.0.1:1111": must be of integer type'
    )


def test_the_file_may_be_a_variable_too(tmp_path: Path) -> None:
    """VIDERE_CONFIG names the file, unless --config does."""
    for name, port in (("good", 1), ("bad", "x")):
        (tmp_path / name).write_text(json.dumps({"Port": port}))
    assert run("--check", cwd=tmp_path, VIDERE_CONFIG="good").returncode == 0
    done = run("--check", cwd=tmp_path, VIDERE_CONFIG="bad")
    assert done.stderr == 'videre-server: bad: Port: "x": must be of integer type\n'
    assert run("--check", "--config", "good", cwd=tmp_path, VIDERE_CONFIG="bad").returncode == 0
    done = run("--check", cwd=tmp_path, VIDERE_CONFIG="missing")
    assert done.stderr == "videre-server: missing: cannot be read: No such file or directory\n"


def test_paths_are_relative_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paths in variables; paths in the file are relative to the file."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "secret").write_text(SECRET)
    conf = tmp_path / "etc" / "conf.json"
    conf.write_text('{"LogFile": "a.log"}')
    monkeypatch.chdir(tmp_path)
    variables = {"VIDERE_AUTH": '{"SecretFiles": ["secret"]}'}
    variables["VIDERE_ICE_SERVERS"] = '[{"Urls": "turn:a", "SecretFile": "secret"}]'
    config = read(conf, **variables)
    assert config.auth.required and config.log_file == conf.parent / "a.log"
    assert read(conf, VIDERE_LOG_FILE="b.log").log_file == Path("b.log")
    conf.write_text(json.dumps({"Auth": {"SecretFiles": ["secret"]}}))
    assert "No such file" in faults(conf)[0]


def test_a_certificate_is_used_unless_tls_is_off(tmp_path: Path) -> None:
    """VIDERE_CERT implies TLS unless VIDERE_TLS is false; --cert always does."""
    cert, key = map(str, self_signed(tmp_path))
    pair = {"VIDERE_CERT": cert, "VIDERE_KEY": key}
    assert read(None, **pair).tls
    assert not read(None, **pair, VIDERE_TLS="false").tls
    assert "required by TLS" in faults(VIDERE_CERT=cert)[0]
    assert not read(VIDERE_CERT="", VIDERE_KEY="").tls
    done = run("--check", "--cert", cert, cwd=tmp_path, VIDERE_TLS="false")
    assert "Key: null: required by TLS" in done.stderr


def test_tokens_are_minted_by_the_environment_too(tmp_path: Path) -> None:
    """`token` finds the same secrets as the server: in or through a variable."""
    args = ("token", "--user", "peer1", "--room", "room")
    auth = json.dumps({"SecretsVariable": "OUR_SECRETS", "Issuer": "me"})
    secret = SECRET.replace(" ", "-")
    done = run(*args, cwd=tmp_path, VIDERE_AUTH=auth, OUR_SECRETS=secret)
    claims = jwt.decode(done.stdout.strip(), secret, ["HS256"])
    assert (claims["sub"], claims["room"], claims["iss"]) == ("peer1", "room", "me")
    conf = tmp_path / "conf.json"
    conf.write_text(json.dumps({"Auth": {"Secrets": [secret]}}))
    done = run(*args, cwd=tmp_path, VIDERE_CONFIG="conf.json")
    assert jwt.decode(done.stdout.strip(), secret, ["HS256"])["sub"] == "peer1"
    done = run(*args, cwd=tmp_path, VIDERE_CONFIG="conf.json", VIDERE_AUTH="")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "videre-server: VIDERE_AUTH: Auth: a secret is needed to sign with\n"
