"""The database itself counts how often the runs of an entry in a year have changed, whoever changes them."""

import datetime
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import alembic.command
import pytest
import sqlalchemy as sa

from autoflow.dates.periods import Every
from autoflow.model.database import alembic_config
from autoflow.model.output_paths import OutputFolders
from autoflow.model.revisions import EntryYear, RunsByYear
from autoflow.model.store import RunStore
from autoflow.runs.records import RunError, RunKey, RunState, WorkflowKey
from tests.model.conftest import Clock

FLOWS = WorkflowKey.of("flows", {"region": "north"})
WEEKLY = WorkflowKey.of("flows", {"region": "north"}, Every.WEEK)
DAY = datetime.date(2016, 1, 3)
NOW = datetime.datetime(2026, 1, 1)
FOLDERS = OutputFolders(outputs=Path("/o"), notebooks=Path("/o/notebooks"), reports=Path("/o/reports"))


@pytest.fixture
def by_year(store: RunStore) -> RunsByYear:
    return RunsByYear(store.database, FOLDERS)


def run(store: RunStore, key: RunKey, state: RunState = RunState.SUCCEEDED, *, is_try_out: bool = False) -> int:
    claim = store.claim(key, is_try_out=is_try_out)
    assert claim
    assert store.finish(claim, state, error=RunError("E", "m") if state.is_failure else None)
    return claim.id


def changed(by_year: RunsByYear, change: Callable[[], object]) -> set[EntryYear]:
    """Return the years whose revision is another one after a call."""
    before = by_year.revisions()
    change()
    after = by_year.revisions()
    return {each for each in before.keys() | after.keys() if before.get(each) != after.get(each)}


def test_every_change_of_a_run_counts_for_its_entry_and_its_year(
    store: RunStore, by_year: RunsByYear, clock: Clock
) -> None:
    year = EntryYear(FLOWS, 2016)
    failed = run(store, FLOWS.on(DAY), RunState.FAILED)
    run(store, FLOWS.on(datetime.date(2015, 12, 31)))
    run(store, WEEKLY.on(DAY))
    assert by_year.revisions().keys() == {year, EntryYear(FLOWS, 2015), EntryYear(WEEKLY, 2016)}

    assert changed(by_year, lambda: store.forgive([FLOWS.on(DAY)])) == {year}
    assert changed(by_year, lambda: store.forget_outputs(failed, left={}, with_flow_run=True)) == {year}
    claim = store.claim(FLOWS.on(DAY))
    assert claim
    assert changed(by_year, lambda: store.renew([claim])) == set()
    assert changed(by_year, lambda: store.name_flow_run(claim, "f")) == set()
    clock.now += datetime.timedelta(hours=1)
    assert changed(by_year, store.give_up_crashed) == {year}
    assert changed(by_year, lambda: store.finish(claim, RunState.SUCCEEDED)) == {year}
    assert changed(by_year, lambda: store.delete(failed)) == {year}


def test_runs_and_histories_are_those_of_the_entry_and_the_year(store: RunStore, by_year: RunsByYear) -> None:
    first, last = datetime.date(2016, 1, 1), datetime.date(2016, 12, 31)
    for date in (first, last, datetime.date(2015, 12, 31), datetime.date(2017, 1, 1)):
        run(store, FLOWS.on(date))
    run(store, WEEKLY.on(DAY))
    year = EntryYear(FLOWS, 2016)
    assert [record.key for record in by_year.runs(year)] == [FLOWS.on(last), FLOWS.on(first)]
    assert by_year.histories(year, with_starts=False)[FLOWS].done == {first, last}
    assert not by_year.histories(year, with_starts=False)[FLOWS].started
    assert by_year.histories(year, with_starts=True)[FLOWS].started.keys() == {first, last}


def test_try_outs_are_listed_once_newest_first(store: RunStore, by_year: RunsByYear) -> None:
    first, second = (RunKey.of("flows", {"level": level}, DAY) for level in (1, 2))
    for key in (first, second, first):
        run(store, key, RunState.FAILED, is_try_out=True)
    run(store, FLOWS.on(DAY))
    assert by_year.try_outs() == [first, second]


def test_arrivals_have_another_stamp_once_a_date_arrives_vanishes_or_returns(
    store: RunStore, by_year: RunsByYear, clock: Clock
) -> None:
    stamps = [by_year.arrivals_stamp()]
    days = frozenset(datetime.date(2016, 1, number) for number in (1, 2))
    for dates in (days, days | {DAY}, days, days | {DAY}):
        clock.now += datetime.timedelta(days=1)
        store.note_dates({"calls": dates})
        stamps.append(by_year.arrivals_stamp())
        store.note_dates({"calls": dates})
        assert by_year.arrivals_stamp() == stamps[-1]
    assert len(set(stamps)) == len(stamps)
    assert by_year.arrivals() == store.preview_arrivals({})


def test_runs_of_an_older_version_count_from_the_start(uri: str) -> None:
    config = alembic_config()
    with closing(RunStore(uri)) as store:
        if store.database.file:
            store.database.create()
        with store.database.writing("cannot be prepared") as connection:
            config.attributes.update(connection=connection, folders=None)
            alembic.command.upgrade(config, "0007")
            columns = ("workflow", "parameters_hash", "parameters", "attempt", "state", "holder")
            values = ("flows", FLOWS.parameters_hash, FLOWS.parameters, 1, "failed", "h")
            row = {**dict(zip(columns, values, strict=True)), "started_at": NOW, "heartbeat_at": NOW}
            table = sa.table("runs", *map(sa.column, (*row, "reference_date")))
            rows = [{**row, "reference_date": date} for date in (DAY, DAY, datetime.date(2014, 1, 1))]
            connection.execute(sa.insert(table), rows)
        store.migrate()
        by_year = RunsByYear(store.database, FOLDERS)
        assert by_year.revisions() == {EntryYear(FLOWS, 2014): 1, EntryYear(FLOWS, 2016): 2}
        run(store, FLOWS.on(DAY))
        assert by_year.revisions()[EntryYear(FLOWS, 2016)] > 2
