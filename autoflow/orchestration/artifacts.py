"""What Prefect's UI shows of a run besides its states: links to its outputs, and why it failed."""

import re
from pathlib import Path

from prefect.artifacts import create_markdown_artifact

from autoflow.errors import NotebookError
from autoflow.log import logger
from autoflow.notebooks.executed import ExecutedNotebook
from autoflow.orchestration.failures import PREFECT_FAILURES
from autoflow.runs.run import Outcome, WorkflowRun
from autoflow.settings import Settings
from autoflow.utils import redact

LONGEST_SOURCE = 4000
"""Of a cell that failed, in characters."""

LONGEST_MESSAGE = 2000
"""Of what went wrong, in characters."""


def show_outcome(run: WorkflowRun, outcome: Outcome, settings: Settings) -> None:
    """Add to Prefect's flow run, in which this is called, what became of it; not in the way if Prefect fails."""
    try:
        create_markdown_artifact(
            redact(summary(run, outcome, settings), settings.secrets),
            key=_key(run.workflow.name),
            description=redact(str(run), settings.secrets),
        )
    except PREFECT_FAILURES as error:
        logger.debug("%s has no artifact in Prefect: %s", run, type(error).__name__)


def summary(run: WorkflowRun, outcome: Outcome, settings: Settings) -> str:
    """Return, in markdown, the outputs of each notebook, and where and why one failed."""
    lines = [f"## {_plain(str(run))}", ""]
    for label, error in sorted(outcome.errors.items()):
        lines += _failure(label, error, outcome)
    if outcome.outputs:
        lines += ["| notebook | executed | reports |", "| --- | --- | --- |"]
    for label, outputs in sorted(outcome.outputs.items()):
        reports = ", ".join(_link(path, settings) for path in outputs.reports)
        lines.append(f"| {_plain(label)} | {_link(outputs.executed, settings)} | {reports} |")
    return "\n".join(lines) + "\n"


def _failure(label: str, error: Exception, outcome: Outcome) -> list[str]:
    if not isinstance(error, NotebookError):
        return [f"### {_plain(label)}", "", _fenced(str(error)[:LONGEST_MESSAGE]), ""]
    place = f"{_plain(label)}, cell {error.cell}" if error.cell else _plain(label)
    message = f"{error.error_class}: {error.error_message}"[:LONGEST_MESSAGE]
    lines = [f"### Failed in {place}", "", _fenced(message), ""]
    executed = outcome.outputs.get(label)
    read = ExecutedNotebook.read(executed.executed) if executed and error.cell else None
    source = read.source(error.cell) if read and error.cell else None
    return [*lines, "The cell:", "", _fenced(source[:LONGEST_SOURCE], "python"), ""] if source else lines


def _link(path: Path, settings: Settings) -> str:
    address = settings.address_of(path)
    return f"[{_plain(path.name)}](<{address}>)" if address != str(path) else f"`{address}`"


def _fenced(text: str, language: str = "") -> str:
    """Return `text` as a block of code that nothing in it can end."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}"


def _plain(text: str) -> str:
    """Return `text` so that markdown shows it as it is."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~-])", r"\\\1", " ".join(text.split()))


def _key(workflow: str) -> str:
    """Return what Prefect calls the artifacts of a workflow: it allows small letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", workflow.lower()).strip("-") or "workflow"
