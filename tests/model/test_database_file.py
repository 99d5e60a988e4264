"""A SQLite file that is missing, deleted or replaced: AutoFlow never starts with an empty one by accident."""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import date
from pathlib import Path

import pytest
import sqlalchemy as sa

from autoflow.errors import RunStoreError, RunStoreGoneError
from autoflow.model.heartbeat import Heartbeat
from autoflow.model.opening import PAGE_NAME, open_run_store
from autoflow.model.store import RunStore
from autoflow.model.transactions import Database
from autoflow.runs.records import RunKey, RunState
from autoflow.system.stop_signal import StopSignal
from tests.conftest import Deployed

KEY = RunKey.of("flows", {}, date(2016, 1, 1))
OTHER = RunKey.of("flows", {}, date(2016, 1, 2))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "runs #1%20.db"


@pytest.fixture
def store(file: Path) -> Iterator[RunStore]:
    with closing(RunStore(f"sqlite:///{file}")) as store:
        store.migrate()
        yield store


def delete(file: Path) -> None:
    file.unlink()


def move(file: Path) -> None:
    file.rename(file.with_name("elsewhere.db"))


def replace_by_copy(file: Path) -> None:
    copy = file.with_name("copy.db")
    shutil.copy(file, copy)
    copy.replace(file)


def replace_by_empty(file: Path) -> None:
    empty = file.with_name("empty.db")
    empty.touch()
    empty.replace(file)


def replace_by_database(file: Path) -> None:
    other = file.with_name("other.db")
    with closing(RunStore(f"sqlite:///{other}")) as store:
        store.migrate()
    other.replace(file)


def empty(file: Path) -> None:
    with file.open("w"):
        pass


CHANGES = (delete, move, replace_by_copy, replace_by_empty, replace_by_database, empty)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(
    "use",
    [
        lambda store: store.claim(OTHER),
        lambda store: store.histories(),
        lambda store: store.give_up_crashed(),
        lambda store: store.runs(),
        lambda store: store.forgive([KEY]),
        lambda store: store.migrate(),
        lambda store: store.check_file(),
    ],
)
def test_store_refuses_once_its_file_was_deleted_or_replaced(
    store: RunStore, file: Path, change: Callable[[Path], None], use: Callable[[RunStore], object]
) -> None:
    store.claim(KEY)
    change(file)
    before = sorted((path.name, path.stat().st_size) for path in file.parent.iterdir())
    with pytest.raises(RunStoreGoneError) as raised:
        use(store)
    message = str(raised.value)
    assert str(file) in message
    assert any(what in message for what in ("was deleted while", "was replaced by another file", "was emptied while"))
    assert "start AutoFlow" in message
    assert len(message.splitlines()) == 1
    assert sorted((path.name, path.stat().st_size) for path in file.parent.iterdir()) == before


def test_file_that_is_put_back_is_used_again(store: RunStore, file: Path) -> None:
    move(file)
    with pytest.raises(RunStoreGoneError):
        store.claim(KEY)
    file.with_name("elsewhere.db").rename(file)
    assert store.claim(KEY)


@pytest.mark.usefixtures("store")
def test_file_that_is_replaced_during_a_transaction_is_noticed_at_its_end(file: Path) -> None:
    def write() -> None:
        with database.writing("cannot be written") as connection:
            connection.execute(sa.text("DELETE FROM runs"))
            move(file)

    with closing(Database(f"sqlite:///{file}")) as database, pytest.raises(RunStoreGoneError):
        write()


@pytest.mark.parametrize("change", CHANGES)
def test_runs_are_stopped_at_the_next_heartbeat(
    store: RunStore, file: Path, change: Callable[[Path], None], logged: list[str]
) -> None:
    claim, stop = store.claim(KEY), StopSignal()
    assert claim
    heartbeat = Heartbeat(store)
    with heartbeat.of(claim, stop):
        heartbeat.beat()
        assert not stop.is_set
        change(file)
        heartbeat.beat()
        heartbeat.beat()
    assert stop.reason == "the database of runs is gone"
    assert len(logged) == 1


