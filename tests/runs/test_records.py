import datetime
import math
from pathlib import Path

import pytest

from autoflow.runs.records import ACTIVE_STATES, RunKey, RunState, WorkflowKey
from autoflow.specs import NotebookSpec, TriggerSpec, WorkflowSpec

DATE = datetime.date(2016, 1, 1)


def test_key_does_not_depend_on_the_order_of_parameters() -> None:
    one = RunKey.of("w", {"a": 1, "b": {"c": [1, 2.5, None, True], "d": "é"}}, DATE)
    other = RunKey.of("w", {"b": {"d": "é", "c": [1, 2.5, None, True]}, "a": 1}, DATE)
    assert one == other
    assert one.parameters == '{"a":1,"b":{"c":[1,2.5,null,true],"d":"é"}}'
    assert str(one) == "w 2016-01-01"


@pytest.mark.parametrize("parameters", [{"a": "1"}, {"a": 2}, {}, {"a": [1]}, {"b": 1}])
def test_other_parameters_make_another_key(parameters: dict[str, str | int | list[int]]) -> None:
    assert WorkflowKey.of("w", parameters).parameters_hash != WorkflowKey.of("w", {"a": 1}).parameters_hash


def test_key_refuses_what_strict_json_cannot_hold() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        RunKey.of("w", {"a": math.nan}, DATE)


def test_run_key_is_a_workflow_key_on_a_date() -> None:
    workflow = WorkflowSpec(name="w", notebooks=(NotebookSpec(label="n", path=Path("/n.ipynb")),))
    key = WorkflowKey.of_trigger(TriggerSpec(workflow=workflow, parameters={"b": 1, "a": 2}))
    assert key == WorkflowKey.of("w", {"a": 2, "b": 1})
    run = RunKey.of("w", {"a": 2, "b": 1}, DATE)
    assert key.on(DATE) == run
    assert (run.workflow, run.parameters, run.parameters_hash) == ("w", '{"a":2,"b":1}', key.parameters_hash)


def test_keys_are_ordered_by_workflow_parameters_and_date() -> None:
    keys = [RunKey.of(name, {"a": number}, DATE) for name in ("v", "w") for number in (1, 2)]
    later = keys[0].workflow_key.on(DATE + datetime.timedelta(days=1))
    assert sorted([*reversed(keys), later]) == [keys[0], later, *keys[1:]]


def test_each_state_is_active_a_success_a_failure_a_stop_or_made_by_the_run_store() -> None:
    def those(name: str) -> set[RunState]:
        return {state for state in RunState if getattr(state, name)}

    assert those("is_active") == set(ACTIVE_STATES) == {RunState.RUNNING, RunState.RERUNNING}
    assert those("is_success") == {RunState.SUCCEEDED, RunState.SKIPPED}
    assert those("has_succeeded") == {RunState.SUCCEEDED, RunState.SKIPPED, RunState.SUPERSEDED}
    assert those("is_skip") == {RunState.SKIPPED}
    assert those("is_failure") == {RunState.FAILED}
    assert those("is_stopped") == {RunState.INTERRUPTED, RunState.CANCELLED}
