"""The JSON Schema of workflows.yml; `good_file.parse` applies it to every file that the parser's tests read."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from autoflow.cli import main
from autoflow.parser.json_schema import json_schema
from autoflow.parser.schemas import (
    FileSchema,
    KeepSchema,
    NotebookSchema,
    OutputSchema,
    SensorSchema,
    TriggerSchema,
    WorkflowSchema,
)
from tests.parser.good_file import GOOD
from tests.parser.schema import check_accepted, mistakes

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "docs/reference/workflows.schema.json"
EXAMPLES = [ROOT / "examples/inputs/workflows.yml", ROOT / "tests/parser/every_key.yml"]


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield each part of a schema that has keys."""
    if isinstance(schema, dict):
        if "properties" in schema:
            yield schema
        for each in schema.values():
            yield from objects(each)
    elif isinstance(schema, list):
        for each in schema:
            yield from objects(each)


def test_file_in_the_docs_is_what_the_verb_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"], {}) == 0
    printed = capsys.readouterr().out
    assert json.loads(printed) == json_schema()
    assert FILE.read_text(encoding="utf-8") == printed, f"autoflow schema > {FILE.relative_to(ROOT)}"


@pytest.mark.parametrize(
    "schema", [FileSchema, WorkflowSchema, KeepSchema, NotebookSchema, OutputSchema, SensorSchema, TriggerSchema]
)
def test_every_key_has_a_description(schema: Any) -> None:
    keys = set(schema().fields)
    found = [each["properties"] for each in objects(json_schema()) if set(each["properties"]) == keys]
    assert found
    assert all(key["description"].endswith(".") for properties in found for key in properties.values())


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_are_accepted(path: Path) -> None:
    check_accepted(path)


def test_example_names_the_schema_where_it_is() -> None:
    first = EXAMPLES[0].read_text(encoding="utf-8").splitlines()[0]
    assert (EXAMPLES[0].parent / first.removeprefix("# yaml-language-server: $schema=")).resolve() == FILE


@pytest.mark.parametrize(
    ("old", "new", "seen"),
    [
        ("notebooks:\n      report", "notebook:\n      report", "$.workflows[0]"),
        ("timeout: 90", "timeout: long", "$.workflows[0].notebooks.report.timeout"),
        ("format: pdf", "format: doc", "$.workflows[0].notebooks.report.output"),
        ("cdr_types: [calls, sms]", "cdr_types: [call]", "$.available_dates_sensor.cdr_types[0]"),
        ("earliest_date: 2016-01-02", "earliest_date: 2.1.2016", "$.available_dates_sensor.workflows[0].earliest_date"),
        ("- -3", "- {perid: 1}", "$.available_dates_sensor.workflows[0].date_stencil[1]"),
        ("max_attempts: 2", "enough: 5", "$.available_dates_sensor.workflows[0]"),
        ("filename: plain.ipynb", "filename: ../plain.ipynb", "$.workflows[1].notebooks.only.filename"),
    ],
)
def test_mistake_is_marked_where_it_is(tmp_path: Path, old: str, new: str, seen: str) -> None:
    assert GOOD.count(old) == 1
    path = tmp_path / "workflows.yml"
    path.write_text(GOOD.replace(old, new), encoding="utf-8")
    assert any(mistake.startswith(seen) for mistake in mistakes(path) or [])
