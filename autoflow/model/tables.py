"""The tables of the run store."""

import sqlalchemy as sa

from autoflow.runs.records import CLAIMED_STATES, RunState

metadata = sa.MetaData()

runs_table = sa.Table(
    "runs",
    metadata,
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
    # JSON, with paths relative to the outputs folder: see `output_paths`.
    sa.Column("outputs", sa.Text),
    sa.Column("flow_run_id", sa.String(36)),
    # When a user requested a retry of the date: the run no longer counts as a failure.
    sa.Column("forgiven_at", sa.DateTime),
    # When its outputs were deleted because of their age.
    sa.Column("pruned_at", sa.DateTime),
    # The outputs folder as it was when `outputs` was written.
    sa.Column("outputs_dir", sa.Text),
    # When the cancellation of the run was requested; the process that executes it ends it.
    sa.Column("cancel_asked_at", sa.DateTime),
    # The beginning of the cell that failed.
    sa.Column("error_code", sa.Text),
    # The kind of its period, see `Every`.
    sa.Column("every", sa.String(16), nullable=False, server_default="day"),
    # The label of its entry when it started.
    sa.Column("label", sa.Text),
    # How many days of its stencil were missing when it started; NULL in rows of older versions.
    sa.Column("missing_days", sa.Integer),
    # Whether a user started it with parameters that no entry had then.
    sa.Column("is_try_out", sa.Boolean, nullable=False, server_default=sa.false()),
    # JSON: what it was made from, see `MadeFrom`; NULL in rows of older versions.
    sa.Column("made_from", sa.Text),
)

package_lists_table = sa.Table(
    "package_lists",
    metadata,
    # The digest of the list, by which runs refer to it.
    sa.Column("digest", sa.String(64), primary_key=True),
    # The lines of a requirements file.
    sa.Column("packages", sa.Text, nullable=False),
)

arrivals_table = sa.Table(
    "arrivals",
    metadata,
    sa.Column("cdr_type", sa.String(64), primary_key=True),
    sa.Column("date", sa.Date, primary_key=True),
    # When a tick first found it in FlowAPI; NULL if the first tick of all did.
    sa.Column("first_seen", sa.DateTime),
    # When a tick last noticed that it was gone.
    sa.Column("vanished", sa.DateTime),
    # When a tick last found it again after it had been gone.
    sa.Column("last_seen", sa.DateTime),
)

is_claimed = runs_table.c.state.in_([str(state) for state in CLAIMED_STATES])
is_rerunning = runs_table.c.state == str(RunState.RERUNNING)

sa.Index(
    "one_claim_per_date",
    runs_table.c.workflow,
    runs_table.c.parameters_hash,
    runs_table.c.reference_date,
    runs_table.c.every,
    unique=True,
    sqlite_where=is_claimed,
    postgresql_where=is_claimed,
)
sa.Index(
    "one_rerun_per_date",
    runs_table.c.workflow,
    runs_table.c.parameters_hash,
    runs_table.c.reference_date,
    runs_table.c.every,
    unique=True,
    sqlite_where=is_rerunning,
    postgresql_where=is_rerunning,
)
sa.Index("runs_by_state", runs_table.c.state)
