from pathlib import Path
from typing import Any

import nbformat
import pytest

from autoflow.notebooks.reading import HOW_TO_TAG
from tests.conftest import PYTHON, write_notebook
from tests.parser.good_file import ONLY, REPORT, changed, parse, problems


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "        timeout: 90",
            "        colour: red",
            f"9: {REPORT}.colour: unknown key; expected filename, parameters, output, timeout, memory, pool or secrets",
        ),
        (
            "filename: report.ipynb",
            "filenam: report.ipynb",
            f"6: {REPORT}.filenam: unknown key; did you mean 'filename'?",
        ),
        ("        filename: report.ipynb\n", "", f"5: {REPORT}.filename: missing key"),
        ("filename: report.ipynb", "filename:", f"6: {REPORT}.filename: missing value"),
        (
            "filename: report.ipynb",
            "filename: [report.ipynb]",
            f"6: {REPORT}.filename: expected text, not ['report.ipynb']",
        ),
        ("format: pdf, ", "", f"8: {REPORT}.output.format: missing key"),
        ("format: pdf", "format: PDF", f"8: {REPORT}.output.format: unknown format 'PDF'; expected pdf or html"),
        ("format: pdf", "format: [pdf, pdf]", f"8: {REPORT}.output.format[1]: duplicate item 'pdf'"),
        ("format: pdf", "format: []", f"8: {REPORT}.output.format: the list is empty; expected at least one item"),
        ("timeout: 90", "memory: 4", f"9: {REPORT}.memory: expected an amount of memory such as 500M or 4G, not 4"),
        (
            "timeout: 90",
            "memory: 99M",
            f"9: {REPORT}.memory: 99M is too little: a notebook that does nothing uses about 100M",
        ),
        (
            "timeout: 90",
            "pool: flowkit",
            f"9: {REPORT}.pool: unknown pool 'flowkit'; add 'pools: {{flowkit: 1}}' to the file",
        ),
        (
            "timeout: 90",
            "secrets: [FLOWAPI_TOKEN]",
            f"9: {REPORT}.secrets[0]: FLOWAPI_TOKEN cannot be listed: every notebook gets it",
        ),
        (
            "timeout: 90",
            "secrets: [AUTOFLOW_DB_PASSWORD]",
            f"9: {REPORT}.secrets[0]: AUTOFLOW_DB_PASSWORD cannot be listed: only AutoFlow itself may have it",
        ),
        (
            "timeout: 90",
            "secrets: [no name]",
            f"9: {REPORT}.secrets[0]: expected the name of a docker secret or an environment variable, not 'no name'",
        ),
        ("timeout: 90", "timeout: 0", f"9: {REPORT}.timeout: expected more than 0 seconds, not 0"),
        (
            "timeout: 90",
            "timeout: true",
            f"9: {REPORT}.timeout: expected a number of seconds from 0 to 31622400, not true",
        ),
        (
            "timeout: 90",
            "timeout: .inf",
            f"9: {REPORT}.timeout: expected a number of seconds from 0 to 31622400, not inf",
        ),
        (
            "{path: run, date: reference_date}",
            "[path]",
            f"7: {REPORT}.parameters: expected a mapping (key: value), not ['path']",
        ),
        (
            "date: reference_date",
            "date: 2016-01-01",
            (
                f"7: {REPORT}.parameters.date: expected a workflow parameter, a notebook's label, date_ranges, "
                "flowapi_url or reference_date, not 2016-01-01"
            ),
        ),
        (
            "date: reference_date",
            "dates: reference_date",
            (
                f"7: {REPORT}.parameters.dates: the notebook's cell tagged 'parameters' does not declare this "
                "parameter; did you mean 'date'?"
            ),
        ),
        (
            "date: reference_date",
            "class: reference_date",
            f"7: {REPORT}.parameters.class: not a valid Python name; rename the parameter",
        ),
        (
            "{filename: plain.ipynb}",
            "{filename: plain.ipynb, parameters: {x: date_ranges}}",
            (
                f"17: {ONLY}.parameters: the notebook has no cell tagged 'parameters'; tag the cell that declares its "
                f"parameters: {HOW_TO_TAG}"
            ),
        ),
        (
            "only:",
            "flowapi_url:",
            (
                "17: workflows[1].notebooks.flowapi_url: 'flowapi_url' is the name of an automatic parameter; "
                "choose another label"
            ),
        ),
        ("only:", "' ':", "17: workflows[1].notebooks[' ']: a label must be visible characters on one line"),
    ],
)
def test_one_mistake_in_a_notebook_gives_one_line(inputs: Path, old: str, new: str, expected: str) -> None:
    assert problems(inputs, changed((old, new))) == [expected]


