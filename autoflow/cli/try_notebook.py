"""`autoflow try`: execute one notebook as a workflow would, and record nothing."""

import datetime
import tempfile
import time
import uuid
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import click

from autoflow.cli.follow import Screen
from autoflow.cli.options import DATE
from autoflow.cli.session import Session, pass_session
from autoflow.cli.trial import Trial, Use, newest_executed, uses_of
from autoflow.cluster.work import Result, Work, carry_out
from autoflow.errors import AutoflowError, ExitCode, RunSkipped, RunStopped, SettingsError
from autoflow.flowapi import FlowApi
from autoflow.kernels.fork_server import ForkServer
from autoflow.notebooks.execution import Means
from autoflow.notebooks.live_files import LiveFile
from autoflow.notebooks.redaction import Redaction
from autoflow.parser import read_workflows
from autoflow.parser.inputs_folder import stamp_of
from autoflow.parser.secret_values import check_for_secrets
from autoflow.parser.single_value import parse_value
from autoflow.runs.plan import make_plan
from autoflow.runs.records import utc_now
from autoflow.runs.statuses import DateStatus
from autoflow.settings import Settings
from autoflow.specs import Json, WorkflowsFile
from autoflow.system.stop_signal import StopSignal

POLL_SECONDS = 0.1
"""How often the output of the notebook is read."""

NO_FLOWAPI = "http://flowapi.invalid"
"""Stands for the address of FlowAPI where none is set; notebooks do not get it."""

OUTPUTS = ("AUTOFLOW_OUTPUTS_DIR", "PREFECT__OUTPUTS__NOTEBOOKS_DIR", "PREFECT__OUTPUTS__REPORTS_DIR")
"""The settings that name folders for outputs."""

UNUSED = {"AUTOFLOW_DB_URI": "", "AUTOFLOW_DASK_SCHEDULER": ""}
"""Settings that trying a notebook does not use."""

WATCH_SECONDS = 0.3
"""How often the notebook is checked for changes."""


