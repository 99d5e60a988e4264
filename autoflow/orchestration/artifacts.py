"""Adds an artifact to each run in Prefect's UI: links to its outputs, and the error if it failed."""

import re
from pathlib import Path

from prefect.artifacts import create_markdown_artifact

from autoflow.errors import NotebookError
from autoflow.notebooks.executed import ExecutedNotebook
from autoflow.orchestration.failures import PREFECT_FAILURES
from autoflow.runs.run import Outcome, WorkflowRun
from autoflow.settings import Settings
from autoflow.system.log import logger
from autoflow.utils import cell_anchor, readable_path, redact

LONGEST_SOURCE = 4000
"""The longest excerpt from a failed cell, in characters."""

LONGEST_MESSAGE = 2000
"""The longest error message, in characters."""


def show_outcome(run: WorkflowRun, outcome: Outcome, settings: Settings) -> None:
    """Add the artifact to the flow run in which this is called; ignore failures of Prefect."""
    try:
        create_markdown_artifact(
            redact(summary(run, outcome, settings), settings.secrets),
            key=_key(run.workflow.name),
            description=redact(str(run), settings.secrets),
        )
    except PREFECT_FAILURES as error:
        logger.debug("could not add an artifact for %s in Prefect: %s", run, type(error).__name__)


def summary(run: WorkflowRun, outcome: Outcome, settings: Settings) -> str:
    """Return links to the outputs of each notebook, and the errors of those that failed, as markdown."""
    # Before anything is cut or escaped: then a secret could not be found any more.
    lines = [f"## {_plain(redact(str(run), settings.secrets))}", ""]
    if outcome.skip:
        lines += ["### Skipped", "", _plain(_cut(redact(str(outcome.skip), settings.secrets), LONGEST_MESSAGE)), ""]
    for label, error in () if outcome.skip else sorted(outcome.errors.items()):
        lines += _failure(label, error, outcome, settings)
    if warnings := outcome.warnings:
        lines += ["### Checks warn", "", *(f"- {_plain(redact(each, settings.secrets))}" for each in warnings), ""]
    # A list: Prefect's UI cuts off what is wider than a column of a table.
    for label, outputs in sorted(outcome.outputs.items()):
        lines += [f"### Outputs of {_plain(label)}", ""]
        lines += [f"- {_link(path, settings)}" for path in (outputs.executed, *outputs.reports)]
        lines.append("")
    if outcome.outputs and settings.report_url_base is None:
        lines += ["", "Paths are relative to the outputs folder."]
    return "\n".join(lines) + "\n"


def _failure(label: str, error: Exception, outcome: Outcome, settings: Settings) -> list[str]:
    secrets = settings.secrets
    if not isinstance(error, NotebookError):
        return [f"### {_plain(label)}", "", _fenced(_cut(redact(str(error), secrets), LONGEST_MESSAGE)), ""]
    place = f"{_plain(label)}, cell {error.cell}" if error.cell else _plain(label)
    message = _cut(redact(f"{error.error_class}: {error.error_message}", secrets), LONGEST_MESSAGE)
    lines = [f"### Failed in {place}", "", _fenced(message), ""]
    outputs = outcome.outputs.get(label)
    return [*lines, *_cell(outputs.executed, error.cell, settings)] if outputs and error.cell else lines


def _cell(executed: Path, cell: int, settings: Settings) -> list[str]:
    """Return the source of a cell that failed, and a link to it."""
    link = _link(readable_path(executed), settings, cell_anchor(cell))
    read = ExecutedNotebook.read(executed)
    source = _cut(redact((read and read.source(cell)) or "", settings.secrets), LONGEST_SOURCE)
    return [f"The cell, {link}:", "", _fenced(source, "python"), ""] if source else [f"The cell: {link}", ""]


def _link(path: Path, settings: Settings, anchor: str = "") -> str:
    address = settings.address_of(path)
    if address != str(path):
        return f"[{_plain(path.name + anchor)}](<{address}{anchor}>)"
    # Prefect's history is moved together with the outputs folder.
    path = path.relative_to(settings.outputs_dir) if path.is_relative_to(settings.outputs_dir) else path
    return f"`{path}{anchor}`"


def _cut(text: str, longest: int) -> str:
    """Return the beginning of `text`, up to a space, with a mark if something is left out: no path is cut in two."""
    if len(text) <= longest:
        return text
    kept = text[:longest]
    is_between_words = text[longest].isspace()
    return f"{kept if is_between_words else kept.rpartition(' ')[0] or kept} …"


def _fenced(text: str, language: str = "") -> str:
    """Return `text` as a fenced code block whose fence is longer than any in the text."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}"


def _plain(text: str) -> str:
    """Return `text` on one line, with markdown's special characters escaped."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~-])", r"\\\1", " ".join(text.split()))


def _key(workflow: str) -> str:
    """Return the key of a workflow's artifacts: Prefect allows lowercase letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", workflow.lower()).strip("-") or "workflow"
