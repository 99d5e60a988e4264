"""`autoflow cluster`: prepare a cluster of several machines."""

import datetime
from collections.abc import Sequence
from pathlib import Path

import click

from autoflow.cli.options import as_json
from autoflow.cli.show import print_json
from autoflow.cluster.authority import CA_DAYS, CertificateFile, make_certificates

DAYS = 365
"""How long certificates are valid unless the user says so."""

NEXT_STEPS = """
Next, give each service two files:
  scheduler       AUTOFLOW_DASK_CA={folder}/ca.pem  AUTOFLOW_DASK_CERT={folder}/scheduler.pem
  each worker     AUTOFLOW_DASK_CA={folder}/ca.pem  AUTOFLOW_DASK_CERT={folder}/worker.pem
  daemon          AUTOFLOW_DASK_CA={folder}/ca.pem  AUTOFLOW_DASK_CERT={folder}/daemon.pem
In a docker stack, these are secrets; docs/how-to/cluster.md has the commands.
Keep ca-key.pem on no machine of the cluster: with it, anyone can join. You need it to renew the certificates:
  autoflow cluster certificates {folder} --renew
"""


@click.group
def cluster() -> None:
    """Prepare a cluster of several machines.

    \b
    Example: autoflow cluster certificates certificates
    """


@cluster.command
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--days",
    type=click.IntRange(1, CA_DAYS),
    default=DAYS,
    show_default=True,
    metavar="DAYS",
    help="How long the certificates of services are valid.",
)
@click.option("--renew", is_flag=True, help="Replace the certificates of services; the old ones get another name.")
@as_json
def certificates(folder: Path, *, days: int, renew: bool, as_json: bool) -> None:
    """Make a certificate authority (CA) and certificates for scheduler, workers and daemon.

    The files in FOLDER are readable by their owner alone. Nothing is overwritten: what is there already stays as it
    is. With --renew, the CA in FOLDER signs new certificates. Each certificate is in one file with its key.

    \b
    Examples: autoflow cluster certificates certificates
              autoflow cluster certificates certificates --renew --days 730
    """
    made = []
    for file in make_certificates(folder, datetime.datetime.now(datetime.UTC), days=days, renew=renew):
        made.append(file)
        if not as_json:
            _print(file)
    if as_json:
        print_json({"certificates": [_as_json(file) for file in made]})
    else:
        click.echo(_next_steps(folder, made))


def _print(file: CertificateFile) -> None:
    what = "made" if file.is_new else "kept"
    old = f"; the old one is now {file.kept.name}" if file.kept else ""
    click.echo(f"{what}  {file.path}  valid until {file.until:%Y-%m-%d}{old}")


def _next_steps(folder: Path, made: Sequence[CertificateFile]) -> str:
    if not any(file.is_new for file in made):
        return f"\nNothing to do. To renew certificates, use 'autoflow cluster certificates {folder} --renew'."
    if any(file.kept for file in made):
        return "\nNext, replace the files of the services, and restart these (docs/how-to/cluster.md)."
    return NEXT_STEPS.rstrip().format(folder=folder.absolute())


def _as_json(file: CertificateFile) -> dict[str, object]:
    return {"path": file.path, "valid_until": file.until.isoformat(), "new": file.is_new, "kept": file.kept}
