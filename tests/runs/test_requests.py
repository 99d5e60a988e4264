import datetime
from dataclasses import replace
from pathlib import Path

import pytest

from autoflow.dates.availability import Availability
from autoflow.dates.completeness import Completeness, Enough
from autoflow.dates.intervals import IntervalEnds
from autoflow.dates.periods import Every
from autoflow.dates.stencil import DateStencil, PeriodOffset
from autoflow.errors import AutoflowError
from autoflow.runs.naming import entry_names
from autoflow.runs.requests import check_available, merged_parameters, requested_run, requested_trigger
from autoflow.specs import Json, NotebookSpec, SensorSpec, TriggerSpec, WorkflowsFile, WorkflowSpec

NOW = datetime.datetime(2016, 1, 20)


def day(number: int) -> datetime.date:
    return datetime.date(2016, 1, number)


def workflow(name: str, parameters: dict[str, str] | None = None) -> WorkflowSpec:
    notebook = NotebookSpec(label="n", path=Path("/inputs/n.ipynb"), parameters=parameters or {})
    return WorkflowSpec(name=name, notebooks=(notebook,))


TAKES_X = workflow("takes_x", {"value": "x"})
FILE = WorkflowsFile(
    workflows=(workflow("a"), TAKES_X),
    sensor=SensorSpec(
        schedule=None,
        cdr_types=None,
        triggers=(TriggerSpec(workflow=TAKES_X, parameters={"x": 1}, date_stencil=DateStencil([-1])),),
    ),
)


def test_run_without_parameters_has_those_of_the_sensors_entry() -> None:
    run = requested_run(requested_trigger(FILE, "takes_x", None), day(2))
    assert run.parameters == {"x": 1}
    assert [each.as_strings() for each in run.date_ranges] == [["2016-01-01", "2016-01-01"]]


def test_other_parameters_can_be_given() -> None:
    assert requested_run(requested_trigger(FILE, "takes_x", {"x": 5}), day(2)).parameters == {"x": 5}


def test_a_try_out_is_not_called_like_the_entry_whose_conditions_it_has() -> None:
    trigger = replace(FILE.sensor.triggers[0], label="one", title="Level one")
    file = replace(FILE, sensor=replace(FILE.sensor, triggers=(trigger,)))
    run = requested_run(requested_trigger(file, "takes_x", {"x": 5}), day(2), names=entry_names([trigger]))
    assert (run.is_try_out, run.title, run.label, str(run)) == (True, "takes_x", None, "takes_x (x=5) 2016-01-02")


def test_parameters_that_are_not_given_are_as_in_workflows_yml() -> None:
    spec = workflow("takes_two", {"one": "x", "other": "y"})
    triggers = tuple(TriggerSpec(workflow=spec, parameters={"x": number, "y": [number]}) for number in (1, 2))
    file = WorkflowsFile(workflows=(spec,), sensor=SensorSpec(schedule=None, cdr_types=None, triggers=triggers))
    assert merged_parameters(file, "takes_two", {"x": 2}) == {"x": 2, "y": [2]}
    assert merged_parameters(file, "takes_two", {"x": 3, "y": 3}) == {"x": 3, "y": 3}
    with pytest.raises(
        AutoflowError, match=r"'takes_two' has 2 entries .*: choose one of -p x=1 -p y=\[1\], -p x=2 -p"
    ):
        merged_parameters(file, "takes_two", {})
    weekly = replace(triggers[0], every=Every.WEEK, date_stencil=DateStencil([0], every=Every.WEEK))
    with_weekly = replace(file, sensor=replace(file.sensor, triggers=(*triggers, weekly)))
    with pytest.raises(AutoflowError, match=r"the one with 'every: day', which needs a label, -p x=2 -p y=\[2\], the"):
        merged_parameters(with_weekly, "takes_two", {})
    one = replace(file, sensor=replace(file.sensor, triggers=triggers[:1]))
    assert merged_parameters(one, "takes_two", {"y": None}) == {"x": 1, "y": None}
    with pytest.raises(AutoflowError, match="missing or too many: z"):
        merged_parameters(one, "takes_two", {"z": 1})
    with pytest.raises(AutoflowError, match="missing or too many: x"):
        merged_parameters(replace(FILE, sensor=replace(FILE.sensor, triggers=())), "takes_x", {})


def test_a_workflow_that_the_sensor_does_not_run_can_be_run_for_a_date() -> None:
    run = requested_run(requested_trigger(FILE, "a", None), day(2))
    assert [each.as_strings() for each in run.date_ranges] == [["2016-01-02", "2016-01-02"]]


def test_a_run_of_a_workflow_without_an_entry_has_the_interval_ends_of_the_file() -> None:
    file = replace(FILE, sensor=replace(FILE.sensor, interval_ends=IntervalEnds.EXCLUDED))
    run = requested_run(requested_trigger(file, "a", None), day(2))
    assert [each.as_strings() for each in run.date_ranges] == [["2016-01-02", "2016-01-03"]]


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("b", None, "there is no workflow 'b' in workflows.yml, which defines a, takes_x"),
        ("takes_x", {}, "missing or too many: x"),
        ("takes_x", {"x": 1, "y": 2}, "missing or too many: y"),
    ],
)
def test_unknown_workflow_or_wrong_parameters_are_refused(
    name: str, parameters: dict[str, Json] | None, message: str
) -> None:
    with pytest.raises(AutoflowError, match=message):
        requested_run(requested_trigger(FILE, name, parameters), day(2))


def test_all_dates_that_a_run_needs_have_to_be_available() -> None:
    trigger = TriggerSpec(workflow=workflow("a"), date_stencil=DateStencil([[-3, -1]]))
    check_available(trigger, day(4), Availability.of(map(day, (1, 2, 3, 4))), NOW)
    with pytest.raises(AutoflowError, match="a 2016-01-04 cannot run: FlowAPI has no data for 2016-01-04; wait for it"):
        check_available(trigger, day(4), Availability.of(map(day, (1, 2, 3))), NOW)
    with pytest.raises(AutoflowError, match="no data for 2016-01-01 to 2016-01-02, 2016-01-04; wait for them"):
        check_available(trigger, day(4), Availability.of({day(3)}), NOW)
    half_open = TriggerSpec(workflow=workflow("a"), date_stencil=DateStencil([[-3, 1]], IntervalEnds.EXCLUDED))
    check_available(half_open, day(4), Availability.of(map(day, (1, 2, 3, 4))), NOW)
    with pytest.raises(AutoflowError, match="no data for 2016-01-01 to 2016-01-02, 2016-01-04; wait for them"):
        check_available(half_open, day(4), Availability.of({day(3)}), NOW)


def test_a_period_has_to_be_over() -> None:
    stencil = DateStencil([PeriodOffset(-1)], every=Every.WEEK)
    trigger = TriggerSpec(workflow=workflow("a"), every=Every.WEEK, date_stencil=stencil)
    dates = [day(number) for number in range(4, 15)]
    problem = "a week 2016-01-11 to 2016-01-17 cannot run: the period is not over; wait for its end, or use"
    with pytest.raises(AutoflowError, match=problem):
        check_available(trigger, day(17), Availability.of(dates), NOW)
    check_available(trigger, day(17), Availability.of([*dates, day(18)]), NOW)
    waits = replace(trigger, needs=Completeness(enough=Enough(days=6), wait=30))
    check_available(waits, day(17), Availability.of(dates), NOW)
    with pytest.raises(AutoflowError, match=problem):
        check_available(waits, day(17), Availability.of(dates), datetime.datetime(2016, 1, 17, 23, 59))
