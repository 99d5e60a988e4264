"""Create the table of runs, with one row for each attempt."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the table and its indexes."""
    op.create_table(
        "runs",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("workflow", sa.Text, nullable=False),
        sa.Column("parameters_hash", sa.String(64), nullable=False),
        sa.Column("parameters", sa.Text, nullable=False),
        sa.Column("reference_date", sa.Date, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("started_at", sa.DateTime, nullable=False),
        sa.Column("heartbeat_at", sa.DateTime, nullable=False),
        sa.Column("finished_at", sa.DateTime),
        sa.Column("error_notebook", sa.Text),
        sa.Column("error_cell", sa.Integer),
        sa.Column("error_class", sa.Text),
        sa.Column("error_message", sa.Text),
        sa.Column("outputs", sa.Text),
        sa.Column("flow_run_id", sa.String(36)),
    )
    claimed = sa.text("state IN ('running', 'succeeded')")
    op.create_index(
        "one_claim_per_date",
        "runs",
        ["workflow", "parameters_hash", "reference_date"],
        unique=True,
        sqlite_where=claimed,
        postgresql_where=claimed,
    )
    op.create_index("runs_by_state", "runs", ["state"])
