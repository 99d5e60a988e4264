import pytest

from autoflow.dates.periods import Every
from autoflow.runs.naming import what_differs
from autoflow.runs.records import WorkflowKey
from autoflow.specs import Json

REGIONS = ["one", "two", "three", "four", "five", "six", "seven"]
LONG = "0123456789 " * 10


@pytest.mark.parametrize(
    ("value", "other", "expected"),
    [
        ("north", "south", ["a=north"]),
        (["a", 1], ["a", 2], ['a=["a", 1]']),
        ([*REGIONS, "thirteen"], [*REGIONS, "three"], ['a=…thirteen"]']),
        (LONG, f"x{LONG}", [f"a={LONG[:32]}…"]),
        (f"{LONG}first {LONG}", f"{LONG}second {LONG}", [f"a=…first {LONG[:26]}…"]),
        (LONG, LONG, []),
    ],
)
def test_long_values_are_shortened_to_the_part_that_differs(value: Json, other: Json, expected: list[str]) -> None:
    key, another = (WorkflowKey.of("w", {"a": each, "same": 1}) for each in (value, other))
    assert what_differs(key, [another]) == expected


def test_entries_that_differ_in_their_period_alone_are_told_apart_by_it() -> None:
    assert what_differs(WorkflowKey.of("w", {"a": 1}, Every.WEEK), [WorkflowKey.of("w", {"a": 1})]) == ["every week"]
