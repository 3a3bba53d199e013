"""The certificate for this machine's addresses, and the CA that signs it."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from videre.command.own_ca import Files, certificate

NOW = datetime.datetime.now(datetime.UTC)
ADDRESSES = [ipaddress.ip_address(each) for each in ("192.0.2.7", "2001:db8::7")]
NAMES = ("localhost", "box", "box.local")


def make(folder: Path, *addresses: str, now: datetime.datetime = NOW) -> Files:
    """Create or reuse the certificate for addresses."""
    wanted = [ipaddress.ip_address(each) for each in addresses] or ADDRESSES
    return certificate(folder, addresses=wanted, names=NAMES, now=now)


def shaken(files: Files, host: str) -> None:
    """Do a TLS handshake as a device that trusts the CA, for a server of this name."""
    client = ssl.create_default_context(cafile=files.ca)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(files.cert, files.key)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    ours = client.wrap_bio(to_client, to_server, server_hostname=host)
    for side in (ours, theirs, ours, theirs):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue


@pytest.mark.parametrize("host", ["192.0.2.7", "2001:db8::7", *NAMES])
def test_devices_that_trust_the_ca_trust_the_server(tmp_path: Path, host: str) -> None:
    """It is valid for each of its addresses and names."""
    shaken(make(tmp_path / "new" / "folder"), host)


@pytest.mark.parametrize("host", ["192.0.2.8", "example.com"])
def test_other_names_are_not_trusted(tmp_path: Path, host: str) -> None:
    """The certificate is for this machine only."""
    with pytest.raises(ssl.SSLCertVerificationError):
        shaken(make(tmp_path), host)


def test_the_ca_signs_for_no_other_name(tmp_path: Path) -> None:
    """Its name constraints say so, and its key is not kept."""
    files = make(tmp_path)
    authority = x509.load_pem_x509_certificate(files.ca.read_bytes())
    limits = authority.extensions.get_extension_for_class(x509.NameConstraints)
    assert limits.critical
    assert {each.value for each in limits.value.permitted_subtrees or ()} == {
        *NAMES,
        *(ipaddress.ip_network(each) for each in ADDRESSES),
    }
    keys = [path for path in tmp_path.iterdir() if b"PRIVATE KEY" in path.read_bytes()]
    assert keys == [files.key]
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_a_valid_certificate_is_kept(tmp_path: Path) -> None:
    """A device that trusts it, or whose user proceeded once, shows no second warning."""
    before = make(tmp_path).cert.read_bytes()
    assert make(tmp_path).cert.read_bytes() == before
    soon = NOW + datetime.timedelta(days=330)
    assert make(tmp_path, now=soon).cert.read_bytes() == before


def damages(files: Files) -> Iterator[None]:
    """Damage the files in one of several ways."""
    for path in files:
        path.unlink()
        yield
        path.write_text("rubbish")
        yield
    files.key.write_bytes(make(files.key.parent / "other").key.read_bytes())
    yield
    files.ca.write_bytes(make(files.key.parent / "other").ca.read_bytes())
    yield


def test_an_unusable_certificate_is_replaced(tmp_path: Path) -> None:
    """This happens after a move to another network, near its expiry, or if a file is damaged."""
    files = make(tmp_path)
    before = files.cert.read_bytes()
    assert (moved := make(tmp_path, "192.0.2.9").cert.read_bytes()) != before
    late = NOW + datetime.timedelta(days=336)
    assert make(tmp_path, "192.0.2.9", now=late).cert.read_bytes() != moved
    files = make(tmp_path)
    for _ in damages(files):
        shaken(make(tmp_path), "192.0.2.7")
