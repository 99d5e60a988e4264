from pathlib import Path

import pytest

from tests.conftest import write_notebook
from tests.parser.good_file import ENTRY, SENSOR, changed, problems


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "- workflow_name: other",
            "- workflow_name: othr",
            f"32: {SENSOR}.workflows[1].workflow_name: unknown workflow 'othr'; did you mean 'other'?",
        ),
        (
            "- workflow_name: other",
            "- {workflow_name: flows, parameters: {count: 3}}",
            f"32: {SENSOR}.workflows[1]: duplicate entry; {ENTRY} has the same workflow and parameters",
        ),
        (
            "{count: 3}",
            "{}",
            f"24: {ENTRY}.parameters.count: missing parameter; notebook 'run' of workflow 'flows' uses it",
        ),
        (
            "      parameters: {count: 3}\n",
            "",
            f"23: {ENTRY}.parameters.count: missing parameter; notebook 'run' of workflow 'flows' uses it",
        ),
        (
            "path: run",
            "path: rum",
            (
                f"24: {ENTRY}.parameters.rum: missing parameter; notebook 'report' of workflow 'flows' uses it; "
                "or does it mean notebook 'run'?"
            ),
        ),
        (
            "{count: 3}",
            "{count: 3, size: 4}",
            f"24: {ENTRY}.parameters.size: no notebook of workflow 'flows' uses this parameter; remove it",
        ),
        (
            "{count: 3}",
            "{cuont: 3}",
            f"24: {ENTRY}.parameters.cuont: no notebook of workflow 'flows' uses this parameter; did you mean 'count'?",
        ),
        (
            "{count: 3}",
            "{count: 3, run: 4}",
            f"24: {ENTRY}.parameters.run: a notebook of workflow 'flows' has this label; rename one of them",
        ),
        (
            "{count: 3}",
            "{count: 3, date_ranges: []}",
            f"24: {ENTRY}.parameters.date_ranges: this parameter is automatic; remove it",
        ),
    ],
)
def test_one_mismatch_gives_one_line(inputs: Path, old: str, new: str, expected: str) -> None:
    assert problems(inputs, changed((old, new))) == [expected]


def test_duplicate_name_does_not_hide_an_entry_without_a_workflow(inputs: Path) -> None:
    assert problems(inputs, changed(("  - name: other", "  - name: flows"))) == [
        "16: workflows[1].name: duplicate name 'flows', first used by workflows[0]",
        f"32: {SENSOR}.workflows[1].workflow_name: unknown workflow 'other'",
    ]


def test_parameter_that_a_notebook_declares_but_does_not_get_is_to_be_added_there(inputs: Path) -> None:
    write_notebook(inputs / "plain.ipynb", parameters="region = 'all'")
    text = changed(("- workflow_name: other", "- {workflow_name: other, parameters: {region: north}}"))
    assert problems(inputs, text) == [
        (
            f"32: {SENSOR}.workflows[1].parameters.region: no notebook of workflow 'other' uses this parameter; "
            "notebook 'only' declares it: add 'region: region' to the parameters of 'only'"
        ),
    ]
