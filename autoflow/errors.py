"""Errors, whose messages say what is wrong, where, and what to do, and exit codes."""

import enum
from collections.abc import Sequence
from pathlib import Path


class ExitCode(enum.IntEnum):
    """How the process ended."""

    SUCCESS = 0
    FAILURE = 1
    """A run failed, or something that AutoFlow needs is missing or wrong."""
    USAGE = 2
    """The command line was wrong."""
    BUG = 3
    """AutoFlow has a bug."""
    INTERRUPTED = 130
    """The user pressed Ctrl-C."""


class AutoflowError(Exception):
    """Any error that is not a bug in AutoFlow; its message is for an operator or an analyst.

    `is_death` is whether a process died without giving a reason: it may have been killed when AutoFlow was stopped.
    """

    is_death = False


class SettingsError(AutoflowError):
    """Settings are missing or invalid; `problems` has a line for each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class WorkflowsFileError(AutoflowError):
    """workflows.yml is invalid.

    `problems` has one line for each, in the order of the file: ``FILE:LINE: PLACE: what is wrong; what to do``.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class FlowApiError(AutoflowError):
    """FlowAPI cannot be reached, refuses the token, or sends an invalid response."""


class TokenError(FlowApiError):
    """FlowAPI refuses the token, or the token is malformed."""


class RunStoreError(AutoflowError):
    """The database of runs cannot be reached, or was made by a newer version of AutoFlow."""


class RunStoreGoneError(RunStoreError):
    """The SQLite file of the database of runs is missing, or was deleted or replaced while AutoFlow was using it."""


def place_of(notebook: str | None, cell: int | None, code: str | None) -> str:
    """Return where an error occurred, for messages: "notebook 'flows', cell 4 (In [5]: total = 1 / 0)"."""
    where = [f"notebook '{notebook}'"] if notebook else []
    where += [f"cell {cell}" + (f" ({code})" if code else "")] if cell else []
    return ", ".join(where)


class NotebookError(AutoflowError):
    """A notebook failed.

    `notebook` is its label. `cell` is the number of the cell that failed in the notebook as its author sees it,
    counted from 1, or None if it was none of them; `code` is the beginning of that cell ("In [5]: total = 1 / 0").
    `error_class` and `error_message` are those of the exception in the notebook, or of the reason why the kernel ended.
    """

    def __init__(
        self,
        notebook: str,
        cell: int | None,
        error_class: str,
        error_message: str,
        *,
        code: str | None = None,
        is_death: bool = False,
    ) -> None:
        place = place_of(notebook, cell, code)
        super().__init__(f"{place}: {error_class}: {error_message}" if error_message else f"{place}: {error_class}")
        self.notebook = notebook
        self.cell = cell
        self.code = code
        self.error_class = error_class
        self.error_message = error_message
        self.is_death = is_death


class ReportError(AutoflowError):
    """An executed notebook could not be converted to a report.

    `is_timeout` is whether it took too long.
    """

    def __init__(self, message: str, *, is_death: bool = False, is_timeout: bool = False) -> None:
        super().__init__(message)
        self.is_death = is_death
        self.is_timeout = is_timeout


class PrefectApiError(AutoflowError):
    """The Prefect API does not answer."""


class UnexpectedError(AutoflowError):
    """A bug in AutoFlow or in a library, which made one operation fail; AutoFlow continues."""


class RunStopped(AutoflowError):  # noqa: N818 - nothing went wrong
    """A run was stopped before its end: AutoFlow is stopping, or a user cancelled the run."""


class RunSkipped(AutoflowError):  # noqa: N818 - nothing went wrong
    """A notebook has ended its run with `autoflow.skip`; `why` is what it said. `notebook` and `cell` say where."""

    def __init__(self, notebook: str, cell: int | None, why: str) -> None:
        super().__init__(why)
        self.notebook = notebook
        self.cell = cell
        self.why = why


class ClusterError(AutoflowError):
    """The scheduler of the cluster does not respond."""


class WorkerLostError(AutoflowError):
    """A worker of the cluster, or the scheduler, is gone: its kernel may still run until its lease ends."""


class NoRoomError(AutoflowError):
    """A disk is full or read-only: the run is interrupted, and runs again once there is room in `folders`."""

    def __init__(self, message: str, folders: Sequence[Path]) -> None:
        super().__init__(message)
        self.folders = tuple(folders)
