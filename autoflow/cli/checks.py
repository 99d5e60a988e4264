"""Checks, as `autoflow validate` and `autoflow health` print them."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from autoflow.cli.show import console, print_json
from autoflow.errors import ExitCode, RunStoreError
from autoflow.model.opening import traces
from autoflow.model.store import RunStore
from autoflow.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Check:
    """The result of a check of `subject`: a line for each problem or, without any, a `note` on what was found.

    If it is `is_open`, the subject is neither good nor bad: it could not be checked. `warnings` are lines that a person
    should read although the subject is good.
    """

    subject: str
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    note: str = ""
    is_open: bool = False

    @property
    def is_good(self) -> bool:
        """Whether it was checked, and there are no problems."""
        return not self.problems and not self.is_open


def check_database(settings: Settings, *, made_at_start: Sequence[Path] = ()) -> Check:
    """Check that the run store answers; the folders in `made_at_start` need not exist yet."""
    try:
        with closing(RunStore(settings.db_uri)) as store:
            return Check(subject="database", note=store.look(made_at_start=made_at_start, traces=traces(settings)))
    except RunStoreError as error:
        return Check(subject="database", problems=(str(error),))


def print_checks(checks: Iterable[Check], *, as_json: bool, more: Mapping[str, object] | None = None) -> ExitCode:
    """Print each check as soon as it is done; return the exit code. `more` is only part of the JSON."""
    done = []
    for check in checks:
        done.append(check)
        if not as_json:
            _print_check(check)
    is_good = not any(check.problems for check in done)
    if as_json:
        print_json({"good": is_good, "checks": [_as_json(check) for check in done], **(more or {})})
    return ExitCode.SUCCESS if is_good else ExitCode.FAILURE


def _print_check(check: Check) -> None:
    mark, style = _mark(check)
    out = console()
    out.print(f"[{style}]{mark:<6}[/]", f"{check.subject:<15}", end="")
    for index, line in enumerate((*check.problems, *check.warnings) or (check.note,)):
        out.print(line if index == 0 else f"{'':<22} {line}", markup=False, soft_wrap=True)


def _mark(check: Check) -> tuple[str, str]:
    if check.problems:
        return "WRONG", "bold red"
    if check.is_open:
        return "-", "yellow"
    return ("note", "yellow") if check.warnings else ("ok", "green")


def _as_json(check: Check) -> dict[str, object]:
    return {
        "subject": check.subject,
        "good": None if check.is_open else check.is_good,
        "problems": check.problems,
        "note": check.note,
        "warnings": check.warnings,
    }
