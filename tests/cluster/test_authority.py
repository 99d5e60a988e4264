import datetime
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from autoflow.cli import main
from autoflow.cluster.authority import make_certificates
from autoflow.errors import AutoflowError

NOW = datetime.datetime(2026, 11, 29, 12, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)


def made(
    folder: Path, now: datetime.datetime = NOW, *, days: int = 365, renew: bool = False
) -> Mapping[str, x509.Certificate]:
    """Make certificates, and return those that are in the folder then."""
    names = [file.path.name for file in make_certificates(folder, now, days=days, renew=renew)]
    return {name: x509.load_pem_x509_certificate((folder / name).read_bytes()) for name in names}


def contents(folder: Path) -> Mapping[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_each_service_gets_a_certificate_of_the_ca_with_its_key(tmp_path: Path) -> None:
    found = made(tmp_path / "new" / "folder")
    assert list(found) == ["ca.pem", "scheduler.pem", "worker.pem", "daemon.pem"]
    for name in ("scheduler.pem", "worker.pem", "daemon.pem"):
        found[name].verify_directly_issued_by(found["ca.pem"])
        key = serialization.load_pem_private_key((tmp_path / "new" / "folder" / name).read_bytes(), None)
        assert key.public_key() == found[name].public_key()
        assert found[name].not_valid_after_utc == NOW + 365 * DAY
        assert found[name].not_valid_before_utc < NOW
    assert len({certificate.serial_number for certificate in found.values()}) == 4


def test_nobody_else_can_read_the_files(tmp_path: Path) -> None:
    folder = tmp_path / "certificates"
    made(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert len(list(folder.iterdir())) == 5


def test_key_of_the_ca_is_in_its_own_file_alone(tmp_path: Path) -> None:
    made(tmp_path)
    key = (tmp_path / "ca-key.pem").read_text().splitlines()[1]
    assert [name for name, content in contents(tmp_path).items() if key.encode() in content] == ["ca-key.pem"]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    made(tmp_path)
    before = contents(tmp_path)
    assert all(not file.is_new for file in make_certificates(tmp_path, NOW + DAY, days=1))
    assert contents(tmp_path) == before


def test_only_what_is_missing_is_made(tmp_path: Path) -> None:
    made(tmp_path)
    (tmp_path / "worker.pem").unlink()
    assert [file.path.name for file in make_certificates(tmp_path, NOW, days=1) if file.is_new] == ["worker.pem"]


def test_renewal_keeps_the_ca_and_the_old_certificates(tmp_path: Path) -> None:
    old = made(tmp_path, days=10)
    before = contents(tmp_path)
    renewed = made(tmp_path, NOW + 9 * DAY, days=20, renew=True)
    again = made(tmp_path, NOW + 10 * DAY, days=19, renew=True)
    assert old["ca.pem"] == renewed["ca.pem"] == again["ca.pem"]
    assert renewed["worker.pem"].not_valid_after_utc == NOW + 29 * DAY
    renewed["worker.pem"].verify_directly_issued_by(old["ca.pem"])
    assert (tmp_path / "worker-until-2026-12-09.pem").read_bytes() == before["worker.pem"]
    assert (
        x509.load_pem_x509_certificate((tmp_path / "worker-until-2026-12-28.pem").read_bytes()) == renewed["worker.pem"]
    )
    made(tmp_path, NOW + 10 * DAY, days=19, renew=True)
    assert (tmp_path / "worker-until-2026-12-28-2.pem").exists()


def test_certificate_does_not_outlive_its_ca(tmp_path: Path) -> None:
    ca = made(tmp_path)["ca.pem"]
    late = made(tmp_path, ca.not_valid_after_utc - 10 * DAY, days=365, renew=True)
    assert late["daemon.pem"].not_valid_after_utc == ca.not_valid_after_utc


def test_expired_ca_signs_nothing(tmp_path: Path) -> None:
    until = made(tmp_path)["ca.pem"].not_valid_after_utc
    before = contents(tmp_path)
    with pytest.raises(AutoflowError, match=f"expired on {until:%Y-%m-%d}: make a new one in another folder"):
        made(tmp_path, until + DAY, renew=True)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["ca.pem", "ca-key.pem"])
def test_half_of_a_ca_is_refused(tmp_path: Path, name: str) -> None:
    made(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(AutoflowError, match=rf"but not {name}: put {name} back, or choose an empty folder"):
        made(tmp_path, renew=True)


def test_wrong_files_are_refused_and_stay_as_they_are(tmp_path: Path) -> None:
    mine, other = tmp_path / "mine", tmp_path / "other"
    made(mine)
    made(other)
    before = contents(mine)
    for name, content, problem in (
        ("ca-key.pem", (other / "ca-key.pem").read_bytes(), "is not the key of"),
        ("ca-key.pem", b"no key", "is not a key in PEM format"),
        ("ca.pem", b"no certificate", "is not a certificate in PEM format"),
        ("worker.pem", b"no certificate", "is not a certificate in PEM format"),
    ):
        (mine / name).write_bytes(content)
        with pytest.raises(AutoflowError, match=problem):
            made(mine, renew=True)
        assert (mine / name).read_bytes() == content
        (mine / name).write_bytes(before[name])


def test_folder_that_cannot_be_used_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AutoflowError, match=f"{tmp_path}/file/below: Not a directory"):
        made(tmp_path / "file" / "below")
    assert main(["cluster", "certificates", str(tmp_path / "file")], {}) == 2
    assert "is a file" in capsys.readouterr().err


def test_verb_needs_no_settings_and_says_what_to_do_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(tmp_path / "certificates")
    assert main(["cluster", "certificates", folder], {}) == 0
    printed = capsys.readouterr().out
    assert f"made  {folder}/worker.pem  valid until " in printed
    assert f"AUTOFLOW_DASK_CERT={folder}/worker.pem" in printed
    assert f"autoflow cluster certificates {folder} --renew" in printed
    assert main(["cluster", "certificates", folder], {}) == 0
    assert "Nothing to do" in capsys.readouterr().out
    assert main(["cluster", "certificates", folder, "--renew", "--days", "30", "--json"], {}) == 0
    renewed = json.loads(capsys.readouterr().out)["certificates"]
    assert [Path(each["path"]).name for each in renewed if each["new"]] == ["scheduler.pem", "worker.pem", "daemon.pem"]
    assert renewed[0]["kept"] is None
    assert Path(renewed[1]["kept"]).name.startswith("scheduler-until-")
