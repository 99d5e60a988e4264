"""The dispatcher with real kernels and a real run store, in time that the tests set."""

import datetime
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from autoflow.dates.availability import Availability
from autoflow.model.heartbeat import Heartbeat
from autoflow.model.store import RunStore
from autoflow.parser import read_workflows
from autoflow.runs.records import RunState, WorkflowKey, utc_now
from autoflow.runs.run import WorkflowRun
from autoflow.runs.slots import EXTRA_AFTER
from autoflow.settings import Settings
from autoflow.system.stop_signal import Shutdown, StopSignal
from autoflow.workflows.dispatcher import OUTAGE_PAUSE, Dispatcher, Targets, give_up_crashed
from autoflow.workflows.runner import WorkflowRunner
from autoflow.workflows.stuck_watch import StuckWatch
from tests.conftest import Deployed, write_notebook
from tests.waiting import wait_for
from tests.workflows.conftest import FORK_SERVER

if TYPE_CHECKING:
    from autoflow.runs.stuck import StuckRun

FIRST = datetime.date(2016, 1, 1)
NOTEBOOK = """
import os, pathlib, time
pathlib.Path(f'{workflow}-{reference_date}-started').touch()
while os.path.exists(f'{workflow}-hangs'):
    time.sleep(0.05)
if os.path.exists(f'{workflow}-fails'):
    raise ValueError('it fails')
"""


