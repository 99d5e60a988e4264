import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import get_secret_or_env_var
import pytest
from cryptography.hazmat.primitives import serialization
from get_secret_or_env_var import environ as environ_with_secrets

from autoflow.cluster.authority import make_certificates
from autoflow.cluster.security import certificate_problems, first_expiry, security
from autoflow.errors import SettingsError
from autoflow.settings import SchedulerSettings, Settings
from tests.certificates import self_signed
from tests.conftest import Deployed

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)
TLS = "tls://127.0.0.1:8786"


@pytest.fixture
def deployed(deployed: Deployed) -> Deployed:
    """Return folders and the settings of a daemon that a cluster suits."""
    return replace(
        deployed, environ={**deployed.environ, "AUTOFLOW_DB_URI": "postgresql://autoflow@127.0.0.1/autoflow"}
    )


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with certificates that are valid for 30 days."""
    folder = tmp_path_factory.mktemp("certificates")
    list(make_certificates(folder, NOW, days=30))
    return folder


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with certificates of another CA."""
    folder = tmp_path_factory.mktemp("others")
    list(make_certificates(folder, NOW, days=30))
    return folder


def environ(folder: Path, service: str = "worker", address: str = TLS) -> dict[str, str]:
    """Return the settings of a service with the certificates in `folder`."""
    files = {"AUTOFLOW_DASK_CA": str(folder / "ca.pem"), "AUTOFLOW_DASK_CERT": str(folder / f"{service}.pem")}
    return {"AUTOFLOW_DASK_SCHEDULER": address, **files}


def problems(settings: Settings, now: datetime.datetime = NOW) -> list[str]:
    return list(certificate_problems(settings, now))


def test_cluster_needs_postgresql(deployed: Deployed) -> None:
    for uri in ("", f"sqlite:///{deployed.outputs}/other.db"):
        with pytest.raises(SettingsError) as caught:
            deployed.settings(AUTOFLOW_DASK_SCHEDULER="tcp://127.0.0.1:8786", AUTOFLOW_DB_URI=uri)
        (line,) = caught.value.problems
        assert line.startswith("AUTOFLOW_DB_URI: a cluster (AUTOFLOW_DASK_SCHEDULER) needs PostgreSQL")


def test_scheduler_needs_no_folder_token_or_database(certificates: Path) -> None:
    settings = SchedulerSettings.read(environ(certificates, "scheduler"))
    assert security(settings)
    assert settings.secrets
    assert settings.heartbeat_timeout == 60


def test_loopback_needs_no_certificate(deployed: Deployed) -> None:
    for host in ("127.0.0.1", "127.0.0.2", "localhost", "[::1]"):
        assert security(deployed.settings(AUTOFLOW_DASK_SCHEDULER=f"tcp://{host}:8786")) is None


@pytest.mark.parametrize("host", ["scheduler", "192.0.2.7", "0.0.0.0", "[2001:db8::7]", "127.0.0.1.example.org"])
def test_beyond_loopback_nothing_starts_without_encryption(deployed: Deployed, host: str) -> None:
    with pytest.raises(SettingsError) as caught:
        deployed.settings(AUTOFLOW_DASK_SCHEDULER=f"tcp://{host}:8786")
    (line,) = caught.value.problems
    assert line.startswith(f"AUTOFLOW_DASK_SCHEDULER: 'tcp://{host}:8786' is not encrypted")
    with pytest.raises(SettingsError) as caught:
        security(deployed.settings(AUTOFLOW_DASK_SCHEDULER=f"tls://{host}:8786"))
    (line,) = caught.value.problems
    assert line.startswith("AUTOFLOW_DASK_CA and AUTOFLOW_DASK_CERT are not set")


@pytest.mark.parametrize(
    "address",
    [
        "scheduler:8786",
        "tls://scheduler",
        "tls://:8786",
        "tls://scheduler:0",
        "tls://scheduler:65536",
        "ws://a:1",
        "tls://a:1/x",
        "tls://u:p@a:1",
    ],
)
def test_address_that_is_none_is_refused(deployed: Deployed, address: str) -> None:
    with pytest.raises(SettingsError, match="is not an address such as tls://"):
        deployed.settings(AUTOFLOW_DASK_SCHEDULER=address)


def test_one_missing_certificate_is_named(deployed: Deployed, certificates: Path) -> None:
    for name in ("AUTOFLOW_DASK_CA", "AUTOFLOW_DASK_CERT"):
        (line,) = problems(deployed.settings(**environ(certificates) | {name: ""}))
        assert line.startswith(f"{name} is not set: ")


def test_certificate_that_would_not_be_used_is_a_mistake(deployed: Deployed, certificates: Path) -> None:
    (line,) = problems(deployed.settings(**environ(certificates, address="tcp://127.0.0.1:8786")))
    assert line.endswith("write tls:// instead")


@pytest.mark.parametrize("service", ["scheduler", "worker", "daemon"])
def test_certificates_that_are_good_are_used_and_required(deployed: Deployed, certificates: Path, service: str) -> None:
    settings = deployed.settings(**environ(certificates, service))
    found = security(settings)
    assert found
    assert found.require_encryption is True
    expiry = first_expiry(settings)
    assert expiry
    assert abs(expiry - (NOW + 30 * DAY)) < datetime.timedelta(seconds=1)


