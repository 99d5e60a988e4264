"""Names of runs and of entries of the sensor, for people.

An entry with a label is named ``workflow:label``. Others are named by their workflow, and by what distinguishes them
from its other entries. Readers see titles instead.
"""

import itertools
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from autoflow.dates.periods import describe_period
from autoflow.runs.records import RunKey, WorkflowKey
from autoflow.runs.run import named_entry
from autoflow.specs import TriggerSpec

LONGEST_VALUE = 40
"""The longest value of a parameter in a name, in characters."""

_ABSENT = object()


def run_name(key: RunKey, triggers: Sequence[TriggerSpec] = (), *, label: str | None = None) -> str:
    """Return the name of a run: that of its entry, and its period.

    `triggers` are the entries of the sensor. `label` is the label that the run had when it started, which counts if the
    entry has been removed since.
    """
    entry = entry_name(key.workflow_key, triggers, label=label, with_every=False)
    return f"{entry} {describe_period(key.reference_date, key.every)}"


def entry_name(
    key: WorkflowKey, triggers: Sequence[TriggerSpec] = (), *, label: str | None = None, with_every: bool = True
) -> str:
    """Return the name of an entry among `triggers`; `label` counts if it is none of them.

    Without `with_every`, the name leaves out the kind of period, for where it is shown anyway.
    """
    if known := label_of(key, triggers, label=label):
        return named_entry(key.workflow, known)
    entries = [WorkflowKey.of_trigger(each) for each in triggers if each.workflow.name == key.workflow]
    return _with_differences(key.workflow, what_differs([*entries, key], with_every=with_every)[key])


def entry_names(triggers: Iterable[TriggerSpec], *, with_every: bool = True) -> dict[WorkflowKey, str]:
    """Return the names of all `triggers`, as `entry_name` does for one of them."""
    labels: dict[WorkflowKey, str | None] = {}
    for trigger in triggers:
        labels.setdefault(WorkflowKey.of_trigger(trigger), trigger.label)
    differences = what_differs(labels, with_every=with_every)
    return {
        key: named_entry(key.workflow, label) if label else _with_differences(key.workflow, differences[key])
        for key, label in labels.items()
    }


def name_among(key: WorkflowKey, names: Mapping[WorkflowKey, str], *, with_every: bool = True) -> str:
    """Return the name of `key` according to the `names` of all entries, whether it is one of them or not."""
    differences = what_differs([*names, key], with_every=with_every)
    return names.get(key) or _with_differences(key.workflow, differences[key])


def label_of(key: WorkflowKey, triggers: Iterable[TriggerSpec], *, label: str | None = None) -> str | None:
    """Return the label of an entry among `triggers`, None if it has none; `label` if it is none of them."""
    entries = (trigger for trigger in triggers if trigger.workflow.name == key.workflow)
    return next((each.label for each in entries if WorkflowKey.of_trigger(each) == key), label)


def entry_titles(
    triggers: Iterable[TriggerSpec], removed: Mapping[WorkflowKey, str | None] | None = None
) -> dict[WorkflowKey, str]:
    """Return the titles for readers of all `triggers`, and of entries that were `removed`, with their last labels.

    Where several would have the same title, the label is added, or the parameters in which they differ.
    """
    titles: dict[WorkflowKey, str] = {}
    labels: dict[WorkflowKey, str | None] = {}
    of_workflows: dict[str, str] = {}
    for trigger in triggers:
        titles.setdefault(key := WorkflowKey.of_trigger(trigger), trigger.shown_title)
        labels.setdefault(key, trigger.label)
        of_workflows[trigger.workflow.name] = trigger.workflow.title or trigger.workflow.name
    for key, label in (removed or {}).items():
        titles.setdefault(key, of_workflows.get(key.workflow, key.workflow))
        labels.setdefault(key, label)
    differences, uses = what_differs(labels), Counter(titles.values())
    details = {key: labels[key] or ", ".join(differences[key]) for key in titles if uses[titles[key]] > 1}
    return {key: f"{title}: {details[key]}" if details.get(key) else title for key, title in titles.items()}


def what_differs(keys: Iterable[WorkflowKey], *, with_every: bool = True) -> dict[WorkflowKey, list[str]]:
    """Return, for each of `keys`, the parameters that are not the same in all keys of its workflow, as ``name=value``.

    Its kind of period is added where that is not the same, except without `with_every`.
    """
    of_workflows: dict[str, dict[WorkflowKey, Mapping[str, Any]]] = defaultdict(dict)
    for key in keys:
        of_workflows[key.workflow][key] = json.loads(key.parameters)
    found = {}
    for sets in of_workflows.values():
        differing = _differing_names(sets.values())
        has_other_periods = with_every and len({key.every for key in sets}) > 1
        for key, parameters in sets.items():
            found[key] = [
                f"{name}={_text(value, (each[name] for each in sets.values() if name in each))}"
                for name, value in parameters.items()
                if name in differing
            ]
            found[key] += [f"every {key.every}"] if has_other_periods else []
    return found


def parameters_text(key: WorkflowKey) -> str:
    """Return all parameters for people, as ``name=value, …``; empty if there are none."""
    return ", ".join(f"{name}={_text(value)}" for name, value in json.loads(key.parameters).items())


def _differing_names(sets: Iterable[Mapping[str, Any]]) -> set[str]:
    values: dict[str, set[str]] = defaultdict(set)
    sets = list(sets)
    for name in {name for each in sets for name in each}:
        values[name] = {repr(each.get(name, _ABSENT)) for each in sets}
    return {name for name, found in values.items() if len(found) > 1}


def _with_differences(workflow: str, differences: Sequence[str]) -> str:
    return f"{workflow} ({', '.join(differences)})" if differences else workflow


def _text(value: Any, others: Iterable[Any] = ()) -> str:
    """Return a value for people; if it is long, the beginning of what differs from `others`."""
    text = _whole(value)
    if len(text) <= LONGEST_VALUE:
        return text
    start = _end_of_what_is_common([text, *(_whole(other) for other in others if other != value)])
    rest = f"…{text[start:]}" if start else text
    return rest if len(rest) <= LONGEST_VALUE else f"{rest[: LONGEST_VALUE - 1]}…"


def _whole(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _end_of_what_is_common(texts: Sequence[str]) -> int:
    """Return the place of the first word in which `texts` differ; 0 for a single text."""
    if len(texts) == 1:
        return 0
    same = itertools.takewhile(lambda characters: len(set(characters)) == 1, zip(*texts, strict=False))
    return len(re.sub(r"\w*$", "", texts[0][: len(list(same))]))
