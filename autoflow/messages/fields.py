"""What programs get of a message as JSON, besides its texts."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from autoflow.runs.naming import label_of
from autoflow.runs.records import RunKey
from autoflow.specs import Json, TriggerSpec


@dataclass(frozen=True, kw_only=True)
class RunFields:
    """What a message says about runs of one entry. `outputs` maps labels of notebooks to files, as the run store does.

    `links` are where readers find the reports or, if there are none, the executed notebooks. `warnings` are the checks
    that failed as such.
    """

    workflow: str
    label: str | None
    parameters: Mapping[str, Json]
    every: str
    dates: Sequence[str]
    outputs: Mapping[str, Json] = field(default_factory=dict)
    links: Sequence[str] = ()
    reason: str = ""
    warnings: Sequence[str] = ()

    @classmethod
    def of(cls, key: RunKey, triggers: Iterable[TriggerSpec], **more: Any) -> Self:
        """Return the fields for a run with this `key`, which is one of the entries `triggers` if it has a label."""
        return cls(
            workflow=key.workflow,
            label=label_of(key.workflow_key, triggers),
            parameters=json.loads(key.parameters),
            every=key.every.value,
            **{"dates": [key.reference_date.isoformat()], **more},
        )


def fields_of(state: str, runs: Sequence[RunFields] = ()) -> dict[str, Json]:
    """Return the fields of a message that `runs` are in this `state`; those that the runs do not share are null."""
    return {
        "workflow": _shared(each.workflow for each in runs),
        "label": _shared(each.label for each in runs),
        "dates": sorted({date for each in runs for date in each.dates}),
        "state": state,
        "outputs": dict(runs[0].outputs) if len(runs) == 1 else {},
        "links": [link for each in runs for link in each.links],
        "runs": [asdict(each) for each in runs],
    }


def _shared(values: Iterable[str | None]) -> str | None:
    found = set(values)
    return found.pop() if len(found) == 1 else None
