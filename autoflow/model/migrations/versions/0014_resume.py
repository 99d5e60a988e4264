"""Record each notebook that was executed to its end, the folder of each run, and which runs are to be resumed."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Add the columns."""
    op.add_column("runs", sa.Column("finished_notebooks", sa.Text))
    op.add_column("runs", sa.Column("run_dir", sa.Text))
    op.add_column("runs", sa.Column("resume_asked_at", sa.DateTime))