def test_parameters_of_a_notebook_that_cannot_be_inspected_are_accepted(inputs: Path) -> None:
    kernelspec = {"name": "ir", "display_name": "R", "language": "R"}
    write_notebook(inputs / "r.ipynb", parameters="x <- 1", kernelspec=kernelspec)
    parse(inputs, changed(("{filename: plain.ipynb}", "{filename: r.ipynb, parameters: {any.name: date_ranges}}")))


def test_notebook_without_a_kernelspec_counts_as_python(inputs: Path) -> None:
    write_notebook(inputs / "bare.ipynb", parameters="x = 1", kernelspec=None)
    notebook = "{filename: bare.ipynb, parameters: {y: date_ranges}}"
    assert problems(inputs, changed(("{filename: plain.ipynb}", notebook))) == [
        f"17: {ONLY}.parameters.y: the notebook's cell tagged 'parameters' does not declare this parameter",
    ]


BASH = {"name": "bash", "display_name": "Bash", "language": "bash"}


def tagged(cell_type: str, tag: str) -> Any:
    """Return a notebook with an untagged cell, and one with a tag."""
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": PYTHON})
    new_cell = getattr(nbformat.v4, f"new_{cell_type}_cell")
    notebook.cells = [nbformat.v4.new_code_cell("import os"), new_cell("x = 1", metadata={"tags": ["hide", tag]})]
    return notebook


@pytest.mark.parametrize(
    ("cell_type", "tag", "hint"),
    [
        ("code", "Parameters", "cell 2 is tagged 'Parameters': the tag must be exactly 'parameters'"),
        ("code", "parameter", "cell 2 is tagged 'parameter': the tag must be exactly 'parameters'"),
        ("code", "parameters ", "cell 2 is tagged 'parameters ': the tag must be exactly 'parameters'"),
        ("markdown", "parameters", "cell 2 has this tag, but it is a markdown cell: move the tag to a code cell"),
        ("raw", "parameters", "cell 2 has this tag, but it is a raw cell: move the tag to a code cell"),
    ],
)
def test_tag_that_does_not_count_is_named_with_what_to_do(inputs: Path, cell_type: str, tag: str, hint: str) -> None:
    nbformat.write(tagged(cell_type, tag), inputs / "plain.ipynb")
    notebook = "{filename: plain.ipynb, parameters: {x: date_ranges}}"
    (problem,) = problems(inputs, changed(("{filename: plain.ipynb}", notebook)))
    assert problem == (
        f"17: {ONLY}.parameters: the notebook has no cell tagged 'parameters' ({hint}); tag the cell that declares its "
        f"parameters: {HOW_TO_TAG}"
    )
    assert "JupyterLab" in problem
    assert "VS Code" in problem


def test_first_of_several_tagged_cells_counts_as_for_papermill(inputs: Path) -> None:
    notebook = tagged("code", "parameters")
    notebook.cells.append(nbformat.v4.new_code_cell("y = 1", metadata={"tags": ["parameters"]}))
    nbformat.write(notebook, inputs / "plain.ipynb")
    parse(inputs, changed(("{filename: plain.ipynb}", "{filename: plain.ipynb, parameters: {x: date_ranges}}")))
    assert problems(
        inputs, changed(("{filename: plain.ipynb}", "{filename: plain.ipynb, parameters: {y: date_ranges}}"))
    ) == [f"17: {ONLY}.parameters.y: the notebook's cell tagged 'parameters' does not declare this parameter"]


