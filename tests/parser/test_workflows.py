from pathlib import Path

import pytest

from tests.conftest import write_notebook
from tests.parser.good_file import REPORT, RUN, changed, parse, problems


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("  - name: flows", "  - nam: flows", "3: workflows[0].nam: unknown key; did you mean 'name'?"),
        ("{only: {filename: plain.ipynb}}", "{}", "17: workflows[1].notebooks: expected at least one notebook"),
        ("name: other\n    ", "name: 7\n    ", "16: workflows[1].name: expected text, not 7"),
        (
            "name: other\n    ",
            "name: ' '\n    ",
            "16: workflows[1].name: expected visible characters on one line, not ' '",
        ),
        (
            "name: other\n    ",
            "name: [true, null, {at: 2016-01-01 00:00:00}]\n    ",
            "16: workflows[1].name: expected text, not [true, null, {'at': 2016-01-01 00:00:00}]",
        ),
        (
            "name: other\n    ",
            "name: other\n    keep: {notebooks: 0}\n    ",
            "17: workflows[1].keep.notebooks: expected a whole number of days from 1 to 36525, or null, not 0",
        ),
        (
            "name: other\n    ",
            "name: other\n    keep: {}\n    ",
            "17: workflows[1].keep: the mapping is empty; add a key or remove it",
        ),
        (
            "date: reference_date",
            "date: report",
            f"7: {REPORT}.parameters.date: circular dependency between notebooks: report → report",
        ),
        (
            "ranges: date_ranges",
            "ranges: report",
            f"14: {RUN}.parameters.ranges: circular dependency between notebooks: report → run → report",
        ),
    ],
)
def test_one_mistake_in_a_workflow_gives_one_line(inputs: Path, old: str, new: str, expected: str) -> None:
    assert problems(inputs, changed((old, new))) == [expected]


def test_empty_list_of_workflows_is_refused(inputs: Path) -> None:
    text = "workflows: []\navailable_dates_sensor: {schedule: null, workflows: []}\n"
    assert problems(inputs, text) == ["1: workflows: the list is empty; expected at least one workflow"]


def test_independent_notebooks_keep_the_order_of_the_file(inputs: Path) -> None:
    labels = [f"n{number}" for number in range(9, 0, -1)]
    notebooks = ", ".join(f"{label}: {{filename: plain.ipynb}}" for label in labels)
    file = parse(inputs, changed(("{only: {filename: plain.ipynb}}", f"{{{notebooks}}}")))
    assert [notebook.label for notebook in file.workflow("other").notebooks] == labels


def test_longer_cycle_is_shown_with_all_its_notebooks(inputs: Path) -> None:
    write_notebook(inputs / "p.ipynb", parameters="p = None")
    sources = {"a": "b", "b": "c", "c": "a"}
    notebooks = ", ".join(f"{label}: {{filename: p.ipynb, parameters: {{p: {s}}}}}" for label, s in sources.items())
    assert problems(inputs, changed(("{only: {filename: plain.ipynb}}", f"{{{notebooks}}}"))) == [
        "17: workflows[1].notebooks.c.parameters.p: circular dependency between notebooks: a → b → c → a",
    ]


def test_first_of_very_many_cycles_are_reported(inputs: Path) -> None:
    labels = [f"n{number}" for number in range(150)]
    write_notebook(inputs / "p.ipynb", parameters="\n".join(f"{label} = 1" for label in labels))
    parameters = ", ".join(f"{label}: {label}" for label in labels)
    notebooks = ", ".join(f"{label}: {{filename: p.ipynb, parameters: *all}}" for label in labels[1:])
    first = f"n0: {{filename: p.ipynb, parameters: &all {{{parameters}}}}}"
    text = changed(("{only: {filename: plain.ipynb}}", f"{{{first}, {notebooks}}}"))
    found = problems(inputs, text)
    assert len(found) == 20
    assert all("circular dependency" in problem for problem in found)


def test_pool_that_is_misspelt_or_has_no_room_is_reported(inputs: Path) -> None:
    text = changed(
        ("timeout: 90", "pool: flowkti"),
        ("available_dates_sensor:", "pools: {flowkit: 1, none: 0}\navailable_dates_sensor:"),
    )
    assert problems(inputs, text) == [
        f"9: {REPORT}.pool: unknown pool 'flowkti'; did you mean 'flowkit'?",
        "19: pools.none: expected a whole number of at least 1, not 0",
    ]
