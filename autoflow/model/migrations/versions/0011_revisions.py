"""Count how often the runs of each entry in each calendar year have changed, whichever process has changed them."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0008"

CHANGING = "state, finished_at, forgiven_at, pruned_at, outputs"
"""The columns of a run whose change counts."""

YEARS = {
    "sqlite": "CAST(substr({0}reference_date, 1, 4) AS INTEGER)",
    "postgresql": "CAST(extract(year FROM {0}reference_date) AS INTEGER)",
}
COUNT = """
    INSERT INTO revisions (workflow, parameters_hash, every, year, parameters, revision)
    VALUES ({row}.workflow, {row}.parameters_hash, {row}.every, {year}, {row}.parameters, 1)
    ON CONFLICT (workflow, parameters_hash, every, year) DO UPDATE SET revision = revisions.revision + 1;
"""


def upgrade() -> None:
    """Create the table, fill it, and make the database keep it up to date."""
    op.create_table(
        "revisions",
        sa.Column("workflow", sa.Text, primary_key=True),
        sa.Column("parameters_hash", sa.String(64), primary_key=True),
        sa.Column("every", sa.String(16), primary_key=True),
        sa.Column("year", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("parameters", sa.Text, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
    )
    op.create_index("runs_by_entry", "runs", ["workflow", "parameters_hash", "every", "reference_date"])
    of_sqlite, of_postgresql = sa.text("is_try_out = 1"), sa.text("is_try_out")
    op.create_index("try_outs", "runs", ["id"], sqlite_where=of_sqlite, postgresql_where=of_postgresql)
    dialect = op.get_context().dialect.name
    op.execute(
        f"""
        INSERT INTO revisions (workflow, parameters_hash, every, year, parameters, revision)
        SELECT workflow, parameters_hash, every, {YEARS[dialect].format("")}, min(parameters), count(*)
        FROM runs GROUP BY 1, 2, 3, 4
        """  # noqa: S608 - nothing in it comes from outside
    )
    if dialect == "sqlite":
        _create_triggers_of_sqlite()
    else:
        _create_trigger_of_postgresql()


def _create_triggers_of_sqlite() -> None:
    for name, event, row in (
        ("inserted", "INSERT", "NEW"),
        ("updated", f"UPDATE OF {CHANGING}", "NEW"),
        ("deleted", "DELETE", "OLD"),
    ):
        count = COUNT.format(row=row, year=YEARS["sqlite"].format(f"{row}."))
        op.execute(f"CREATE TRIGGER run_was_{name} AFTER {event} ON runs BEGIN {count} END")


def _create_trigger_of_postgresql() -> None:
    count = COUNT.format(row="run", year=YEARS["postgresql"].format("run."))
    op.execute(
        f"""
        CREATE FUNCTION count_change_of_run() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE run record;
        BEGIN
            IF TG_OP = 'DELETE' THEN run = OLD; ELSE run = NEW; END IF;
            {count}
            RETURN NULL;
        END $$
        """
    )
    events = f"INSERT OR DELETE OR UPDATE OF {CHANGING}"
    op.execute(f"CREATE TRIGGER run_changed AFTER {events} ON runs FOR EACH ROW EXECUTE FUNCTION count_change_of_run()")
