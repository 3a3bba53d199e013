"""Tokens for the tests, valid and invalid, and keys of every kind, all made without videre's code.

FakeClock starts at NOW, so a token of `claims` is valid in a World for TTL seconds.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import json
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from fakes import FakeClient, World, packet

NOW = 1000.0
TTL = 100

SECRET = "the secret of the tests: 32 bytes and more"
OTHER_SECRET = "another one, of 32 bytes and more as well"

#: How to make the private key of each algorithm; "weak" ones are refused.
_MAKERS: dict[str, Any] = {
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
    "weak RSA": lambda: rsa.generate_private_key(65537, 1024),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
    "Ed448": ed448.Ed448PrivateKey.generate,
}


@functools.cache
def private(kind: str) -> Any:
    """Return the private key of a kind, always the same one."""
    return _MAKERS[kind]()


def public_pem(kind: str) -> bytes:
    """Return the public key of a kind, as PEM."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    pem: bytes = private(kind).public_key().public_bytes(serialization.Encoding.PEM, form)
    return pem


def private_pem(kind: str) -> bytes:
    """Return the private key of a kind, as PEM."""
    pem: bytes = private(kind).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return pem


def claims(user: str = "a", room: Any = "room", **more: Any) -> dict[str, Any]:
    """Return the claims of a valid token, plus others by name; None removes one."""
    body = {"sub": user, "room": room, "exp": NOW + TTL, **more}
    return {name: value for name, value in body.items() if value is not None}


def token(
    user: str = "a", room: Any = "room", key: Any = SECRET, algorithm: str = "HS256", **more: Any
) -> str:
    """Return a token that is valid for TTL seconds, signed with this key."""
    return jwt.encode(claims(user, room, **more), key, algorithm=algorithm)


def hs256(
    body: bytes | dict[str, Any],
    header: bytes = b'{"alg":"HS256","typ":"JWT"}',
    *,
    secret: bytes | str = SECRET,
) -> str:
    """Return an HMAC-SHA-256 token of any two parts, even those that no library would sign."""
    if isinstance(body, dict):
        body = json.dumps(body).encode()
    text = f"{base64url(header)}.{base64url(body)}"
    material = secret.encode() if isinstance(secret, str) else secret
    return f"{text}.{base64url(hmac.digest(material, text.encode(), hashlib.sha256))}"


def base64url(data: bytes) -> str:
    """Return the base64 of a JWT's part (RFC 7515, 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def enter(world: World, user: str = "a", room: str = "room", **claims: Any) -> FakeClient:
    """Return a member that joined with a token and has heard its own connect."""
    client = world.client()
    show(client, token(user, room, **claims), user, room)
    assert client.heard()[0][:3] == ("connect", user, room)
    return client


def show(client: FakeClient, shown: Any, user: str = "a", room: str = "room", **head: Any) -> None:
    """Send a connect packet with a token."""
    client.say(packet("connect", user, room, {"Token": shown}, **head))
