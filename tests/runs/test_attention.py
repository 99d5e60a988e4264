"""What needs attention, decided from facts and a time."""

import datetime

import pytest

from autoflow.runs.attention import Attention, Facts, Need, Sights, Standing, attention, given_up, next_standing
from autoflow.runs.naming import run_name
from autoflow.runs.records import RunKey
from autoflow.specs import Json, TriggerSpec, WorkflowSpec

NOW = datetime.datetime(2026, 1, 1, 12)
MINUTE = datetime.timedelta(minutes=1)


def needs(facts: Facts, sights: Sights | None = None, *, later: datetime.timedelta = 0 * MINUTE) -> list[Need]:
    found = attention(facts, sights or Sights(), NOW + later, notify_after=3600)
    return [condition.need for condition in found.conditions]


def failing(failures: int = 1, about: str = "") -> Standing:
    return Standing(NOW, "it fails", failures, about)


@pytest.mark.parametrize(("minutes", "needed"), [(0, []), (59, []), (60, [Need.FLOWAPI]), (10**6, [Need.FLOWAPI])])
def test_flowapi_needs_a_person_after_an_hour(minutes: int, needed: list[Need]) -> None:
    assert needs(Facts(flowapi=failing()), later=minutes * MINUTE) == needed


def test_a_failure_that_began_while_the_clock_was_ahead_has_begun_when_the_clock_is_back() -> None:
    ahead = next_standing(None, "down", NOW + datetime.timedelta(days=365))
    back = next_standing(ahead, "down", NOW)
    assert back.since == NOW
    assert needs(Facts(flowapi=back), later=59 * MINUTE) == []
    assert needs(Facts(flowapi=back), later=60 * MINUTE) == [Need.FLOWAPI]


def test_a_refused_token_needs_a_person_at_once_and_another_token_is_tried_first() -> None:
    assert needs(Facts(token=failing(about="one")), Sights(token="one")) == [Need.TOKEN]
    found = attention(Facts(token=failing(about="one")), Sights(token="two"), NOW, notify_after=0)
    assert found.conditions == ()
    assert not found.is_over("token")


def test_ticks_need_a_person_after_two_failures_or_after_an_hour() -> None:
    assert needs(Facts(ticks=failing())) == []
    assert needs(Facts(ticks=failing(2))) == [Need.TICKS]
    assert needs(Facts(ticks=failing()), later=60 * MINUTE) == [Need.TICKS]


def test_nothing_is_over_that_is_not_known_to_be_right() -> None:
    for facts in (Facts(), Facts(flowapi=failing())):
        assert not attention(facts, Sights(), NOW, notify_after=3600).is_over("flowapi")
    good = Facts(flowapi=next_standing(failing(), None, NOW))
    assert attention(good, Sights(), NOW, notify_after=3600).is_over("flowapi")
    assert not Attention(fine=frozenset(Need)).is_over("nonsense of another version")
    assert not attention(good, Sights(stuck=None), NOW, notify_after=3600).is_over("stuck 7")
    assert attention(good, Sights(), NOW, notify_after=3600).is_over("stuck 7")


def test_facts_survive_being_written() -> None:
    facts = Facts(workflows_file=failing(3, "x"), flowapi=Standing(NOW), database="1:2")
    assert Facts.of_json(facts.as_json()) == facts


@pytest.mark.parametrize("content", [{}, {"flowapi": 7, "database": 7}, {"flowapi": {"since": "x"}}])
def test_broken_facts_are_unknown(content: dict[str, object]) -> None:
    assert Facts.of_json(content) == Facts()


def test_only_dates_that_were_given_up_since_the_last_look_are_listed_and_not_too_many() -> None:
    dates = [(RunKey.of("flows", {}, datetime.date(2016, 1, day)), NOW + day * MINUTE) for day in range(1, 31)]
    found = given_up(dates, NOW + MINUTE)
    assert found
    assert found.is_warning
    assert found.reason.startswith("29 dates were given up since the last look at 2026-01-01 12:01 UTC")
    assert found.details[0] == "flows 2016-01-02"
    assert found.details[-1] == "… and 9 more"
    assert given_up(dates, NOW + 30 * MINUTE) is None


def test_a_run_is_named_with_the_parameters_that_tell_entries_of_its_workflow_apart() -> None:
    workflows = {name: WorkflowSpec(name=name, notebooks=()) for name in ("flows", "other")}
    sets: list[tuple[str, dict[str, Json]]] = [
        ("flows", {"level": 2, "region": "north", "unit": [1]}),
        ("flows", {"level": 2, "region": "south", "unit": [1]}),
        ("flows", {"level": 2, "region": "south", "unit": [2]}),
        ("other", {"level": 2}),
    ]
    triggers = [TriggerSpec(workflow=workflows[name], parameters=parameters) for name, parameters in sets]
    date = datetime.date(2016, 1, 5)
    assert [run_name(RunKey.of(name, parameters, date), triggers) for name, parameters in sets] == [
        "flows (region=north, unit=[1]) 2016-01-05",
        "flows (region=south, unit=[1]) 2016-01-05",
        "flows (region=south, unit=[2]) 2016-01-05",
        "other 2016-01-05",
    ]
    assert run_name(RunKey.of("gone", {"x": 1}, date), triggers) == "gone 2016-01-05"