@dataclass
class Timer:
    """Seconds that pass when a test says so."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Work:
    """A dispatcher whose thread does not run: a test has it advance."""

    deployed: Deployed
    settings: Settings
    store: RunStore
    runner: WorkflowRunner
    timer: Timer = field(default_factory=Timer)
    shutdown: Shutdown = field(default_factory=Shutdown)
    stuck: set[WorkflowKey] = field(default_factory=set)
    later: datetime.timedelta = datetime.timedelta()

    def __post_init__(self) -> None:
        self.dispatcher = Dispatcher(
            self.runner,
            shutdown=self.shutdown,
            stuck=lambda: frozenset(self.stuck),
            clock=lambda: utc_now() + self.later,
            timer=self.timer,
        )

    def hand_over(self, days: int, *names: str) -> None:
        """Hand over a number of dates for the workflows of these names, by default for all."""
        triggers = read_workflows(self.settings).sensor.triggers
        chosen = tuple(each for each in triggers if not names or each.workflow.name in names)
        dates = frozenset(FIRST + datetime.timedelta(days=number) for number in range(days))
        self.dispatcher.hand_over(Targets(triggers=chosen, availability=Availability.of(dates)), self.store.histories())
        self.dispatcher.advance()

    def advance(self, seconds: float = 1.0) -> None:
        self.timer.now += seconds
        self.dispatcher.advance()

    def states(self) -> Mapping[str, list[str]]:
        found: dict[str, list[str]] = {}
        for run in reversed(self.store.runs()):
            found.setdefault(run.key.workflow, []).append(str(run.state))
        return found

    def running(self) -> int:
        return sum(run.state.is_active for run in self.store.runs())

    def wait_for_states(self, **expected: list[str]) -> None:
        """Advance until the runs have these states."""

        def are_there() -> bool:
            self.advance()
            return self.states() == expected

        wait_for(are_there)

    def touch(self, name: str) -> Path:
        path = self.deployed.inputs / name
        path.touch()
        return path


@contextmanager
def working(deployed: Deployed, *names: str, **environ: str) -> Iterator[Work]:
    """Deploy workflows of these names, each of which hangs while there is a file `NAME-hangs`."""
    parameters = "workflow = None\nreference_date = None"
    write_notebook(deployed.inputs / "n.ipynb", NOTEBOOK, parameters=parameters)
    notebook = "{filename: n.ipynb, parameters: {workflow: workflow, reference_date: reference_date}}"
    lines = ["workflows:", *(f"  - {{name: {name}, notebooks: {{n: {notebook}}}}}" for name in names)]
    lines += ["available_dates_sensor:", "  schedule: null", "  workflows:"]
    lines += [f"    - {{workflow_name: {name}, parameters: {{workflow: {name}}}}}" for name in names]
    deployed.write_workflows("\n".join(lines))
    settings = deployed.settings(**environ)
    with ExitStack() as stack:
        store = stack.enter_context(closing(RunStore(settings.db_uri)))
        store.migrate()
        heartbeat = stack.enter_context(Heartbeat(store))
        runner = WorkflowRunner(settings=settings, store=store, heartbeat=heartbeat, fork_server=FORK_SERVER)
        work = Work(deployed, settings, store, runner)
        try:
            yield work
        finally:
            for name in names:
                (deployed.inputs / f"{name}-hangs").unlink(missing_ok=True)
            work.shutdown.close_at_once("the test is over")
            wait_for(lambda: work.dispatcher.join(1.0))


def test_hanging_runs_of_one_entry_keep_no_other_waiting_are_reported_and_can_be_cancelled(
    deployed: Deployed, logged: list[str]
) -> None:
    with working(deployed, "hangs", "b", "c", AUTOFLOW_MAX_PARALLEL_RUNS="2") as work:
        work.touch("hangs-hangs")
        work.hand_over(30, "hangs")
        wait_for(lambda: len(list(deployed.inputs.glob("hangs-*-started"))) == 2)
        work.hand_over(2)
        work.advance(EXTRA_AFTER - 1)
        assert work.states() == {"hangs": ["running"] * 2}

        most = []

        def others_are_done() -> bool:
            work.advance()
            most.append(work.running())
            states = work.states()
            return states.get("b") == states.get("c") == ["succeeded"] * 2

        work.advance(1)
        wait_for(others_are_done)
        assert max(most) == 3
        assert work.states()["hangs"] == ["running"] * 2

        reported: list[StuckRun] = []
        ahead = RunStore(work.settings.db_uri, clock=lambda: utc_now() + datetime.timedelta(hours=2))
        ahead.holder = work.store.holder
        with closing(ahead):
            watch = StuckWatch(ahead, followers=[reported.extend])
            watch.look()
            watch.look()
            assert watch.entries == {each.record.key.workflow_key for each in reported}
        assert {each.record.key.workflow for each in reported} == {"hangs"}
        assert len(reported) == len([line for line in logged if "seems stuck" in line]) == 2

        work.stuck = set(watch.entries)
        assert work.store.ask_to_cancel(reported[0].record.id)
        wait_for(lambda: sorted(work.states()["hangs"]) == ["cancelled", "running"])
        work.hand_over(3)

        def the_rest_is_done() -> bool:
            work.advance()
            states = work.states()
            return states["b"] == states["c"] == ["succeeded"] * 3

        wait_for(the_rest_is_done)
        # Only then does the entry with the stuck run get another slot.
        names = [run.key.workflow for run in reversed(work.store.runs())]
        assert sorted(names[6:8]) == ["b", "c"]


def test_failed_date_runs_again_when_its_delay_is_over_without_a_tick(deployed: Deployed) -> None:
    with working(deployed, "a") as work:
        fails = work.touch("a-fails")
        work.hand_over(1)
        work.wait_for_states(a=["failed"])
        work.advance(100)
        assert work.states() == {"a": ["failed"]}
        fails.unlink()
        work.later = datetime.timedelta(seconds=61)
        work.wait_for_states(a=["failed", "succeeded"])


def test_nothing_starts_on_hold_until_the_next_tick_and_what_runs_goes_on(deployed: Deployed) -> None:
    with working(deployed, "a", AUTOFLOW_MAX_PARALLEL_RUNS="1") as work:
        hangs = work.touch("a-hangs")
        work.hand_over(2)
        wait_for((deployed.inputs / "a-2016-01-01-started").exists)
        work.dispatcher.hold("the sensor is paused in Prefect")
        hangs.unlink()
        work.wait_for_states(a=["succeeded"])
        work.advance(1000)
        assert work.states() == {"a": ["succeeded"]}
        assert not work.dispatcher.has_due
        work.hand_over(2)
        work.wait_for_states(a=["succeeded", "succeeded"])


def test_requested_run_waits_for_a_slot_and_gives_up_when_it_is_cancelled(deployed: Deployed) -> None:
    with working(deployed, "a", AUTOFLOW_MAX_PARALLEL_RUNS="1") as work:
        work.touch("a-hangs")
        work.hand_over(1)
        run = WorkflowRun(
            workflow=read_workflows(work.settings).workflows[0],
            parameters={"workflow": "a"},
            reference_date=FIRST,
            date_ranges=(),
        )
        cancel = StopSignal()
        cancel.set("it was cancelled in Prefect")
        with work.dispatcher.slot(run, cancel) as is_free:
            assert not is_free


def test_start_waits_while_the_run_store_fails(deployed: Deployed, logged: list[str]) -> None:
    with working(deployed, "a", AUTOFLOW_MAX_PARALLEL_RUNS="1") as work:
        hangs = work.touch("a-hangs")
        work.hand_over(3)
        wait_for((deployed.inputs / "a-2016-01-01-started").exists)
        hangs.unlink()
        with closing(sqlite3.connect(deployed.outputs / "autoflow.db")) as database:
            wait_for(lambda: work.states() == {"a": ["succeeded"]})
            database.execute("ALTER TABLE runs RENAME TO gone")
            database.commit()

            def is_noticed() -> bool:
                work.advance(OUTAGE_PAUSE)
                return any("starting nothing until it responds" in line for line in logged)

            wait_for(is_noticed)
            work.advance(OUTAGE_PAUSE)
            assert len([line for line in logged if "starting nothing" in line]) == 1
            database.execute("ALTER TABLE gone RENAME TO runs")
            database.commit()
        work.advance(OUTAGE_PAUSE)
        work.wait_for_states(a=["succeeded"] * 3)


def test_crashed_run_of_another_process_is_due_again_without_a_tick(deployed: Deployed, logged: list[str]) -> None:
    with working(deployed, "a") as work:
        old = RunStore(work.settings.db_uri, clock=lambda: utc_now() - datetime.timedelta(minutes=2))
        (trigger,) = read_workflows(work.settings).sensor.triggers
        with closing(old):
            assert old.claim(WorkflowKey.of_trigger(trigger).on(FIRST))
        work.timer.now = -1.0  # The first look for crashed runs is still to come.
        work.hand_over(1)
        assert work.states() == {"a": ["running"]}
        work.advance(2)
        work.wait_for_states(a=[str(RunState.CRASHED), "succeeded"])
    assert "1 run crashed: no sign of life for 1 min 0 s; due again" in logged


def test_message_about_a_crash_says_which_timeout_is_set(tmp_path: Path, logged: list[str]) -> None:
    uri, eight_seconds = f"sqlite:///{tmp_path}/runs.db", datetime.timedelta(seconds=8)
    old = RunStore(uri, clock=lambda: utc_now() - datetime.timedelta(seconds=9))
    with closing(old), closing(RunStore(uri, crashed_after=eight_seconds)) as store:
        store.migrate()
        assert old.claim(WorkflowKey.of("a", {}).on(FIRST))
        assert give_up_crashed(store) == 1
        (run,) = store.runs()
    assert logged == ["1 run crashed: no sign of life for 8 s; due again"]
    assert run.error
    assert "no sign of life for 8 s" in run.error.message
