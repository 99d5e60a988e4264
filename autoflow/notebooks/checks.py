"""Record the checks of a notebook as it runs, whatever it does with its outputs."""

import ast
from collections.abc import Mapping, Sequence
from typing import Any

from autoflow import CHECK_TYPE, SkipRun
from autoflow.notebooks.redaction import Redaction
from autoflow.runs.checks import Check, Checks, Severity, shortened

CHECK_FAILED = "CheckFailed"
"""The class of the error of a notebook whose checks failed."""

SKIP = SkipRun.__name__
"""The class of the exception that ends a notebook whose run is skipped."""

LONGEST_NAME = 200
"""How much of the name of a check is kept, in characters."""

LONGEST_TEXT = 1000
"""How much of a check's message, or of the reason to skip a run, is kept, in characters."""


class CheckLog:
    """The checks of a notebook so far. `numbers` has the number of each cell."""

    def __init__(self, redaction: Redaction, numbers: Sequence[int | None]) -> None:
        self._redaction = redaction
        self._numbers = numbers
        self.checks = Checks()

    def take(self, content: dict[str, Any], cell_index: int) -> None:
        """Record the check in the content of an output of a cell, if there is one, and show it as it is recorded.

        A notebook can send whatever it likes: what is not as `autoflow.check` sends it is none.
        """
        data = content.get("data")
        if not isinstance(data, dict) or CHECK_TYPE not in data:
            return
        if check := self._check(data.pop(CHECK_TYPE), self._numbers[cell_index]):
            self.checks = self.checks.with_check(check)
            result = {"name": check.name, "ok": check.ok, "severity": check.severity.value, "message": check.message}
            content.update(data={CHECK_TYPE: result, "text/plain": text_of_check(result)}, metadata={})

    def is_repeated(self, data: Mapping[str, Any], source: str) -> bool:
        """Return whether an output is only the value of `autoflow.check(…)` at the end of a cell with this source."""
        if not self.checks or data.get("text/plain") not in {"True", "False"}:
            return False
        try:
            last = ast.parse(source).body[-1]
        except (SyntaxError, ValueError, IndexError):
            return False
        function = last.value.func if isinstance(last, ast.Expr) and isinstance(last.value, ast.Call) else None
        return "check" in {getattr(function, "attr", ""), getattr(function, "id", "")}

    def _check(self, found: Any, cell: int | None) -> Check | None:
        match found:
            case {"name": str(name), "ok": bool(ok), "severity": "error" | "warning" as severity, "message": str(text)}:
                name, message = self.cut(name, LONGEST_NAME), self.cut(text, LONGEST_TEXT)
                return Check(name=name, ok=ok, severity=Severity(severity), message=message, cell=cell)
        return None

    def cut(self, text: str, most: int) -> str:
        """Return the beginning of a text on one line, without secrets."""
        line = " ".join(text.split())
        if len(line) <= most:
            return self._redaction.of_text(line)
        return f"{self._redaction.beginning(line, most)}…"


def text_of_check(result: Mapping[str, Any]) -> str:
    """Return the result of a check, as an output has it, as text."""
    if result["ok"]:
        return f"✔ check passed: {result['name']}"
    more = f": {result['message']}" if result["message"] else ""
    sign = "✘" if result["severity"] == Severity.ERROR else "⚠"
    return f"{sign} check failed ({result['severity']}): {result['name']}{more}"


def failure_of(checks: Checks) -> str:
    """Return what the error of a notebook says about the checks that failed it, the first of them in its own cell."""
    first, *others = checks.failed_errors
    if checks.errors == 1:
        return str(first)
    texts = [f"{each} (cell {each.cell})" if each.cell and each.cell != first.cell else str(each) for each in others]
    return f"{checks.errors} checks failed: {'; '.join([str(first), *shortened(texts, checks.errors - 1)])}"
