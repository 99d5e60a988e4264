"""`autoflow try`: execute one notebook as a workflow would, and record nothing."""

import datetime
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
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

WATCH_SECONDS = 0.3
"""How often the notebook is checked for changes."""


@click.command("try")
@click.argument("notebook", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--date", type=DATE, metavar="DATE", help="Reference date. By default, the newest that could run.")
@click.option("-p", "given", multiple=True, metavar="NAME=VALUE", help="Set a parameter; VALUE is YAML.")
@click.option(
    "--entry", metavar="WORKFLOW[:LABEL]", help="Which workflow to take parameters from, if there are several."
)
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
    attempt = _Attempt(session, notebook.absolute(), with_upstream=with_upstream)
    values = _values(given, attempt.settings.secrets)
    trial = partial(attempt.trial, entry, values, date.date() if date else None)
    with _warm(attempt.settings, is_wanted=watch) as fork_server:
        if not watch:
            return attempt.carry_out(trial(), fork_server, is_opened=is_opened)
        return _repeat(attempt, trial, fork_server, is_opened=is_opened)


def _repeat(
    attempt: "_Attempt", trial: Callable[[], Trial], fork_server: ForkServer | None, *, is_opened: bool
) -> ExitCode:
    """Execute the notebook each time it, or workflows.yml, is saved, until Ctrl-C."""
    while True:
        before = attempt.stamps
        try:
            code = attempt.carry_out(trial(), fork_server, is_opened=is_opened)
        except AutoflowError as error:
            click.echo(attempt.redaction.of_text(f"error: {error}"), err=True)
            code = ExitCode.FAILURE
        if code is ExitCode.INTERRUPTED:
            return code
        is_opened = is_opened and code is not ExitCode.SUCCESS
        click.echo(f"waiting for {attempt.notebook.name} to be saved (Ctrl-C ends this)")
        try:
            # An editor may replace the file, so that for a moment there is none.
            while attempt.stamps == before or not attempt.notebook.exists():
                time.sleep(WATCH_SECONDS)
        except KeyboardInterrupt:
            return code


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
        if not equals:
            raise click.BadParameter(f"'{text}' is not NAME=VALUE", param_hint="-p")
        values[name] = parse_value(value)
    return values


def _notebooks_dir(session: Session) -> Path | None:
    """Return the folder of AutoFlow's executed notebooks; None if the settings do not name one."""
    try:
        return session.settings.notebooks_dir
    except SettingsError:
        return None


def _inputs_dir(session: Session, notebook: Path) -> Path:
    """Return the inputs folder if the notebook is in it; otherwise the nearest folder above with a workflows.yml."""
    try:
        inputs_dir = session.settings.inputs_dir
    except SettingsError:
        inputs_dir = None
    if inputs_dir and notebook.is_relative_to(inputs_dir):
        return inputs_dir
    return next((folder for folder in notebook.parents if (folder / "workflows.yml").is_file()), notebook.parent)


class _Attempt:
    """Where a notebook is tried: with settings that name a folder for temporary files as that for outputs."""

    def __init__(self, session: Session, notebook: Path, *, with_upstream: bool) -> None:
        self.notebook = notebook
        self._with_upstream = with_upstream
        self._scratch = Path(tempfile.mkdtemp(prefix="autoflow-try-"))
        changes = {
            "AUTOFLOW_INPUTS_DIR": str(_inputs_dir(session, notebook)),
            "AUTOFLOW_OUTPUTS_DIR": str(self._scratch),
            "PREFECT__OUTPUTS__NOTEBOOKS_DIR": str(self._scratch),
            "PREFECT__OUTPUTS__REPORTS_DIR": str(self._scratch),
            "AUTOFLOW_DB_URI": "",
            "AUTOFLOW_DASK_SCHEDULER": "",
        }
        # The token must differ from any word: it is removed from outputs.
        defaults = {"FLOWAPI_URL": NO_FLOWAPI, "FLOWAPI_TOKEN": f"{NO_FLOWAPI}/{uuid.uuid4()}"}
        self._executed_dir = _notebooks_dir(session) or self._scratch
        self.settings = session.trial_settings(changes, defaults)
        self._has_flowapi = not any(name in self.settings.environ.values() for name in defaults.values())
        self.redaction = Redaction(self.settings.secrets)
        self._screen = Screen(self.redaction)

    @property
    def stamps(self) -> Sequence[Hashable]:
        """What changes when the notebook or workflows.yml is saved."""
        return [stamp_of(path) for path in (self.notebook, self.settings.workflows_file)]

    def trial(self, entry: str | None, given: Mapping[str, Json], date: datetime.date | None) -> Trial:
        """Return the trial of the notebook, with the newest date that could run if none is given."""
        file = read_workflows(self.settings) if self.settings.workflows_file.exists() else None
        use = self._use(file, entry) if file else None
        known = ("flowapi_url",) if self._has_flowapi else ()
        trial = Trial(notebook=self.notebook, use=use, given=given, date=date, known=known)
        if date or not file or not trial.needs_date(with_upstream=self._with_upstream):
            return trial
        if not self._has_flowapi:
            click.echo(
                "FLOWAPI_URL is not set: parameters that depend on the date keep their defaults; --date sets them"
            )
            return trial
        assert use  # noqa: S101 - otherwise it needs no date
        return self._for_newest_date(trial, use, file)

    def _use(self, file: WorkflowsFile, entry: str | None) -> Use | None:
        found = list(uses_of(self.notebook, file))
        chosen = [use for use in found if entry in {None, use.entry, use.trigger.workflow.name}]
        if entry and not chosen:
            known = ", ".join(dict.fromkeys(use.entry for use in found)) or "no workflow"
            raise AutoflowError(f"'{entry}' does not use {self.notebook.name}; used by: {known}")
        if not chosen:
            click.echo(f"no workflow in {self.settings.workflows_file} uses {self.notebook.name}")
            return None
        others = ", ".join(dict.fromkeys(use.entry for use in found if use.entry != chosen[0].entry))
        more = f"; --entry chooses another: {others}" if others else ""
        click.echo(f"notebook '{chosen[0].notebook.label}' of {chosen[0].entry}{more}")
        return chosen[0]

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
        if use and not self._with_upstream:
            executed = newest_executed(use, self._executed_dir, trial.date)
        works = trial.works(self.settings, with_upstream=self._with_upstream, executed=executed)
        result = Result()
        for work in works:
            result = self._execute(work, fork_server)
            self._screen.end_line()
            if result.error:
                break
        files = [] if result.outputs is None else [*result.outputs.reports, result.outputs.executed]
        for path in files:
            click.echo(f"  {path}")
        if isinstance(result.error, RunStopped):
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
        stop, results = StopSignal(), list[Result]()

        def run() -> None:
            results.append(carry_out(work, self.settings, Means(stop=stop, fork_server=fork_server)))

        thread = threading.Thread(target=run)
        thread.start()
        with closing(LiveFile(live)) as file:
            try:
                while thread.is_alive():
                    self._show(file)
                    thread.join(POLL_SECONDS)
            except KeyboardInterrupt:
                stop.set("interrupted with Ctrl-C")
                thread.join()
            self._show(file)
        live.unlink(missing_ok=True)
        return (
            results[0] if results else Result(error=AutoflowError("AutoFlow has a bug: the notebook was not executed"))
        )

    def _show(self, file: LiveFile) -> None:
        for event in file.new_events():
            self._screen.show(event)
