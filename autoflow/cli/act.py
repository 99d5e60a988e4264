"""The verbs that do: run, backfill, retry, prune."""

# ruff: noqa: PLC0415 - each verb imports what it needs, so that --help and the other verbs are quick

import datetime
import functools
import json
import os
import shlex
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from autoflow.cli.look import DATE, RUN_ID
from autoflow.cli.progress import Watch, watching
from autoflow.cli.session import Session, as_json, pass_session
from autoflow.cli.show import console, print_json, print_table
from autoflow.errors import AutoflowError, RunStopped

if TYPE_CHECKING:
    from autoflow.backfill import WantedDate
    from autoflow.model import RunKey, RunStore
    from autoflow.plan import TriggerPlan
    from autoflow.runs import WorkflowRun
    from autoflow.specs import Json, WorkflowsFile
    from autoflow.workflows import WorkflowRunner

INTERRUPTED = 130

A_CENTURY = 36_525
"""In days."""


@click.command(short_help="Run a workflow for one date, now.")
@click.argument("workflow")
@click.option("--date", type=DATE, required=True, metavar="DATE", help="The reference date, such as 2016-01-31.")
@click.option(
    "-p",
    "given",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter of the workflow; VALUE is YAML. The others are those of workflows.yml.",
)
@click.option(
    "--force",
    is_flag=True,
    help="Run it although it is done, and stays done whatever comes of this, or although dates are not available.",
)
@as_json
@pass_session
def run(  # noqa: PLR0913 - its options
    session: Session, *, workflow: str, date: datetime.datetime, given: Sequence[str], force: bool, as_json: bool
) -> int:
    """Run WORKFLOW for one date, now, and wait for its end.

    \b
    Example: autoflow run flows_above_normal --date 2016-01-31 -p min_increase=30
    """  # noqa: D301 - click's mark
    from autoflow.inputs import read_workflows
    from autoflow.model import RunKey

    file = read_workflows(session.settings)
    parameters = _parameters(file, workflow, given)
    key = RunKey.of(workflow, parameters, date.date())
    with session.store() as store:
        store.give_up_crashed()
        _refuse(store, key, force=force)
        _refuse_dates(session, file, key, parameters, force=force)
        runs = _Runs(session, store, again=force)
        code = runs.carry_out([(file, key, parameters)])
        record = next(iter(store.runs(workflow=workflow, first=date.date(), last=date.date(), limit=1)), None)
    if record is None or code == INTERRUPTED:
        return code or 1
    _tell_end(record.id, runs.states[key], record.outputs, as_json=as_json)
    return code


