import datetime
import json
import multiprocessing
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from autoflow.errors import RunStoreError
from autoflow.model.store import RunStore
from autoflow.model.tables import metadata
from autoflow.orchestration.prefect_api import free_port
from autoflow.runs.records import (
    CRASHED_AFTER,
    CRASHES_PER_FAILURE,
    Claim,
    Failures,
    History,
    RunError,
    RunKey,
    RunState,
)
from tests.model.conftest import Clock
from tests.postgres import Postgres
from tests.waiting import LONG

if TYPE_CHECKING:
    from multiprocessing.queues import Queue

T = TypeVar("T")
SECOND = datetime.timedelta(seconds=1)
DATE = datetime.date(2016, 1, 1)
KEY = RunKey.of("flows", {"unit": "admin2"}, DATE)
spawn = multiprocessing.get_context("spawn")


def claim(store: RunStore, key: RunKey = KEY) -> Claim:
    claimed = store.claim(key)
    assert claimed is not None
    return claimed


def history(store: RunStore, key: RunKey = KEY) -> History:
    return store.histories()[key.workflow_key]


def rows(uri: str) -> Sequence[sa.RowMapping]:
    """Return all rows of the table of runs, read without AutoFlow."""
    engine = sa.create_engine(uri.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:
        found = connection.execute(sa.text("SELECT * FROM runs ORDER BY id")).mappings().all()
    engine.dispose()
    return found


def test_claim_is_exclusive_while_it_runs_and_when_it_has_succeeded(store: RunStore) -> None:
    first = claim(store)
    assert store.claim(KEY) is None
    assert store.finish(first, RunState.SUCCEEDED)
    assert store.claim(KEY) is None


@pytest.mark.parametrize("state", [RunState.FAILED, RunState.INTERRUPTED, RunState.CANCELLED])
def test_run_without_success_can_be_claimed_again_as_the_next_attempt(store: RunStore, state: RunState) -> None:
    first = claim(store)
    assert store.finish(first, state)
    second = claim(store)
    assert (first.attempt, second.attempt) == (1, 2)
    assert first.id != second.id


def test_other_workflow_parameters_or_date_is_another_claim(store: RunStore) -> None:
    claim(store)
    assert claim(store, RunKey.of("others", {"unit": "admin2"}, DATE)).attempt == 1
    assert claim(store, RunKey.of("flows", {"unit": "admin3"}, DATE)).attempt == 1
    assert claim(store, RunKey.of("flows", {"unit": "admin2"}, datetime.date(2016, 1, 2))).attempt == 1


def test_claim_is_exclusive_among_threads_of_two_stores(uri: str) -> None:
    with closing(RunStore(uri)) as one, closing(RunStore(uri)) as other:
        one.migrate()
        with ThreadPoolExecutor(16) as threads:
            for day in range(10):
                key = RunKey.of("flows", {}, DATE + datetime.timedelta(days=day))
                claims = list(threads.map(lambda store, key=key: store.claim(key), [one, other] * 8))
                assert sum(each is not None for each in claims) == 1


def claim_all(uri: str, start: Barrier, claimed: "Queue[list[datetime.date]]") -> None:
    """Claim all dates that can be claimed, from a separate process, and return these."""
    keys = [RunKey.of("flows", {}, DATE + datetime.timedelta(days=day)) for day in range(40)]
    with closing(RunStore(uri)) as store, ThreadPoolExecutor(4) as threads:
        start.wait(LONG)
        claims = list(threads.map(store.claim, keys))
    claimed.put([each.key.reference_date for each in claims if each])


def test_claim_is_exclusive_among_processes(store: RunStore, uri: str) -> None:
    del store
    start, claimed = spawn.Barrier(3), spawn.Queue()
    dates = [each for of_process in in_processes(3, claim_all, uri, start, claimed) for each in of_process]
    assert sorted(dates) == [DATE + datetime.timedelta(days=day) for day in range(40)]


def in_processes(count: int, what: Callable[..., None], uri: str, start: Barrier, answers: "Queue[T]") -> list[T]:
    """Call `what` in several processes at the same time, and return the answer of each."""
    processes = [spawn.Process(target=what, args=(uri, start, answers)) for _ in range(count)]
    for process in processes:
        process.start()
    results = [answers.get(timeout=LONG) for _ in processes]
    for process in processes:
        process.join(LONG)
        assert process.exitcode == 0
        process.close()
    return results


def test_record_keeps_a_run_and_its_outputs(store: RunStore, uri: str, clock: Clock) -> None:
    started = clock.now
    run = claim(store)
    store.name_flow_run(run, "0b7c5b7e-0000-4000-8000-000000000000")
    clock.now += 90 * SECOND
    store.finish(run, RunState.SUCCEEDED, outputs={"report": "/outputs/é.pdf"})
    (row,) = rows(uri)
    assert (row["workflow"], json.loads(row["parameters"]), str(row["reference_date"])) == (
        "flows",
        {"unit": "admin2"},
        "2016-01-01",
    )
    assert (row["state"], row["attempt"], json.loads(row["outputs"])) == ("succeeded", 1, {"report": "/outputs/é.pdf"})
    assert str(started) in str(row["started_at"])
    assert str(clock.now) in str(row["finished_at"])
    assert row["flow_run_id"] == "0b7c5b7e-0000-4000-8000-000000000000"
    assert f"pid {multiprocessing.current_process().pid} " in row["holder"]


def test_record_keeps_every_attempt_with_its_error(store: RunStore, uri: str) -> None:
    store.finish(claim(store), RunState.FAILED, error=RunError("ValueError", "no data", notebook="run", cell=3))
    store.finish(claim(store), RunState.FAILED, error=RunError("ReportError", "no pandoc"))
    store.finish(claim(store), RunState.SUCCEEDED, outputs={})
    assert [
        (
            row["attempt"],
            row["state"],
            row["error_notebook"],
            row["error_cell"],
            row["error_class"],
            row["error_message"],
        )
        for row in rows(uri)
    ] == [
        (1, "failed", "run", 3, "ValueError", "no data"),
        (2, "failed", None, None, "ReportError", "no pandoc"),
        (3, "succeeded", None, None, None, None),
    ]


def test_error_with_any_characters_can_be_recorded(store: RunStore, uri: str) -> None:
    error = RunError("Err\x00or", "NUL \x00, half a pair \ud83d, emoji 😀", notebook="run", cell=1)
    assert store.finish(claim(store), RunState.FAILED, error=error, outputs={"run": "a\ud83d"})
    (row,) = rows(uri)
    assert row["error_message"] == "NUL \N{REPLACEMENT CHARACTER}, half a pair ?, emoji 😀"


@pytest.mark.parametrize("state", [RunState.FAILED, RunState.CRASHED, RunState.RUNNING, RunState.INTERRUPTED])
def test_success_is_final(store: RunStore, clock: Clock, state: RunState) -> None:
    run = claim(store)
    store.finish(run, RunState.SUCCEEDED)
    assert not store.finish(run, state)
    clock.now += 10 * CRASHED_AFTER
    assert store.give_up_crashed() == 0
    assert history(store).done == {DATE}


def test_run_without_a_heartbeat_has_crashed(store: RunStore, clock: Clock) -> None:
    claim(store)
    clock.now += CRASHED_AFTER
    assert store.give_up_crashed() == 0
    clock.now += SECOND
    assert store.give_up_crashed() == 1
    assert store.give_up_crashed() == 0
    assert claim(store).attempt == 2


def test_run_with_a_heartbeat_is_not_marked_as_crashed(store: RunStore, clock: Clock) -> None:
    kept, lost = claim(store), claim(store, RunKey.of("others", {}, DATE))
    clock.now += CRASHED_AFTER
    assert store.renew([kept]) == {kept}
    clock.now += SECOND
    assert store.give_up_crashed() == 1
    assert store.claim(KEY) is None
    assert claim(store, lost.key).attempt == 2


def test_renewal_returns_the_claims_that_are_still_valid(store: RunStore, clock: Clock) -> None:
    lost = claim(store)
    clock.now += CRASHED_AFTER + SECOND
    store.give_up_crashed()
    kept, done = claim(store, RunKey.of("others", {}, DATE)), claim(store, RunKey.of("more", {}, DATE))
    store.finish(done, RunState.FAILED)
    assert store.renew([lost, kept, done]) == {kept}
    assert store.renew([]) == frozenset()


def test_run_that_was_marked_as_crashed_cannot_be_finished(store: RunStore, uri: str, clock: Clock) -> None:
    lost = claim(store)
    clock.now += CRASHED_AFTER + SECOND
    store.give_up_crashed()
    again = claim(store)
    assert not store.finish(lost, RunState.SUCCEEDED)
    assert store.finish(again, RunState.SUCCEEDED)
    assert [row["state"] for row in rows(uri)] == ["crashed", "succeeded"]
    assert rows(uri)[0]["error_message"].startswith("its heartbeat stopped: no sign of life for 1 min 0 s;")


def test_success_that_is_recorded_late_counts_unless_another_run_has_started(store: RunStore, clock: Clock) -> None:
    late, overtaken = claim(store), claim(store, RunKey.of("others", {}, DATE))
    clock.now += CRASHED_AFTER + SECOND
    store.give_up_crashed()
    again = claim(store, overtaken.key)
    assert store.finish(late, RunState.SUCCEEDED)
    assert not store.finish(overtaken, RunState.SUCCEEDED)
    assert history(store).done == {DATE}
    assert store.renew([again]) == {again}


def test_time_after_which_a_run_has_crashed_can_be_set(uri: str, clock: Clock) -> None:
    with closing(RunStore(uri, crashed_after=3 * SECOND, clock=clock)) as store:
        store.migrate()
        claim(store)
        clock.now += 3 * SECOND
        assert store.give_up_crashed() == 0
        clock.now += SECOND
        assert store.give_up_crashed() == 1


def test_own_clock_is_that_of_every_other_store(uri: str) -> None:
    with closing(RunStore(uri)) as one, closing(RunStore(uri)) as other:
        one.migrate()
        run = claim(one)
        assert other.give_up_crashed() == 0
        assert other.renew([run]) == {run}


def test_empty_store_has_no_histories(store: RunStore) -> None:
    assert store.histories() == {}


def test_histories_separate_done_running_and_failed_dates(store: RunStore, clock: Clock) -> None:
    done, running, failed, cancelled, interrupted = (
        RunKey.of("flows", {}, DATE + datetime.timedelta(days=day)) for day in range(5)
    )
    store.finish(claim(store, done), RunState.FAILED)
    clock.now += SECOND
    store.finish(claim(store, done), RunState.SUCCEEDED)
    claim(store, running)
    store.finish(claim(store, failed), RunState.FAILED)
    clock.now += SECOND
    store.finish(claim(store, failed), RunState.FAILED)
    store.finish(claim(store, cancelled), RunState.CANCELLED)
    store.finish(claim(store, interrupted), RunState.INTERRUPTED)
    other = RunKey.of("flows", {"unit": "admin3"}, DATE)
    store.finish(claim(store, other), RunState.SUCCEEDED)
    found = history(store, done)
    assert found.done == {done.reference_date}
    assert found.running == {running.reference_date}
    assert found.failures == {
        done.reference_date: Failures(count=1, last=clock.now - 2 * SECOND),
        failed.reference_date: Failures(count=2, last=clock.now),
        cancelled.reference_date: Failures(cancelled=True),
        interrupted.reference_date: Failures(),
    }
    assert history(store, other) == History(done=frozenset({DATE}))


def end(store: RunStore, clock: Clock, state: RunState) -> None:
    """End another attempt at `KEY` in `state`."""
    run = claim(store)
    clock.now += SECOND
    if state is RunState.CRASHED:
        clock.now += CRASHED_AFTER
        store.give_up_crashed()
    else:
        store.finish(run, state)


FAILED, CRASHED, INTERRUPTED = RunState.FAILED, RunState.CRASHED, RunState.INTERRUPTED


@pytest.mark.parametrize(
    ("states", "count"),
    [
        ([CRASHED] * (CRASHES_PER_FAILURE - 1), 0),
        ([CRASHED] * CRASHES_PER_FAILURE, 1),
        ([CRASHED] * (2 * CRASHES_PER_FAILURE - 1), 1),
        ([CRASHED] * 2 * CRASHES_PER_FAILURE, 2),
        ([CRASHED, CRASHED, FAILED, CRASHED], 1),
        ([CRASHED, CRASHED, INTERRUPTED, CRASHED, CRASHED], 0),
        ([INTERRUPTED] * 7, 0),
        ([FAILED, INTERRUPTED, FAILED, CRASHED, CRASHED, CRASHED], 3),
    ],
)
def test_crashes_in_a_row_count_as_a_failure(store: RunStore, clock: Clock, states: list[RunState], count: int) -> None:
    for state in states:
        end(store, clock, state)
    failures = history(store).failures[DATE]
    assert failures.count == count
    assert (failures.last is None) == (count == 0)
    assert not failures.cancelled


def test_date_that_ran_again_after_it_was_cancelled_is_not_cancelled(store: RunStore, clock: Clock) -> None:
    end(store, clock, RunState.CANCELLED)
    assert history(store).failures[DATE].cancelled
    end(store, clock, RunState.FAILED)
    assert history(store).failures[DATE] == Failures(count=1, last=clock.now)


def test_repeated_migration_keeps_all_rows(store: RunStore, uri: str) -> None:
    store.finish(claim(store), RunState.SUCCEEDED)
    store.migrate()
    with closing(RunStore(uri)) as again:
        again.migrate()
        assert history(again).done == {DATE}


def test_migrations_create_the_tables_that_the_code_expects(store: RunStore, uri: str) -> None:
    del store
    engine = sa.create_engine(uri.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def migrate(uri: str, start: Barrier, answers: "Queue[str]") -> None:
    """Migrate from a separate process, and return what went wrong."""
    with closing(RunStore(uri)) as store:
        start.wait(LONG)
        try:
            store.migrate()
        except RunStoreError as error:
            answers.put(str(error))
        else:
            answers.put("")


def test_daemons_that_start_at_the_same_time_migrate_one_after_the_other(uri: str) -> None:
    assert in_processes(4, migrate, uri, spawn.Barrier(4), spawn.Queue()) == [""] * 4


def test_database_of_a_newer_version_is_refused(store: RunStore, uri: str) -> None:
    del store
    engine = sa.create_engine(uri.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    message = r"the database of runs at \S+ was made by a newer version of AutoFlow: .*9999"
    with closing(RunStore(uri)) as store:
        for ask in (store.migrate, store.look):
            with pytest.raises(RunStoreError, match=message):
                ask()


def test_check_of_a_database_changes_nothing(uri: str, tmp_path: Path) -> None:
    with closing(RunStore(uri)) as store:
        assert store.look().endswith((", created at the first start", ", empty so far"))
        assert list(tmp_path.iterdir()) == []
        store.migrate()
        assert store.look().endswith(", version 0014")


def test_check_of_a_database_reports_a_missing_folder_unless_it_is_created_at_the_start(tmp_path: Path) -> None:
    folder = tmp_path / "missing"
    for uri in (f"sqlite:///{folder}/runs.db", f"sqlite:///file:{folder}/runs.db?uri=true"):
        with closing(RunStore(uri)) as store:
            with pytest.raises(RunStoreError, match=f"cannot be created: there is no folder {folder}; create it, or"):
                store.look()
            assert store.look(made_at_start=[folder / "notebooks"]).endswith(", created at the first start")
    assert not folder.exists()


def test_unreachable_database_is_reported_in_one_line_without_the_password() -> None:
    port = free_port()
    with closing(RunStore(f"postgresql://autoflow:hunter22@127.0.0.1:{port}/runs")) as store:
        for ask in (store.migrate, store.histories, store.give_up_crashed, lambda: store.claim(KEY)):
            with pytest.raises(RunStoreError) as caught:
                ask()
            message = str(caught.value)
            assert message.startswith(f"the database of runs at 127.0.0.1:{port}/runs cannot ")
            assert message.endswith("Connection refused")
            assert "\n" not in message
            assert "hunter22" not in message


def test_wrong_password_is_reported_without_showing_it(postgres: Postgres) -> None:
    with closing(RunStore(postgres.uri(password="hunter22"))) as store:
        with pytest.raises(RunStoreError, match='password authentication failed for user "autoflow"') as caught:
            store.migrate()
        assert "hunter22" not in str(caught.value)


def test_store_works_again_after_the_database_was_restarted(postgres: Postgres) -> None:
    with closing(RunStore(postgres.uri())) as store:
        store.migrate()
        run = claim(store)
        postgres.control("stop", "-m", "immediate")
        with pytest.raises(RunStoreError):
            store.renew([run])
        postgres.control("start")
        assert store.renew([run]) == {run}
        assert store.finish(run, RunState.SUCCEEDED)


def not_a_database(folder: Path) -> Path:
    (folder / "text.db").write_text("no database " * 500)
    return folder / "text.db"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda folder: folder / "missing" / "runs.db", "unable to open database file"),
        (lambda folder: folder, "unable to open database file"),
        (lambda _: Path("/proc/runs.db"), "unable to open database file"),
        (not_a_database, "file is not a database"),
    ],
)
def test_path_that_sqlite_cannot_use_is_reported(tmp_path: Path, make: Callable[[Path], Path], reason: str) -> None:
    path = make(tmp_path)
    with closing(RunStore(f"sqlite:///{path}")) as store, pytest.raises(RunStoreError) as caught:
        store.migrate()
    assert str(caught.value) == f"the database of runs at {path} cannot be prepared: {reason}"


