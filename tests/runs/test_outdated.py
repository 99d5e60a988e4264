import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autoflow.runs.outdated import OutdatedDates, outdated_dates
from autoflow.runs.records import RunKey, WorkflowKey
from autoflow.specs import NotebookSpec, TriggerSpec, WorkflowSpec

NOTEBOOKS = [NotebookSpec(label=label, path=Path(f"{label}.ipynb"), parameters={}) for label in ("collect", "report")]
TRIGGER = TriggerSpec(workflow=WorkflowSpec(name="w", notebooks=tuple(NOTEBOOKS)))
NOW: Mapping[str, Mapping[str, Any]] = {
    "collect": {"cells": "c2", "modules": {"helper.py": "h2"}},
    "report": {"cells": "r2"},
}


def day(number: int) -> datetime.date:
    return datetime.date(2016, 1, number)


def key(number: int) -> RunKey:
    return WorkflowKey.of_trigger(TRIGGER).on(day(number))


def made(**sources: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"notebooks": {**NOW, **sources}, "git": None}


def found(made_from: Mapping[RunKey, Mapping[str, Any] | None]) -> dict[tuple[str, ...], list[int]]:
    outdated = outdated_dates(TRIGGER, made_from, NOW)
    assert all(set(each.keys) == {key(date.day) for date in each.dates} for each in outdated)
    return {each.changed: [date.day for date in each.dates] for each in outdated}


def test_date_from_the_same_notebooks_is_up_to_date() -> None:
    assert found({key(1): made(), key(2): made(report={"cells": "r2", "files": {"data.csv": "old"}})}) == {}


def test_dates_are_listed_newest_first_by_what_has_changed() -> None:
    old = made(collect={"cells": "c1", "modules": {"helper.py": "h2"}})
    assert found({key(1): old, key(2): made(report={"cells": "r1"}), key(3): old}) == {
        ("collect",): [3, 1],
        ("report",): [2],
    }


def test_changed_new_and_removed_modules_and_notebooks_count() -> None:
    assert found({key(1): made(collect={"cells": "c2", "modules": {"helper.py": "h1"}})}) == {("helper.py",): [1]}
    assert found({key(1): made(collect={"cells": "c2"})}) == {("helper.py",): [1]}
    assert found({key(1): made(old={"cells": "o1"})}) == {("old",): [1]}
    assert found({key(1): {"notebooks": {"collect": NOW["collect"]}}}) == {("report",): [1]}


def test_date_from_before_sources_were_recorded_is_unknown() -> None:
    (unknown,) = outdated_dates(TRIGGER, {key(1): None, key(2): made()}, NOW)
    assert unknown == OutdatedDates(trigger=TRIGGER, changed=(), dates=[day(1)])
    assert not unknown.is_known


def test_dates_of_other_entries_do_not_count() -> None:
    other = WorkflowKey.of_trigger(TriggerSpec(workflow=TRIGGER.workflow, parameters={"n": 1})).on(day(1))
    assert found({other: made(report={"cells": "r1"})}) == {}


def test_of_a_skipped_date_only_the_notebooks_that_ran_count() -> None:
    skipped = {"notebooks": {"collect": NOW["collect"]}, "skipped": True}
    assert found({key(1): skipped}) == {}
    old = {"collect": {"cells": "c1", "modules": {"helper.py": "h2"}}}
    assert found({key(1): {"notebooks": old, "skipped": True}}) == {("collect",): [1]}
