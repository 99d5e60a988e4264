"""Goals of benchmarks: the limit of a figure, whether it is kept, and the exit code."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass


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


def add_check(parser: argparse.ArgumentParser) -> None:
    """Add the option that makes the exit code 1 if a goal is missed."""
    parser.add_argument("--check", action="store_true", help="exit with 1 if a goal is missed")


def judge(goals: Sequence[Goal], *, check: bool) -> int:
    """Print the goals; return the exit code of the benchmark: 1 if a goal is missed and `check` is set, else 0."""
    print(f"\n{'goals':52}{'figure':>12}{'goal':>14}{'ratio':>8}")
    for goal in goals:
        print(goal)
    return int(check and not all(goal.is_reached for goal in goals))
