"""Limits on the size of functions, classes and folders, and on suppressed lint rules."""

import ast
import tokenize
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = sorted((ROOT / "autoflow").rglob("*.py"))
FOLDERS = ("autoflow", "benchmarks", "docs", "examples", "scripts", "tests")

MOST_LINES_OF_A_FUNCTION = 40
MOST_LINES_OF_A_CLASS = 249

MOST_PARAMETERS = 7
MOST_ENTRIES = 25
MOST_SUPPRESSIONS = 80

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def definitions(file: Path) -> list[tuple[str, Function | ast.ClassDef]]:
    """Return each function and class of a file with its place and name."""
    nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    return [
        (f"{file.relative_to(ROOT)}:{node.lineno}: {node.name}", node)
        for node in nodes
        if isinstance(node, Function | ast.ClassDef)
    ]


def length_of(node: Function | ast.ClassDef) -> int:
    """Return the lines of a definition; the signature and the docstring count, decorators do not."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def parameters_of(function: Function) -> int:
    """Return how many parameters a function has, `self` included."""
    arguments = function.args
    return len(arguments.posonlyargs) + len(arguments.args) + len(arguments.kwonlyargs)


def suppressions_in(file: Path) -> int:
    """Return how many comments of a file suppress lint rules."""
    if b"noqa:" not in file.read_bytes():
        return 0
    with file.open("rb") as source:
        tokens = tokenize.tokenize(source.readline)
        return sum(token.type == tokenize.COMMENT and "noqa:" in token.string for token in tokens)


def test_functions_and_classes_are_short() -> None:
    long = [
        f"{name} has {length_of(node)} lines"
        for file in PACKAGE
        for name, node in definitions(file)
        if length_of(node) > (MOST_LINES_OF_A_CLASS if isinstance(node, ast.ClassDef) else MOST_LINES_OF_A_FUNCTION)
    ]
    assert long == []


def test_functions_with_many_parameters_have_a_reason_beside_them() -> None:
    crowded = [
        f"{name} has {parameters_of(node)} parameters"
        for file in PACKAGE
        for name, node in definitions(file)
        if isinstance(node, Function) and parameters_of(node) > MOST_PARAMETERS
        if "# noqa: PLR0913 - " not in file.read_text(encoding="utf-8").splitlines()[node.lineno - 1]
    ]
    assert crowded == []


def test_package_has_few_entries() -> None:
    entries = sorted(path.name for path in (ROOT / "autoflow").iterdir() if path.name != "__pycache__")
    assert len(entries) <= MOST_ENTRIES, entries


def test_few_lint_rules_are_suppressed() -> None:
    counts = {file: suppressions_in(file) for folder in FOLDERS for file in sorted((ROOT / folder).rglob("*.py"))}
    shown = "\n".join(f"{count:3} {file.relative_to(ROOT)}" for file, count in counts.items() if count)
    assert sum(counts.values()) <= MOST_SUPPRESSIONS, shown
