"""Errors that AutoFlow expects; each message says what is wrong, where, and what to do."""

from collections.abc import Sequence


class AutoflowError(Exception):
    """An error that is not a bug in AutoFlow; its message is for an operator or an analyst."""


class SettingsError(AutoflowError):
    """The environment, a secret or config.toml has missing or invalid settings.

    `problems` has one line for each of them.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class WorkflowsFileError(AutoflowError):
    """workflows.yml has mistakes.

    `problems` has one line for each, in the order of the file: ``FILE:LINE: PLACE: what is wrong; what to do``.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class FlowApiError(AutoflowError):
    """FlowAPI cannot be reached, refuses the token, or gives an unexpected answer."""


class RunStoreError(AutoflowError):
    """The run store cannot be reached, or is of another version of AutoFlow."""


class NotebookError(AutoflowError):
    """A notebook did not run to its end.

    `notebook` is its label. `cell` is the number of the failed cell, counted from 1, or None if no cell failed.
    `error_class` and `error_message` are those of the notebook's exception, or of what ended it.
    """

    def __init__(self, notebook: str, cell: int | None, error_class: str, error_message: str) -> None:
        place = f"notebook '{notebook}'" if cell is None else f"notebook '{notebook}', cell {cell}"
        super().__init__(f"{place}: {error_class}: {error_message}" if error_message else f"{place}: {error_class}")
        self.notebook = notebook
        self.cell = cell
        self.error_class = error_class
        self.error_message = error_message


class ReportError(AutoflowError):
    """An executed notebook could not be converted to a report."""


class PrefectApiError(AutoflowError):
    """The Prefect API does not answer."""


class UnexpectedError(AutoflowError):
    """A bug in AutoFlow or a library made one operation fail; the others go on."""


class RunStopped(AutoflowError):  # noqa: N818 - stopping is not an error
    """A run was stopped before its end: AutoFlow is shutting down, or somebody cancelled the run."""