def test_read_only_database_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with closing(RunStore(f"sqlite:///{path}")) as store:
        store.migrate()
    with (
        closing(RunStore(f"sqlite:///file:{path}?mode=ro&uri=true")) as store,
        pytest.raises(RunStoreError, match="cannot take a claim: attempt to write a readonly database"),
    ):
        store.claim(KEY)


def test_full_disk_is_reported() -> None:
    with (
        closing(RunStore("sqlite:////dev/full")) as store,
        pytest.raises(
            RunStoreError, match=r"at /dev/full cannot be prepared: (database or disk is full|disk I/O error)"
        ),
    ):
        store.migrate()


@pytest.mark.parametrize(
    "uri",
    [
        "mysql://user:hunter22@h/db",
        "hunter22",
        "postgresql://user:hunter22@h:port/db",
        "sqlite://",
        "sqlite:///:memory:",
    ],
)
def test_unusable_uri_is_refused_without_showing_it(uri: str) -> None:
    with pytest.raises(RunStoreError, match=r"^AUTOFLOW_DB_URI cannot be used: ") as caught:
        RunStore(uri)
    assert "hunter22" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg", "postgresql+psycopg2"])
def test_every_scheme_of_postgresql_works(postgres: Postgres, scheme: str) -> None:
    with closing(RunStore(postgres.uri().replace("postgresql", scheme, 1))) as store:
        store.migrate()
        assert store.claim(KEY)


