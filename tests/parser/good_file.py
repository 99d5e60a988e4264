"""A good workflows.yml with its inputs folder, for tests that change one thing in it."""

from pathlib import Path

import pytest

from autoflow.errors import WorkflowsFileError
from autoflow.parser import parse_workflows_file
from autoflow.specs import WorkflowsFile
from tests.conftest import write_notebook
from tests.parser.schema import check_accepted, check_refused

GOOD = """\
# Flows above normal.
workflows:
  - name: flows
    notebooks:
      report:
        filename: report.ipynb
        parameters: {path: run, date: reference_date}
        output: {format: pdf, template: custom.tpl}
        timeout: 90
      run:
        filename: sub/run.ipynb
        parameters:
          url: flowapi_url
          ranges: date_ranges
          n: count
  - name: other
    notebooks: {only: {filename: plain.ipynb}}

available_dates_sensor:
  schedule: '0 6 * * *'
  cdr_types: [calls, sms]
  workflows:
    - workflow_name: flows
      parameters: {count: 3}
      earliest_date: 2016-01-02
      date_stencil:
        - [2016-01-01, 2016-01-03]
        - -3
        - [-2, 0]
      retry_delay: 5
      max_attempts: 2
    - workflow_name: other
"""

REPORT = "workflows[0].notebooks.report"
RUN = "workflows[0].notebooks.run"
ONLY = "workflows[1].notebooks.only"
SENSOR = "available_dates_sensor"
ENTRY = f"{SENSOR}.workflows[0]"
"""Places in the good file, as problems name them."""


def fill_inputs(folder: Path) -> Path:
    """Write the files that the good file names."""
    write_notebook(folder / "report.ipynb", parameters="path = ''\ndate = ''\nother = None")
    write_notebook(folder / "sub" / "run.ipynb", parameters="url = ''\nranges = []\nn = 1")
    write_notebook(folder / "plain.ipynb", "1 + 1")
    (folder / "custom.tpl").write_text("= Title")
    return folder


def parse(inputs: Path, text: str | bytes) -> WorkflowsFile:
    """Write `text` as workflows.yml and parse it."""
    path = inputs / "workflows.yml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    try:
        found = parse_workflows_file(path)
    except WorkflowsFileError as error:
        check_refused(path, error.problems)
        raise
    check_accepted(path)
    return found


def problems(inputs: Path, text: str | bytes) -> list[str]:
    """Return the problems of a file, without the file's name."""
    with pytest.raises(WorkflowsFileError) as raised:
        parse(inputs, text)
    assert str(raised.value) == "\n".join(raised.value.problems)
    return [problem.removeprefix("workflows.yml:") for problem in raised.value.problems]


def lines_of(found: list[str]) -> list[str]:
    """Return the line of each problem."""
    return [problem.split(":")[0] for problem in found]


def changed(*changes: tuple[str, str]) -> str:
    """Return the good file with each old text, which is there once, replaced by the new one."""
    text = GOOD
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text
