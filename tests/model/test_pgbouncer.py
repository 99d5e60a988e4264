"""A PostgreSQL behind PgBouncer in transaction mode, where each transaction may come to another connection."""

import datetime
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg
import pytest

from autoflow.model.heartbeat import Heartbeat
from autoflow.model.store import RunStore
from autoflow.runs.records import RunKey, RunState
from autoflow.system.stop_signal import StopSignal
from tests.postgres import Postgres, running_pgbouncer

FIRST = datetime.date(2016, 1, 1)


@pytest.fixture(scope="module")
def bouncer(postgres: Postgres) -> Iterator[int]:
    with running_pgbouncer(postgres) as port:
        yield port


@pytest.fixture
def uri(postgres: Postgres, bouncer: int) -> str:
    """The URI of an empty database behind PgBouncer."""
    return postgres.uri().replace(f":{postgres.port}/", f":{bouncer}/")


def key(number: int) -> RunKey:
    return RunKey.of("flows", {"unit": "admin2"}, FIRST + datetime.timedelta(days=number))


def test_prepared_statements_do_fail_there(uri: str) -> None:
    """Without this, the other tests would prove nothing."""
    connections = [psycopg.connect(uri, prepare_threshold=0) for _ in range(3)]
    with pytest.raises(psycopg.Error, match="prepared statement"):
        ask_all(connections)
    for connection in connections:
        connection.close()


def ask_all(connections: list[psycopg.Connection]) -> None:
    """Have each connection execute the same statement in a transaction of its own."""
    for connection in connections:
        connection.execute("SELECT 1")
        connection.commit()


def test_daemons_side_by_side_do_each_run_once(uri: str) -> None:
    stores = [RunStore(uri) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(RunStore.migrate, stores))
        won = list(pool.map(do_all, stores))
    assert sum(won) == 30
    histories = stores[0].histories()
    assert len(histories[key(0).workflow_key].done) == 30
    assert [run.state for run in stores[1].runs(limit=3)] == [RunState.SUCCEEDED] * 3
    for store in stores:
        store.close()


def do_all(store: RunStore) -> int:
    """Do what a daemon does with its store, for thirty dates; return how many of them were its own."""
    won = 0
    with Heartbeat(store, interval=datetime.timedelta(milliseconds=10)) as heartbeat:
        for number in range(30):
            store.give_up_crashed()
            store.histories()
            claim = store.claim(key(number))
            if claim is None:
                continue
            with heartbeat.of(claim, StopSignal()):
                store.name_flow_run(claim, "x")
                # So often in a row that psycopg would prepare the statement.
                for _ in range(10):
                    assert store.renew([claim])
                store.finish(claim, RunState.SUCCEEDED, outputs={"n": {"notebook": "/x", "reports": []}})
            won += 1
    return won


def test_migration_waits_for_another_one(uri: str, postgres: Postgres) -> None:
    """The lock goes with the transaction, not with the session, which others get as well."""
    direct = psycopg.connect(postgres.conninfo(uri.rpartition("/")[2]))
    direct.execute("SELECT pg_advisory_xact_lock(7236401)")
    with closing(RunStore(uri)) as store:
        thread = threading.Thread(target=store.migrate)
        thread.start()
        thread.join(0.5)
        assert thread.is_alive()
        direct.commit()
        thread.join()
        store.migrate()
        held = direct.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone()
        assert held == (0,)
    direct.close()
