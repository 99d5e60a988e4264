import datetime
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from autoflow.model.output_paths import OutputFolders
from autoflow.model.resuming import Resuming
from autoflow.model.store import RunStore
from autoflow.runs.records import RunKey, RunState
from autoflow.settings import Settings
from autoflow.system.log import logger
from autoflow.workflows.retention import Retention
from tests.conftest import Deployed, write_notebook
from tests.waiting import wait_for

NOW = datetime.datetime(2026, 6, 1)
DAY = datetime.timedelta(days=1)


class Time:
    """A faked time, of which the run store and the retention know."""

    def __init__(self) -> None:
        self.now = NOW

    def clock(self) -> datetime.datetime:
        return self.now

    def timer(self) -> float:
        return (self.now - NOW).total_seconds()


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def settings(deployed: Deployed) -> Settings:
    write_notebook(deployed.inputs / "n.ipynb", "1")
    deployed.write_workflows("""
        workflows:
          - {name: short, keep: {notebooks: 10, reports: 100}, notebooks: {n: {filename: n.ipynb}}}
          - {name: forever, keep: {notebooks: null}, notebooks: {n: {filename: n.ipynb}}}
          - {name: other, notebooks: {n: {filename: n.ipynb}}}
        available_dates_sensor: {schedule: null, workflows: []}
    """)
    return deployed.settings(AUTOFLOW_KEEP_NOTEBOOKS="50")


@pytest.fixture
def store(settings: Settings, time: Time) -> Iterator[RunStore]:
    with closing(RunStore(settings.db_uri, folders=OutputFolders.of(settings), clock=time.clock)) as store:
        store.migrate()
        yield store


@pytest.fixture
def end_run(settings: Settings, store: RunStore, time: Time) -> Callable[..., int]:
    """Return a function that records a run which ended some days ago, with a notebook, its HTML copy and a report."""

    def end(workflow: str, days: float, state: RunState | None = RunState.SUCCEEDED) -> int:
        time.now = NOW - days * DAY
        claim = store.claim(RunKey.of(workflow, {}, datetime.date(2016, 1, 1) + round(10 * days) * DAY))
        assert claim
        name = f"{workflow}-{days}-{state}"
        files = [settings.notebooks_dir / f"{name}.ipynb", settings.notebooks_dir / f"{name}.html"]
        report = settings.reports_dir / f"{name}.pdf"
        for path in (*files, report):
            path.write_text("x")
        if state:
            outputs = {"n": {"notebook": str(files[0]), "reports": [str(report)]}}
            assert store.finish(claim, state, outputs=outputs)
        time.now = NOW
        return claim.id

    return end


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file()}


def test_outputs_are_kept_as_long_as_the_workflow_or_the_settings_say(
    settings: Settings,
    store: RunStore,
    time: Time,
    end_run: Callable[..., int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", logger=logger.name)
    young, old = end_run("short", 9.9), end_run("short", 10.1)
    failed, oldest = end_run("short", 11, RunState.FAILED), end_run("short", 101)
    running = end_run("short", 300, None)
    end_run("forever", 5000)
    end_run("other", 49)
    by_settings, removed = end_run("other", 51), end_run("removed", 51)
    latest = settings.reports_dir / "latest" / "short--n.pdf"
    latest.parent.mkdir()
    latest.touch()
    (settings.notebooks_dir / "mine.ipynb").touch()
    followed: list[None] = []
    retention = Retention(
        settings, store, followers=[lambda: followed.append(None)], clock=time.clock, timer=time.timer
    )
    retention.look()

    kept = {"short-9.9-succeeded", "short-300-None", "forever-5000-succeeded", "other-49-succeeded"}
    notebooks = {f"{name}.{kind}" for name in kept for kind in ("ipynb", "html")}
    assert names(settings.notebooks_dir) == notebooks | {"mine.ipynb"}
    assert "short-101-succeeded.pdf" not in names(settings.reports_dir)
    assert len(names(settings.reports_dir)) == 8
    assert latest.exists()
    runs = {run.id: run for run in store.runs()}
    report = str(settings.reports_dir / "short-10.1-succeeded.pdf")
    assert runs[old].outputs == {"n": {"reports": [report]}}
    assert (runs[old].state, runs[old].pruned_at) == (RunState.SUCCEEDED, NOW)
    assert (runs[oldest].outputs, runs[running].outputs) == ({}, {})
    assert runs[young].pruned_at is None
    assert all("notebook" not in runs[each].outputs["n"] for each in (failed, by_settings, removed))
    assert len(followed) == 1
    assert caplog.messages == ["deleted 6 old outputs (0.0 MB) of 5 runs; their dates stay done"]
    assert all(store.claim(run.key) is None for run in runs.values() if run.state is RunState.SUCCEEDED)


def test_it_looks_once_a_day_and_again_after_a_failure(
    deployed: Deployed, settings: Settings, store: RunStore, time: Time, end_run: Callable[..., int], logged: list[str]
) -> None:
    end_run("short", 10.1)
    text = settings.workflows_file.read_text(encoding="utf-8")
    settings.workflows_file.write_text("workflows: 7", encoding="utf-8")
    retention = Retention(settings, store, clock=time.clock, timer=time.timer)
    retention.look()
    assert len(deployed.executed()) == 1
    assert logged[0].startswith("could not delete old outputs yet: ")
    settings.workflows_file.write_text(text, encoding="utf-8")
    retention.look()
    assert len(deployed.executed()) == 0

    end_run("short", 9.5)
    time.now = NOW + 0.9 * DAY
    retention.look()
    assert len(deployed.executed()) == 1
    time.now = NOW + 1.1 * DAY
    retention.look()
    assert len(deployed.executed()) == 0


def test_everything_is_kept_by_default(deployed: Deployed, store: RunStore, end_run: Callable[..., int]) -> None:
    end_run("forever", 5000)
    end_run("removed", 30_000)
    settings = deployed.settings()
    with Retention(settings, store) as retention:
        wait_for(lambda: retention.has_looked)
    assert len(deployed.executed()) == 2


def test_folder_of_a_run_is_deleted_with_its_notebooks_also_after_a_crash(
    settings: Settings, store: RunStore, time: Time, end_run: Callable[..., int]
) -> None:
    folders = {}
    for days, state in ((11, RunState.SUCCEEDED), (12, RunState.CRASHED), (9, RunState.SUCCEEDED)):
        run_id = end_run("short", days, state)
        folders[days] = settings.outputs_dir / "run_dirs" / f"folder-{days}"
        (folders[days] / "deep").mkdir(parents=True)
        (folders[days] / "deep" / "table.parquet").write_text("x")
        Resuming(store).take_folder(run_id, f"run_dirs/{folders[days].name}", of_run=None)
    outside = settings.outputs_dir / "shared_dirs"
    outside.mkdir()
    Resuming(store).take_folder(end_run("short", 13), "shared_dirs", of_run=None)
    Retention(settings, store, clock=time.clock, timer=time.timer).look()
    assert [folder.exists() for folder in folders.values()] == [False, False, True]
    assert outside.exists()
