"""Every benchmark is documented, and judges its goals in the same way."""

import math
import re
from pathlib import Path

import pytest

from benchmarks.all import BENCHMARKS
from benchmarks.goals import Goal, judge, recorded

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"


def test_every_benchmark_has_a_row_in_the_readme() -> None:
    documented = re.findall(r"^\| `python -m benchmarks\.(\w+)` \|", (FOLDER / "README.md").read_text(), re.MULTILINE)
    assert sorted(documented) == sorted(path.stem for path in FOLDER.glob("*.py") if '"__main__"' in path.read_text())


@pytest.mark.parametrize(
    ("figure", "at_least", "is_reached"),
    [
        (2.0, False, True),
        (2.1, False, False),
        (2.0, True, True),
        (1.9, True, False),
        (math.inf, False, False),
        (math.nan, False, False),
        (math.nan, True, False),
    ],
)
def test_goal_is_reached_up_to_its_limit(figure: float, *, at_least: bool, is_reached: bool) -> None:
    assert Goal("waits", figure, 2.0, at_least=at_least).is_reached is is_reached


def test_goal_is_printed_with_figure_limit_and_ratio(capsys: pytest.CaptureFixture[str]) -> None:
    judge([Goal("waits", 1.5, 1.0, unit="s"), Goal("failed", 0, 0, unit="")], check=False)
    _, _, waits, failed = capsys.readouterr().out.splitlines()
    assert waits.split() == ["waits", "1.5", "s", "<=", "1", "s", "1.50", "MISSED"]
    assert failed.split() == ["failed", "0", "<=", "0", "reached"]


def test_missed_goal_is_an_error_only_when_asked_for() -> None:
    goals = [Goal("waits", 1.5, 1.0), Goal("failed", 0, 0)]
    assert judge(goals, check=False) == 0
    assert judge(goals, check=True) == 1
    assert judge(goals[1:], check=True) == 0


def test_goals_are_written_to_a_file_from_which_all_reads_them(tmp_path: Path) -> None:
    goals = [Goal("waits", 1.5, 1.0, unit="s"), Goal("faster", 3.0, 2.0, at_least=True)]
    judge(goals, check=False, figures=tmp_path / "figures.json")
    assert recorded(tmp_path / "figures.json") == goals


def test_all_runs_every_benchmark_that_takes_minutes_and_has_goals() -> None:
    with_goals = {path.stem for path in FOLDER.glob("*.py") if "add_options(parser)" in path.read_text()}
    assert set(BENCHMARKS) == with_goals - {"memory"}, "memory repeats what the soak shows"
