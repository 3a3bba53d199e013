"""Keys: which are strong enough, which algorithm each is for, and who signed a token."""

from __future__ import annotations

import base64
import hashlib
import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from jwt.algorithms import ECAlgorithm
from process import self_signed
from test_auth import refused
from tokens import (
    NOW,
    OTHER_SECRET,
    SECRET,
    base64url,
    claims,
    hs256,
    private,
    private_pem,
    public_pem,
    token,
)

from videre.auth import MIN_SECRET_BYTES, Key, TokenAuth, public_key, secret_key

PUBLIC = ["RS256", "ES256", "EdDSA"]


def takes(auth: TokenAuth, shown: str) -> bool:
    """Check that a token is granted."""
    return auth.grant(shown, "a", "room", NOW).expires is not None


@pytest.mark.parametrize("kind", PUBLIC)
def test_public_keys(kind: str) -> None:
    """Only the holder of the private key can sign, not the holder of another key of that kind."""
    key = public_key(public_pem(kind))
    assert key.algorithm == kind
    auth = TokenAuth([key])
    signed = token(key=private(kind), algorithm=kind)
    assert takes(auth, signed)
    head, body, signature = signed.split(".")
    other = base64url(json.dumps(claims(max=5)).encode())
    assert refused(f"{head}.{other}.{signature}", auth=auth)
    assert refused(f"{head}.{body}.{base64url(b'x' * 64)}", auth=auth)
    assert refused(f"{head}.{body}.", auth=auth)


def test_rotation() -> None:
    """With several keys, of several kinds, a token signed by any of them is valid."""
    keys = [secret_key(SECRET), *(public_key(public_pem(kind)) for kind in PUBLIC)]
    auth = TokenAuth([*keys, secret_key(OTHER_SECRET)])
    assert takes(auth, token())
    assert takes(auth, token(key=OTHER_SECRET))
    for kind in PUBLIC:
        assert takes(auth, token(key=private(kind), algorithm=kind))
    refused(token(key="a secret that nobody has told the server"), auth=auth)
    assert auth.signing_key == secret_key(SECRET)


def test_an_old_secret_is_good_no_more() -> None:
    """Tokens signed with a removed key are refused."""
    auth = TokenAuth([secret_key(SECRET)])
    assert takes(auth, token())
    refused(token(), auth=TokenAuth([secret_key(OTHER_SECRET)]))


def test_without_keys_nothing_is_signed() -> None:
    """Without keys, no token is valid."""
    auth = TokenAuth([])
    refused(token(), auth=auth)
    assert auth.signing_key is None
    assert TokenAuth([public_key(public_pem("ES256"))]).signing_key is None


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", ""])
@pytest.mark.parametrize("kind", ["HS256", *PUBLIC])
def test_a_token_that_nobody_signed(kind: str, algorithm: str) -> None:
    """`alg` is none, in any spelling, with or without a signature."""
    auth = TokenAuth([secret_key(SECRET) if kind == "HS256" else public_key(public_pem(kind))])
    head = base64url(json.dumps({"alg": algorithm, "typ": "JWT"}).encode())
    body = base64url(json.dumps(claims()).encode())
    refused(f"{head}.{body}.", auth=auth)
    refused(f"{head}.{body}.{base64url(b'x' * 32)}", auth=auth)


@pytest.mark.parametrize("kind", PUBLIC)
@pytest.mark.parametrize("alg", ["HS256", "the key's own"])
@pytest.mark.parametrize("strip", [bytes, bytes.strip], ids=["as-it-is", "stripped"])
def test_a_public_key_is_no_secret(kind: str, alg: str, strip: Callable[[bytes], bytes]) -> None:
    """An HMAC made with the text of the public key, which everybody knows, is refused."""
    auth = TokenAuth([public_key(public_pem(kind)), secret_key(SECRET)])
    header = json.dumps({"alg": alg if alg == "HS256" else kind}).encode()
    refused(hs256(claims(), header, secret=strip(public_pem(kind))), auth=auth)


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_a_secret_is_for_one_algorithm(algorithm: str) -> None:
    """The token does not choose the algorithm, even if the right secret signed it."""
    long = SECRET + OTHER_SECRET
    auth = TokenAuth([secret_key(long)])
    refused(token(key=long, algorithm=algorithm), auth=auth)
    assert takes(auth, token(key=long))


@pytest.mark.parametrize("algorithm", ["RS384", "RS512", "PS256", "PS512"])
def test_a_public_key_is_for_one_algorithm(algorithm: str) -> None:
    """The token does not choose the algorithm, even if the right key signed it."""
    signed = token(key=private("RS256"), algorithm=algorithm)
    refused(signed, auth=TokenAuth([public_key(public_pem("RS256"))]))


