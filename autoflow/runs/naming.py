"""Names of runs: a workflow, the parameters that distinguish it from other entries of it, and the date."""

import json
from collections.abc import Iterable

from autoflow.runs.records import RunKey, WorkflowKey
from autoflow.specs import TriggerSpec


def run_name(key: RunKey, triggers: Iterable[TriggerSpec] = ()) -> str:
    """Return the name of a run, with the parameters that differ between the entries of its workflow in `triggers`."""
    keys = {WorkflowKey.of_trigger(trigger) for trigger in triggers if trigger.workflow.name == key.workflow}
    sets = {each: json.loads(each.parameters) for each in keys | {key.workflow_key}}
    own = sets[key.workflow_key]
    missing = object()
    differing = [
        f"{name}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for name, value in own.items()
        if any(others.get(name, missing) != value for others in sets.values())
    ]
    apart = f" ({', '.join(differing)})" if differing else ""
    return f"{key.workflow}{apart} {key.reference_date.isoformat()}"
