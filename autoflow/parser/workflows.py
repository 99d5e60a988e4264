"""Read the part `workflows` of the file, and check how the notebooks of each workflow depend on each other."""

from collections.abc import Mapping

from autoflow.parser.drafts import WorkflowDraft
from autoflow.parser.inputs_folder import InputsFolder
from autoflow.parser.notebooks import read_notebook
from autoflow.parser.places import Place, show_place
from autoflow.parser.problems import Problems
from autoflow.parser.reader import Reader, is_null
from autoflow.parser.schemas import KeepSchema, WorkflowSchema
from autoflow.parser.values import at_least_one
from autoflow.parser.wording import show
from autoflow.specs import FOREVER, KeepSpec, PoolSpec

_PLACE: Place = ("workflows",)
_LONGEST_CYCLE = 12


def read_definitions(
    values: list[object], *, reader: Reader, folder: InputsFolder, pools: Mapping[str, PoolSpec]
) -> tuple[WorkflowDraft, ...]:
    """Read all workflows; their notebooks and templates are in `folder`."""
    if not values:
        reader.problems.break_at(_PLACE, "the list is empty; expected at least one workflow")
    workflows = tuple(
        _read_workflow(value, (*_PLACE, index), reader=reader, folder=folder, pools=pools)
        for index, value in enumerate(values)
    )
    _check_names(workflows, reader.problems)
    return workflows


def read_pools(given: dict[str, object], reader: Reader) -> dict[str, PoolSpec]:
    """Read how many notebooks of each pool may run at a time."""
    sizes = {name: reader.value(at_least_one, value, ("pools", name)) for name, value in given.items()}
    # A wrong size has been reported.
    return {name: PoolSpec(name, size or 1) for name, size in sizes.items()}


def _read_workflow(
    value: object, place: Place, *, reader: Reader, folder: InputsFolder, pools: Mapping[str, PoolSpec]
) -> WorkflowDraft:
    keys = reader.keys(WorkflowSchema(), value, place)
    labelled = keys.get("notebooks", {})
    place_of_notebooks = (*place, "notebooks")
    if not labelled:
        reader.problems.break_at(place_of_notebooks, "expected at least one notebook")
    notebooks = (
        read_notebook(item, (*place_of_notebooks, label), reader=reader, folder=folder, pools=pools)
        for label, item in labelled.items()
    )
    title, description = keys.get("title"), keys.get("description")
    reader.refuse_secrets({"title": title, "description": description}, place)
    keep = _read_keep(keys["keep"], (*place, "keep"), reader) if "keep" in keys else KeepSpec()
    workflow = WorkflowDraft(place, keys.get("name", ""), tuple(notebooks), title, description, keep)
    for cycle in workflow.cycles():
        _report_cycle(workflow, cycle, reader.problems)
    return workflow


def _read_keep(value: object, place: Place, reader: Reader) -> KeepSpec:
    keys = reader.keys(KeepSchema(), value, place)
    days = {key: FOREVER if is_null(value, key) else keys.get(key) for key in ("notebooks", "reports")}
    return KeepSpec(**days)


def _check_names(workflows: tuple[WorkflowDraft, ...], problems: Problems) -> None:
    first: dict[str, WorkflowDraft] = {}
    for workflow in workflows:
        if workflow.name and first.setdefault(workflow.name, workflow) is not workflow:
            owner = show_place(first[workflow.name].place)
            problems.add((*workflow.place, "name"), f"duplicate name {show(workflow.name)}, first used by {owner}")


def _report_cycle(workflow: WorkflowDraft, cycle: list[str], problems: Problems) -> None:
    last = next(notebook for notebook in workflow.notebooks if notebook.label == cycle[-2])
    parameter = next(name for name, source in last.parameters.items() if source == cycle[-1])
    shown = cycle if len(cycle) <= _LONGEST_CYCLE else [*cycle[: _LONGEST_CYCLE - 2], "...", cycle[-1]]
    place = (*workflow.place, "notebooks", last.label, "parameters", parameter)
    problems.add(place, f"circular dependency between notebooks: {' → '.join(shown)}")
