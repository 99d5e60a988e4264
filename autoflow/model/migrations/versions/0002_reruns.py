"""Record reruns of dates that are done, failures that no longer count, and outputs that were pruned."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the columns, and an index that allows one rerun of a date at a time."""
    op.add_column("runs", sa.Column("forgiven_at", sa.DateTime))
    op.add_column("runs", sa.Column("pruned_at", sa.DateTime))
    rerunning = sa.text("state = 'rerunning'")
    op.create_index(
        "one_rerun_per_date",
        "runs",
        ["workflow", "parameters_hash", "reference_date"],
        unique=True,
        sqlite_where=rerunning,
        postgresql_where=rerunning,
    )
