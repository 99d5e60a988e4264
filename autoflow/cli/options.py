"""Options that several verbs have."""

import click

DATE = click.DateTime(["%Y-%m-%d"])
"""A date on the command line; click makes a time of it."""


RUN_ID = click.IntRange(1, 2**31 - 1)
"""The number of a run, as far as PostgreSQL counts."""
