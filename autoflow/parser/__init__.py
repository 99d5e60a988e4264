"""Read workflows.yml into specs, and report all its mistakes at once, each with its line."""

from collections.abc import Collection, Iterable
from pathlib import Path

from autoflow.notebooks.redaction import Redaction
from autoflow.parser.cross_checks import check_triggers
from autoflow.parser.document import read_document
from autoflow.parser.inputs_folder import InputsFolder
from autoflow.parser.problems import Problems
from autoflow.parser.reader import Reader
from autoflow.parser.schemas import FileSchema
from autoflow.parser.sensor import read_sensor
from autoflow.parser.value_checks import check_values
from autoflow.parser.workflows import read_definitions, read_pools
from autoflow.settings import Settings
from autoflow.specs import WorkflowsFile

__all__ = ["parse_workflows_file", "read_workflows"]


def read_workflows(settings: Settings) -> WorkflowsFile:
    """Read the current workflows.yml; raise WorkflowsFileError with all its mistakes."""
    return parse_workflows_file(
        settings.workflows_file,
        inputs_dir=settings.inputs_dir,
        secrets=settings.secrets,
        recipients=settings.recipients.keys(),
    )


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
    problems = Problems(path.name, Redaction(secrets))
    reader = Reader(problems)
    keys = reader.keys(FileSchema(), read_document(path, problems), ())
    folder = InputsFolder((inputs_dir or path.parent).absolute())
    pools = read_pools(keys.get("pools", {}), reader)
    workflows = read_definitions(keys.get("workflows", []), reader=reader, folder=folder, pools=pools)
    sensor = read_sensor(keys.get("available_dates_sensor"), reader, recipients=recipients)
    check_triggers(sensor.triggers, workflows, folder=folder, problems=problems)
    problems.raise_if_any()
    private = {name for workflow in workflows for notebook in workflow.notebooks for name in notebook.secrets}
    specs = {workflow.name: workflow.spec(private) for workflow in workflows}
    check_values(sensor.triggers, workflows, folder=folder, problems=problems)
    return WorkflowsFile(workflows=tuple(specs.values()), sensor=sensor.spec(specs), findings=problems.findings)