def test_nothing_but_a_migration_makes_a_file(file: Path) -> None:
    with closing(RunStore(f"sqlite:///{file}")) as store:
        with pytest.raises(RunStoreError, match="unable to open database file"):
            store.runs()
        with pytest.raises(RunStoreError, match="unable to open database file"):
            store.claim(KEY)
    assert list(file.parent.iterdir()) == []


def trace_of_page(deployed: Deployed) -> Path:
    return deployed.outputs / PAGE_NAME


def trace_of_run(deployed: Deployed) -> Path:
    return deployed.outputs / "notebooks" / "flows__n__2016-01-01__ab12cd34__20260101T000000.000Z.ipynb"


def trace_of_sqlite(deployed: Deployed) -> Path:
    return deployed.outputs / "autoflow.db-wal"


class TestOpening:
    def test_a_new_folder_gets_a_database(self, deployed: Deployed) -> None:
        with open_run_store(deployed.settings()) as store:
            assert store.claim(KEY)
        assert (deployed.outputs / "autoflow.db").exists()

    @pytest.mark.parametrize("trace", [trace_of_page, trace_of_run, trace_of_sqlite])
    @pytest.mark.parametrize("create", [True, False])
    def test_a_folder_that_was_used_before_gets_none(
        self, deployed: Deployed, trace: Callable[[Deployed], Path], create: bool
    ) -> None:
        trace(deployed).touch()
        with pytest.raises(RunStoreGoneError) as raised, open_run_store(deployed.settings(), create=create):
            pass
        message = str(raised.value)
        assert "is missing, but AutoFlow has run here before" in message
        assert str(trace(deployed)) in message
        assert message.endswith(f"touch {deployed.outputs}/autoflow.db")
        assert not (deployed.outputs / "autoflow.db").exists()
        with closing(RunStore(deployed.settings().db_uri)) as store, pytest.raises(RunStoreGoneError):
            store.look(traces=[trace(deployed)])

    def test_an_empty_file_is_the_wish_to_start_from_nothing(self, deployed: Deployed) -> None:
        trace_of_page(deployed).touch()
        (deployed.outputs / "autoflow.db").touch()
        with open_run_store(deployed.settings()) as store:
            assert store.claim(KEY)

    @pytest.mark.parametrize("create", [True, False])
    def test_a_file_that_was_emptied_under_a_daemon_is_left_to_be_saved(self, deployed: Deployed, create: bool) -> None:
        file, beside = deployed.outputs / "autoflow.db", deployed.outputs / "autoflow.db-wal"
        with open_run_store(deployed.settings()) as store:
            store.claim(KEY)
            empty(file)
            before = beside.read_bytes()
            with pytest.raises(RunStoreGoneError) as raised, open_run_store(deployed.settings(), create=create):
                pass
            with closing(RunStore(deployed.settings().db_uri)) as other, pytest.raises(RunStoreGoneError):
                other.look()
            assert "is empty, but AutoFlow has run here before" in str(raised.value)
            assert (file.stat().st_size, beside.read_bytes()) == (0, before)

    def test_without_create_a_new_folder_stays_as_it_is(self, deployed: Deployed) -> None:
        before = sorted(deployed.outputs.rglob("*"))
        with open_run_store(deployed.settings(), create=False) as store:
            assert store.runs() == []
            assert store.histories() == {}
        assert sorted(deployed.outputs.rglob("*")) == before

    @pytest.mark.parametrize("create", [True, False])
    def test_a_database_that_is_there_is_used(self, deployed: Deployed, create: bool) -> None:
        with open_run_store(deployed.settings()) as store:
            claim = store.claim(KEY)
            assert claim
            store.finish(claim, RunState.SUCCEEDED)
        trace_of_run(deployed).touch()
        with open_run_store(deployed.settings(), create=create) as store:
            assert store.claim(KEY) is None

    def test_a_backup_that_was_put_back_while_autoflow_was_stopped_is_used(self, deployed: Deployed) -> None:
        with open_run_store(deployed.settings()) as store:
            store.claim(KEY)
        file = deployed.outputs / "autoflow.db"
        with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(f"{file}.backup")) as backup:
            source.backup(backup)
        file.with_name("autoflow.db.backup").replace(file)
        with open_run_store(deployed.settings()) as store:
            assert len(store.runs()) == 1
