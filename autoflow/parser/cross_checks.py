"""Check the sensor's entries against the workflows they name."""

import json
from collections.abc import Iterable

from autoflow.parser.drafts import TriggerDraft, WorkflowDraft
from autoflow.parser.inputs_folder import InputsFolder
from autoflow.parser.places import show_place
from autoflow.parser.problems import Problems
from autoflow.parser.wording import did_you_mean, nearest, show
from autoflow.specs import RESERVED_NAMES, NotifySpec


def check_triggers(
    triggers: Iterable[TriggerDraft],
    workflows: Iterable[WorkflowDraft],
    *,
    folder: InputsFolder,
    problems: Problems,
) -> None:
    """Report entries with an unknown workflow, with parameters that do not match it, and duplicates."""
    named: dict[str, list[WorkflowDraft]] = {}
    for workflow in workflows:
        named.setdefault(workflow.name, []).append(workflow)
    for trigger in triggers:
        found = named.get(trigger.workflow_name, [])
        if trigger.workflow_name and len(found) == 1:
            _check_parameters(trigger, found[0], folder=folder, problems=problems)
            _check_attached(trigger, found[0], problems)
        elif trigger.workflow_name and not found:
            _report_unknown(trigger, named, problems)
    _check_repeats(triggers, problems)


def _report_unknown(trigger: TriggerDraft, named: dict[str, list[WorkflowDraft]], problems: Problems) -> None:
    # A workflow without a name may be the one that the entry means.
    if named and "" not in named:
        message = f"unknown workflow {show(trigger.workflow_name)}{did_you_mean(trigger.workflow_name, named)}"
        problems.add((*trigger.place, "workflow_name"), message)


def _check_parameters(
    trigger: TriggerDraft, workflow: WorkflowDraft, *, folder: InputsFolder, problems: Problems
) -> None:
    place = (*trigger.place, "parameters")
    missing = workflow.parameter_names - trigger.parameters.keys()
    are_all_known = _are_sources_known(workflow, problems)
    from_each = {choice.name for choice in trigger.choices}
    for name in trigger.parameters:
        source = (*trigger.place, "for_each") if name in from_each else place
        meant = nearest(name, missing)
        hint = f"did you mean {meant!r}?" if meant else _hint_on_unused(name, workflow, folder)
        if problem := _problem_of_name(name, workflow, hint=hint, are_all_known=are_all_known):
            problems.add((*source, name), problem, at_key=True)
            missing -= {meant}
    for name in sorted(missing):
        user = f"notebook {show(workflow.user_of(name))} of workflow {show(workflow.name)}"
        label = nearest(name, workflow.labels)
        hint = f"; or does it mean notebook {label!r}?" if label else ""
        problems.add((*place, name), f"missing parameter; {user} uses it{hint}")


def _problem_of_name(name: str, workflow: WorkflowDraft, *, hint: str, are_all_known: bool) -> str | None:
    if name in RESERVED_NAMES:
        return "this parameter is automatic; remove it"
    if name in workflow.labels:
        return f"a notebook of workflow {show(workflow.name)} has this label; rename one of them"
    if name in workflow.parameter_names | workflow.optional_names or not are_all_known:
        return None
    return f"no notebook of workflow {show(workflow.name)} uses this parameter; {hint}"


def _hint_on_unused(parameter: str, workflow: WorkflowDraft, folder: InputsFolder) -> str:
    for notebook in workflow.notebooks:
        if parameter in folder.declared(notebook.path).declarations:
            label = show(notebook.label)
            return f"notebook {label} declares it: add '{parameter}: {parameter}' to the parameters of {label}"
    return "remove it"


def _are_sources_known(workflow: WorkflowDraft, problems: Problems) -> bool:
    """Return whether all sources of the notebooks' parameters could be read."""
    place = (*workflow.place, "notebooks")
    places = [(*place, notebook.label, "parameters") for notebook in workflow.notebooks]
    return not problems.is_broken(place) and not any(map(problems.is_broken_within, places))


def _check_attached(trigger: TriggerDraft, workflow: WorkflowDraft, problems: Problems) -> None:
    """Report an entry that attaches reports to messages which its workflow does not make."""
    notify: NotifySpec = trigger.options.get("notify", NotifySpec())
    made = {each for notebook in workflow.notebooks if notebook.output for each in notebook.output.formats}
    has_broken = problems.is_broken_within((*workflow.place, "notebooks"))
    if notify.success and notify.attach is not None and notify.attach not in made and not has_broken:
        message = f"no notebook of workflow {show(workflow.name)} has an 'output' with the format {notify.attach}"
        problems.add((*trigger.place, "notify", "attach"), message)


def _check_repeats(triggers: Iterable[TriggerDraft], problems: Problems) -> None:
    seen: dict[str, TriggerDraft] = {}
    labelled: dict[tuple[str, str], TriggerDraft] = {}
    for trigger in triggers:
        if not trigger.workflow_name:
            continue
        if label := trigger.options.get("label"):
            _check_label(trigger, labelled.setdefault((trigger.workflow_name, label), trigger), problems)
        if any(problems.is_broken_within((*trigger.place, key)) for key in ("parameters", "for_each", "every")):
            continue
        key = json.dumps(
            [trigger.workflow_name, trigger.parameters, trigger.options.get("every", "day")], sort_keys=True
        )
        first = seen.setdefault(key, trigger)
        if first is not trigger:
            where = show_place(first.place)
            problems.add(trigger.place, f"duplicate entry; {where} has the same workflow and parameters")


def _check_label(trigger: TriggerDraft, first: TriggerDraft, problems: Problems) -> None:
    """Report that two entries of a workflow have the same label, on the line that makes it."""
    if first is trigger:
        return
    label = show(trigger.options["label"])
    if not trigger.choices:
        problems.add((*trigger.place, "label"), f"duplicate label {label}, first used by {show_place(first.place)}")
        return
    others = [choice.value for choice in first.choices] if first.place == trigger.place else []
    choice = next((each for each in trigger.choices if each.value not in others), trigger.choices[0])
    other = "another value has, too; change one of them" if others else "another entry has; give one of them a 'label'"
    # Once for each value, however many combinations have it.
    problems.break_at(choice.place, f"{show(choice.value)} gives the label {label}, which {other}")
