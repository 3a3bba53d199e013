"""Tokens: the holder of a key decides who may enter which room. PyJWT does the cryptography.

A token is a JWT (RFC 7519) with `sub` (the user id), `room` (a room id or a list of them; `*` at
the end matches anything), `exp`, and optionally `nbf` and `max` (the room's capacity). The key
determines the algorithm, never the token.

PyJWT and cryptography are imported where they are used: they take a tenth of the CPU time of the
command's start, and most servers have no keys.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

from videre.errors import TokenExpired, Unauthorized
from videre.ids import RoomId, UserId
from videre.settings import LEEWAY

#: A shared secret needs at least as many bytes as its hash (RFC 7518, 3.2): 32 for HS256.
MIN_SECRET_BYTES = 32
#: RSA keys below this are refused (RFC 7518, 3.3).
MIN_RSA_BITS = 2048
#: Longest token that is read, in characters: enough for a signature and a list of rooms.
MAX_TOKEN = 8192

REQUIRED_CLAIMS = ("sub", "room", "exp")


@dataclasses.dataclass(frozen=True)
class Grant:
    """What a token allows: one user, in the room of the request."""

    expires: float | None = None  # seconds of Unix time; None: never
    capacity: int | None = None  # of the room; None: as configured


@dataclasses.dataclass(frozen=True)
class Key:
    """A key and its one algorithm. `material` never shows in a repr."""

    algorithm: str
    material: Any = dataclasses.field(repr=False)


class Auth(Protocol):
    """Turns a client's token into a grant."""

    @property
    def required(self) -> bool:
        """Whether every connect needs a token."""

    def grant(self, token: object, user: UserId, room: RoomId, now: float) -> Grant:
        """Return what `token` (None: none was sent) allows `user` in `room` at Unix time `now`.

        Raises Unauthorized or TokenExpired.
        """


@dataclasses.dataclass(frozen=True)
class NoAuth:
    """No tokens: anyone who knows a room may enter it."""

    required: bool = False

    def grant(self, token: object, user: UserId, room: RoomId, now: float) -> Grant:
        """See Auth.grant."""
        return Grant()


class TokenAuth:
    """Grants what a token says if one of the keys has signed it."""

    def __init__(
        self,
        keys: Sequence[Key],
        *,
        required: bool = True,
        issuer: str | None = None,
        audience: str | None = None,
        leeway: float = LEEWAY,
    ) -> None:
        self._required = required
        self._keys = tuple(keys)
        self.issuer = issuer
        self.audience = audience
        self._leeway = leeway  # seconds that the signer's clock may be ahead

    @property
    def required(self) -> bool:
        """See Auth.required."""
        return self._required

    @property
    def signing_key(self) -> Key | None:
        """The first shared secret, which can sign as well as verify."""
        return next((key for key in self._keys if key.algorithm == "HS256"), None)

    def grant(self, token: object, user: UserId, room: RoomId, now: float) -> Grant:
        """See Auth.grant."""
        if token is None:
            if self._required:
                raise Unauthorized("A token is required")
            return Grant()
        if not isinstance(token, str) or len(token) > MAX_TOKEN:
            raise Unauthorized("The token is not valid")
        claims = self._verify(token)
        if claims.get("sub") != user:
            raise Unauthorized("The token is for a different user")
        if not _covers(claims.get("room"), room):
            raise Unauthorized("The token is for a different room")
        expires = _number(claims, "exp")
        if expires is None or now >= expires:
            raise TokenExpired("The token has expired")
        starts = _number(claims, "nbf")
        if starts is not None and now < starts - self._leeway:
            raise Unauthorized("The token is not valid yet")
        capacity = claims.get("max")
        if capacity is not None and (type(capacity) is not int or capacity < 1):
            raise Unauthorized("The token is not valid")
        return Grant(expires, capacity)

    def _verify(self, token: str) -> dict[str, Any]:
        """Return the claims of a token signed by one of the keys; `grant` checks the times."""
        import jwt

        for key in self._keys:
            try:
                return jwt.decode(
                    token,
                    key.material,
                    algorithms=[key.algorithm],
                    issuer=self.issuer,
                    audience=self.audience,
                    options={
                        "require": list(REQUIRED_CLAIMS),
                        "verify_exp": False,
                        "verify_nbf": False,
                        "verify_iat": False,
                        # Without a configured `Audience`, a token that names one is for another
                        # service (RFC 7519, 4.1.3): the same key may sign for several.
                        "verify_aud": True,
                    },
                )
            except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
                continue  # any error that a stranger's text causes in the library
        raise Unauthorized("The token is not valid")


def _covers(pattern: object, room: RoomId) -> bool:
    """Tell whether the claim `room`, a pattern or a list of them, covers a room."""
    if isinstance(pattern, list):
        return any(isinstance(each, str) and _covers(each, room) for each in pattern)
    if not isinstance(pattern, str):
        return False
    if pattern.endswith("*"):
        return room.startswith(pattern[:-1])
    return room == pattern


def _number(claims: dict[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not _is_time(value):
        raise Unauthorized("The token is not valid")
    return float(value)


def _is_time(value: float) -> bool:
    """Tell whether a number can be a time in seconds: not NaN, and within the calendar."""
    return abs(value) < 1e12


def secret_key(secret: str) -> Key:
    """Return a shared secret as a key.

    Raises ValueError if it has less than 32 bytes, or is a key of another kind, such as PEM.
    """
    import jwt

    material = secret.encode()
    if len(material) < MIN_SECRET_BYTES:
        raise ValueError(f"must have at least {MIN_SECRET_BYTES} bytes, not {len(material)}")
    try:
        jwt.get_algorithm_by_name("HS256").prepare_key(material)
    except jwt.InvalidKeyError:
        raise ValueError("is a key of another kind, not a shared secret") from None
    return Key("HS256", material)


def public_key(pem: bytes) -> Key:
    """Return a public key (PEM) with its algorithm.

    Raises ValueError unless it is RSA with at least 2048 bits, P-256 or Ed25519.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("is not a PEM public key") from None
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < MIN_RSA_BITS:
            raise ValueError(f"must have at least {MIN_RSA_BITS} bits, not {key.key_size}")
        return Key("RS256", key)
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return Key("ES256", key)
    if isinstance(key, ed25519.Ed25519PublicKey):
        return Key("EdDSA", key)
    raise ValueError("is not an RSA, P-256 or Ed25519 key")


def sign(
    key: Key, user: str, room: str | list[str], *, now: float, ttl: float, **claims: Any
) -> str:
    """Return a token for `user` in `room` (or `prefix*`, or a list), good for `ttl` seconds."""
    import jwt

    body = {"sub": user, "room": room, "iat": int(now), "exp": int(now + ttl), **claims}
    return jwt.encode(body, key.material, algorithm=key.algorithm)
