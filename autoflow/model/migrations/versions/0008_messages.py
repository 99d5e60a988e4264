"""Record what people were notified of, messages that are not sent yet, and when each entry was first seen."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Create the tables; add what messages need to know about runs."""
    op.add_column("runs", sa.Column("is_requested", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("runs", sa.Column("reported_at", sa.DateTime))
    op.create_table(
        "notices",
        sa.Column("topic", sa.String(16), primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("daemon", sa.Text, primary_key=True, server_default=""),
        sa.Column("text", sa.Text, nullable=False, server_default=""),
        sa.Column("noted_at", sa.DateTime, nullable=False),
    )
    op.create_table(
        "messages",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("recipient", sa.Text, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("due_at", sa.DateTime, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("held_until", sa.DateTime, nullable=False),
    )
    op.create_table(
        "entries",
        sa.Column("workflow", sa.Text, primary_key=True),
        sa.Column("parameters_hash", sa.String(64), primary_key=True),
        sa.Column("every", sa.String(16), primary_key=True),
        sa.Column("first_seen", sa.DateTime, nullable=False),
        sa.Column("removed_at", sa.DateTime),
        sa.Column("reports_since", sa.DateTime),
        sa.Column("reported_date", sa.Date),
    )
