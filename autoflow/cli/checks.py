"""One thing that was looked at, and what is wrong with it."""

from collections.abc import Iterable
from dataclasses import dataclass

from autoflow.cli.show import console, print_json


@dataclass(frozen=True, kw_only=True)
class Check:
    """What came of a look at `subject`: a line for each problem or, without any, a `note` on what was found.

    If it is `is_open`, it is neither good nor wrong: it could not be looked at, or is for people to judge.
    """

    subject: str
    problems: tuple[str, ...] = ()
    note: str = ""
    is_open: bool = False

    @property
    def is_good(self) -> bool:
        """Whether it was looked at, and nothing is wrong."""
        return not self.problems and not self.is_open


def _mark(check: "Check") -> tuple[str, str]:
    """Return the mark before a check, and its style."""
    if check.problems:
        return "WRONG", "bold red"
    return ("-", "yellow") if check.is_open else ("ok", "green")


def print_checks(checks: Iterable["Check"], *, as_json: bool) -> int:
    """Print each check as it comes; return the exit code."""
    out = console()
    done = []
    for check in checks:
        done.append(check)
        if not as_json:
            mark, style = _mark(check)
            out.print(f"[{style}]{mark:<6}[/]", f"{check.subject:<15}", end="")
            for index, line in enumerate(check.problems or (check.note,)):
                out.print(line if index == 0 else f"{'':<22} {line}", markup=False, soft_wrap=True)
    is_good = not any(check.problems for check in done)
    if as_json:
        content = [
            {
                "subject": check.subject,
                "good": None if check.is_open else check.is_good,
                "problems": check.problems,
                "note": check.note,
            }
            for check in done
        ]
        print_json({"good": is_good, "checks": content})
    return 0 if is_good else 1
