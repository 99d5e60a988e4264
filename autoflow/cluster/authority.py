"""A certificate authority (CA) for a cluster, and the certificates that it signs."""

import datetime
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from autoflow.errors import AutoflowError

SERVICES = ("scheduler", "worker", "daemon")
"""Those that need a certificate; all workers have the same one."""

CA_DAYS = 3650
"""How long a new CA is valid, in days."""

_CLOCK_SKEW = datetime.timedelta(hours=1)
"""How far the clocks of machines may differ before a new certificate is valid for all of them."""

_CA, _CA_KEY = "ca.pem", "ca-key.pem"


@dataclass(frozen=True)
class CertificateFile:
    """A file of a folder of certificates.

    The certificate is valid until `until`, in UTC with its time zone. `is_new` is whether it was made just now. `kept`
    is where the certificate is that it replaces, if any.
    """

    path: Path
    until: datetime.datetime
    is_new: bool
    kept: Path | None = None


@dataclass(frozen=True)
class _Authority:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def make_certificates(
    folder: Path, now: datetime.datetime, *, days: int, renew: bool = False
) -> Iterator[CertificateFile]:
    """Make a CA and a certificate for each service in `folder`; yield each file when it is there.

    What is there already stays as it is. With `renew`, certificates of services are replaced, and the old files get
    another name. `now` is in UTC, with its time zone. No certificate outlives the CA, which is never replaced.

    Raises
    ------
    AutoflowError
        If the folder cannot be used, or the CA in it is broken, incomplete or expired.

    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        is_old = (folder / _CA).exists() or (folder / _CA_KEY).exists()
        authority = _read_authority(folder, now) if is_old else _make_authority(folder, now)
        yield CertificateFile(folder / _CA, authority.certificate.not_valid_after_utc, is_new=not is_old)
        for service in SERVICES:
            yield _make_certificate(folder / f"{service}.pem", authority, now, days=days, renew=renew)
    except OSError as error:
        raise AutoflowError(f"{error.filename or folder}: {error.strerror}") from error


def _read_authority(folder: Path, now: datetime.datetime) -> _Authority:
    for name, other in ((_CA, _CA_KEY), (_CA_KEY, _CA)):
        if not (folder / name).exists():
            raise AutoflowError(
                f"{folder} has {other} but not {name}: put {name} back, or choose an empty folder for a new CA"
            )
    certificate = _read_certificate(folder / _CA)
    try:
        key = serialization.load_pem_private_key((folder / _CA_KEY).read_bytes(), None)
    except (ValueError, TypeError) as error:
        raise AutoflowError(f"{folder / _CA_KEY} is not a key in PEM format without a password") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise AutoflowError(f"{folder / _CA_KEY} is not the key of {folder / _CA}: put the right key back")
    if certificate.not_valid_after_utc <= now:
        until = certificate.not_valid_after_utc
        raise AutoflowError(f"the CA in {folder} expired on {until:%Y-%m-%d}: make a new one in another folder")
    return _Authority(certificate, key)


def _make_authority(folder: Path, now: datetime.datetime) -> _Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _named("AutoFlow cluster CA")
    until = now + datetime.timedelta(days=CA_DAYS)
    builder = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), now - _CLOCK_SKEW, until
    )
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write_new(folder / _CA_KEY, _pem(key))
    _write_new(folder / _CA, certificate.public_bytes(serialization.Encoding.PEM))
    return _Authority(certificate, key)


def _make_certificate(
    path: Path, authority: _Authority, now: datetime.datetime, *, days: int, renew: bool
) -> CertificateFile:
    old = _read_certificate(path) if path.exists() else None
    if old and not renew:
        return CertificateFile(path, old.not_valid_after_utc, is_new=False)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _signed(path.stem, key, authority, now, days=days)
    kept = _put_aside(path, old) if old else None
    _write_new(path, certificate.public_bytes(serialization.Encoding.PEM) + _pem(key))
    return CertificateFile(path, certificate.not_valid_after_utc, is_new=True, kept=kept)


def _signed(
    service: str, key: ec.EllipticCurvePrivateKey, authority: _Authority, now: datetime.datetime, *, days: int
) -> x509.Certificate:
    """Return a certificate for a service, which connects to others and listens to them."""
    issuer = authority.certificate
    until = min(now + datetime.timedelta(days=days), issuer.not_valid_after_utc)
    name = _named(f"AutoFlow {service}")
    serial = x509.random_serial_number()
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    of_issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    return (
        x509.CertificateBuilder(issuer.subject, name, key.public_key(), serial, now - _CLOCK_SKEW, until)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(service)]), critical=False)
        .add_extension(of_issuer, critical=False)
        .sign(authority.key, hashes.SHA256())
    )


def _read_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError as error:
        raise AutoflowError(
            f"{path} is not a certificate in PEM format: move it away, or put the right file back"
        ) from error


def _put_aside(path: Path, old: x509.Certificate) -> Path:
    """Give an old certificate a name that says until when it is valid."""
    stem = f"{path.stem}-until-{old.not_valid_after_utc:%Y-%m-%d}"
    names = [f"{stem}.pem", *(f"{stem}-{number}.pem" for number in range(2, 1000))]
    kept = next(path.with_name(name) for name in names if not path.with_name(name).exists())
    return path.rename(kept)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    private = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, private, serialization.NoEncryption())


def _write_new(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, and that is not there yet."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content)