def test_certificates_can_be_given_as_text_or_as_docker_secrets(
    deployed: Deployed, certificates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca, certificate = (certificates / "ca.pem").read_text(), (certificates / "worker.pem").read_text()
    texts = {"AUTOFLOW_DASK_CA": ca, "AUTOFLOW_DASK_CERT": certificate}
    settings = deployed.settings(AUTOFLOW_DASK_SCHEDULER=TLS, **texts)
    assert security(settings)
    folder = tmp_path / "secrets"
    folder.mkdir()
    monkeypatch.setattr(get_secret_or_env_var, "DOCKER_SECRETS_PATH", folder)
    for name, value in ({**deployed.environ, "AUTOFLOW_DASK_SCHEDULER": TLS}).items():
        monkeypatch.setenv(name, value)
    for name, text in texts.items():
        (folder / name).write_text(text)
    as_secrets = Settings.read(environ_with_secrets)
    assert as_secrets.dask_cert == settings.dask_cert
    assert as_secrets.dask_ca == settings.dask_ca


def test_key_is_shown_nowhere_and_notebooks_do_not_get_it(deployed: Deployed, certificates: Path) -> None:
    text = (certificates / "worker.pem").read_text()
    settings = deployed.settings(**environ(certificates) | {"AUTOFLOW_DASK_CERT": text})
    key = text.partition("PRIVATE KEY-----\n")[2].splitlines()[:-1]
    assert key
    assert set(key) <= set(settings.secrets)
    assert "AUTOFLOW_DASK_CERT" not in settings.kernel_environ
    assert not [line for line in key if line in repr(settings)]


def test_certificates_of_several_cas_are_accepted_while_one_replaces_the_other(
    deployed: Deployed, certificates: Path, others: Path
) -> None:
    both = (others / "ca.pem").read_text() + (certificates / "ca.pem").read_text()
    for folder in (certificates, others):
        assert problems(deployed.settings(**environ(folder) | {"AUTOFLOW_DASK_CA": both})) == []


def wrong(text: str, key: str) -> Mapping[str, str]:
    """Return texts that are no certificate with its key, by what is wrong with them."""
    other = self_signed()
    private = text[text.index("-----BEGIN PRIVATE") :]
    locked = serialization.load_pem_private_key(private.encode(), None).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    )
    certificate = text.removesuffix(private)
    return {
        "the key is that of another certificate": certificate + other.key.decode(),
        "the key has a password: remove it": certificate + locked.decode(),
        "it has no key in PEM format": certificate,
        "it has no certificate in PEM format": private,
        "the other machines would refuse the certificate": other.certificate.decode() + other.key.decode(),
        "neither in PEM format nor the path of a file": key,
    }


def test_each_mistake_has_a_line_that_shows_no_secret(deployed: Deployed, certificates: Path, others: Path) -> None:
    text = (certificates / "worker.pem").read_text()
    key = text.splitlines()[-2]
    for problem, value in wrong(text, key).items():
        try:
            found: Sequence[str] = problems(deployed.settings(**environ(certificates) | {"AUTOFLOW_DASK_CERT": value}))
        except SettingsError as error:
            found = error.problems
        assert len(found) == 1, problem
        assert found[0].startswith("AUTOFLOW_DASK_CERT: ")
        assert problem in found[0]
        assert key not in found[0]
    (stranger,) = problems(
        deployed.settings(**environ(certificates) | {"AUTOFLOW_DASK_CERT": str(others / "worker.pem")})
    )
    assert "is it signed by the CA in AUTOFLOW_DASK_CA?" in stranger
    (swapped,) = problems(deployed.settings(**environ(certificates) | {"AUTOFLOW_DASK_CA": str(others / "ca-key.pem")}))
    assert swapped.startswith("AUTOFLOW_DASK_CA: it is not a certificate")


def test_file_that_cannot_be_read_is_a_mistake(deployed: Deployed, certificates: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("nothing")
    for value, problem in (
        (tmp_path / "gone.pem", "No such file"),
        (tmp_path, "Is a directory"),
        (tmp_path / "text", "not in PEM"),
    ):
        with pytest.raises(SettingsError) as caught:
            deployed.settings(**environ(certificates) | {"AUTOFLOW_DASK_CA": str(value)})
        (line,) = caught.value.problems
        assert line.startswith("AUTOFLOW_DASK_CA: ")
        assert problem in line


def test_dates_of_certificates_are_checked(deployed: Deployed, certificates: Path) -> None:
    settings = deployed.settings(**environ(certificates))
    assert problems(settings, NOW + 29 * DAY) == []
    (line,) = problems(settings, NOW + 31 * DAY)
    assert re.match(
        r"AUTOFLOW_DASK_CERT: the certificate expired at [-\d: ]+ UTC: 'autoflow cluster certificates", line
    )
    (line,) = problems(settings, NOW - DAY)
    assert "check the clock of this machine" in line
    assert [line.split(":")[0] for line in problems(settings, NOW + 4000 * DAY)] == [
        "AUTOFLOW_DASK_CA",
        "AUTOFLOW_DASK_CERT",
    ]


def test_expired_certificate_is_refused_at_the_start(deployed: Deployed, tmp_path: Path) -> None:
    list(make_certificates(tmp_path, NOW - 20 * DAY, days=10))
    with pytest.raises(SettingsError, match="the certificate expired at"):
        security(deployed.settings(**environ(tmp_path)))
