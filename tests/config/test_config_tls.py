"""Certificates and keys: which pairs are usable, and the fault of each other."""

from __future__ import annotations

import json
import ssl
import warnings
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from process import self_signed

from videre.config import Config, load
from videre.errors import ConfigError


def faults(make: Callable[[], object]) -> tuple[str, ...]:
    """Return the faults of the ConfigError that a call raises."""
    with pytest.raises(ConfigError) as caught:
        make()
    return caught.value.faults


@pytest.fixture
def tls(tmp_path: Path) -> Config:
    """Return a configuration with TLS, a certificate and its key."""
    cert, key = self_signed(tmp_path)
    return Config(tls=True, cert=cert, key=key)


def test_a_certificate_and_a_key_that_do_not_match(tls: Config, tmp_path: Path) -> None:
    """The key of another certificate is refused."""
    (tmp_path / "other").mkdir()
    _, key = self_signed(tmp_path / "other")
    (fault,) = faults(Config(tls=True, cert=tls.cert, key=key).ssl_context)
    assert f"Key: {str(key)!r}: does not match" in fault and repr(str(tls.cert)) in fault


def test_a_key_of_another_type(tls: Config) -> None:
    """A usable key does not match either if the certificate's is of another type."""
    assert tls.key is not None
    known: Any = serialization.load_pem_private_key(tls.key.read_bytes(), None)
    is_rsa = isinstance(known, rsa.RSAPrivateKey)
    other: Any = (
        ec.generate_private_key(ec.SECP256R1()) if is_rsa else rsa.generate_private_key(65537, 2048)
    )
    plain = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    tls.key.write_bytes(other.private_bytes(serialization.Encoding.PEM, form, plain))
    (fault,) = faults(tls.ssl_context)
    assert f"Key: {str(tls.key)!r}: does not match" in fault and repr(str(tls.cert)) in fault


@pytest.mark.parametrize("which", ["cert", "key"])
def test_a_file_removed_between_two_looks(
    which: str, tls: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a fault of the configuration: any other error would end the watch, or the workers."""
    load_chain = ssl.SSLContext.load_cert_chain

    def removed(context: ssl.SSLContext, *args: Any, **kwargs: Any) -> None:
        Path(getattr(tls, which)).unlink()
        load_chain(context, *args, **kwargs)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", removed)
    (fault,) = faults(tls.ssl_context)
    assert "this or the Key: No such file" in fault


@pytest.mark.parametrize(
    "form",
    [serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL],
    ids=["pkcs8", "openssl"],
)
def test_an_encrypted_key_is_refused(form: serialization.PrivateFormat, tls: Config) -> None:
    """A key with a password is refused with an explanation, without a prompt."""
    assert tls.key is not None
    key: Any = serialization.load_pem_private_key(tls.key.read_bytes(), None)
    password = serialization.BestAvailableEncryption(b"secret")
    tls.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, password))
    (fault,) = faults(tls.ssl_context)
    assert f"Key: {str(tls.key)!r}: is encrypted" in fault


@pytest.mark.parametrize("key", ["cert", "key"])
@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_garbage_is_no_certificate(key: str, content: bytes, tls: Config) -> None:
    """A file that is not PEM is refused; the fault names it."""
    path: Path = getattr(tls, key)
    path.write_bytes(content)
    (fault,) = faults(tls.ssl_context)
    assert repr(str(path)) in fault and "PEM" in fault and "None" not in fault


@pytest.mark.parametrize(
    ("days", "words"),
    [(-3, "expired on "), (0, None), (3, "is valid from ")],
    ids=["past", "now", "future"],
)
def test_a_certificate_of_another_time(days: int, words: str | None, tmp_path: Path) -> None:
    """It works, but no client accepts it: `--check` and the start complain."""
    before = datetime.now(UTC)
    cert, key = self_signed(tmp_path, days=days)
    after = datetime.now(UTC)  # perhaps of the next day
    config = load(None, {"Cert": ("--cert", str(cert)), "Key": ("--key", str(key))})
    found = config.complaints()
    if words is None:
        assert found == []
        return
    expected = [now + timedelta(days=days + (days < 0)) for now in (before, after)]
    (complaint,) = found
    assert complaint in [f"--cert: Cert: {str(cert)!r}: {words}{day:%Y-%m-%d}" for day in expected]


@pytest.mark.parametrize("name", ["missing.pem", ".", "key.pem/below", "nul\0", "surrogate\ud800"])
@pytest.mark.parametrize("key", ["Cert", "Key"])
def test_certificates_that_cannot_be_read(name: str, key: str, tls: Config, tmp_path: Path) -> None:
    """A missing, unreadable or invalid path is refused; the fault names it."""
    names = {"Cert": "certificate.pem", "Key": "key.pem", key: name}
    conf = tmp_path / "conf.json"
    conf.write_text(json.dumps({"TLS": True, **names}))
    (fault,) = faults(lambda: load(conf).ssl_context())
    assert fault.startswith(f"{key}: ") or f": {key}: " in fault


def test_a_missing_certificate_and_a_missing_key_are_two_faults(tmp_path: Path) -> None:
    """Faults of files, too, are reported together."""
    config = Config(tls=True, cert=tmp_path / "c", key=tmp_path / "k")
    assert len(faults(config.ssl_context)) == 2


def negotiate(server: ssl.SSLContext, version: ssl.TLSVersion) -> str | None:
    """Return the TLS version that a client with only this version and a server agree on."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore"):  # that 1.1 is old
        context.minimum_version = context.maximum_version = version
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        context.wrap_bio(to_client, to_server),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for end in ends * 3:
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return ends[0].version()


def test_tls_1_2_is_the_oldest(tls: Config) -> None:
    """A client with TLS 1.1 is refused; 1.2 and 1.3 work."""
    context = tls.ssl_context()
    assert context is not None and context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert negotiate(context, ssl.TLSVersion.TLSv1_2) == "TLSv1.2"
    assert negotiate(context, ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
    with pytest.raises(ssl.SSLError):
        negotiate(context, ssl.TLSVersion.TLSv1_1)
