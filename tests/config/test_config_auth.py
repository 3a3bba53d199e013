"""`Auth` in the configuration, and the command that mints tokens."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import jwt
import oneshot
import pytest
from process import signaller
from signalling import Signalling, connect
from tokens import NOW, OTHER_SECRET, SECRET, private, public_pem, token

from videre.auth import NoAuth, TokenAuth
from videre.config import Config, load
from videre.errors import ConfigError
from videre.logs.formatters import shortened

HUSH = "hush! this secret stands in the wrong place"


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """Return the path of a configuration file not yet written."""
    return tmp_path / "conf.json"


def write(conf: Path, **values: Any) -> Path:
    """Write a configuration file."""
    conf.write_text(json.dumps(values))
    return conf


def good(conf: Path, environ: dict[str, str] | None = None, **auth: Any) -> Config:
    """Return the configuration with this `Auth`."""
    return load(write(conf, Auth=auth), None, environ or {})


def bad(conf: Path, **values: Any) -> tuple[str, ...]:
    """Return the faults of a configuration."""
    with pytest.raises(ConfigError) as caught:
        load(write(conf, **values), None, {})
    return caught.value.faults


def test_no_auth(conf: Path) -> None:
    """Without `Auth`, nobody needs a token."""
    for values in ({}, {"Auth": None}):
        config = load(write(conf, **values))
        assert config.auth == NoAuth() and config.leeway == 60


def test_auth_is_required_unless_it_says_not(conf: Path) -> None:
    """Keys imply `Required`."""
    assert good(conf, Secrets=[SECRET]).auth.required
    assert not good(conf, Secrets=[SECRET], Required=False).auth.required


def test_keys_of_all_kinds(conf: Path) -> None:
    """Secrets in the file, in other files and in the environment, and public keys."""
    (conf.parent / "secret").write_text(OTHER_SECRET)
    (conf.parent / "key.pem").write_bytes(public_pem("ES256"))
    third = "a-secret-of-the-environment-32-bytes"
    config = good(
        conf,
        {"SECRETS": third},
        Secrets=[SECRET],
        SecretFiles=["secret"],
        SecretsVariable="SECRETS",
        PublicKeys=["key.pem"],
        Issuer="me",
        Audience="us",
        Leeway=5.5,
    )
    assert config.leeway == 5.5
    claims = {"iss": "me", "aud": "us"}
    for key in (SECRET, OTHER_SECRET, third):
        assert config.auth.grant(token(key=key, **claims), "a", "room", NOW)
    signed = token(key=private("ES256"), algorithm="ES256", **claims)
    assert config.auth.grant(signed, "a", "room", NOW)
    assert isinstance(config.auth, TokenAuth)
    assert (config.auth.issuer, config.auth.audience) == ("me", "us")


def test_the_environment_is_that_of_the_process(
    conf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless the caller passes another one."""
    monkeypatch.setenv("VIDERE_TEST_SECRETS", "the-secret-of-the-process-of-32-bytes")
    write(conf, Auth={"SecretsVariable": "VIDERE_TEST_SECRETS"})
    assert load(conf).auth.required


