"""A certificate for this machine's addresses, and the small CA that signs it.

The CA may vouch only for the names and addresses of this machine at the time it was made (X.509
name constraints, RFC 5280 4.2.1.10): a phone that installs it trusts nothing else because of it.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

IP = ipaddress.IPv4Address | ipaddress.IPv6Address

# Apple's systems refuse certificates of servers that are valid for more than 825 days.
VALID = datetime.timedelta(days=365)
# A certificate that expires sooner is replaced.
RENEW = datetime.timedelta(days=30)
# For clocks that are behind ours.
SKEW = datetime.timedelta(days=1)


class Files(NamedTuple):
    """The certificate, its key, and the CA's certificate for devices to install."""

    cert: Path
    key: Path
    ca: Path


def certificate(
    folder: Path, *, addresses: Sequence[IP], names: Sequence[str], now: datetime.datetime
) -> Files:
    """Return files in `folder` for these addresses and names; make them if needed.

    Each certificate has a CA of its own, which may vouch for no other addresses. Raises OSError if
    the folder cannot be read or written.
    """
    files = Files(folder / "cert.pem", folder / "key.pem", folder / "ca.pem")
    if not _is_good(files, addresses, names, now):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make(files, addresses, names, now)
    return files


def _is_good(
    files: Files, addresses: Sequence[IP], names: Sequence[str], now: datetime.datetime
) -> bool:
    """Tell whether the files exist, match, and stay valid for all of these for a while."""
    try:
        found = x509.load_pem_x509_certificate(files.cert.read_bytes())
        authority = x509.load_pem_x509_certificate(files.ca.read_bytes())
        found.verify_directly_issued_by(authority)
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(files.cert, files.key)
        own = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except FileNotFoundError:
        return False
    except (ValueError, TypeError, ssl.SSLError, x509.ExtensionNotFound, InvalidSignature):
        return False  # damaged, or half of another pair
    known = {*own.get_values_for_type(x509.IPAddress), *own.get_values_for_type(x509.DNSName)}
    good = found.not_valid_before_utc <= now <= found.not_valid_after_utc - RENEW
    return good and known == {*addresses, *names}


def _make(
    files: Files, addresses: Sequence[IP], names: Sequence[str], now: datetime.datetime
) -> None:
    """Make a CA, sign a certificate, and discard the CA's key."""
    general: list[x509.GeneralName] = [x509.IPAddress(each) for each in addresses]
    general += [x509.DNSName(each) for each in names]
    networks = [x509.IPAddress(ipaddress.ip_network(each)) for each in addresses]
    permitted = [*networks, *(x509.DNSName(each) for each in names)]
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer = _name(f"videre-server on {names[-1]}")
    authority = (
        _builder(issuer, issuer, authority_key, now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.NameConstraints(permitted, None), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    leaf = (
        _builder(_name(names[-1]), issuer, key, now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(general), critical=False)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()),
            critical=False,
        )
        .sign(authority_key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    _write(files.key, key.private_bytes(serialization.Encoding.PEM, form, plain))
    _write(files.cert, leaf.public_bytes(serialization.Encoding.PEM))
    _write(files.ca, authority.public_bytes(serialization.Encoding.PEM))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime.datetime
) -> x509.CertificateBuilder:
    public = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + VALID)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])])


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _write(path: Path, data: bytes) -> None:
    """Write a file that only its owner may read; replace it atomically."""
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123
        file.write(data)
    part.replace(path)
