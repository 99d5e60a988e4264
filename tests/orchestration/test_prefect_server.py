import asyncio
from pathlib import Path

import docket.worker
import pytest
from prefect.flow_engine import FlowRunEngine
from prefect.server.api import background_workers
from prefect.server.database.configurations import AioSqliteConfiguration
from sqlalchemy import text

from autoflow.orchestration.prefect_server import PatientSqliteConfiguration

WRITERS = 12


async def write_side_by_side(database: Path) -> list[int]:
    """Have writers read and then write at the same time, and return them in the order in which they were done."""
    configuration = PatientSqliteConfiguration(connection_url=f"sqlite+aiosqlite:///{database}")
    engine = await configuration.engine()
    done: list[int] = []

    async def write(number: int) -> None:
        session = await configuration.session(engine)
        async with session, configuration.begin_transaction(session):
            count = await session.scalar(text("SELECT count(*) FROM t"))
            await asyncio.sleep(0)
            await session.execute(text("INSERT INTO t VALUES (:count)"), {"count": count})
            done.append(number)

    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE t (count INTEGER UNIQUE)"))
    await asyncio.gather(*map(write, range(WRITERS)))
    await engine.dispose()
    return done


def test_transactions_that_read_and_then_write_take_turns_in_their_order(tmp_path: Path) -> None:
    assert asyncio.run(write_side_by_side(tmp_path / "prefect.db")) == list(range(WRITERS))


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (AioSqliteConfiguration, "begin_transaction"),
        (FlowRunEngine, "_flow_run_name_set"),
        (FlowRunEngine, "begin_run"),
        (FlowRunEngine, "create_flow_run"),
        (FlowRunEngine, "setup_run_context"),
        (background_workers, "Worker"),
        (docket.worker.Worker, "_cancellation_listener"),
    ],
)
def test_what_autoflow_replaces_in_prefect_is_there(owner: object, name: str) -> None:
    """What is no longer there under its name would be replaced without an effect, and without an error."""
    assert hasattr(owner, name)


def test_background_worker_of_prefect_is_that_of_docket() -> None:
    assert vars(background_workers)["Worker"] is docket.worker.Worker
