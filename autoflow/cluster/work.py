"""One notebook of a run with its reports: what is to be done, and doing it on this machine."""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, Self

from autoflow.errors import AutoflowError, NoRoomError, NotebookError, ReportError, RunSkipped, RunStopped
from autoflow.kernels.fork_server import ForkServer
from autoflow.notebooks.executed import checks_of
from autoflow.notebooks.execution import CellCallback, Means, Task, execute
from autoflow.notebooks.live import LiveOutput
from autoflow.notebooks.redaction import Redaction
from autoflow.notebooks.sources import made_from, source_as_json
from autoflow.reports import ReportContext, convert
from autoflow.runs.checks import Checks
from autoflow.runs.records import Claim
from autoflow.runs.run import NotebookOutputs
from autoflow.settings import Settings
from autoflow.specs import Json, PoolSpec, ReportFormat
from autoflow.system.disk import NO_ROOM, full_disk, says_no_room
from autoflow.system.stop_signal import StopSignal
from autoflow.utils import whole_file


@dataclass(frozen=True, kw_only=True)
class Work:
    """A notebook to execute, and the reports to make of it.

    `label` is its name in the workflow, and `notebook` its absolute path. `sources` maps the names of its parameters
    to their sources: a name in `values`, or in `upstream`, which has the names of executed notebooks, or
    ``flowapi_url``. The names of its output files start with `stem`. `live` is the file for its output while it runs,
    from the outputs folder on. `timeout` limits the notebook, and `report_timeout` each report, in seconds; `memory`
    limits what the notebook and all that it starts use, in bytes. `template` is None for the one in the settings.
    `title` and `dates` are for the footers of reports. Of a `pool`, only some notebooks run at a time. It gets the
    `secrets` with these names, and not those that are `hidden` from it. `folders` are the paths, from the outputs
    folder on, of those that it gets as parameters; they are made. With `taken_over`, the name of an executed notebook,
    that one is taken instead of executing the notebook.
    """

    label: str
    notebook: Path
    sources: Mapping[str, str]
    values: Mapping[str, Json]
    upstream: Mapping[str, str]
    stem: str
    timeout: float
    report_timeout: float
    formats: tuple[ReportFormat, ...] = ()
    template: Path | None = None
    title: str = ""
    dates: str = ""
    live: str | None = None
    memory: int | None = None
    pool: PoolSpec | None = None
    secrets: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    folders: Mapping[str, str] = field(default_factory=dict)
    taken_over: str | None = None

    def parameters(self, settings: Settings) -> dict[str, Json]:
        """Return the values of the parameters, by their names in the notebook."""
        values = {**self.values, "flowapi_url": settings.flowapi_url}
        values |= {name: str(settings.outputs_dir / path) for name, path in self.folders.items()}
        values |= {label: str(settings.notebooks_dir / name) for label, name in self.upstream.items()}
        return {name: values[source] for name, source in self.sources.items()}

    @property
    def needed_files(self) -> tuple[str, ...]:
        """The names of the executed notebooks that have to be there."""
        return (*self.upstream.values(), *([self.taken_over] if self.taken_over else []))

    def executed(self, settings: Settings) -> Path:
        """Return the path of the executed notebook."""
        return settings.notebooks_dir / f"{self.stem}.ipynb"


@dataclass(frozen=True, kw_only=True)
class Result:
    """The files that work has produced, None if there are none, its error, None if all went well, and its checks."""

    outputs: NotebookOutputs | None = None
    error: AutoflowError | None = None
    checks: Checks = field(default_factory=Checks)


class Place(Protocol):
    """Where the notebooks of a run are executed."""

    def carry_out(self, work: Work, *, stop: StopSignal, on_cell: CellCallback | None = None) -> Result:
        """Execute the notebook and make its reports; `on_cell` is called for each cell.

        Raises
        ------
        RunStopped
            If `stop` is set before it starts.
        WorkerLostError
            If it is unknown whether the notebook is still running.

        """


class Slot(Protocol):
    """Room for the first notebook of a run, for the duration of a `with` block."""

    def __enter__(self) -> Self:
        """Return itself."""

    def __exit__(self, *_: object) -> None:
        """Give the slot back."""

    def place(self, claim: Claim, lost: Callable[[str], None], /) -> Place:
        """Return where the notebooks of a claimed run are executed.

        `lost` is called with the reason when it becomes unknown whether one of them is still running.
        """


