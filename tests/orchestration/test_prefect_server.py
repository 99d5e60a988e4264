import asyncio
from pathlib import Path

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