def test_folder_of_sqlite_may_have_any_name(tmp_path: Path) -> None:
    path = tmp_path / "a b%20c#é{}" / "autoflow.db"
    path.parent.mkdir()
    with closing(RunStore(f"sqlite:///{path}")) as store:
        store.migrate()
    assert path.exists()


def test_writer_waits_for_another_writer_and_reader_does_not(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with (
        closing(RunStore(f"sqlite:///{path}")) as store,
        closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other,
        ThreadPoolExecutor(1) as thread,
    ):
        store.migrate()
        other.execute("BEGIN IMMEDIATE")
        waiting = thread.submit(store.claim, KEY)
        assert store.histories() == {}
        assert not waiting.done()
        other.execute("COMMIT")
        assert waiting.result(LONG)


def test_reader_does_not_block_a_writer(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with closing(RunStore(f"sqlite:///{path}")) as store, closing(sqlite3.connect(path)) as reader:
        store.migrate()
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM runs").fetchall()
        assert store.finish(claim(store), RunState.SUCCEEDED)


def test_success_survives_the_death_of_the_process(tmp_path: Path) -> None:
    """What a store has confirmed is kept when its process is killed."""
    uri = f"sqlite:///{tmp_path}/runs.db"
    code = f"""
import datetime, os, signal
from autoflow.model import RunKey, RunState, RunStore
store = RunStore({uri!r})
store.migrate()
store.finish(store.claim(RunKey.of("flows", {{"unit": "admin2"}}, datetime.date(2016, 1, 1))), RunState.SUCCEEDED)
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    with closing(RunStore(uri)) as store:
        store.migrate()
        assert history(store).done == {DATE}
