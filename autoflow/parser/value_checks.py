"""Find values that notebooks probably do not expect: of another type than declared, or not passed at all.

These are not mistakes in the file: it stays valid.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from autoflow.notebooks.parameters import Declaration, normal_name
from autoflow.notebooks.reading import DeclaredParameters, InvalidNotebookError, declared_parameters
from autoflow.parser.drafts import TriggerDraft, WorkflowDraft
from autoflow.parser.inputs_folder import InputsFolder
from autoflow.parser.problems import Problems
from autoflow.parser.wording import show
from autoflow.specs import RESERVED_NAMES, Json, NotebookSpec, WorkflowSpec

_AUTOMATIC: Mapping[str, Json] = {
    "reference_date": "2016-01-01",
    "date_ranges": [["2016-01-01", "2016-01-01"]],
    "flowapi_url": "https://flowapi",
}
"""Examples of the values of automatic parameters."""

_PATH = "notebook.ipynb"
"""An example of the value of a parameter whose source is another notebook."""

_BOOLEANS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def check_values(
    triggers: Iterable[TriggerDraft],
    workflows: Iterable[WorkflowDraft],
    *,
    folder: InputsFolder,
    problems: Problems,
) -> None:
    """Find the values in a valid file, with its notebooks in `folder`, that notebooks probably do not expect."""
    named = {workflow.name: workflow for workflow in workflows}
    for workflow in named.values():
        for notebook in workflow.notebooks:
            _check_notebook(notebook, workflow, folder=folder, problems=problems)
    for trigger in triggers:
        _check_trigger(trigger, named[trigger.workflow_name], folder=folder, problems=problems)


def _check_notebook(
    notebook: NotebookSpec, workflow: WorkflowDraft, *, folder: InputsFolder, problems: Problems
) -> None:
    place = (*workflow.place, "notebooks", notebook.label, "parameters")
    declared = folder.declared(notebook.path).declarations
    passed = {normal_name(name): source for name, source in notebook.parameters.items()}
    for name in declared.keys() & (workflow.parameter_names | RESERVED_NAMES) - passed.keys():
        where = _place_of(declared[name][-1], notebook)
        kind = "an automatic parameter" if name in RESERVED_NAMES else "a parameter of the workflow"
        message = f"this is {kind}, and the notebook declares it, but does not get its value ({where})"
        what_to_do = f"add '{name}: {name}' here, or rename it in the notebook"
        problems.find((*place, name), f"{message}; {what_to_do}", at_key=True)
    examples: dict[str, Json] = {**dict.fromkeys(workflow.labels, _PATH), **_AUTOMATIC}
    for name, source in notebook.parameters.items():
        if source in examples and (found := _mismatch(declared.get(normal_name(name), ()), examples[source])):
            kind = "a list of pairs of dates" if source == "date_ranges" else "text"
            subject = source if source in _AUTOMATIC else f"the path of notebook {show(source)}"
            message = f"{subject} is {kind}, but the notebook declares another type: {_place_of(found, notebook)}"
            problems.find((*place, name), message)


def _check_trigger(trigger: TriggerDraft, workflow: WorkflowDraft, *, folder: InputsFolder, problems: Problems) -> None:
    declared = {notebook.path: folder.declared(notebook.path) for notebook in workflow.notebooks}
    for parameter, value in trigger.parameters.items():
        if message := _unexpected(parameter, value, workflow.notebooks, declared):
            problems.find(trigger.place_of(parameter), message)


def unexpected_values(workflow: WorkflowSpec, parameters: Mapping[str, Json]) -> list[str]:
    """Return a line for each of some parameters of `workflow` whose value has another type than a notebook declares."""
    declared = {}
    for notebook in workflow.notebooks:
        # A notebook that became invalid after workflows.yml was read fails its run.
        with suppress(InvalidNotebookError, OSError):
            declared[notebook.path] = declared_parameters(notebook.path)
    found = {name: _unexpected(name, value, workflow.notebooks, declared) for name, value in parameters.items()}
    return [f"parameter '{name}': {message}" for name, message in found.items() if message]


def _unexpected(
    parameter: str, value: Json, notebooks: Iterable[NotebookSpec], declared: Mapping[Path, DeclaredParameters]
) -> str | None:
    """Return a message if the value of a parameter does not have the type that a notebook declares."""
    for notebook in notebooks:
        for name, source in notebook.parameters.items():
            known = declared[notebook.path].declarations if notebook.path in declared else {}
            declarations = known.get(normal_name(name), ()) if source == parameter else ()
            if found := _mismatch(declarations, value):
                return (
                    f"{show(value)} is {_kind(value)}, but notebook {show(notebook.label)} declares another type: "
                    f"{_place_of(found, notebook)}{_did_you_mean(value, declarations)}"
                )
    return None


def _mismatch(declared: tuple[Declaration, ...], value: Json) -> Declaration | None:
    """Return the last declaration if none accepts `value`."""
    return declared[-1] if declared and not any(each.accepts(value) for each in declared) else None


def _place_of(declaration: Declaration, notebook: NotebookSpec) -> str:
    return f"`{declaration.written}` in {notebook.path.name}, line {declaration.line} of the cell tagged 'parameters'"


def _kind(value: Json) -> str:
    if value is None:
        return "an empty value"
    kinds = {bool: "a boolean", int: "a whole number", float: "a number", str: "text", dict: "a mapping"}
    return kinds.get(type(value), "a list")


def _did_you_mean(value: Json, declared: tuple[Declaration, ...]) -> str:
    """Return the end of a message that suggests the value that was probably meant; empty if there is none."""
    for meant in _meanings(value):
        if _mismatch(declared, meant) is None:
            return f"; did you mean {show(meant)}?"
    return ""


def _meanings(value: Json) -> Iterator[Json]:
    """Yield values of other types that may have been meant."""
    if isinstance(value, str):
        yield from _numbers(value.strip().replace(",", ".") if value.count(",") == 1 else value)
    if str(value).lower() in _BOOLEANS:
        yield _BOOLEANS[str(value).lower()]
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield str(value)
        yield from _numbers(str(value))
    if isinstance(value, str | int | float):
        yield [value]


def _numbers(text: str) -> Iterator[Json]:
    try:
        number = float(text)
    except ValueError:
        return
    if math.isfinite(number):
        if number.is_integer():
            yield int(number)
        yield number
