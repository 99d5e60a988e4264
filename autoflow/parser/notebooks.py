"""Read the notebooks of a workflow, with the files they name."""

import keyword
from collections.abc import Collection, Mapping
from pathlib import Path

from autoflow.notebooks.parameters import normal_name
from autoflow.notebooks.reading import HOW_TO_TAG, DeclaredParameters
from autoflow.parser.inputs_folder import InputsFolder
from autoflow.parser.places import Place
from autoflow.parser.problems import Problems
from autoflow.parser.reader import Reader, is_null
from autoflow.parser.schemas import NotebookSchema, OutputSchema
from autoflow.parser.values import report_format, secret_name, source
from autoflow.parser.wording import did_you_mean, show
from autoflow.specs import NO_TIMEOUT, RESERVED_NAMES, NotebookSpec, OutputSpec, PoolSpec, ReportFormat


def read_notebook(
    value: object, place: Place, *, reader: Reader, folder: InputsFolder, pools: Mapping[str, PoolSpec]
) -> NotebookSpec:
    """Read the notebook at `place`, whose last key is its label; leave wrong or missing parts empty."""
    label = str(place[-1])
    _check_label(label, place, reader.problems)
    keys = reader.keys(NotebookSchema(), value, place)
    path = reader.value(folder.notebook, keys["filename"], (*place, "filename")) if "filename" in keys else None
    parameters = _read_sources(keys.get("parameters", {}), (*place, "parameters"), reader)
    if path:
        _check_can_run(folder.declared(path), path, (*place, "filename"), reader.problems)
        _check_declared(parameters, folder.declared(path), place=(*place, "parameters"), problems=reader.problems)
    return NotebookSpec(
        label=label,
        path=path or Path(),
        parameters=parameters,
        output=_read_output(keys["output"], (*place, "output"), reader=reader, folder=folder)
        if "output" in keys
        else None,
        timeout=NO_TIMEOUT if is_null(value, "timeout") else keys.get("timeout"),
        memory=keys.get("memory"),
        pool=_pool(keys["pool"], (*place, "pool"), pools, reader.problems) if "pool" in keys else None,
        secrets=tuple(reader.distinct(secret_name, keys["secrets"], (*place, "secrets"))) if "secrets" in keys else (),
    )


def _pool(name: str, place: Place, pools: Mapping[str, PoolSpec], problems: Problems) -> PoolSpec | None:
    if name not in pools:
        hint = did_you_mean(name, pools) or f"; add 'pools: {{{name}: 1}}' to the file"
        problems.add(place, f"unknown pool {show(name)}{hint}")
    return pools.get(name)


def _check_label(label: str, place: Place, problems: Problems) -> None:
    if label in RESERVED_NAMES:
        message = f"{label!r} is the name of an automatic parameter; choose another label"
        problems.add(place, message, at_key=True)
    elif not label.strip() or not label.isprintable():
        problems.add(place, "a label must be visible characters on one line", at_key=True)


def _read_sources(values: dict[str, object], place: Place, reader: Reader) -> dict[str, str]:
    """Return the source of each parameter of a notebook."""
    sources = {name: reader.value(source, value, (*place, name)) for name, value in values.items()}
    return {name: found for name, found in sources.items() if found is not None}


def _check_can_run(declared: DeclaredParameters, path: Path, place: Place, problems: Problems) -> None:
    """Find notebooks that cannot run, although the file is valid."""
    if declared.missing_kernel:
        hint = "install one where AutoFlow runs, or choose another kernel in the notebook and save it"
        problems.find(place, f"{show(path.name)} cannot run: {declared.missing_kernel}; {hint}", fails_runs=True)
    if declared.invalid_cell:
        message = f"the cell tagged 'parameters' in {show(path.name)} is not valid Python: {declared.invalid_cell}"
        problems.find(place, message, fails_runs=not declared.has_own_kernel)


def _check_declared(names: Collection[str], declared: DeclaredParameters, *, place: Place, problems: Problems) -> None:
    for name in names if declared.names is not None else ():
        if problem := _undeclared(name, declared.names or frozenset(), has_cell=declared.has_cell):
            problems.add((*place, name), problem, at_key=True)
    if names and not declared.has_cell:
        # Notebooks in other languages have always been accepted without; their own cells may set the values again.
        report = problems.find if declared.names is None else problems.add
        report(place, _no_cell(declared.hint), at_key=True)


def _no_cell(hint: str) -> str:
    hint = f" ({hint})" if hint else ""
    return (
        f"the notebook has no cell tagged 'parameters'{hint}; tag the cell that declares its parameters: {HOW_TO_TAG}"
    )


def _undeclared(parameter: str, names: frozenset[str], *, has_cell: bool) -> str | None:
    """Return why a Python notebook that declares `names` cannot take `parameter`; None if it can."""
    if not parameter.isidentifier() or keyword.iskeyword(parameter):
        return "not a valid Python name; rename the parameter"
    if not has_cell or normal_name(parameter) in names:
        return None
    return f"the notebook's cell tagged 'parameters' does not declare this parameter{did_you_mean(parameter, names)}"


def _read_output(value: object, place: Place, *, reader: Reader, folder: InputsFolder) -> OutputSpec:
    keys = reader.keys(OutputSchema(), value, place)
    formats = _read_formats(keys["format"], (*place, "format"), reader) if "format" in keys else ()
    template = reader.value(folder.file, keys["template"], (*place, "template")) if "template" in keys else None
    return OutputSpec(formats=formats, template=template)


def _read_formats(value: object, place: Place, reader: Reader) -> tuple[ReportFormat, ...]:
    if isinstance(value, list):
        return tuple(reader.distinct(report_format, value, place))
    found = reader.value(report_format, value, place)
    return (found,) if found else ()
