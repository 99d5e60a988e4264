"""What is in the inputs folder, read with all the means of AutoFlow."""

from autoflow.notebooks import declared_parameters
from autoflow.parser import parse_workflows_file
from autoflow.settings import Settings
from autoflow.specs import WorkflowsFile


def read_workflows(settings: Settings) -> WorkflowsFile:
    """Read workflows.yml as it is now; raise WorkflowsFileError with all that is wrong in it."""
    return parse_workflows_file(
        settings.workflows_file, inspect_notebook=declared_parameters, inputs_dir=settings.inputs_dir
    )
