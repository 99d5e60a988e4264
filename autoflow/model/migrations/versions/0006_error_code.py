"""Record the beginning of the cell that failed."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the column."""
    op.add_column("runs", sa.Column("error_code", sa.Text))
