"""The run store: reruns of dates that are done, forgiven failures, and records to read and to prune."""

import datetime
from contextlib import closing
from pathlib import Path

import alembic.command
import alembic.config
import pytest
import sqlalchemy as sa

import autoflow.model.migrations
from autoflow.model.store import RunStore
from autoflow.runs.records import CRASHED_AFTER, Claim, RunError, RunKey, RunState
from tests.model.conftest import Clock

DATE = datetime.date(2016, 1, 1)
KEY = RunKey.of("flows", {"unit": "admin2"}, DATE)
NOW = datetime.datetime(2026, 1, 1)


def taken(store: RunStore, *, again: bool = False, key: RunKey = KEY) -> Claim:
    claim = store.claim(key, again=again)
    assert claim is not None
    return claim


def done(store: RunStore) -> Claim:
    claim = taken(store)
    assert store.finish(claim, RunState.SUCCEEDED, outputs={"n": {"notebook": "old"}})
    return claim


def states(store: RunStore) -> list[str]:
    return [str(run.state) for run in reversed(store.runs())]


def test_a_rerun_that_succeeds_takes_the_place_of_the_older_success(store: RunStore) -> None:
    done(store)
    rerun = taken(store, again=True)
    assert states(store) == ["succeeded", "rerunning"]
    assert store.finish(rerun, RunState.SUCCEEDED)
    assert states(store) == ["superseded", "succeeded"]
    assert store.histories()[KEY.workflow_key].done == {DATE}
    assert store.claim(KEY) is None


@pytest.mark.parametrize("state", [RunState.FAILED, RunState.INTERRUPTED, RunState.CANCELLED])
def test_a_rerun_that_does_not_succeed_leaves_the_date_done(store: RunStore, state: RunState) -> None:
    done(store)
    assert store.finish(taken(store, again=True), state)
    assert states(store) == ["succeeded", state]
    assert store.histories()[KEY.workflow_key].done == {DATE}
    assert store.claim(KEY) is None


def test_a_rerun_that_crashes_leaves_the_date_done_even_if_it_succeeds_after_all(store: RunStore, clock: Clock) -> None:
    done(store)
    rerun = taken(store, again=True)
    clock.now += 2 * CRASHED_AFTER
    assert store.give_up_crashed() == 1
    assert not store.finish(rerun, RunState.SUCCEEDED)
    assert states(store) == ["succeeded", "crashed"]


def test_a_rerun_keeps_its_claim_with_a_heartbeat(store: RunStore, clock: Clock) -> None:
    done(store)
    rerun = taken(store, again=True)
    clock.now += 2 * CRASHED_AFTER
    assert store.renew([rerun]) == {rerun}
    assert store.give_up_crashed() == 0


def test_no_run_and_no_rerun_can_be_claimed_while_another_is_active(store: RunStore) -> None:
    first = taken(store, again=True)
    assert not first.is_rerun
    assert store.claim(KEY, again=True) is None
    assert store.finish(first, RunState.SUCCEEDED)
    assert taken(store, again=True).is_rerun
    assert store.claim(KEY, again=True) is None
    assert store.claim(KEY) is None
    assert store.histories()[KEY.workflow_key].running == {DATE}


@pytest.mark.parametrize("state", [RunState.FAILED, RunState.CANCELLED])
def test_forgiven_failures_no_longer_count_but_stay_on_record(store: RunStore, state: RunState) -> None:
    for _ in range(5):
        store.finish(taken(store), state, error=RunError("E", "broken"))
    store.forgive([KEY])
    assert not store.histories().get(KEY.workflow_key)
    assert [run.forgiven_at for run in store.runs()] == [NOW] * 5
    assert store.finish(taken(store), RunState.FAILED, error=RunError("E", "broken"))
    assert store.histories()[KEY.workflow_key].failures[DATE].count == 1


def test_runs_can_be_filtered_and_are_listed_newest_first(store: RunStore, clock: Clock) -> None:
    other = RunKey.of("other", {}, DATE + datetime.timedelta(days=3))
    failed, running = taken(store), taken(store, key=other)
    store.finish(failed, RunState.FAILED, error=RunError("ValueError", "bad", "n", 3), outputs={"n": {"reports": []}})
    clock.now += datetime.timedelta(days=1)

    assert [run.id for run in store.runs()] == [running.id, failed.id]
    assert [run.id for run in store.runs(limit=1)] == [running.id]
    assert [run.id for run in store.runs(workflow="flows")] == [failed.id]
    assert [run.id for run in store.runs(state=RunState.RUNNING)] == [running.id]
    assert [run.id for run in store.runs(first=other.reference_date)] == [running.id]
    assert [run.id for run in store.runs(last=DATE)] == [failed.id]
    assert [run.id for run in store.runs_ended_before(clock.now)] == [failed.id]
    record = store.run(failed.id)
    assert record is not None
    assert record.error == RunError("ValueError", "bad", "n", 3)
    assert (record.key, record.attempt, record.outputs) == (KEY, 1, {"n": {"reports": []}})
    assert store.run(10_000) is None


def test_a_run_whose_outputs_were_pruned_is_still_done(store: RunStore) -> None:
    run = done(store)
    store.name_flow_run(run, "some-id")
    store.forget_outputs(run.id, left={}, with_flow_run=True)
    record = store.run(run.id)
    assert record is not None
    assert (record.outputs, record.flow_run_id, record.pruned_at) == ({}, None, NOW)
    assert store.claim(KEY) is None


def test_a_database_of_the_first_version_keeps_its_rows(uri: str) -> None:
    engine = sa.create_engine(uri.replace("postgresql://", "postgresql+psycopg://"))
    config = alembic.config.Config()
    config.set_main_option("script_location", str(Path(autoflow.model.migrations.__file__).parent))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, "0001")
        connection.execute(
            sa.text(
                "INSERT INTO runs (workflow, parameters_hash, parameters, reference_date, attempt, state, holder,"
                " started_at, heartbeat_at) VALUES ('flows', :hash, :parameters, '2016-01-01', 1, 'succeeded', 'me',"
                " '2026-01-01 00:00:00.000000', '2026-01-01 00:00:00.000000')"
            ),
            {"hash": KEY.parameters_hash, "parameters": KEY.parameters},
        )
    engine.dispose()

    with closing(RunStore(uri)) as store:
        store.migrate()
        assert [(run.key, run.state) for run in store.runs()] == [(KEY, RunState.SUCCEEDED)]
        assert store.claim(KEY) is None
        assert store.finish(taken(store, again=True), RunState.SUCCEEDED)
