"""Errors, whose messages say what is wrong, where, and what to do, and exit codes."""

import enum
from collections.abc import Sequence


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
    """Somebody pressed Ctrl-C."""


class AutoflowError(Exception):
    """Anything that is not a bug of AutoFlow's; its message is meant for an operator or an analyst."""


class SettingsError(AutoflowError):
    """The environment, a secret or config.toml is missing something or holds something wrong.

    `problems` has a line for each, all of them at once.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class WorkflowsFileError(AutoflowError):
    """workflows.yml does not say what it should.

    `problems` has a line for each mistake, in the order of the file: ``FILE:LINE: PATH: what was expected``.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class FlowApiError(AutoflowError):
    """FlowAPI cannot be reached, refuses the token, or answers something else than it should."""


class RunStoreError(AutoflowError):
    """The database of runs cannot be reached, or was made by another version of AutoFlow."""


class NotebookError(AutoflowError):
    """A notebook did not run to its end.

    `notebook` is its label; `cell` the number of the cell counted from 1, or None where no cell is to blame;
    `error_class` and `error_message` are those of the notebook's own exception, or of what ended it.
    """

    def __init__(self, notebook: str, cell: int | None, error_class: str, error_message: str) -> None:
        place = f"notebook '{notebook}'" if cell is None else f"notebook '{notebook}', cell {cell}"
        super().__init__(f"{place}: {error_class}: {error_message}" if error_message else f"{place}: {error_class}")
        self.notebook = notebook
        self.cell = cell
        self.error_class = error_class
        self.error_message = error_message


class ReportError(AutoflowError):
    """An executed notebook could not be made into a report."""


class PrefectApiError(AutoflowError):
    """The Prefect API that AutoFlow needs does not answer."""


class UnexpectedError(AutoflowError):
    """A bug of AutoFlow's or of a library: what was being done has failed by it, and the rest goes on."""


class RunStopped(AutoflowError):  # noqa: N818 - it is not an error of anybody's
    """A run was asked to end before it was done: AutoFlow is stopping, or somebody cancelled the run."""
