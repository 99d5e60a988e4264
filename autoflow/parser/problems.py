"""Collect the mistakes of a file and report them all at once."""

from autoflow.errors import WorkflowsFileError
from autoflow.notebooks.redaction import Redaction
from autoflow.parser.places import Place, PlacesInFile, show_place
from autoflow.specs import Finding

_MANY = 1_000


class Broken:
    """Stands for a value with a mistake that has been reported already."""


BROKEN = Broken()


class Problems:
    """The mistakes found so far.

    `redaction` removes secrets from what is reported.

    No further mistakes are reported of a broken value or of anything within it, so that one mistake gives one line.
    """

    def __init__(self, file_name: str, redaction: Redaction | None = None) -> None:
        self.redaction = redaction or Redaction(())
        self.places = PlacesInFile()
        self._file_name = file_name
        self._found: list[tuple[int, str]] = []
        self._texts: set[tuple[int, str]] = set()
        self._findings: dict[Finding, int] = {}
        self._broken: set[Place] = set()
        self._around_broken: set[Place] = set()

    def add(self, place: Place, message: str, *, line: int | None = None, at_key: bool = False) -> None:
        """Report a mistake, unless the value at `place`, or one around it, is broken.

        Without `line`, it is on the line of the value or, if `at_key`, of its key.
        """
        if self.is_broken(place):
            return
        line = line or self.places.line(place, at_key=at_key)
        problem = (line, self._text(place, line, message))
        # The entries that `for_each` makes have the same mistakes.
        if problem not in self._texts:
            self._found.append(problem)
            self._texts.add(problem)
        if len(self._found) == _MANY:
            self.raise_if_any()

    def find(self, place: Place, message: str, *, at_key: bool = False, fails_runs: bool = False) -> None:
        """Report something that is not a mistake in the file but needs a look; see `Finding`."""
        line = self.places.line(place, at_key=at_key)
        self._findings[Finding(self._text(place, line, message), fails_runs)] = line

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings, in the order of the file."""
        return tuple(sorted(self._findings, key=self._findings.__getitem__)[:_MANY])

    def break_at(self, place: Place, message: str, *, line: int | None = None) -> None:
        """Report a mistake that leaves nothing more to check in the value at `place`."""
        self.add(place, message, line=line)
        place = self.places.as_written(place)
        self._broken.add(place)
        self._around_broken.update(place[:length] for length in range(len(place) + 1))

    def stop(self, message: str, *, line: int | None = None) -> WorkflowsFileError:
        """Return the error for a file that cannot be checked any further."""
        where = self._file_name if line is None else f"{self._file_name}:{line}"
        return WorkflowsFileError([f"{where}: {self.redaction.of_cut_text(message)}"])

    def is_broken(self, place: Place) -> bool:
        """Return whether the value at `place`, or one around it, is broken."""
        place = self.places.as_written(place)
        return any(place[:length] in self._broken for length in range(len(place) + 1))

    def is_broken_within(self, place: Place) -> bool:
        """Return whether the value at `place`, one around it, or one within it, is broken."""
        return self.places.as_written(place) in self._around_broken or self.is_broken(place)

    def _text(self, place: Place, line: int, message: str) -> str:
        shown = f"{show_place(self.places.as_written(place))}: " if place else ""
        return f"{self._file_name}:{line}: {self.redaction.of_cut_text(shown + message)}"

    def raise_if_any(self) -> None:
        """Raise WorkflowsFileError with all mistakes, in the order of the file, if there are any."""
        if self._found:
            raise WorkflowsFileError([text for _, text in sorted(self._found, key=lambda found: found[0])])
