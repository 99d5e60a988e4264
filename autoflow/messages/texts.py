"""The texts of messages."""

import datetime
from collections.abc import Iterable, Sequence
from pathlib import Path

from autoflow.dates.periods import Every
from autoflow.runs.attention import Condition, Need, as_text
from autoflow.runs.records import RunKey
from autoflow.runs.run import EndedRun
from autoflow.runs.statuses import in_ranges
from autoflow.settings import Settings
from autoflow.utils import redact

LONGEST_REASON = 1000
"""The longest excerpt from an error in a message, in characters."""

MOST_LISTED = 20
"""The highest number of runs that are listed in one message."""

NOT_RETRIED = "AutoFlow will not retry on its own; 'autoflow retry' does."

NOT_RERUN = "AutoFlow will not run it again on its own; 'autoflow run --force' does."


def notice_key(key: RunKey) -> str:
    """Return what identifies a run in the record of what people were notified of."""
    every = "" if key.every is Every.DAY else f" {key.every}"
    return f"{key.workflow} {key.parameters_hash[:16]} {key.reference_date.isoformat()}{every}"


def notice_of(condition: Condition, now: datetime.datetime) -> str:
    """Return the text for the message that the condition is over: what it was, and since when."""
    return f"{condition.reason.splitlines()[0]} (since {as_text(condition.since or now)})"


def title_of(conditions: Sequence[Condition]) -> str:
    """Return the title of the message that `conditions` need attention."""
    if conditions[0].need is Need.STUCK:
        title, more = _stuck_run(conditions[0].reason), len(conditions) - 1
        return f"AutoFlow: {title} and {more} more seem stuck" if more else f"AutoFlow: {title} seems stuck"
    return "AutoFlow: " + "; ".join(dict.fromkeys(condition.need.headline for condition in conditions))


def _stuck_run(text: str) -> str:
    """Return the name of the run in the reason, or the notice, that it is stuck."""
    return text.partition(" seems stuck")[0]


def described(condition: Condition) -> str:
    """Return why a condition needs attention, since when, and what to do."""
    since = f"Since {as_text(condition.since)}." if condition.since else ""
    hint = f"{condition.what_to_do[:1].upper()}{condition.what_to_do[1:]}." if condition.what_to_do else ""
    return "\n".join(line for line in (f"{condition.reason}.", *condition.details, since, hint) if line)


def recovery(key: str, notice: str) -> tuple[str, str]:
    """Return the title and the body of the message that a condition is over."""
    need = Need[key.partition(" ")[0].upper()]
    body = f"Before: {notice}" if notice else "It had been failing."
    return f"AutoFlow: {f'{_stuck_run(notice)} is ' if need is Need.STUCK else ''}{need.over}", body


def warnings_in_words(warnings: Iterable[str]) -> list[str]:
    """Return a line for each check that failed as a warning."""
    return [f"Warning: {warning}" for warning in warnings]


def listed(texts: Iterable[str]) -> str:
    """Return at most `MOST_LISTED` texts, an empty line between two."""
    texts = list(texts)
    more = len(texts) - MOST_LISTED
    return "\n\n".join([*texts[:MOST_LISTED], *([f"… and {more} more"] if more > 0 else [])])


def excerpt(text: str, settings: Settings) -> str:
    """Return the beginning of an error on one line, without secrets: a secret that is cut would not be found later."""
    return redact(" ".join(text.split()), settings.secrets)[:LONGEST_REASON]


def links(notebooks: Iterable[Path], cells: Iterable[tuple[Path, int]], settings: Settings) -> list[str]:
    """Return a line for each cell that failed, and for each executed notebook."""
    lines = [f"Cell {cell}: {settings.address_of_cell(path, cell)}" for path, cell in cells]
    return [*lines, *(f"Executed notebook: {settings.address_of(path)}" for path in notebooks)]


def failure(ended: EndedRun, settings: Settings) -> list[str]:
    """Return why a run failed, and where to look."""
    attempts = ended.run.failures + 1
    lines = ["Its only attempt failed." if attempts == 1 else f"All {attempts} attempts failed."]
    if ended.run.is_rerun:
        lines.append(f"{in_ranges(ended.run.changed)} arrived or changed after the last run, whose report stays.")
    lines.append(excerpt(str(ended.outcome.error or ""), settings))
    return lines + links(ended.failed_notebooks, ended.failed_cells, settings)