@pytest.mark.parametrize("name", ["jwk", "jku", "x5u", "x5c", "kid"])
def test_a_token_does_not_bring_its_key(name: str, tmp_path: Path) -> None:
    """A key in the header, or a reference to one, is ignored."""
    certificate, pem = self_signed(tmp_path)
    stranger = load_pem_private_key(pem.read_bytes(), None)
    assert isinstance(stranger, EllipticCurvePrivateKey)
    jwk = ECAlgorithm.to_jwk(stranger.public_key(), as_dict=True)
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [jwk]}))
    der = ssl.PEM_cert_to_DER_cert(certificate.read_text())
    value: object = {
        "jwk": jwk,
        "x5c": [base64.b64encode(der).decode()],
        "jku": (tmp_path / "keys.json").as_uri(),
        "x5u": certificate.as_uri(),
        "kid": str(certificate),
    }[name]
    signed = jwt.encode(claims(), stranger, "ES256", headers={name: value})
    refused(signed, auth=TokenAuth([public_key(public_pem("ES256"))]))
    refused(signed, auth=TokenAuth([secret_key(SECRET)]))
    ours = jwt.encode(claims(), SECRET, "HS256", headers={name: value})
    assert takes(TokenAuth([secret_key(SECRET)]), ours)


def test_the_issuer() -> None:
    """If `Issuer` is configured, every token must name it exactly."""
    auth = TokenAuth([secret_key(SECRET)], issuer="https://example.com")
    assert takes(auth, token(iss="https://example.com"))
    refused(token(), auth=auth)
    for issuer in ("https://example.com/", "https://example", "", ["https://example.com"], 5, None):
        refused(hs256(claims() | {"iss": issuer}), auth=auth)


def test_the_audience() -> None:
    """If `Audience` is configured, every token must name it, alone or in a list."""
    auth = TokenAuth([secret_key(SECRET)], audience="calls")
    assert takes(auth, token(aud="calls"))
    assert takes(auth, token(aud=["mail", "calls"]))
    refused(token(), auth=auth)
    for audience in ("call", "mail", "", [], ["mail"], 5, {"calls": 1}, [["calls"]], None):
        refused(hs256(claims() | {"aud": audience}), auth=auth)


@pytest.mark.parametrize("audience", ["mail", ["mail"], ["a", "b"], 5, {"mail": 1}, [[]], True])
def test_a_token_for_somebody_else(audience: Any) -> None:
    """Without `Audience`, a token that names one is for another service."""
    auth = TokenAuth([secret_key(SECRET)])
    refused(hs256(claims() | {"aud": audience}), auth=auth)


def test_what_no_one_asks_for_is_not_looked_at() -> None:
    """Without `Issuer`, a token's issuer is ignored."""
    auth = TokenAuth([secret_key(SECRET)])
    assert takes(auth, token(iss="anybody"))
    nobody: object
    for nobody in (None, "", []):
        assert takes(auth, hs256(claims() | {"aud": nobody}))


@pytest.mark.parametrize("secret", ["", "x", "x" * 31, "\u00e9" * 15 + "x"])
def test_a_weak_secret(secret: str) -> None:
    """Below 32 bytes of UTF-8 it is refused, and not shown."""
    with pytest.raises(ValueError, match=r"must have at least 32 bytes, not \d+$"):
        secret_key(secret)


@pytest.mark.parametrize("secret", ["x" * 32, "\u00e9" * 16])
def test_a_secret_that_is_long_enough(secret: str) -> None:
    """32 bytes, the length of the hash, are enough."""
    assert secret_key(secret) == Key("HS256", secret.encode())
    assert MIN_SECRET_BYTES == hashlib.sha256().digest_size == len(secret.encode())


@pytest.mark.parametrize("kind", ["RS256", "ES256"])
@pytest.mark.parametrize("make", [public_pem, private_pem])
def test_a_pem_key_is_refused_as_a_shared_secret(kind: str, make: Callable[[str], bytes]) -> None:
    """Everybody could sign with a public key; PyJWT refuses it too."""
    with pytest.raises(ValueError):
        secret_key(make(kind).decode())


def test_a_weak_rsa_key() -> None:
    """Below 2048 bits it is refused."""
    with pytest.raises(ValueError, match="must have at least 2048 bits, not 1024"):
        public_key(public_pem("weak RSA"))


@pytest.mark.parametrize("kind", ["ES384", "Ed448"])
def test_a_key_of_another_kind(kind: str) -> None:
    """Three algorithms are enough: keys for other curves are refused."""
    with pytest.raises(ValueError, match="is not an RSA, P-256 or Ed25519 key"):
        public_key(public_pem(kind))


@pytest.mark.parametrize(
    "pem",
    [b"", b"nonsense", private_pem("ES256"), public_pem("ES256")[:-40], b"\xff" * 100],
    ids=["empty", "nonsense", "private", "cut", "binary"],
)
def test_what_is_no_public_key(pem: bytes) -> None:
    """A private key does not belong on a server that only verifies."""
    with pytest.raises(ValueError, match="is not a PEM public key"):
        public_key(pem)


def test_a_certificate_is_no_public_key(tmp_path: Path) -> None:
    """It has an expiry that nothing would check."""
    certificate, _ = self_signed(tmp_path)
    with pytest.raises(ValueError, match="is not a PEM public key"):
        public_key(certificate.read_bytes())


def test_no_key_shows_itself() -> None:
    """No repr contains the secret."""
    key = secret_key(SECRET)
    auth = TokenAuth([key])
    for shown in (repr(key), str(key), repr(auth), repr([auth])):
        assert SECRET not in shown and SECRET[:8] not in shown
