"""How long ago claims were renewed, for workers, which may only read the runs."""

import sqlalchemy as sa

from autoflow.model.tables import runs_table
from autoflow.model.transactions import Database
from autoflow.runs.records import ACTIVE_STATES


class ClaimAges:
    """Reads the ages of claims from PostgreSQL, by its own clock. Safe to use from several threads.

    Both methods raise RunStoreError if the database cannot be read.
    """

    def __init__(self, uri: str) -> None:
        # There may be hundreds of workers, and PostgreSQL has 100 connections by default.
        self._database = Database(uri, kept=1)

    def close(self) -> None:
        """Close the connections to the database."""
        self._database.close()

    def age(self, claim_id: int) -> float | None:
        """Return how long ago, in seconds, a claim was renewed; None if it is not valid any more."""
        now = sa.func.timezone("utc", sa.func.clock_timestamp(), type_=sa.DateTime)
        seconds = sa.extract("epoch", now - runs_table.c.heartbeat_at)
        is_active = runs_table.c.state.in_(ACTIVE_STATES)
        with self._database.reading() as connection:
            found = connection.execute(sa.select(seconds).where(runs_table.c.id == claim_id, is_active)).scalar()
        return None if found is None else max(0.0, float(found))
