"""ICE servers: what a member receives, and credentials made from a shared secret."""

from __future__ import annotations

import base64
import hashlib
import hmac
import subprocess
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from process import require

from videre.ice import MAX_USERNAME_BYTES, TTL, IceServers, SharedSecret, StaticServer

SECRET = "a-secret-of-coturn"
NOW = 1_700_000_000.75
TURN = ("turn:turn.example.com:3478",)


def ice_server(user: str = "peer1", now: float = NOW, **entry: Any) -> dict[str, Any]:
    """Return the RTCIceServer made from an entry with a shared secret."""
    entries = [SharedSecret(**{"urls": TURN, "secret": SECRET, **entry})]
    (server,) = IceServers(entries).offer(user, now)["IceServers"]
    assert isinstance(server, dict)
    return server


def test_nothing_is_configured() -> None:
    """The list is empty and never expires."""
    assert IceServers().offer("peer1", NOW) == {"IceServers": [], "IceTtl": None}


def test_a_known_vector() -> None:
    """As computed by `openssl dgst -sha1 -hmac north -binary | base64`."""
    server = ice_server("peer1", 1_700_000_000.999, secret="north", ttl=600)
    assert server == {
        "urls": ["turn:turn.example.com:3478"],
        "username": "1700000600:peer1",
        "credential": "KHazHEw9U8m8ekerNMXs6oO7xRQ=",
    }


@pytest.mark.parametrize(
    "user", ["peer1", "a:b", ":", "12:34", "é", "日本", "👀", "e\u0301", "a@example.com", "%s"]
)
def test_the_credential_signs_the_user_name(user: str) -> None:
    """It is the HMAC-SHA1 of the name's UTF-8 in base64, whatever the name contains."""
    server = ice_server(user)
    name = server["username"]
    assert unquote(name) == f"{1_700_000_000 + TTL}:{user}"
    mac = hmac.digest(SECRET.encode(), name.encode(), hashlib.sha1)
    assert server["credential"] == base64.b64encode(mac).decode()


@pytest.mark.process
def test_openssl_agrees() -> None:
    """With a secret and a name beyond ASCII."""
    server = ice_server("dürer 👀", secret="schlüssel-für-coturn")
    command = [require("openssl"), "dgst", "-sha1", "-hmac", "schlüssel-für-coturn", "-binary"]
    done = subprocess.run(command, input=server["username"].encode(), capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert server["credential"] == base64.b64encode(done.stdout).decode()


@pytest.mark.parametrize(
    "user", ["peer1", "a:b", "é", "日本", "a@example.com", "1-2_3~4", "select"]
)
def test_most_users_stand_in_their_name_as_they_are(user: str) -> None:
    """So that coturn's log and quotas distinguish them."""
    assert ice_server(user, ttl=60)["username"] == f"1700000060:{user}"


@pytest.mark.parametrize(
    ("user", "name"),
    [
        ("Anna B", "Anna%20B"),
        ("O'Hara", "O%27Hara"),
        ('"x"', "%22x%22"),
        ("a\\b", "a%5Cb"),
        ("100%", "100%25"),
        ("a%20b", "a%2520b"),
        ("Union-Selected", "%55nion-Selected"),
        ("reunion", "re%75nion"),
    ],
)
def test_what_coturn_takes_for_sql_is_encoded(user: str, name: str) -> None:
    """Coturn would not answer such names (tests/client/test_real_turn.py)."""
    assert ice_server(user, ttl=60)["username"] == f"1700000060:{name}"


def test_a_long_user_is_cut() -> None:
    """Between characters: browsers refuse names of more than 508 bytes."""
    name = ice_server("👀" * 128, ttl=60)["username"]
    assert name == "1700000060:" + "👀" * 124
    assert ice_server("a" * 128, ttl=60)["username"] == "1700000060:" + "a" * 128


USERS = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=128)


@settings(derandomize=True)
@given(user=USERS)
def test_any_user_has_a_name_that_coturn_takes(user: str) -> None:
    """Short enough, without forbidden characters, beginning with the expiry."""
    name = ice_server(user, ttl=60)["username"]
    assert len(name.encode()) <= MAX_USERNAME_BYTES
    assert not set(name) & set(" '\"\\") and "union" not in name.lower()
    assert name.partition(":")[0] == "1700000060"


def test_several_entries() -> None:
    """A member receives all of them in order, with credentials where needed."""
    servers = IceServers(
        [
            StaticServer(("stun:stun.example.com",)),
            SharedSecret(("turn:a.example.com", "turns:a.example.com"), SECRET, 600),
            StaticServer(("turn:b.example.com",), "me", "password"),
            SharedSecret(("turn:c.example.com",), "another-secret-of-coturn", 300),
        ]
    )
    offer = servers.offer("peer1", NOW)
    assert set(offer) == {"IceServers", "IceTtl"} and offer["IceTtl"] == 300
    stun, first, static, second = offer["IceServers"]
    assert stun == {"urls": ["stun:stun.example.com"]}
    assert first["urls"] == ["turn:a.example.com", "turns:a.example.com"]
    assert first["username"] == "1700000600:peer1"
    assert static == {"urls": ["turn:b.example.com"], "username": "me", "credential": "password"}
    assert second["username"] == "1700000300:peer1"
    assert first["credential"] != second["credential"]


def test_static_entries_do_not_end() -> None:
    """A fixed password has no Ttl."""
    assert IceServers([StaticServer(TURN, "me", "password")]).offer("a", NOW)["IceTtl"] is None


def test_an_offer_is_the_callers_own() -> None:
    """Changing it does not change the next one."""
    servers = IceServers([StaticServer(TURN)])
    servers.offer("a", NOW)["IceServers"][0]["urls"].append("turn:evil.example.com")
    assert servers.offer("a", NOW)["IceServers"] == [{"urls": list(TURN)}]


def test_no_secret_shows() -> None:
    """No repr of a configuration contains one."""
    servers = IceServers([SharedSecret(TURN, SECRET), StaticServer(TURN, "me", "password")])
    assert SECRET not in f"{servers!r}{servers}"
    assert "password" not in f"{servers!r}{servers}"