def _tell_end(run_id: int, state: str, outputs: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json({"id": run_id, "state": state, "outputs": outputs})
        return
    out = console()
    for files in outputs.values():
        for path in (files.get("notebook"), *files.get("reports", ())):
            out.print(f"  {path}", markup=False, soft_wrap=True)
    more = "" if state == "succeeded" else f"; 'autoflow runs show {run_id}' tells more"
    out.print(f"run {run_id} {state}{more}", markup=False)


def _parameters(file: "WorkflowsFile", workflow: str, given: Sequence[str]) -> dict[str, "Json"]:
    """Return the parameters of workflows.yml, with those that are given in the place of theirs."""
    from autoflow.parser.single_value import parse_value
    from autoflow.runs import check_parameters

    if workflow not in {spec.name for spec in file.workflows}:
        names = ", ".join(sorted(spec.name for spec in file.workflows))
        raise AutoflowError(f"there is no workflow '{workflow}' in workflows.yml; there are {names}")
    triggers = [trigger for trigger in file.sensor.triggers if trigger.workflow.name == workflow]
    parameters = dict(triggers[0].parameters) if triggers else {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.BadParameter(f"'{text}' is not NAME=VALUE", param_hint="-p")
        parameters[name] = parse_value(value)
    check_parameters(file.workflow(workflow), parameters)
    return parameters


def _refuse(store: "RunStore", key: "RunKey", *, force: bool) -> None:
    """Raise AutoflowError if the run is done or goes on elsewhere: at once, before a Prefect server is started."""
    from autoflow.model import History

    history = store.histories().get((key.workflow, key.parameters_hash), History())
    if key.reference_date in history.running:
        raise AutoflowError(f"{key} is running already: see 'autoflow runs --state running'")
    if key.reference_date in history.done and not force:
        raise AutoflowError(f"{key} is done already; --force runs it again")


def _refuse_dates(
    session: Session, file: "WorkflowsFile", key: "RunKey", parameters: Mapping[str, Any], *, force: bool
) -> None:
    """Raise AutoflowError if dates that the run needs are not available, or FlowAPI does not tell, at once as well."""
    from autoflow.flowapi import FlowApi
    from autoflow.plan import check_available, date_ranges, requested_trigger

    trigger = requested_trigger(file, key.workflow, parameters)
    date_ranges(trigger, key.reference_date)
    if not force:
        available = FlowApi.of(session.settings).available_dates(file.sensor.cdr_types)
        check_available(trigger, key.reference_date, available)


class _Runs:
    """Runs in the foreground; `states` tells what has become of each so far."""

    def __init__(self, session: Session, store: "RunStore", *, again: bool) -> None:
        self._session = session
        self._store = store
        self._again = again
        self.states: dict[RunKey, str] = {}

    def carry_out(self, wanted: Sequence[tuple["WorkflowsFile", "RunKey", Mapping[str, Any]]]) -> int:
        """Do all that is wanted; return the exit code."""
        from autoflow.foreground import foreground_runner, run_side_by_side
        from autoflow.stop_signal import Shutdown, closing_on_signals

        settings = self._session.settings
        shutdown = Shutdown()
        with closing_on_signals(shutdown) as interrupted:
            try:
                if sys.stderr.isatty():
                    console(stderr=True).print("preparing…", end="\r")
                with foreground_runner(settings, self._store, environ=os.environ, shutdown=shutdown) as runner:
                    # Only now: it imports Prefect.
                    from autoflow.sensor import requested_run

                    runs = [requested_run(file, key.workflow, key.reference_date, given) for file, key, given in wanted]
                    with watching(self._session, total=len(runs)) as watch:
                        one = functools.partial(self._run_one, runner=runner, shutdown=shutdown, watch=watch)
                        run_side_by_side(
                            runs,
                            one,
                            limit=settings.max_parallel_runs,
                            shutdown=shutdown,
                            grace=settings.shutdown_grace,
                        )
            except RunStopped:
                return INTERRUPTED
        if interrupted or shutdown.is_closing:
            return INTERRUPTED
        return 0 if all(state in {"succeeded", "left to others"} for state in self.states.values()) else 1

    def _run_one(self, run: "WorkflowRun", *, runner: "WorkflowRunner", shutdown: Any, watch: Watch) -> None:  # noqa: ANN401 - a Shutdown
        try:
            progress = functools.partial(watch.cell, run.key)
            state = runner.run(run, shutdown=shutdown, again=self._again, progress=progress)
            if state is not None or not shutdown.is_closing:
                self.states[run.key] = str(state or "left to others")
        except AutoflowError as error:
            self.states[run.key] = "failed"
            console(stderr=True).print(f"{run} could not be started: {error}", markup=False)
        watch.ended(run.key)


@click.command(short_help="Run a workflow for a range of dates.")
@click.argument("workflow")
@click.option("--from", "first", type=DATE, required=True, metavar="DATE", help="The first reference date.")
@click.option("--to", "last", type=DATE, required=True, metavar="DATE", help="The last one, included.")
@click.option(
    "--reprocess",
    type=click.Choice(["none", "failed", "all"]),
    default="none",
    show_default=True,
    help="none: dates that were not run yet; failed: those that failed; all: all, also what is done.",
)
@click.option("--newest-first", is_flag=True, help="Begin with the newest date.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be run.")
@as_json
@pass_session
def backfill(  # noqa: PLR0913 - its options
    session: Session,
    *,
    workflow: str,
    first: datetime.datetime,
    last: datetime.datetime,
    reprocess: str,
    newest_first: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Run WORKFLOW for a range of dates, as many side by side as allowed.

    Interrupted and started again, it goes on. What runs elsewhere is left to others. `earliest_date` does not count
    here, but the dates of the stencil have to be available.

    \b
    Example: autoflow backfill flows_above_normal --from 2016-01-01 --to 2016-01-31 --dry-run
    """  # noqa: D301 - click's mark
    from autoflow.backfill import Reprocess, left_out, wanted_dates
    from autoflow.inputs import read_workflows
    from autoflow.model import RunKey

    if first > last:
        raise click.BadParameter("it is after --to", param_hint="--from")
    start, end = first.date(), last.date()
    file = read_workflows(session.settings)
    with session.store() as store:
        plans = _plans(session, file, store, workflow)
        wanted = wanted_dates(plans, first=start, last=end, reprocess=Reprocess(reprocess), newest_first=newest_first)
        others = left_out(plans, wanted, first=start, last=end)
        if dry_run or not wanted:
            return _tell_plan(wanted, others, as_json=as_json)
        runs = _Runs(session, store, again=reprocess == "all")
        keys = [RunKey.of(workflow, each.trigger.parameters, each.date) for each in wanted]
        code = runs.carry_out([(file, key, each.trigger.parameters) for key, each in zip(keys, wanted, strict=True)])
    _tell_summary(runs.states, len(wanted), others, as_json=as_json, interrupted=code == INTERRUPTED)
    return code


def _plans(session: Session, file: "WorkflowsFile", store: "RunStore", workflow: str) -> "list[TriggerPlan]":
    from autoflow.backfill import triggers_of
    from autoflow.flowapi import FlowApi
    from autoflow.model import utc_now
    from autoflow.plan import make_plan

    triggers = triggers_of(file, workflow)
    available = FlowApi.of(session.settings).available_dates(file.sensor.cdr_types)
    store.give_up_crashed()
    return make_plan(triggers, available, store.histories(), utc_now())


def _tell_plan(wanted: "Sequence[WantedDate]", others: Mapping[str, int], *, as_json: bool) -> int:
    dates = [each.date for each in wanted]
    if as_json:
        print_json({"would_run": dates, "left_out": others})
        return 0
    from autoflow.plan import in_ranges

    out = console()
    what = f"{len(dates)} to run: {in_ranges(sorted(set(dates)))}" if dates else "nothing to run"
    out.print(what, markup=False)
    _print_left_out(others)
    return 0


def _tell_summary(
    states: "Mapping[RunKey, str]", total: int, others: Mapping[str, int], *, as_json: bool, interrupted: bool
) -> None:
    counts = Counter(states.values())
    if as_json:
        print_json({"wanted": total, "states": counts, "left_out": others, "interrupted": interrupted})
        return
    rows = [*counts.items()]
    if total > len(states):
        rows.append(("not begun", total - len(states)))
    print_table(["", "dates#"], rows)
    _print_left_out(others)
    if interrupted:
        console().print("interrupted; the same command goes on from here", markup=False)


def _print_left_out(others: Mapping[str, int]) -> None:
    if others:
        reasons = ", ".join(f"{count} {reason}" for reason, count in others.items())
        console().print(f"left out: {reasons}", markup=False)


@click.command(short_help="Make runs that failed due again.")
@click.argument("run_id", metavar="[ID]", type=RUN_ID, required=False)
@click.option("--failed", is_flag=True, help="All dates that failed, of all that workflows.yml runs.")
@as_json
@pass_session
def retry(session: Session, *, run_id: int | None, failed: bool, as_json: bool) -> None:
    """Make runs that failed due again, at the next tick: also those that were given up or, by ID, cancelled.

    \b
    Examples: autoflow retry 17
              autoflow retry --failed
    """  # noqa: D301 - click's mark
    if (run_id is None) != failed:
        raise click.UsageError("either the ID of a run or --failed is expected")
    from autoflow.inputs import read_workflows

    file = read_workflows(session.settings)
    with session.store() as store:
        keys = [_failed_key(store, run_id)] if run_id is not None else _failed_keys(file, store)
        store.forgive(keys)
    problems = {key: _why_never_due(file, key) for key in keys}
    if as_json:
        print_json(
            [
                {"workflow": key.workflow, "reference_date": key.reference_date, "never_due": problem}
                for key, problem in problems.items()
            ]
        )
        return
    for key, problem in problems.items():
        is_due = "is due again if its dates are available"
        click.echo(f"{key} {f'is forgiven, but no tick will run it: {problem}' if problem else is_due}")
    if not keys:
        click.echo("nothing has failed")


def _failed_key(store: "RunStore", run_id: int) -> "RunKey":
    from autoflow.model import History

    record = store.run(run_id)
    if record is None:
        raise AutoflowError(f"there is no run {run_id}; 'autoflow runs' lists those that there are")
    key = record.key
    history = store.histories().get((key.workflow, key.parameters_hash), History())
    if key.reference_date in history.running:
        raise AutoflowError(f"{key} is running")
    if key.reference_date in history.done:
        raise AutoflowError(f"{key} is done; 'autoflow run --force' runs it again")
    return key


def _why_never_due(file: "WorkflowsFile", key: "RunKey") -> str | None:
    """Return why no tick will run `key`, and what to do about it; FlowAPI is not asked which dates it has."""
    from autoflow.model import RunKey
    from autoflow.plan import date_ranges, requested_trigger, why_never_due
    from autoflow.runs import check_parameters

    entries = {
        RunKey.of(each.workflow.name, each.parameters, key.reference_date): each for each in file.sensor.triggers
    }
    problem = why_never_due(entries.get(key), key.reference_date)
    if problem is None:
        return None
    parameters = json.loads(key.parameters)
    try:
        trigger = requested_trigger(file, key.workflow, parameters)
        check_parameters(trigger.workflow, parameters)
        date_ranges(trigger, key.reference_date)
    except AutoflowError:
        return problem
    words = ["autoflow", "run", key.workflow, "--date", str(key.reference_date)]
    for name, value in parameters.items():
        words += ["-p", f"{name}={json.dumps(value, ensure_ascii=False)}"]
    return f"{problem}; this does: {shlex.join(words)}"


def _failed_keys(file: "WorkflowsFile", store: "RunStore") -> "list[RunKey]":
    from autoflow.model import History, RunKey

    histories = store.histories()
    keys = []
    for trigger in file.sensor.triggers:
        key = RunKey.of(trigger.workflow.name, trigger.parameters, datetime.date.min)
        history = histories.get((key.workflow, key.parameters_hash), History())
        undone = sorted(history.failures.keys() - history.done - history.running)
        dates = [date for date in undone if history.failures[date].count and not history.failures[date].cancelled]
        keys += [RunKey(key.workflow, key.parameters, date) for date in dates]
    return keys


@click.command(short_help="Delete old outputs and history.")
@click.option(
    "--older-than", "days", type=click.IntRange(1, A_CENTURY), required=True, metavar="DAYS", help="Age of what goes."
)
@click.option("--dry-run", is_flag=True, help="Only tell what would be deleted.")
@as_json
@pass_session
def prune(session: Session, *, days: int, dry_run: bool, as_json: bool) -> None:
    """Delete outputs and Prefect's history of runs that ended long ago.

    That their dates are done stays on record. Only files go that AutoFlow itself has put into its outputs folders.

    \b
    Example: autoflow prune --older-than 365 --dry-run
    """  # noqa: D301 - click's mark
    from autoflow.model import utc_now
    from autoflow.pruning import delete_files, old_runs

    before = utc_now() - datetime.timedelta(days=days)
    with session.store() as store:
        found = old_runs(store, session.settings, before)
        files, size = sum(len(each.files) for each in found), sum(each.bytes for each in found)
        flow_runs = sum(each.record.flow_run_id is not None for each in found)
        if not dry_run:
            flow_runs = _prune_prefect(session, [each.record.flow_run_id for each in found], before)
            for each in found:
                delete_files(each, store)
    if as_json:
        print_json({"dry_run": dry_run, "files": files, "bytes": size, "flow_runs": flow_runs})
        return
    done = "would delete" if dry_run else "deleted"
    click.echo(f"{done} {files} files ({size / 1e6:.1f} MB) of {len(found)} runs, and {flow_runs} runs in Prefect")


def _prune_prefect(session: Session, ids: Sequence[str | None], before: datetime.datetime) -> int:
    from autoflow.foreground import reachable_prefect
    from autoflow.stop_signal import Shutdown

    settings = session.settings
    if not settings.prefect_api_url and not (settings.prefect_home / "prefect.db").exists():
        return 0
    with reachable_prefect(settings, os.environ, shutdown=Shutdown()):
        # Only now: it imports Prefect, which reads its settings from the environment.
        from autoflow.prefect_history import delete_flow_runs

        return delete_flow_runs([each for each in ids if each], before=before)
