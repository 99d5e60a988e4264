"""Encryption between the machines of a cluster, and checks of the certificates for it."""

import datetime
import ssl
from collections.abc import Iterator
from contextlib import suppress

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from distributed import Security

from autoflow.errors import SettingsError
from autoflow.settings import SchedulerSettings

RENEW = "'autoflow cluster certificates FOLDER --renew' renews it"


def security(settings: SchedulerSettings, now: datetime.datetime | None = None) -> Security | None:
    """Return how connections to AUTOFLOW_DASK_SCHEDULER are encrypted; None for one on loopback without encryption.

    `now` is in UTC, with its time zone; by default, it is the present.

    Raises
    ------
    SettingsError
        If a certificate is missing, or would be refused.

    """
    if problems := tuple(certificate_problems(settings, now or datetime.datetime.now(datetime.UTC))):
        raise SettingsError(problems)
    return _security(settings) if is_encrypted(settings) else None


def is_encrypted(settings: SchedulerSettings) -> bool:
    """Return whether the cluster uses TLS; the settings refuse an address beyond loopback that does not."""
    return (settings.dask_scheduler or "").startswith("tls://")


def certificate_problems(settings: SchedulerSettings, now: datetime.datetime) -> Iterator[str]:
    """Yield what is wrong with the certificates in the settings at `now`, which is in UTC with its time zone."""
    given = {"AUTOFLOW_DASK_CA": settings.dask_ca, "AUTOFLOW_DASK_CERT": settings.dask_cert}
    missing = [name for name, value in given.items() if value is None]
    if not is_encrypted(settings):
        if len(missing) < len(given):
            yield "AUTOFLOW_DASK_SCHEDULER: tcp:// uses no certificate, but there is one: write tls:// instead"
    elif missing:
        yield (
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set: a cluster beyond 127.0.0.1 needs "
            "certificates, which 'autoflow cluster certificates FOLDER' makes"
        )
    else:
        yield from _wrong_certificates(settings, now)


def first_expiry(settings: SchedulerSettings) -> datetime.datetime | None:
    """Return when the first of the certificates in the settings expires, in UTC with its time zone.

    Of several CAs, the one that lasts longest counts. None if there are none, or if they cannot be read.
    """
    if settings.dask_ca is None or settings.dask_cert is None:
        return None
    with suppress(ValueError):
        ca = max(each.not_valid_after_utc for each in _certificates(settings.dask_ca))
        return min(ca, _certificates(settings.dask_cert.get_secret_value())[0].not_valid_after_utc)
    return None


def _wrong_certificates(settings: SchedulerSettings, now: datetime.datetime) -> Iterator[str]:
    assert settings.dask_ca  # noqa: S101 - the caller has checked both
    assert settings.dask_cert  # noqa: S101
    wrong = [*_wrong_ca(settings.dask_ca, now), *_wrong_certificate(settings.dask_cert.get_secret_value(), now)]
    if not wrong and (reason := _refusal(_security(settings))):
        hint = "is it signed by the CA in AUTOFLOW_DASK_CA?"
        wrong = [f"AUTOFLOW_DASK_CERT: the other machines would refuse the certificate ({reason}): {hint}"]
    yield from wrong


def _wrong_ca(pem: str, now: datetime.datetime) -> Iterator[str]:
    try:
        until = max(certificate.not_valid_after_utc for certificate in _certificates(pem))
    except ValueError:
        yield "AUTOFLOW_DASK_CA: it is not a certificate in PEM format: use ca.pem"
        return
    if until <= now:
        yield f"AUTOFLOW_DASK_CA: the CA expired at {_time(until)}: make a new one and new certificates"


def _wrong_certificate(pem: str, now: datetime.datetime) -> Iterator[str]:
    try:
        certificate = _certificates(pem)[0]
    except ValueError:
        yield "AUTOFLOW_DASK_CERT: it has no certificate in PEM format: use the file of the service, such as worker.pem"
        return
    since, until = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if until <= now:
        yield f"AUTOFLOW_DASK_CERT: the certificate expired at {_time(until)}: {RENEW}"
    if since > now:
        yield f"AUTOFLOW_DASK_CERT: the certificate is valid from {_time(since)} on: check the clock of this machine"
    try:
        key = serialization.load_pem_private_key(pem.encode(), password=None)
    except TypeError:
        yield "AUTOFLOW_DASK_CERT: the key has a password: remove it with 'openssl pkey'"
    except ValueError:
        yield "AUTOFLOW_DASK_CERT: it has no key in PEM format: put the key into the file, after the certificate"
    else:
        if key.public_key() != certificate.public_key():
            yield "AUTOFLOW_DASK_CERT: the key is that of another certificate: put the right one into the file"


def _certificates(pem: str) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(pem.encode())


def _security(settings: SchedulerSettings) -> Security:
    # Dask has a name for each role; a process has one certificate, whatever its role. The key is in the same text.
    certificate = settings.dask_cert.get_secret_value() if settings.dask_cert else None
    roles = {f"tls_{role}_cert": certificate for role in ("client", "scheduler", "worker")}
    return Security(require_encryption=True, tls_ca_file=settings.dask_ca, **roles)


def _refusal(of: Security) -> str | None:
    """Return why a machine with the same certificates would refuse a connection; None if it accepts it."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        ends = (
            of.get_connection_args("client")["ssl_context"].wrap_bio(back, there),
            of.get_listen_args("scheduler")["ssl_context"].wrap_bio(there, back, server_side=True),
        )
        # Each round brings the handshake forward: hello, certificates, the end.
        for end in ends * 4:
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
    except ssl.SSLCertVerificationError as error:
        return str(error.verify_message)
    except ssl.SSLError as error:
        return str(error.reason)
    return None


def _time(time: datetime.datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M} UTC"
