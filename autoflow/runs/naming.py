"""Names of runs and of entries of the sensor, for people.

An entry with a label is named ``workflow:label``. Others are named by their workflow, and by what distinguishes them
from its other entries.
"""

import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence

from autoflow.dates.periods import describe_period
from autoflow.runs.records import RunKey, WorkflowKey
from autoflow.runs.run import named_entry
from autoflow.specs import TriggerSpec

LONGEST_VALUE = 32
"""How long a value may be that is shown as a whole, in characters."""


def run_name(key: RunKey, triggers: Sequence[TriggerSpec] = (), *, label: str | None = None) -> str:
    """Return the name of a run: that of its entry, and its period.

    `triggers` are the entries of the sensor. `label` is the label that the run had when it started, which counts if the
    entry has been removed since.
    """
    entry = entry_name(key.workflow_key, triggers, label=label)
    return f"{entry} {describe_period(key.reference_date, key.every)}"


def entry_name(key: WorkflowKey, triggers: Sequence[TriggerSpec] = (), *, label: str | None = None) -> str:
    """Return the name of an entry among `triggers`; `label` counts if it is none of them."""
    entries = [WorkflowKey.of_trigger(each) for each in triggers if each.workflow.name == key.workflow]
    if known := label_of(key, triggers, label=label):
        return named_entry(key.workflow, known)
    apart = what_differs(key, [each for each in entries if each != key])
    return f"{key.workflow} ({', '.join(apart)})" if apart else key.workflow


def label_of(key: WorkflowKey, triggers: Iterable[TriggerSpec], *, label: str | None = None) -> str | None:
    """Return the label of an entry among `triggers`, None if it has none; `label` if it is none of them."""
    entries = (trigger for trigger in triggers if trigger.workflow.name == key.workflow)
    return next((each.label for each in entries if WorkflowKey.of_trigger(each) == key), label)


def what_differs(key: WorkflowKey, others: Iterable[WorkflowKey]) -> list[str]:
    """Return the parameters in which `key` differs from one of `others`, as ``name=value``, and its kind of period."""
    others = list(others)
    missing = object()
    sets: list[Mapping[str, object]] = [json.loads(each.parameters) for each in others]
    differing = [
        f"{name}={_shortened(_text(value), [_text(each[name]) for each in sets if name in each])}"
        for name, value in json.loads(key.parameters).items()
        if any(each.get(name, missing) != value for each in sets)
    ]
    is_other_period = any(each.every is not key.every for each in others)
    return [*differing, f"every {key.every}"] if is_other_period else differing


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _shortened(text: str, others: Iterable[str]) -> str:
    """Return `text` if it is short; otherwise the beginning of what differs from `others`, with an ellipsis."""
    if len(text) <= LONGEST_VALUE:
        return text
    differing = [other for other in others if other != text]
    same = itertools.takewhile(lambda characters: len(set(characters)) == 1, zip(text, *differing, strict=False))
    start = len(list(same)) if differing else 0
    # From the beginning of the word.
    rest = text[len(re.sub(r"\w*$", "", text[:start])) :]
    cut = rest if len(rest) <= LONGEST_VALUE else f"{rest[:LONGEST_VALUE]}…"
    return cut if len(rest) == len(text) else f"…{cut}"
