"""Read workflows.yml into specs, and report all its mistakes at once, each with its line."""

import hashlib
from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from autoflow.notebooks.redaction import Redaction
from autoflow.parser.cross_checks import check_triggers
from autoflow.parser.document import read_document
from autoflow.parser.inputs_folder import InputsFolder, stamp_of
from autoflow.parser.problems import Problems
from autoflow.parser.reader import Reader
from autoflow.parser.schemas import FileSchema
from autoflow.parser.sensor import read_sensor
from autoflow.parser.value_checks import check_values
from autoflow.parser.workflows import read_definitions, read_pools
from autoflow.settings import Settings
from autoflow.specs import WorkflowsFile

__all__ = ["digest_of", "parse_workflows_file", "read_workflows"]


@dataclass(frozen=True)
class _Read:
    """A valid workflows.yml, what it was read with, and the stamps that the files had just before they were read."""

    given: Hashable
    stamps: Mapping[Path, Hashable]
    file: WorkflowsFile

    def is_current(self, given: Hashable, content: Hashable) -> bool:
        """Return whether reading it again, now that workflows.yml has this `content`, would give the same."""
        return self.given == (given, content) and all(stamp_of(path) == stamp for path, stamp in self.stamps.items())


_last: _Read | None = None
"""What `read_workflows` returned last."""


def read_workflows(settings: Settings) -> WorkflowsFile:
    """Return the current workflows.yml; raise WorkflowsFileError with all its mistakes.

    As long as it and the files that it names are unchanged, they are not read again.
    """
    global _last  # noqa: PLW0603 - one process has one inputs folder, and many places that ask
    path, inputs_dir = settings.workflows_file, settings.inputs_dir
    secrets, recipients = frozenset(settings.secrets), frozenset(settings.recipients)
    given, content, last = (path, inputs_dir, secrets, recipients), digest_of(path), _last
    if last and last.is_current(given, content):
        return last.file
    folder = InputsFolder(inputs_dir.absolute())
    file = _parse(path, folder, secrets, recipients)
    # A notebook whose kernel is missing runs once that is installed, which changes no file.
    is_lasting = content is not None and not any(finding.fails_runs for finding in file.findings)
    _last = _Read((given, content), folder.stamps, file) if is_lasting else None
    return file


def digest_of(path: Path) -> str | None:
    """Return a digest of the content of workflows.yml; None if it cannot be read."""
    try:
        # Opening a file on NFS asks the server whether it has changed; its times may be a minute old.
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def parse_workflows_file(
    path: Path,
    *,
    inputs_dir: Path | None = None,
    secrets: Iterable[str] = (),
    recipients: Collection[str] | None = None,
) -> WorkflowsFile:
    """Read the workflows.yml at `path`, with the notebooks and templates of `inputs_dir`, by default its own folder.

    Parameters must not contain `secrets`. Messages go to `recipients` only; to any if that is None.

    Raises
    ------
    WorkflowsFileError
        If it has mistakes; each gives one line, and none is a mere consequence of another.

    """
    return _parse(path, InputsFolder((inputs_dir or path.parent).absolute()), secrets, recipients)


def _parse(
    path: Path, folder: InputsFolder, secrets: Iterable[str], recipients: Collection[str] | None
) -> WorkflowsFile:
    problems = Problems(path.name, Redaction(secrets))
    reader = Reader(problems)
    keys = reader.keys(FileSchema(), read_document(path, problems), ())
    pools = read_pools(keys.get("pools", {}), reader)
    workflows = read_definitions(keys.get("workflows", []), reader=reader, folder=folder, pools=pools)
    sensor = read_sensor(keys.get("available_dates_sensor"), reader, recipients=recipients)
    check_triggers(sensor.triggers, workflows, folder=folder, problems=problems)
    problems.raise_if_any()
    private = {name for workflow in workflows for notebook in workflow.notebooks for name in notebook.secrets}
    specs = {workflow.name: workflow.spec(private) for workflow in workflows}
    check_values(sensor.triggers, workflows, folder=folder, problems=problems)
    return WorkflowsFile(workflows=tuple(specs.values()), sensor=sensor.spec(specs), findings=problems.findings)
