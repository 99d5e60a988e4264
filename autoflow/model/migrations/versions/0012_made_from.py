"""Record what each run was made from, and each list of installed packages once."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Add the column, and create the table."""
    op.add_column("runs", sa.Column("made_from", sa.Text))
    op.create_table(
        "package_lists",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("packages", sa.Text, nullable=False),
    )