@dataclass(frozen=True)
class ThisMachine:
    """Executes notebooks on this machine, and always has a slot. Kernels start faster with a `fork_server`."""

    settings: Settings
    fork_server: ForkServer | None = None

    def reserve(self) -> Slot:
        """Return a slot."""
        return self

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing."""

    def place(self, _claim: Claim, _lost: Callable[[str], None], /) -> Place:
        """Return itself."""
        return self

    def carry_out(self, work: Work, *, stop: StopSignal, on_cell: CellCallback | None = None) -> Result:
        """Execute the notebook and make its reports, see `Place`."""
        # While AutoFlow was suspended, another one may have begun the run.
        confirm = stop.raise_if_expired
        means = Means(stop=stop, on_cell=on_cell, fork_server=self.fork_server, confirm=confirm)
        return carry_out(work, self.settings, means)


def carry_out(work: Work, settings: Settings, means: Means) -> Result:
    """Execute the notebook and make its reports on this machine.

    The executed notebook is written even if it fails, with the cells that have run. The error is a NotebookError, a
    ReportError, a NoRoomError, RunSkipped or RunStopped.

    Raises
    ------
    RunStopped
        If it is stopped before it starts.

    """
    means.stop.raise_if_set()
    checks = [Checks()]
    result = _result(work, settings, replace(means, on_checks=checks.append))
    return replace(result, checks=checks[-1])


def _result(work: Work, settings: Settings, means: Means) -> Result:
    executed = work.executed(settings)
    try:
        # Someone may have removed them. Without their parents, which are missing while a disk is not mounted.
        settings.notebooks_dir.mkdir(exist_ok=True)
        settings.reports_dir.mkdir(exist_ok=True)
        if work.taken_over:
            _take_over(work.taken_over, work, settings, means)
        else:
            _make_folders(work.folders.values(), settings)
            _execute(work, settings, means)
        reports = tuple(_reports(work, settings, means))
        return Result(outputs=NotebookOutputs(executed, reports))
    except AutoflowError as error:
        reason = _reason_for_no_room(error, settings)
        no_room = NoRoomError(reason, settings.written_folders) if reason else None
        return Result(outputs=NotebookOutputs(executed), error=no_room or error)
    except OSError as error:
        if means.stop.is_set:
            return Result(error=RunStopped(means.stop.reason))
        message = f"notebook '{work.label}': could not write {executed}: {error.strerror}"
        if error.errno in NO_ROOM:
            return Result(error=NoRoomError(message, [settings.notebooks_dir, settings.reports_dir]))
        return Result(error=ReportError(message))


def _take_over(name: str, work: Work, settings: Settings, means: Means) -> None:
    """Copy the executed notebook with this name, which another run has left, to the place of this one's."""
    executed = work.executed(settings)
    with whole_file(executed, means.confirm) as unfinished:
        shutil.copyfile(settings.notebooks_dir / name, unfinished)
    live = settings.outputs_dir / work.live if work.live else None
    LiveOutput(live, Redaction(()), {"notebook": work.label, "executed": executed.name}).end_at_once()
    if means.on_checks:
        means.on_checks(checks_of(executed))


def _make_folders(paths: Iterable[str], settings: Settings) -> None:
    for path in paths:
        folder = settings.outputs_dir / path
        # Without its parents, see above.
        folder.parent.mkdir(exist_ok=True)
        folder.mkdir(exist_ok=True)


def _execute(work: Work, settings: Settings, means: Means) -> None:
    if means.fork_server:
        means.fork_server.keep_private((*work.secrets, *work.hidden))
    task = Task(
        label=work.label,
        parameters=work.parameters(settings),
        environment=_environment(work, settings),
        secrets=(*settings.secrets, *settings.values_of(work.secrets).values()),
        timeout=work.timeout,
        memory=work.memory,
        made_from=made_from(settings.inputs_dir, source_as_json(work.notebook)),
        live=settings.outputs_dir / work.live if work.live else None,
    )
    execute(work.notebook, work.executed(settings), task, means)


def _environment(work: Work, settings: Settings) -> dict[str, str]:
    """Return the environment of the notebook; raise NotebookError if a secret is missing that it needs."""
    found = settings.values_of(work.secrets)
    if missing := [name for name in work.secrets if name not in found]:
        message = f"there is no docker secret and no variable {', '.join(missing)}; set it, or remove it from 'secrets'"
        raise NotebookError(work.label, None, "MissingSecret", message)
    return {name: value for name, value in settings.kernel_environ.items() if name not in work.hidden} | found


def _reports(work: Work, settings: Settings, means: Means) -> Iterator[Path]:
    for report_format in work.formats:
        report = settings.reports_dir / f"{work.stem}.{report_format}"
        try:
            convert(
                work.executed(settings),
                report,
                report_format=report_format,
                context=ReportContext(workflow=work.title, dates=work.dates),
                template=work.template or settings.asciidoc_template_path,
                inputs_dir=work.notebook.parent,
                timeout=work.report_timeout,
                stop=means.stop,
                confirm=means.confirm,
            )
        except ReportError as error:
            reason = Redaction(settings.secrets).of_text(str(error))
            message = f"notebook '{work.label}': could not make its report: {reason}"
            raise ReportError(message, is_death=error.is_death) from None
        yield report


def _reason_for_no_room(error: AutoflowError, settings: Settings) -> str | None:
    """Return why `error` does not count as a failure: it says that a disk is full, or came while one was full."""
    if isinstance(error, RunSkipped | RunStopped):
        return None
    # What a cell says may be about a disk that is not AutoFlow's.
    is_of_cell = isinstance(error, NotebookError) and error.cell is not None
    if not is_of_cell and says_no_room(str(error)):
        return str(error)
    problem = full_disk(settings.written_folders)
    return f"{error}; {problem}" if problem else None
