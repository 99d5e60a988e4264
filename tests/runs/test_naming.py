import datetime

import pytest

from autoflow.dates.periods import Every
from autoflow.dates.stencil import DateStencil
from autoflow.runs.naming import (
    entry_name,
    entry_names,
    entry_titles,
    name_among,
    parameters_text,
    run_name,
    what_differs,
)
from autoflow.runs.records import WorkflowKey
from autoflow.specs import Json, TriggerSpec, WorkflowSpec

TITLED = WorkflowSpec(name="mobility", notebooks=(), title="Mobility of people")
PLAIN = WorkflowSpec(name="flows", notebooks=())
NORTH = TriggerSpec(workflow=TITLED, parameters={"region": "north"}, label="north")
SOUTH = TriggerSpec(workflow=TITLED, parameters={"region": "south"}, label="south")
NATIONAL = TriggerSpec(workflow=TITLED, parameters={"region": "all"}, label="all", title="The whole country")
DAILY = TriggerSpec(workflow=PLAIN, parameters={"level": 2, "unit": "x"})
WEEKLY = TriggerSpec(
    workflow=PLAIN,
    parameters={"level": 2, "unit": "x"},
    every=Every.WEEK,
    date_stencil=DateStencil([0], every=Every.WEEK),
)
OTHER = TriggerSpec(workflow=PLAIN, parameters={"level": 3, "unit": "x"})
ALL = (NORTH, SOUTH, NATIONAL, DAILY, WEEKLY, OTHER)


def key(workflow: str, parameters: dict[str, Json]) -> WorkflowKey:
    return WorkflowKey.of(workflow, parameters)


def test_entries_are_named_by_their_label_or_by_what_differs() -> None:
    names = entry_names(ALL)
    assert list(names.values()) == [
        "mobility:north",
        "mobility:south",
        "mobility:all",
        "flows (level=2, every day)",
        "flows (level=2, every week)",
        "flows (level=3, every day)",
    ]
    assert names == {WorkflowKey.of_trigger(each): entry_name(WorkflowKey.of_trigger(each), ALL) for each in ALL}
    week = WorkflowKey.of_trigger(WEEKLY).on(datetime.date(2016, 1, 10))
    assert run_name(week, ALL) == "flows (level=2) week 2016-01-04 to 2016-01-10"


def test_a_run_of_no_entry_is_named_by_what_differs_from_all_entries() -> None:
    east = key("mobility", {"region": "east"})
    assert name_among(east, entry_names(ALL)) == entry_name(east, ALL) == "mobility (region=east)"


def test_titles_are_for_people_and_differ() -> None:
    removed = {key("mobility", {"region": "old"}): "old", key("gone", {"x": 1}): None}
    assert list(entry_titles(ALL, removed).values()) == [
        "Mobility of people: north",
        "Mobility of people: south",
        "The whole country",
        "flows: level=2, every day",
        "flows: level=2, every week",
        "flows: level=3, every day",
        "Mobility of people: old",
        "gone",
    ]
    assert list(entry_titles([NORTH]).values()) == ["Mobility of people"]


REGIONS = ["one", "two", "three", "four", "five", "six", "seven"]
LONG = "0123456789 " * 10


@pytest.mark.parametrize(
    ("value", "other", "expected"),
    [
        (["a", 1], ["a", 2], 'a=["a", 1]'),
        ([*REGIONS, "thirteen"], [*REGIONS, "three"], 'a=…thirteen"]'),
        (LONG, f"x{LONG}", f"a={LONG[:39]}…"),
        (f"{LONG}first {LONG}", f"{LONG}second {LONG}", f"a=…first {LONG[:32]}…"),
    ],
)
def test_long_values_in_names_begin_where_they_differ(value: Json, other: Json, expected: str) -> None:
    names = what_differs([key("w", {"a": value, "same": LONG}), key("w", {"a": other, "same": LONG})])
    assert names[key("w", {"a": value, "same": LONG})] == [expected]


def test_long_values_are_cut_in_names() -> None:
    text = parameters_text(key("flows", {"a": "x" * 100, "b": [1, 2]}))
    assert text == f"a={'x' * 39}…, b=[1, 2]"
