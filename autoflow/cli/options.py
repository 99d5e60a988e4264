"""Options that several verbs have."""

import click

DATE = click.DateTime(["%Y-%m-%d"])
"""A date on the command line, for which click returns a datetime."""

RUN_ID = click.IntRange(1, 2**31 - 1)
"""The ID of a run, up to the highest that PostgreSQL gives."""

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
"""The option of all verbs that print results."""
