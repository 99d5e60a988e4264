"""The run store: skipped runs, whose dates are done, and the checks of runs."""

import datetime

import pytest
import sqlalchemy as sa

from autoflow.model.checks import record_run_checks
from autoflow.model.provenance import Provenance
from autoflow.model.queries import read_durations
from autoflow.model.store import RunStore
from autoflow.model.successes import last_successes
from autoflow.runs.checks import Check, Checks, Severity
from autoflow.runs.records import RunError, RunKey, RunState
from autoflow.runs.stuck import LAST_SUCCESSES
from tests.model.conftest import Clock

DATE = datetime.date(2016, 1, 1)
KEY = RunKey.of("flows", {"unit": "admin2"}, DATE)
WHY = RunError("Skipped", "nobody moved", "n", 2)
WARNING = Check(name="few outliers", ok=False, severity=Severity.WARNING, message="7 %", cell=3)


def skipped(store: RunStore, *, again: bool = False) -> int:
    claim = store.claim(KEY, again=again)
    assert claim
    assert store.finish(claim, RunState.SKIPPED, error=WHY)
    return claim.id


def test_skipped_date_is_done_and_not_claimed_again(store: RunStore) -> None:
    run_id = skipped(store)
    assert store.claim(KEY) is None
    history = store.histories({KEY.workflow_key})[KEY.workflow_key]
    assert history.done == history.skipped == {DATE}
    assert DATE in history.started
    assert history.failures == {}
    record = store.run(run_id)
    assert record
    assert (record.skipped, record.failure) == ("nobody moved", None)
    assert last_successes(store.database)[KEY.workflow_key].reference_date == DATE
    store.forgive([KEY])
    assert store.claim(KEY) is None


def test_reruns_of_and_by_skipped_runs_replace_each_other(store: RunStore) -> None:
    skipped(store)
    claim = store.claim(KEY, again=True)
    assert claim
    assert claim.is_rerun
    assert store.finish(claim, RunState.SUCCEEDED)
    assert store.histories()[KEY.workflow_key].skipped == frozenset()
    skipped(store, again=True)
    assert [run.state for run in reversed(store.runs())] == ["superseded", "superseded", "skipped"]
    assert store.histories()[KEY.workflow_key].skipped == {DATE}


def test_skipped_runs_do_not_say_how_long_a_run_usually_takes(store: RunStore) -> None:
    skipped(store)
    with store.database.reading() as connection:
        assert read_durations(connection, [KEY.workflow_key], limit=LAST_SUCCESSES) == {KEY.workflow_key: []}


def test_skip_of_a_run_that_was_marked_as_crashed_counts_unless_another_has_started(
    store: RunStore, clock: Clock
) -> None:
    claim = store.claim(KEY)
    assert claim
    clock.now += 2 * store.crashed_after
    assert store.give_up_crashed() == 1
    assert store.finish(claim, RunState.SKIPPED, error=WHY)
    assert store.histories()[KEY.workflow_key].skipped == {DATE}


def test_database_itself_refuses_a_second_run_that_has_done_a_date(store: RunStore) -> None:
    skipped(store)
    claim = store.claim(RunKey.of("flows", {"unit": "admin2"}, DATE + datetime.timedelta(days=1)))
    assert claim
    statement = sa.text("UPDATE runs SET state = 'succeeded', reference_date = '2016-01-01' WHERE id = :id")
    with pytest.raises(sa.exc.IntegrityError), store.database.writing("x") as connection:
        connection.execute(statement, {"id": claim.id})


def test_checks_are_recorded_and_say_what_they_warn_of(store: RunStore) -> None:
    run_id = skipped(store)
    checks = Checks().with_check(Check(name="there are rows", ok=True, cell=1)).with_check(WARNING)
    record_run_checks(store.database, run_id, {"n": checks, "other": Checks()})
    record = store.run(run_id)
    assert record
    assert record.checks
    assert {label: Checks.of_json(each) for label, each in record.checks.items()} == {"n": checks}
    assert (record.warnings, record.warnings_count) == (["few outliers: 7 %"], 1)


def test_what_a_skipped_run_was_made_from_is_marked(store: RunStore) -> None:
    run_id = skipped(store)
    provenance = Provenance(store.database)
    provenance.record(run_id, {"packages": "x", "notebooks": {"n": {"cells": "c"}}}, [])
    assert provenance.of_done_dates("flows") == {
        KEY: {"packages": "x", "notebooks": {"n": {"cells": "c"}}, "skipped": True}
    }
