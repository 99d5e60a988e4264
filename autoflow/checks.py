"""One thing that was looked at, and what is wrong with it."""

from dataclasses import dataclass


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