@pytest.mark.parametrize(
    ("auth", "name"),
    [
        ({}, "Secrets"),
        ({"Required": False}, "Secrets"),
        ({"Secrets": SECRET}, "Secrets"),
        ({"Secrets": [5]}, "Secrets"),
        ({"Secrets": None}, "Secrets"),
        ({"Secrets": ["short"]}, "Secrets"),
        ({"SecretFiles": "file"}, "SecretFiles"),
        ({"SecretFiles": ["none"]}, "SecretFiles"),
        ({"SecretsVariable": ""}, "SecretsVariable"),
        ({"SecretsVariable": ["A"]}, "SecretsVariable"),
        ({"SecretsVariable": "VIDERE_TEST_NONE"}, "SecretsVariable"),
        ({"PublicKeys": ["none.pem"]}, "PublicKeys"),
        ({"PublicKeys": [{}]}, "PublicKeys"),
        ({"Secrets": [SECRET], "Required": "yes"}, "Required"),
        ({"Secrets": [SECRET], "Required": 1}, "Required"),
        ({"Secrets": [SECRET], "Issuer": ""}, "Issuer"),
        ({"Secrets": [SECRET], "Issuer": 5}, "Issuer"),
        ({"Secrets": [SECRET], "Audience": ["a"]}, "Audience"),
        ({"Secrets": [SECRET], "Leeway": -1}, "Leeway"),
        ({"Secrets": [SECRET], "Leeway": "60"}, "Leeway"),
        ({"Secrets": [SECRET], "Leeway": True}, "Leeway"),
        ({"Secrets": [SECRET], "Secret": "x"}, "Secret"),
        ({"Secrets": [SECRET], "Algorithm": "none"}, "Algorithm"),
    ],
)
def test_faults_name_the_file_and_the_key(conf: Path, auth: dict[str, Any], name: str) -> None:
    """And there are no further faults."""
    (fault,) = bad(conf, Auth=auth)
    assert fault.startswith(f"{conf}: Auth.{name}: ")
    assert SECRET not in fault


def test_faults_come_with_all_others(conf: Path) -> None:
    """All faults are reported together."""
    found = bad(conf, Port=-1, Auth={"Secrets": ["short"], "PublicKeys": ["none"]})
    assert [fault.split(": ")[1] for fault in found] == ["Port", "Auth.Secrets", "Auth.PublicKeys"]


@pytest.mark.parametrize(
    "auth",
    [
        {"Secrets": HUSH},
        {"Secrets": {"a": HUSH}},
        {"Secrets": [[HUSH]]},
        {"Secret": HUSH},
        {"Secrets": [HUSH[:20]]},
        {"Required": HUSH},
        {"Leeway": HUSH},
        {"Issuer": [HUSH]},
        {"secrets": [HUSH]},
    ],
)
def test_a_fault_shows_no_secret(conf: Path, auth: dict[str, Any]) -> None:
    """Whatever is wrong with it: many people read terminals and logs."""
    assert "hush" not in "".join(bad(conf, Auth=auth)).lower()


@pytest.mark.parametrize(
    "values",
    [
        {"Auth": HUSH},
        {"Auth": [HUSH]},
        {"Secrets": [HUSH]},
        {"Secret": HUSH},
        {"auth": {"a": HUSH}},
    ],
    ids=["as a string", "as a list", "outside", "misspelled outside", "in lower case"],
)
def test_a_fault_shows_no_secret_that_stands_in_the_wrong_place(
    conf: Path, values: dict[str, Any]
) -> None:
    """Under a misspelled key, or one level too high."""
    assert "hush" not in "".join(bad(conf, **values))


@pytest.mark.parametrize("key", ["PacketsPerSecond", "JoinTimeout", "ConnectsPerSecondPerAddress"])
@pytest.mark.parametrize("number", ["NaN", "Infinity"])
def test_a_limit_is_a_finite_number(conf: Path, key: str, number: str) -> None:
    """JSON has no others, but Python reads them; `null` switches a limit off."""
    conf.write_text(f'{{"{key}": {number}}}')
    with pytest.raises(ConfigError):
        load(conf)


@pytest.mark.parametrize("number", ["NaN", "Infinity"])
def test_the_leeway_is_a_finite_number(conf: Path, number: str) -> None:
    """A timer for NaN would never fire."""
    conf.write_text(f'{{"Auth": {{"Leeway": {number}, "Secrets": ["{SECRET}"]}}}}')
    with pytest.raises(ConfigError):
        load(conf)


def test_a_configuration_shows_no_secret(conf: Path) -> None:
    """Its repr contains none."""
    assert SECRET not in repr(good(conf, Secrets=[SECRET]))


# python -m videre token


def run(conf: Path, *args: str) -> oneshot.Done:
    """Run the subcommand to its end."""
    return oneshot.run("token", "--config", str(conf), *args)


def mint(conf: Path, *args: str) -> str:
    """Return the token that the subcommand prints, on a line of its own."""
    done = run(conf, *args)
    assert (done.returncode, done.stderr) == (0, ""), done
    assert done.stdout.count("\n") == 1
    return done.stdout.strip()


def read(minted: str) -> dict[str, Any]:
    """Return the claims of a token signed with the first secret."""
    claims: dict[str, Any] = jwt.decode(minted, SECRET, ["HS256"], options={"verify_aud": False})
    return claims


def test_the_claims_of_a_minted_token(conf: Path) -> None:
    """The requested ones, and those that the server requires."""
    write(conf, Auth={"Secrets": [SECRET, OTHER_SECRET], "Issuer": "me", "Audience": "us"})
    before = int(time.time())
    claims = read(mint(conf, "--user", "a", "--room", "x*", "--room", "y", "--ttl", "5"))
    made = claims.pop("iat")
    assert before <= made <= time.time()
    assert claims.pop("exp") - made == 5
    assert claims == {"sub": "a", "room": ["x*", "y"], "iss": "me", "aud": "us"}


@pytest.mark.parametrize(
    "args",
    [
        ("--ttl", "nan"),
        ("--ttl", "inf"),
        ("--max", "0"),
        ("--user", ""),
        ("--room", ""),
        ("--room", "r" * 257),
    ],
    ids=" ".join,
)
def test_what_makes_no_token_is_said_in_words(conf: Path, args: tuple[str, ...]) -> None:
    """An invalid duration or name, or a room that none has: exit code 2, without a traceback."""
    write(conf, Auth={"Secrets": [SECRET]})
    done = run(conf, "--user", "a", "--room", "room", *args)
    assert "Traceback" not in done.stderr
    assert (done.returncode, done.stdout) == (2, ""), done


@pytest.mark.parametrize("keys", [None, {"PublicKeys": ["key.pem"]}], ids=["no auth", "no secret"])
def test_without_a_secret_nothing_is_minted(conf: Path, keys: dict[str, Any] | None) -> None:
    """Exit code 2 and an explanation."""
    (conf.parent / "key.pem").write_bytes(public_pem("ES256"))
    done = run(write(conf, Auth=keys), "--user", "a", "--room", "room")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"videre-server: {conf}: Auth: a secret is needed to sign with\n"


async def enter(client: Signalling, minted: str) -> tuple[str, Any]:
    """Return the event and Payload (for an error, its Code) that answer a connect."""
    answer = await client.ask("connect", {"Token": minted})
    event, payload = answer["Header"]["Event"], json.loads(answer["Payload"])
    return event, payload["Code"] if event == "error" else payload


@pytest.mark.process
async def test_the_server_takes_what_was_minted(tmp_path: Path) -> None:
    """A real process: several rooms, a prefix, a capacity; its log contains no token."""
    config = {
        "Auth": {"Secrets": [SECRET], "Issuer": "me", "Audience": "us"},
        "LogFile": "debug.log",
        "LogLevel": "debug",
    }
    conf = write(tmp_path / "conf.json", **config)
    asked = ("--user", "a", "--room", "room", "--room", "team-*", "--max", "1")
    minted = mint(conf, *asked)
    other = mint(conf, "--user", "b", "--room", "*", "--max", "1")
    async with (
        signaller(tmp=tmp_path, config=config) as server,
        connect(server.url, "raw", user="a", room="room") as a,
        connect(server.url, "sockjs", user="a", room="team-7") as again,
        connect(server.url, "sockjs", user="a", room="elsewhere") as lost,
        connect(server.url, "raw", user="b", room="room") as b,
    ):
        assert await enter(a, minted) == ("connect", True)
        assert await enter(again, minted) == ("connect", True)
        assert await enter(lost, minted) == ("error", "unauthorized")
        assert await enter(b, minted) == ("error", "unauthorized")
        assert await enter(b, other) == ("error", "room-full")
        answer = await b.ask("ping")
        assert json.loads(answer["Payload"])["Code"] == "unauthorized"
    logged = (tmp_path / "debug.log").read_text() + "\n".join(server.output)
    assert shortened("team-7") in logged and "unauthorized" in logged
    for part in {*minted.split("."), *other.split("."), SECRET}:
        assert part not in logged
