"""One thing that was looked at, and what is wrong with it."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Check:
    """What came of a look at `subject`: a line for each problem or, without any, a `note` on what was found."""

    subject: str
    problems: tuple[str, ...] = ()
    note: str = ""

    @property
    def is_good(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems
