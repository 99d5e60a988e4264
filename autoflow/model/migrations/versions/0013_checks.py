"""Record the checks of each run, and runs that were skipped, whose dates are done."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

COLUMNS = ["workflow", "parameters_hash", "reference_date", "every"]


def upgrade() -> None:
    """Add the column, and have the index allow one run of a date that is running, has succeeded or was skipped."""
    op.add_column("runs", sa.Column("checks", sa.Text))
    where = sa.text("state IN ('running', 'succeeded', 'skipped')")
    op.drop_index("one_claim_per_date", "runs")
    op.create_index("one_claim_per_date", "runs", COLUMNS, unique=True, sqlite_where=where, postgresql_where=where)
