import datetime
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from autoflow.model.store import RunStore
from autoflow.runs.records import RunKey
from tests.postgres import Postgres, make_role, running_postgres

PASSWORD = 'p@ss\'w:rd $(x) \\ "q"'
DAY = datetime.date(2016, 1, 1)


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """Run a PostgreSQL of its own: a role is for a whole server, and clusters of other tests use theirs."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def uri(server: Postgres) -> Iterator[str]:
    """Return the URI of a new database."""
    uri = server.uri()
    yield uri
    with psycopg.connect(server.conninfo("postgres"), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {uri.rpartition('/')[2]} WITH (FORCE)")
        connection.execute("DROP ROLE IF EXISTS autoflow_worker")


def claim_run(uri: str) -> int:
    """Make the tables, with a run in progress; return its id."""
    with closing(RunStore(uri)) as store:
        store.migrate()
        claim = store.claim(RunKey.of("flows", {"unit": "admin3"}, DAY))
        assert claim
        return claim.id


def connected(uri: str, password: str = PASSWORD) -> psycopg.Connection[tuple[Any, ...]]:
    """Connect as a worker does."""
    login = psycopg.conninfo.make_conninfo(uri, user="autoflow_worker", password=password)
    return psycopg.connect(login, autocommit=True)


def test_role_can_read_whether_a_claim_is_valid(uri: str, tmp_path: Path) -> None:
    run_id = claim_run(uri)
    made = make_role(uri, tmp_path, PASSWORD)
    assert (made.returncode, made.stdout, made.stderr) == (0, "", "")
    with connected(uri) as connection:
        query = "SELECT state, clock_timestamp() AT TIME ZONE 'utc' - heartbeat_at < '1 hour' FROM runs WHERE id = %s"
        assert connection.execute(query, [run_id]).fetchall() == [("running", True)]


def test_role_can_read_nothing_else(uri: str, tmp_path: Path) -> None:
    claim_run(uri)
    make_role(uri, tmp_path, PASSWORD)
    with psycopg.connect(uri) as connection:
        columns = connection.execute(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
        ).fetchall()
    assert len({table for table, _ in columns}) > 2
    readable = set()
    with connected(uri) as connection:
        for table, column in columns:
            try:
                connection.execute(SQL("SELECT {} FROM {}").format(Identifier(column), Identifier(table)))
                readable.add((table, column))
            except psycopg.errors.InsufficientPrivilege:
                pass
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT rolpassword FROM pg_authid")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT pg_read_file('/etc/passwd')")
    assert readable == {("runs", "id"), ("runs", "state"), ("runs", "heartbeat_at")}


def test_role_can_write_nothing_even_if_it_asks_for_it(uri: str, tmp_path: Path) -> None:
    claim_run(uri)
    make_role(uri, tmp_path, PASSWORD)
    with connected(uri) as connection:
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute("UPDATE runs SET heartbeat_at = now()")
        connection.execute("SET default_transaction_read_only = off")
        for statement in (
            "UPDATE runs SET heartbeat_at = now()",
            "DELETE FROM runs",
            "INSERT INTO runs (id) VALUES (100)",
            "SELECT id FROM runs FOR UPDATE",
            "TRUNCATE runs",
            "DROP TABLE runs",
            "CREATE TABLE mine (id int)",
            "CREATE TEMPORARY TABLE mine (id int)",
            "CREATE ROLE mine",
            "CREATE DATABASE mine",
            "SET ROLE autoflow",
            "GRANT SELECT ON runs TO PUBLIC",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)


def test_script_can_be_run_again_and_changes_the_password(uri: str, tmp_path: Path) -> None:
    early = make_role(uri, tmp_path, PASSWORD)
    assert early.returncode == 3
    assert 'relation "runs" does not exist' in early.stderr
    claim_run(uri)
    assert make_role(uri, tmp_path, PASSWORD).returncode == 0
    with psycopg.connect(uri) as connection:
        connection.execute("GRANT SELECT, UPDATE ON runs TO autoflow_worker")
    assert make_role(uri, tmp_path, "new").returncode == 0
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        connected(uri)
    with connected(uri, "new") as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("SELECT workflow FROM runs")
