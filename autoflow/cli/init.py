"""`autoflow init`: make a folder with a first workflow."""

import os
import shlex
from collections.abc import Iterable
from pathlib import Path

import click

from autoflow.cli.show import as_json_text, program
from autoflow.errors import AutoflowError
from autoflow.parser.json_schema import json_schema
from autoflow.settings import CONFIG_DIR

STARTER = CONFIG_DIR / "starter"
"""The files of the folder."""


@click.command
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=".")
def init(*, folder: Path) -> None:
    """Make a folder with a first workflow: workflows.yml, two notebooks and a README.

    FOLDER is the current folder by default, and is created if necessary. Nothing is overwritten.

    \b
    Example: autoflow init my-workflows
    """
    contents = {path.name: path.read_bytes() for path in sorted(STARTER.iterdir())}
    # For editors; the first line of workflows.yml names it.
    contents["workflows.schema.json"] = as_json_text(json_schema()).encode()
    written: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _refuse_if_any_exists(folder, contents)
        for name, content in contents.items():
            with (folder / name).open("xb") as file:
                written.append(folder / name)
                file.write(content)
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        raise AutoflowError(
            f"could not write {error.filename or folder}: {error.strerror}; nothing was made"
        ) from error
    click.echo(f"made {', '.join(contents)} in {folder.absolute()}\n\nNext:")
    click.echo(f"  {program()} try {shlex.quote(str(folder / 'report.ipynb'))} --with-upstream")
    click.echo(f"  read {shlex.quote(str(folder / 'README.md'))}")


def _refuse_if_any_exists(folder: Path, names: Iterable[str]) -> None:
    if existing := [name for name in names if os.path.lexists(folder / name)]:
        raise AutoflowError(
            f"{folder.absolute()} already has {', '.join(existing)}: nothing was written; choose another folder"
        )
