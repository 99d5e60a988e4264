"""Which done dates were made from other notebooks than those in the inputs folder now."""

from collections.abc import Iterable

from autoflow.model.provenance import Provenance
from autoflow.model.store import RunStore
from autoflow.notebooks.sources import source_as_json
from autoflow.runs.outdated import OutdatedDates, outdated_dates
from autoflow.specs import TriggerSpec


def find_outdated(store: RunStore, triggers: Iterable[TriggerSpec]) -> list[OutdatedDates]:
    """Return the done dates of `triggers` whose notebooks have changed since, and those for which that is unknown."""
    provenance = Provenance(store.database)
    found: list[OutdatedDates] = []
    for trigger in triggers:
        workflow = trigger.workflow
        now = {notebook.label: source_as_json(notebook.path) for notebook in workflow.notebooks}
        found += outdated_dates(trigger, provenance.of_done_dates(workflow.name), now)
    return found
