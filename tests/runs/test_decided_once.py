"""A date's status is decided in `autoflow.runs` and `autoflow.model`; every other module asks them."""

import ast
import sys
from collections.abc import Iterator

import pytest

from tests.test_layers import MODULES, imports, trees

DECIDING = ("autoflow.model", "autoflow.runs")
OTHERS = sorted(module for module in MODULES if not module.startswith(DECIDING))

RUNS = (
    "attention",
    "backfill",
    "backlog",
    "changes",
    "finished",
    "checks",
    "naming",
    "outdated",
    "plan",
    "planner",
    "reasons",
    "records",
    "requests",
    "retries",
    "run",
    "slots",
    "statuses",
    "stuck",
    "workers",
    "year_plan",
)
DOMAIN = {f"autoflow.runs.{name}" for name in RUNS}
DATES = {f"autoflow.dates.{name}" for name in ("availability", "completeness", "intervals", "periods", "stencil")}
MAY_IMPORT = {"autoflow.specs", "autoflow.errors", "autoflow.utils"} | DATES | DOMAIN

COUNTING = {
    "autoflow.messages.deadlines",
    "autoflow.messages.entries",
    "autoflow.messages.notifier",
    "autoflow.metrics",
}
"""Modules that hand histories on to the domain, and count or name what it answers; they decide no status."""

SEARCHES = {"count", "index"}
"""Methods of a list that compare."""


def compared_states(tree: ast.AST) -> Iterator[int]:
    """Yield the lines where a member of RunState is compared, searched for or matched, or RunState is renamed."""
    for node in ast.walk(tree):
        if isinstance(node, ast.alias) and node.name == "RunState" and node.asname:
            yield node.lineno
        searches = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in SEARCHES
        if isinstance(node, ast.Compare) or searches:
            yield from states_in(node)
        if isinstance(node, ast.match_case):
            yield from states_in(node.pattern)


def states_in(tree: ast.AST) -> Iterator[int]:
    """Yield the lines of members of RunState."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value).split(".")[-1] == "RunState":
            yield node.lineno


def read_histories(tree: ast.AST) -> Iterator[int]:
    """Yield the lines that name History or Failures, or look into histories rather than hand them on."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute | ast.alias):
            name = {ast.Name: "id", ast.Attribute: "attr", ast.alias: "name"}[type(node)]
            if getattr(node, name) in {"History", "Failures"}:
                yield node.lineno
        if isinstance(node, ast.Attribute | ast.Subscript) and is_histories(node.value):
            yield node.lineno
        if isinstance(node, ast.For | ast.comprehension) and is_histories(node.iter):
            yield node.iter.lineno


def is_histories(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Attribute) and node.func.attr.endswith("histories")
    return isinstance(node, ast.Name) and node.id == "histories"


@pytest.mark.parametrize("module", OTHERS)
def test_states_of_runs_are_compared_in_the_domain_only(module: str) -> None:
    aliases = {
        alias.asname
        for node in ast.walk(trees()[module])
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name == "RunState"
    }
    assert aliases <= {None}, "RunState keeps its name, so that this test finds it"
    assert not list(compared_states(trees()[module])), "ask a property of RunState, or a function of runs/plan"


@pytest.mark.parametrize("module", OTHERS)
def test_histories_are_read_in_the_domain_only(module: str) -> None:
    if module in COUNTING:
        return
    assert not list(read_histories(trees()[module])), "ask a function of runs/plan for the status"


@pytest.mark.parametrize(
    "source",
    [
        "state is RunState.FAILED",
        "state in {records.RunState.FAILED, None}",
        "states.count(RunState.FAILED)",
        "from autoflow.model import RunState as State",
        "match state:\n    case RunState.FAILED: pass",
    ],
)
def test_comparing_a_state_is_found(source: str) -> None:
    assert list(compared_states(ast.parse(source)))
    assert not list(
        compared_states(ast.parse("end(RunState.FAILED); state = RunState.FAILED; return_(state.is_failure)"))
    )


@pytest.mark.parametrize(
    "source",
    [
        "from autoflow.model import History",
        "History()",
        "store.histories().get(key)",
        "histories[key].done",
        "histories = store.histories()\nfor key in histories: pass",
        "[key for key in self._histories()]",
    ],
)
def test_reading_a_history_is_found(source: str) -> None:
    assert list(read_histories(ast.parse(source)))
    assert not list(read_histories(ast.parse("histories = store.histories(); due_runs(histories, now)")))


def test_domain_stands_below_the_database_and_all_libraries() -> None:
    assert {module for module in MODULES if module.startswith("autoflow.runs.")} == DOMAIN
    for module in sorted(DOMAIN):
        libraries = {name.split(".")[0] for name in imports()[module] if name not in MAY_IMPORT}
        assert libraries <= sys.stdlib_module_names, f"{module} must not import {sorted(libraries)}"
