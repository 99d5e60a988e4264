import ast
import graphlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted((ROOT / "autoflow").rglob("*.py"))

LAYERS = (
    ("errors", "utils"),
    ("dates", "system"),
    ("settings",),
    ("specs",),
    ("flowapi", "kernels", "runs"),
    ("model", "notebooks"),
    ("orchestration", "reports"),
    ("cluster", "messages", "page", "parser"),
    ("workflows",),
    ("sensor",),
    ("metrics",),
    ("service",),
    ("app",),
    ("cli",),
    ("__main__",),
)
"""Wings and modules, from the lowest layer up: each imports only from the layers below its own."""

RANKS = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}

DOORS = {
    "alembic": {"model"},
    "apprise": {"messages"},
    "bleach": {"page"},
    "cronsim": {"parser"},
    "cryptography": {"cluster"},
    "dask": {"cluster"},
    "distributed": {"cluster"},
    "flowclient": {"flowapi"},
    "get_secret_or_env_var": {"settings"},
    "jupyter_client": {"kernels"},
    "jwt": {"flowapi"},
    "marshmallow": {"parser"},
    "mistune": {"messages", "page"},
    "nbclient": {"notebooks"},
    "nbconvert": {"reports", "page"},
    "papermill": {"notebooks"},
    "prefect": {"orchestration", "workflows", "sensor", "service"},
    "prometheus_client": {"metrics"},
    "psycopg": set[str](),
    "pydantic": {"orchestration", "sensor", "settings"},
    "pydantic_settings": {"settings"},
    "sqlalchemy": {"model", "orchestration"},
    "uvicorn": {"orchestration"},
    "yaml": {"parser"},
    "zmq": {"kernels"},
}
"""The wings that may import a library; all other modules use it through them."""

ENVIRONMENT_USERS = {
    "autoflow.settings": "it is what reads the environment",
    "autoflow.cli": "it puts a home folder into it before it imports libraries that look for one",
    "autoflow.app": "it hands the environment to prefect_api, which prepares it for Prefect",
    "autoflow.kernels.preload": "it sets variables as a kernel does, for packages that it imports",
    "autoflow.kernels.warm_process": "it is a separate process, and sets the environment of kernels",
    "autoflow.reports.programs": "the programs that it runs get only PATH from the environment",
}


def name_of(file: Path) -> str:
    """Return the dotted name of a module."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {name_of(file): file for file in FILES}


def layer_of(module: str) -> str:
    """Return the name that a module goes by in `LAYERS`: its own, or that of the package that it is in."""
    return module.split(".")[1] if "." in module else module


def imports_of(tree: ast.AST) -> Iterator[str]:
    """Yield the dotted name of each module that is imported anywhere in a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else node.module for name in names)


@cache
def sources() -> dict[str, str]:
    return {module: file.read_text(encoding="utf-8") for module, file in MODULES.items()}


@cache
def trees() -> dict[str, ast.Module]:
    return {module: ast.parse(source) for module, source in sources().items()}


@cache
def imports() -> dict[str, set[str]]:
    return {module: set(imports_of(tree)) for module, tree in trees().items()}


def test_every_module_has_its_layer() -> None:
    unknown = {layer_of(module) for module in MODULES} - RANKS.keys() - {"autoflow"}
    assert not unknown, f"put {sorted(unknown)} into LAYERS in {Path(__file__).name}, above all that it imports"


@pytest.mark.parametrize("module", sorted(module for module in MODULES if layer_of(module) in RANKS))
def test_module_imports_from_lower_layers_only(module: str) -> None:
    own = layer_of(module)
    for imported in imports()[module] & MODULES.keys():
        other = layer_of(imported)
        is_below = RANKS.get(other, -1) < RANKS[own]
        assert other == own or is_below, f"{module} must not import {imported}, not even for its types: it is above"


def test_modules_do_not_import_each_other_in_circles() -> None:
    graph = {module: imported & MODULES.keys() - {module} for module, imported in imports().items()}
    tuple(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("library", DOORS)
def test_library_has_its_door(library: str) -> None:
    users = {
        layer_of(module) for module, imported in imports().items() if library in {n.split(".")[0] for n in imported}
    }
    assert users <= DOORS[library], (
        f"{library} is for {sorted(DOORS[library])}, not for {sorted(users - DOORS[library])}"
    )


def test_environment_is_read_in_settings_alone() -> None:
    names = {"environ", "environb", "getenv", "getenvb", "putenv"}
    users = {
        module
        for module, tree in trees().items()
        for node in ast.walk(tree)
        if (isinstance(node, ast.Attribute) and node.attr in names and ast.unparse(node.value) == "os")
        or (isinstance(node, ast.ImportFrom) and node.module == "os" and names & {alias.name for alias in node.names})
    }
    assert users <= ENVIRONMENT_USERS.keys()


def has_reason(lines: list[str], place: int) -> bool:
    """Return whether the import in a line, or the import right above it, has a comment next to it or above it."""
    if " - " in lines[place].partition("#")[2] or lines[place - 1].strip().startswith("#"):
        return True
    return lines[place - 1].strip().startswith(("from ", "import ")) and has_reason(lines, place - 1)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_import_within_a_function_has_a_reason_beside_it(module: str) -> None:
    lines = sources()[module].splitlines()
    if any(line.startswith("# ruff: noqa: PLC0415 - ") for line in lines):
        return  # the reason is one for the whole file
    for function in ast.walk(trees()[module]):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Import | ast.ImportFrom):
                place = f"{module}:{node.lineno}"
                assert has_reason(lines, node.lineno - 1), f"{place}: say why it is imported within a function"


CLI = sorted(module for module in MODULES if module.startswith("autoflow.cli"))


@pytest.mark.parametrize("module", CLI)
def test_verb_imports_at_the_top_of_its_module(module: str) -> None:
    functions = [node for node in ast.walk(trees()[module]) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    nodes = [node for function in functions for node in ast.walk(function)]
    assert not [node.lineno for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    # The group imports the module of the verb that is used.
    assert ("importlib" in imports()[module]) == (module == "autoflow.cli")


@pytest.mark.parametrize("module", CLI)
def test_verb_imports_no_private_name(module: str) -> None:
    imported = [node for node in ast.walk(trees()[module]) if isinstance(node, ast.ImportFrom)]
    assert not [alias.name for node in imported for alias in node.names if re.match("_[^_]", alias.name)]
