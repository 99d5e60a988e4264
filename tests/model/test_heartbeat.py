import datetime
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from autoflow.model.heartbeat import GIVE_UP_AFTER, INTERVAL, Heartbeat
from autoflow.model.store import RunStore
from autoflow.runs.records import CRASHED_AFTER, Claim, RunKey, RunState
from autoflow.system.log import logger
from autoflow.system.stop_signal import StopSignal
from tests.model.conftest import Clock
from tests.postgres import Postgres
from tests.waiting import LONG, wait_for

SECOND = datetime.timedelta(seconds=1)
SHORT = datetime.timedelta(seconds=0.02)
KEY = RunKey.of("flows", {}, datetime.date(2016, 1, 1))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@pytest.fixture
def store(path: Path, clock: Clock) -> Iterator[RunStore]:
    with closing(RunStore(f"sqlite:///{path}", clock=clock)) as store:
        store.migrate()
        yield store


def claim(store: RunStore) -> Claim:
    claimed = store.claim(KEY)
    assert claimed is not None
    return claimed


def test_run_is_stopped_well_before_others_take_it_for_crashed() -> None:
    assert INTERVAL < GIVE_UP_AFTER / 2
    assert GIVE_UP_AFTER + INTERVAL < CRASHED_AFTER


def test_beats_keep_a_claim_however_long_it_runs(store: RunStore, clock: Clock) -> None:
    heartbeat, stop = Heartbeat(store, clock=clock.seconds), StopSignal()
    with heartbeat.of(claim(store), stop):
        for _ in range(20):
            clock.now += INTERVAL
            heartbeat.beat()
            assert store.give_up_crashed() == 0
    assert not stop.is_set


def test_run_of_a_process_that_was_suspended_counts_as_stopped_before_a_thread_stops_it(
    store: RunStore, clock: Clock
) -> None:
    heartbeat, stop = Heartbeat(store, clock=clock.seconds), StopSignal()
    with heartbeat.of(claim(store), stop):
        clock.now += GIVE_UP_AFTER
        heartbeat.beat()
        clock.now += GIVE_UP_AFTER
        assert not stop.is_set
        clock.now += SECOND
        assert stop.is_expired


def test_claim_is_no_longer_kept_after_its_block(store: RunStore, clock: Clock) -> None:
    heartbeat = Heartbeat(store, clock=clock.seconds)
    with heartbeat.of(claim(store), StopSignal()):
        pass
    clock.now += CRASHED_AFTER + SECOND
    heartbeat.beat()
    assert store.give_up_crashed() == 1


def test_run_whose_claim_was_given_up_is_stopped(store: RunStore, clock: Clock) -> None:
    heartbeat, stop = Heartbeat(store, clock=clock.seconds), StopSignal()
    with heartbeat.of(claim(store), stop):
        clock.now += CRASHED_AFTER + SECOND
        store.give_up_crashed()
        heartbeat.beat()
    assert stop.reason == "another process marked it as crashed"


def test_run_that_has_ended_meanwhile_is_not_stopped(store: RunStore, clock: Clock) -> None:
    heartbeat, stop = Heartbeat(store, clock=clock.seconds), StopSignal()
    run = claim(store)
    with heartbeat.of(run, stop):
        store.finish(run, RunState.SUCCEEDED)
    heartbeat.beat()
    assert not stop.is_set


def test_claims_that_cannot_be_renewed_are_stopped_only_when_time_runs_out(
    store: RunStore, path: Path, clock: Clock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logger, "propagate", True)
    heartbeat, stop = Heartbeat(store, clock=clock.seconds), StopSignal()
    with heartbeat.of(claim(store), stop):
        store.close()
        content = path.read_bytes()
        path.write_bytes(b"no database " * 1000)
        clock.now += GIVE_UP_AFTER
        heartbeat.beat()
        assert not stop.is_set
        path.write_bytes(content)
        store.close()
        heartbeat.beat()
        path.write_bytes(b"no database " * 1000)
        store.close()
        clock.now += GIVE_UP_AFTER
        heartbeat.beat()
        assert not stop.is_set
        clock.now += SECOND
        heartbeat.beat()
        assert stop.reason == "its claim could not be renewed for 40 s"
    assert "could not renew claims: the database of runs at" in caplog.text


def test_run_is_stopped_sooner_where_runs_crash_sooner(path: Path, clock: Clock) -> None:
    stop = StopSignal()
    with closing(RunStore(f"sqlite:///{path}", crashed_after=6 * SECOND, clock=clock)) as store:
        store.migrate()
        heartbeat = Heartbeat(store, clock=clock.seconds)
        with heartbeat.of(claim(store), stop):
            clock.now += 4 * SECOND
            heartbeat.stop_overdue()
            assert not stop.is_set
            clock.now += SECOND
            heartbeat.stop_overdue()
            assert stop.is_set


def test_run_is_stopped_in_time_when_the_database_does_not_answer(postgres: Postgres, clock: Clock) -> None:
    uri = postgres.uri()
    stopped = threading.Event()
    with closing(RunStore(uri, clock=clock)) as store, psycopg.connect(uri) as other:
        store.migrate()
        run, stop = claim(store), StopSignal()
        other.execute("LOCK TABLE runs")
        with Heartbeat(store, clock=clock.seconds, interval=SHORT) as heartbeat:
            with heartbeat.of(run, stop), stop.calling(stopped.set):
                assert not stopped.wait(0.2)
                clock.now += GIVE_UP_AFTER + SECOND
                assert stopped.wait(LONG)
            assert stop.reason == "its claim could not be renewed for 40 s"
            other.rollback()


def test_end_does_not_wait_for_a_database_that_does_not_answer(postgres: Postgres, clock: Clock) -> None:
    uri = postgres.uri()
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    with (
        closing(RunStore(uri, clock=clock)) as store,
        psycopg.connect(uri) as other,
        psycopg.connect(uri, autocommit=True) as observer,
    ):
        store.migrate()
        run = claim(store)
        other.execute("LOCK TABLE runs")
        with Heartbeat(store, clock=clock.seconds, interval=SHORT) as heartbeat, heartbeat.of(run, StopSignal()):
            wait_for(lambda: observer.execute(waiting).fetchall() == [(1,)])
        other.rollback()
        wait_for(lambda: all(thread.name != "heartbeat" for thread in threading.enumerate()))


def test_claims_are_renewed_in_the_background(store: RunStore, path: Path, clock: Clock) -> None:
    stop = StopSignal()
    with (
        Heartbeat(store, clock=clock.seconds, interval=SHORT) as heartbeat,
        heartbeat.of(claim(store), stop),
        closing(sqlite3.connect(path)) as database,
    ):
        for _ in range(3):
            clock.now += GIVE_UP_AFTER
            beaten = [(f"{clock.now}.000000",)]
            wait_for(lambda: database.execute("SELECT heartbeat_at FROM runs").fetchall() == beaten)  # noqa: B023
    assert store.give_up_crashed() == 0
    assert not stop.is_set
