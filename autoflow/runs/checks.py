"""The checks of notebooks: what `autoflow.check` found."""

import enum
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

MOST_KEPT = 200
"""How many checks that passed, and how many that failed, are kept of a notebook; all are counted."""

MOST_LISTED = 10
"""How many checks an error or a message lists."""


class Severity(enum.StrEnum):
    """What it means if a check fails."""

    ERROR = "error"
    """The notebook fails."""
    WARNING = "warning"
    """Readers are warned."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """A check of a notebook. `cell` is the number of its cell, None if that is not one of the author's."""

    name: str
    ok: bool
    severity: Severity = Severity.ERROR
    message: str = ""
    cell: int | None = None

    @property
    def is_error(self) -> bool:
        """Whether it fails the notebook."""
        return not self.ok and self.severity is Severity.ERROR

    @property
    def is_warning(self) -> bool:
        """Whether readers are to be warned."""
        return not self.ok and self.severity is Severity.WARNING

    def __str__(self) -> str:
        """Return its name and, if it failed, its message."""
        return self.name if self.ok or not self.message else f"{self.name}: {self.message}"


@dataclass(frozen=True, kw_only=True)
class Checks:
    """The checks of a notebook, in their order, at most `MOST_KEPT` that passed and that failed; the numbers of all."""

    kept: tuple[Check, ...] = ()
    passed: int = 0
    warnings: int = 0
    errors: int = 0

    def __bool__(self) -> bool:
        """Whether there were any."""
        return bool(self.passed or self.warnings or self.errors)

    def with_check(self, check: Check) -> "Checks":
        """Return them with one more."""
        is_kept = (self.passed if check.ok else self.warnings + self.errors) < MOST_KEPT
        return Checks(
            kept=(*self.kept, check) if is_kept else self.kept,
            passed=self.passed + check.ok,
            warnings=self.warnings + check.is_warning,
            errors=self.errors + check.is_error,
        )

    @property
    def summary(self) -> str:
        """How many there were, in words."""
        numbers = {"passed": self.passed, "failed": self.errors, "failed as warnings": self.warnings}
        left_out = self.passed + self.errors + self.warnings - len(self.kept)
        texts = [f"{number} {what}" for what, number in numbers.items() if number]
        return ", ".join([*texts, *([f"{left_out} of them not kept"] if left_out else [])])

    @property
    def warned(self) -> list[str]:
        """The checks that failed as warnings, in a line each, at most `MOST_LISTED`; the others are counted."""
        return shortened((str(each) for each in self.kept if each.is_warning), self.warnings)

    @property
    def failed_errors(self) -> list[Check]:
        """The checks that fail the notebook, as far as they are kept."""
        return [each for each in self.kept if each.is_error]

    def as_json(self) -> dict[str, Any]:
        """Return them for JSON."""
        return {
            "passed": self.passed,
            "warnings": self.warnings,
            "errors": self.errors,
            "checks": [asdict(each) for each in self.kept],
        }

    @classmethod
    def of_json(cls, content: Mapping[str, Any]) -> "Checks":
        """Return the checks that `as_json` has made `content` of."""
        kept = [Check(**{**each, "severity": Severity(each["severity"])}) for each in content["checks"]]
        return cls(kept=tuple(kept), passed=content["passed"], warnings=content["warnings"], errors=content["errors"])


def warnings_of(checks: Mapping[str, Mapping[str, Any]] | None) -> list[str]:
    """Return the warnings in the recorded checks of a run, as `Checks.warned` has them."""
    return [warning for each in (checks or {}).values() for warning in Checks.of_json(each).warned]


def shortened(texts: Iterable[str], total: int) -> list[str]:
    """Return at most `MOST_LISTED` of the texts, with how many more there are of `total`."""
    listed = list(texts)[:MOST_LISTED]
    return [*listed, *([f"and {total - len(listed)} more"] if total > len(listed) else [])]
