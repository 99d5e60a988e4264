"""Record more about each run, such as the kind of its period, and when each date arrived in FlowAPI."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

INDEXES = {"one_claim_per_date": "state IN ('running', 'succeeded')", "one_rerun_per_date": "state = 'rerunning'"}
COLUMNS = ["workflow", "parameters_hash", "reference_date"]


def upgrade() -> None:
    """Add the columns; `every`, which is `day` for all older runs, to the indexes as well; create the table."""
    op.add_column("runs", sa.Column("every", sa.String(16), nullable=False, server_default="day"))
    op.add_column("runs", sa.Column("label", sa.Text))
    op.add_column("runs", sa.Column("missing_days", sa.Integer))
    op.add_column("runs", sa.Column("is_try_out", sa.Boolean, nullable=False, server_default=sa.false()))
    for name, condition in INDEXES.items():
        where = sa.text(condition)
        op.drop_index(name, "runs")
        op.create_index(name, "runs", [*COLUMNS, "every"], unique=True, sqlite_where=where, postgresql_where=where)
    op.create_table(
        "arrivals",
        sa.Column("cdr_type", sa.String(64), primary_key=True),
        sa.Column("date", sa.Date, primary_key=True),
        sa.Column("first_seen", sa.DateTime),
        sa.Column("vanished", sa.DateTime),
        sa.Column("last_seen", sa.DateTime),
    )