def test_notebook_in_another_language_without_a_tagged_cell_is_accepted_with_a_finding(inputs: Path) -> None:
    write_notebook(inputs / "bash.ipynb", "x=1", kernelspec=BASH)
    text = changed(("{filename: plain.ipynb}", "{filename: bash.ipynb, parameters: {x: date_ranges}}"))
    kernel, tag = parse(inputs, text).findings
    assert kernel.text.startswith(
        f"workflows.yml:17: {ONLY}.filename: 'bash.ipynb' cannot run: no kernel named 'bash' is installed; "
    )
    assert tag.text.startswith(f"workflows.yml:17: {ONLY}.parameters: the notebook has no cell tagged 'parameters'; ")
    assert not tag.fails_runs


def test_other_spelling_of_the_same_letter_is_the_same_parameter(inputs: Path) -> None:
    write_notebook(inputs / "plain.ipynb", parameters="\u00e9tage = 1")
    parse(
        inputs, changed(("{filename: plain.ipynb}", "{filename: plain.ipynb, parameters: {e\u0301tage: date_ranges}}"))
    )


def fatal_findings(inputs: Path) -> list[str]:
    """Return the findings in the good file, all of which keep a notebook from running."""
    found = parse(inputs, changed(("{filename: plain.ipynb}", "{filename: plain.ipynb, parameters: {x: date_ranges}}")))
    assert all(finding.fails_runs for finding in found.findings)
    return [finding.text.removeprefix("workflows.yml:") for finding in found.findings]


@pytest.mark.parametrize(
    ("kernelspec", "language", "reason"),
    [
        ({"name": "ir", "display_name": "R", "language": "R"}, None, "no kernel named 'ir' is installed"),
        ({"name": "ir", "display_name": "R"}, None, "no kernel named 'ir' is installed"),
        ({"name": "julia-1.10", "display_name": "Julia"}, None, "no kernel named 'julia-1.10' is installed"),
        ({"name": "gone", "display_name": ""}, "R", "no kernel named 'gone' is installed"),
        (None, "R", "the notebook is in R, and names no kernel"),
    ],
)
def test_kernel_of_another_language_that_is_not_installed_is_found(
    inputs: Path, kernelspec: dict[str, str] | None, language: str | None, reason: str
) -> None:
    path = write_notebook(inputs / "plain.ipynb", parameters="x <- 1", kernelspec=kernelspec)
    notebook = nbformat.read(path, as_version=4)
    if language:
        notebook.metadata["language_info"] = {"name": language}
    nbformat.write(notebook, path)
    assert fatal_findings(inputs) == [
        (
            f"17: {ONLY}.filename: 'plain.ipynb' cannot run: {reason}; install one where AutoFlow runs, or choose "
            "another kernel in the notebook and save it"
        )
    ]


@pytest.mark.parametrize(
    "kernelspec", [None, {"name": "conda-env-geo-py", "display_name": ""}, {"name": "geo", "display_name": ""}]
)
def test_python_notebook_needs_no_kernel_of_its_own(inputs: Path, kernelspec: dict[str, str] | None) -> None:
    write_notebook(inputs / "plain.ipynb", parameters="x = []", kernelspec=kernelspec)
    assert fatal_findings(inputs) == []


def test_cell_that_is_not_valid_python_is_found_and_keeps_no_other_workflow_from_running(inputs: Path) -> None:
    write_notebook(inputs / "plain.ipynb", parameters="x = 1\ny = (2")
    assert fatal_findings(inputs) == [
        (
            f"17: {ONLY}.filename: the cell tagged 'parameters' in 'plain.ipynb' is not valid Python: "
            "line 2: '(' was never closed"
        )
    ]
