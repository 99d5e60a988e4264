"""Goals of benchmarks: the limit of a figure, whether it is kept, and the exit code."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

HEAD = f"\n{'goals':52}{'figure':>12}{'goal':>14}{'ratio':>8}"
"""The head of the table of goals."""


@dataclass(frozen=True)
class Goal:
    """A figure and its limit, which is an upper limit or, with `at_least`, a lower one."""

    name: str
    figure: float
    limit: float
    unit: str = "x"
    at_least: bool = False

    @property
    def is_reached(self) -> bool:
        """Whether the figure keeps the limit; a figure equal to the limit does, NaN does not."""
        return self.figure >= self.limit if self.at_least else self.figure <= self.limit

    def __str__(self) -> str:
        """Return the line of the table that `judge` prints."""
        sign = ">=" if self.at_least else "<="
        ratio = f"{self.figure / self.limit:8.2f}" if self.limit else f"{'':8}"
        limit = f"{sign} {self.limit:g} {self.unit}"
        figure = f"{self.figure:.4g} {self.unit}"
        return f"{self.name:52}{figure:>12}{limit:>14}{ratio}  {'reached' if self.is_reached else 'MISSED'}"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of all benchmarks with goals: the exit code if one is missed, and a file for the figures."""
    parser.add_argument("--check", action="store_true", help="exit with 1 if a goal is missed")
    parser.add_argument(
        "--figures", type=Path, metavar="FILE", help="also write the figures and goals to FILE, as JSON"
    )


def judge(goals: Sequence[Goal], *, check: bool, figures: Path | None = None) -> int:
    """Print the goals, and write them to `figures`; return the benchmark's exit code.

    It is 1 if a goal is missed and `check` is set, else 0.
    """
    print(HEAD)
    for goal in goals:
        print(goal)
    if figures:
        figures.write_text(json.dumps([asdict(goal) for goal in goals], indent=1))
    return int(check and not all(goal.is_reached for goal in goals))


def recorded(figures: Path) -> list[Goal]:
    """Return the goals that `judge` has written to a file."""
    return [Goal(**goal) for goal in json.loads(figures.read_text())]