@click.command("try")
@click.argument("notebook", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--date", type=DATE, metavar="DATE", help="Reference date. By default, the newest that could run.")
@click.option("-p", "given", multiple=True, metavar="NAME=VALUE", help="Set a parameter; VALUE is YAML.")
@click.option(
    "--entry", metavar="WORKFLOW[:LABEL]", help="Which workflow to take parameters from, if there are several."
)
@click.option("--label", metavar="LABEL", help="Which notebook of the workflow it is, if the workflow uses it twice.")
@click.option("--with-upstream", is_flag=True, help="First execute the notebooks that it depends on.")
@click.option("--open", "is_opened", is_flag=True, help="Open the report, or the executed notebook, at the end.")
@click.option("--watch", is_flag=True, help="Execute it again each time it is saved, until Ctrl-C.")
@pass_session
def try_(  # noqa: PLR0913 - an argument for each option
    session: Session,
    *,
    notebook: Path,
    date: datetime.datetime | None,
    given: Sequence[str],
    entry: str | None,
    label: str | None,
    with_upstream: bool,
    is_opened: bool,
    watch: bool,
) -> ExitCode:
    """Execute NOTEBOOK as AutoFlow would, show its cells as they run, and make its report.

    If workflows.yml uses the notebook, its parameters are those of the workflow. The notebooks that it depends on are
    taken as AutoFlow has executed them last. Everything goes into a new folder for temporary files, and nothing is
    recorded. This needs no daemon, and FlowAPI only for parameters that depend on the date, unless you set it.

    \b
    Example: autoflow try inputs/flows_report.ipynb --date 2016-01-31 --watch
    """
    with _attempt(session, notebook.absolute(), with_upstream=with_upstream) as attempt:
        values = _values(given, attempt.settings.secrets)
        trial = partial(attempt.trial, _Choice(entry, label), values, date.date() if date else None)
        with _warm(attempt.settings, is_wanted=watch) as fork_server:
            if not watch:
                return attempt.carry_out(trial(), fork_server, is_opened=is_opened)
            return _repeat(attempt, trial, fork_server, is_opened=is_opened)


def _repeat(
    attempt: "_Attempt", trial: Callable[[], Trial], fork_server: ForkServer | None, *, is_opened: bool
) -> ExitCode:
    """Execute the notebook each time that it, or what it is made from, is saved, until Ctrl-C."""
    while True:
        saves = _Saves(attempt.notebook, attempt.settings.workflows_file)
        try:
            tried = trial()
            saves.watch(tried.sources(with_upstream=attempt.with_upstream))
            code = attempt.carry_out(tried, fork_server, is_opened=is_opened)
        except AutoflowError as error:
            click.echo(attempt.redaction.of_text(f"Error: {error}"), err=True)
            code = ExitCode.FAILURE
        if code is ExitCode.INTERRUPTED:
            return code
        is_opened = is_opened and code is not ExitCode.SUCCESS
        click.echo(f"waiting for {attempt.notebook.name} to be saved (Ctrl-C ends this)")
        try:
            saves.wait()
        except KeyboardInterrupt:
            return code


class _Saves:
    """Notices when a notebook or one of some other files is saved, also by editors that replace files."""

    def __init__(self, notebook: Path, *others: Path) -> None:
        self._notebook = notebook
        self._before: dict[Path, Hashable] = {}
        self.watch((notebook, *others))

    def watch(self, paths: Iterable[Path]) -> None:
        """Watch these files, too, from now on."""
        for path in paths:
            self._before.setdefault(path, stamp_of(path))

    def wait(self) -> None:
        """Return once a file has been saved since the watch began, and all have settled; the notebook has to exist."""
        last = None
        while True:
            now = {path: stamp_of(path) for path in self._before}
            if now == last and now != self._before and now[self._notebook]:
                return
            last = now
            time.sleep(WATCH_SECONDS)


@dataclass(frozen=True)
class _Choice:
    """Which use of a notebook the user wants, by the names of its entry and of the notebook there; None for any."""

    entry: str | None
    label: str | None

    def __str__(self) -> str:
        """Return it for messages."""
        notebook = f"notebook '{self.label}'" if self.label else "a notebook"
        return f"{notebook} of {self.entry or 'a workflow'}"

    @property
    def is_made(self) -> bool:
        """Whether the user has chosen."""
        return self.entry is not None or self.label is not None

    def among(self, uses: Iterable[Use]) -> list[Use]:
        """Return those that are meant."""
        return [
            use
            for use in uses
            if self.entry in {None, use.entry, use.trigger.workflow.name} and self.label in {None, use.notebook.label}
        ]


@contextmanager
def _attempt(session: Session, notebook: Path, *, with_upstream: bool) -> Iterator["_Attempt"]:
    """Yield where the notebook is tried; its folder is removed at the end if nothing has been written there."""
    scratch = Path(tempfile.mkdtemp(prefix="autoflow-try-"))
    try:
        yield _Attempt(session, notebook, scratch, with_upstream=with_upstream)
    finally:
        with suppress(OSError):
            scratch.rmdir()


@contextmanager
def _warm(settings: Settings, *, is_wanted: bool) -> Iterator[ForkServer | None]:
    """Yield what makes kernels start faster from the second one on, if that is wanted."""
    if not (is_wanted and settings.forked_kernels):
        yield None
        return
    with ForkServer(settings.preload) as server:
        yield server


def _values(given: Sequence[str], secrets: Sequence[str]) -> dict[str, Json]:
    values: dict[str, Json] = {}
    for text in given:
        name, equals, value = text.partition("=")
        check_for_secrets({name: value}, secrets)
        if not (name and equals):
            raise click.BadParameter(f"'{text}' is not NAME=VALUE", param_hint="-p")
        values[name] = parse_value(value)
    return values


def _notebooks_dir(session: Session, changes: Mapping[str, str], defaults: Mapping[str, str]) -> Path | None:
    """Return the folder of AutoFlow's executed notebooks; None if the settings do not name one."""
    try:
        return session.trial_settings(changes, defaults).notebooks_dir
    except SettingsError:
        return None


def _inputs_dir(session: Session, notebook: Path, scratch: Path, defaults: Mapping[str, str]) -> Path:
    """Return the inputs folder if the notebook is in it; otherwise the nearest folder above with a workflows.yml."""
    try:
        outputs = dict.fromkeys(OUTPUTS, str(scratch))
        inputs_dir = session.trial_settings(UNUSED | outputs, defaults).inputs_dir
    except SettingsError:
        inputs_dir = None
    if inputs_dir and notebook.is_relative_to(inputs_dir):
        return inputs_dir
    return next((folder for folder in notebook.parents if (folder / "workflows.yml").is_file()), notebook.parent)


class _Attempt:
    """Where a notebook is tried: with settings that name a folder for temporary files as that for outputs."""

    def __init__(self, session: Session, notebook: Path, scratch: Path, *, with_upstream: bool) -> None:
        self.notebook = notebook
        self.with_upstream = with_upstream
        self._scratch = scratch
        # The token must differ from any word: it is removed from outputs.
        defaults = {"FLOWAPI_URL": NO_FLOWAPI, "FLOWAPI_TOKEN": f"{NO_FLOWAPI}/{uuid.uuid4()}"}
        inputs = {"AUTOFLOW_INPUTS_DIR": str(_inputs_dir(session, notebook, scratch, defaults))} | UNUSED
        self._executed_dir = _notebooks_dir(session, inputs, defaults)
        self.settings = session.trial_settings(inputs | dict.fromkeys(OUTPUTS, str(scratch)), defaults)
        self._unset = [name for name, value in defaults.items() if self.settings.environ.get(name) == value]
        self.redaction = Redaction(self.settings.secrets)
        self._screen = Screen(self.redaction)

    def trial(self, choice: "_Choice", given: Mapping[str, Json], date: datetime.date | None) -> Trial:
        """Return the trial of the notebook, with the newest date that could run if none is given."""
        file = read_workflows(self.settings) if self.settings.workflows_file.exists() else None
        use = self._use(file, choice)
        trial = Trial(notebook=self.notebook, use=use, given=given, date=date, unset=self._unset)
        if date or not file or not use or not trial.needs_date(with_upstream=self.with_upstream):
            return trial
        if self._unset:
            unset = f"{' and '.join(self._unset)} {'is' if len(self._unset) == 1 else 'are'} not set"
            click.echo(f"{unset}: parameters that depend on the date keep their defaults; --date sets them")
            return trial
        return self._for_newest_date(trial, use, file)

    def _use(self, file: WorkflowsFile | None, choice: "_Choice") -> Use | None:
        found = list(uses_of(self.notebook, file)) if file else []
        chosen = choice.among(found)
        if choice.is_made and not chosen:
            known = ", ".join(dict.fromkeys(f"{use.entry} (as '{use.notebook.label}')" for use in found))
            raise AutoflowError(f"{self.notebook.name} is not {choice}; it is used by: {known or 'no workflow'}")
        if not chosen:
            if file:
                click.echo(f"no workflow in {self.settings.workflows_file} uses {self.notebook.name}")
            return None
        use = chosen[0]
        others = dict.fromkeys(each.entry for each in found if each.entry != use.entry)
        labels = dict.fromkeys(each.notebook.label for each in found if each.entry == use.entry)
        labels.pop(use.notebook.label)
        more = f"; --label chooses another: {', '.join(labels)}" if labels else ""
        more += f"; --entry chooses another: {', '.join(others)}" if others else ""
        click.echo(f"notebook '{use.notebook.label}' of {use.entry}{more}")
        return use

    def _for_newest_date(self, trial: Trial, use: Use, file: WorkflowsFile) -> Trial:
        """Return the trial for the newest date that FlowAPI has enough data for."""
        availability = FlowApi.of(self.settings).available_dates().only(file.sensor.cdr_types)
        (plan,) = make_plan([use.trigger], availability, {}, utc_now())
        due = [each for each in plan.dates if each.status in {DateStatus.DUE, DateStatus.BLOCKED}]
        if not due:
            raise AutoflowError(f"FlowAPI has no date for which {use.entry} could run; --date sets one")
        newest = max(due, key=lambda each: each.date)
        click.echo(f"for {newest.date}, the newest date that could run")
        return replace(trial, date=newest.date, missing_dates=newest.missing)

    def carry_out(self, trial: Trial, fork_server: ForkServer | None, *, is_opened: bool) -> ExitCode:
        """Execute the notebook, and perhaps those before it; show their output, and where their files are."""
        use, executed = trial.use, dict[str, Path]()
        if use and not self.with_upstream:
            executed = newest_executed(use, self._executed_dir, trial.date)
            for label, path in executed.items():
                click.echo(f"'{label}' as executed before: {path}")
        works = trial.works(self.settings, with_upstream=self.with_upstream, executed=executed)
        result = Result()
        for work in works:
            result = self._execute(work, fork_server)
            self._screen.end_line()
            if result.error:
                break
        made = [] if result.outputs is None else [*result.outputs.reports, result.outputs.executed]
        files = [path for path in made if path.exists()]
        for path in files:
            click.echo(f"  {path}")
        if isinstance(result.error, RunStopped):
            click.echo("interrupted; nothing was recorded")
            return ExitCode.INTERRUPTED
        if isinstance(result.error, RunSkipped):
            click.echo(f"skipped: {result.error}; nothing was recorded")
            return ExitCode.SUCCESS
        if result.error:
            raise result.error
        click.echo("succeeded; nothing was recorded")
        if is_opened and files:
            click.launch(str(files[0]))
        return ExitCode.SUCCESS

    def _execute(self, work: Work, fork_server: ForkServer | None) -> Result:
        """Execute a notebook in a thread, and show its output meanwhile."""
        live = self._scratch / "live.jsonl"
        live.unlink(missing_ok=True)
        work = replace(work, live=live.name)
        stop = StopSignal()
        means = Means(stop=stop, fork_server=fork_server)
        # A future and not the thread itself: after Ctrl-C in `Thread.join`, Python takes a running thread for ended.
        with ThreadPoolExecutor(max_workers=1) as executor, closing(LiveFile(live)) as file:
            result = executor.submit(carry_out, work, self.settings, means)
            try:
                while not result.done():
                    self._show(file)
                    wait([result], POLL_SECONDS)
            except KeyboardInterrupt:
                stop.set("interrupted with Ctrl-C")
                wait([result])
            self._show(file)
        live.unlink(missing_ok=True)
        return result.result()

    def _show(self, file: LiveFile) -> None:
        for event in file.new_events():
            self._screen.show(event)
