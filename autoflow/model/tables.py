"""The tables of the run store."""

import sqlalchemy as sa

from autoflow.runs.records import CLAIMED_STATES, DONE_STATES, RunKey, RunState

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
    # Whether a user asked for it, rather than the sensor.
    sa.Column("is_requested", sa.Boolean, nullable=False, server_default=sa.false()),
    # When a message named its success.
    sa.Column("reported_at", sa.DateTime),
    # JSON: what it was made from, see `MadeFrom`; NULL in rows of older versions.
    sa.Column("made_from", sa.Text),
    # JSON: the checks of its notebooks; NULL if there were none.
    sa.Column("checks", sa.Text),
    # JSON: the notebooks that were executed to their ends, see `FinishedNotebook`; written as each of them ends.
    sa.Column("finished_notebooks", sa.Text),
    # The folder of the run, from the outputs folder on; a run that resumes it takes it over.
    sa.Column("run_dir", sa.Text),
    # When a user asked for its notebooks to be taken over by the next attempt.
    sa.Column("resume_asked_at", sa.DateTime),
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

notices_table = sa.Table(
    "notices",
    metadata,
    # What people were notified of, see `Topic`, and what identifies it.
    sa.Column("topic", sa.String(16), primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    # The daemon that finds a condition; empty where it does not matter.
    sa.Column("daemon", sa.Text, primary_key=True, server_default=""),
    sa.Column("text", sa.Text, nullable=False, server_default=""),
    sa.Column("noted_at", sa.DateTime, nullable=False),
)

messages_table = sa.Table(
    "messages",
    metadata,
    # Messages that have not been sent yet, a row for each URL.
    sa.Column("id", sa.Integer, primary_key=True),
    # A name in AUTOFLOW_NOTIFY_URLS, empty for URLs without one, and which of its URLs, counted from 1.
    sa.Column("recipient", sa.Text, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    # JSON without secrets.
    sa.Column("content", sa.Text, nullable=False),
    sa.Column("created_at", sa.DateTime, nullable=False),
    sa.Column("due_at", sa.DateTime, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    # The process that sends it, and until when no other one does.
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("held_until", sa.DateTime, nullable=False),
)

entries_table = sa.Table(
    "entries",
    metadata,
    sa.Column("workflow", sa.Text, primary_key=True),
    sa.Column("parameters_hash", sa.String(64), primary_key=True),
    sa.Column("every", sa.String(16), primary_key=True),
    # When a daemon first had it in its workflows.yml, or had it again after it had been removed.
    sa.Column("first_seen", sa.DateTime, nullable=False),
    sa.Column("removed_at", sa.DateTime),
    # Since when its successes are messages, and the newest date that was one.
    sa.Column("reports_since", sa.DateTime),
    sa.Column("reported_date", sa.Date),
)

# How often the runs of an entry in a calendar year have changed. The database itself keeps it up to date.
revisions_table = sa.Table(
    "revisions",
    metadata,
    sa.Column("workflow", sa.Text, primary_key=True),
    sa.Column("parameters_hash", sa.String(64), primary_key=True),
    sa.Column("every", sa.String(16), primary_key=True),
    sa.Column("year", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("parameters", sa.Text, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
)

is_claimed = runs_table.c.state.in_([str(state) for state in CLAIMED_STATES])
is_done = runs_table.c.state.in_([str(state) for state in DONE_STATES])
is_rerunning = runs_table.c.state == str(RunState.RERUNNING)


def is_run(key: RunKey) -> tuple[sa.ColumnElement[bool], ...]:
    """Return the conditions for the rows of the runs with a key."""
    return (
        runs_table.c.workflow == key.workflow,
        runs_table.c.parameters_hash == key.parameters_hash,
        runs_table.c.reference_date == key.reference_date,
        runs_table.c.every == key.every.value,
    )


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
sa.Index(
    "runs_by_entry",
    runs_table.c.workflow,
    runs_table.c.parameters_hash,
    runs_table.c.every,
    runs_table.c.reference_date,
)
sa.Index(
    "try_outs",
    runs_table.c.id,
    sqlite_where=runs_table.c.is_try_out == sa.true(),
    postgresql_where=runs_table.c.is_try_out,
)
