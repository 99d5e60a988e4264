"""Cells of parameters, read by Python's grammar."""

import ast
import dis
import json
import keyword
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoflow.notebooks.parameters import InvalidCellError, declarations
from autoflow.specs import Json


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("least = 20  # keep if n >= least", {"least": 1}),
        ('level = "kind=admin2"', {"level": 1}),
        ("level = 'a == b # c'; other = 2", {"level": 1, "other": 1}),
        ("least: int | None = None", {"least": 1}),
        ("regions = [\n    'north',\n    'south',  # n = 1\n]\nafter = 1", {"regions": 1, "after": 5}),
        ("pair = (\n    1,\n    2,\n)", {"pair": 1}),
        ("options = dict(\n    n=3,\n    m=4,\n)", {"options": 1}),
        ("text = '''\nn = 1\n'''", {"text": 1}),
        ("a = b = 3", {"a": 1, "b": 1}),
        ("a, (b, *c) = 1, (2, 3)", {"a": 1, "b": 1, "c": 1}),
        ("[a, b] = 1, 2", {"a": 1, "b": 1}),
        ("region: str", {"region": 1}),
        ("(least := 3)", {"least": 1}),
        ("try:\n    import fast\n    is_fast = True\nexcept ImportError:\n    is_fast = False", {"is_fast": 3}),
        ("if True:\n    a = 1\nelse:\n    b = 2", {"a": 2, "b": 4}),
        ("numbers = [(last := n) for n in range(3)]", {"numbers": 1, "last": 1}),
        ("def f(x=1):\n    y = 2\nclass C:\n    z = 3\ng = lambda: (w := 1)", {"g": 5}),
        ("x.y = 1\nz['a'] = 2\nn += 1", {}),
        ("e\u0301tage = 1\n\ufb01rst = 2", {"\xe9tage": 1, "first": 2}),
        ("%matplotlib inline\nn = 1\n!ls -la\nfiles = !ls\nn?", {"n": 2, "files": 4}),
        ("\n%%time\nn = 1\n%ls\nm = 2", {"n": 3, "m": 5}),
        ("    n = 1\n    m = 2", {"n": 1, "m": 2}),
        (">>> n = 1", {"n": 1}),
        ("pattern = '\\d'", {"pattern": 1}),
        ("result = await ready()", {"result": 1}),
        ("", {}),
        ("# nothing", {}),
    ],
)
def test_what_python_assigns_in_the_cell_is_declared(source: str, names: dict[str, int]) -> None:
    assert {name: found[0].line for name, found in declarations(source).items()} == names


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("n = (1,\nm = 2", "line 1: '(' was never closed"),
        ("n = 1\nfor", "line 2: invalid syntax"),
        ("n = 1\n%ls\nm = 0,5 5", "line 3: invalid syntax"),
        ("n = 1\nm = '\ud83d'", "line 2: it contains half a character ('\\ud83d')"),
        ("n = " + "-" * 100_000 + "1", "line 1: it is too complex, or nested too deeply"),
        ("n = " + "1 + " * 20_000 + "1", "line 1: it is too complex, or nested too deeply"),
    ],
)
def test_cell_that_is_not_valid_python_is_refused_with_the_line(source: str, reason: str) -> None:
    with pytest.raises(InvalidCellError) as raised:
        declarations(source)
    assert str(raised.value).startswith(reason)


NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,5}", fullmatch=True).filter(lambda name: not keyword.iskeyword(name))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150)
@given(st.dictionaries(NAMES, VALUES, max_size=5), st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20))
def test_each_default_is_found_and_accepts_itself(defaults: dict[str, Json], comment: str) -> None:
    lines = [ast.unparse(ast.parse(f"{name} = {value!r}")) + f"  # = {comment}" for name, value in defaults.items()]
    found = declarations("\n".join(lines))
    assert found.keys() == defaults.keys()
    for name, value in defaults.items():
        assert found[name][-1].accepts(json.loads(json.dumps(value)))


TARGETS = st.recursive(
    NAMES,
    lambda inner: st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"({', '.join(parts)},)"),
    max_leaves=4,
)
STATEMENTS = st.one_of(
    st.lists(TARGETS, min_size=1, max_size=3).map(lambda targets: " = ".join([*targets, "f(a=1, b='x = 1')"])),
    NAMES.map("{}: 'int' = (\n    1\n)".format),
    NAMES.map("({} := [1])".format),
    NAMES.map("if 1 == 1:\n    {} = 1".format),
    NAMES.map("with f() as x.y:\n    {} = 1".format),
    NAMES.map("def function(a=1):\n    {} = 1".format),
)


@settings(max_examples=200)
@given(st.lists(STATEMENTS, max_size=5))
def test_each_assignment_that_python_compiles_is_found(statements: list[str]) -> None:
    source = "\n".join(statements)
    assert declarations(source).keys() == _stored_names(source) - {"function"}


def _stored_names(source: str) -> set[str]:
    """Return the names that the code of a module stores, as Python's compiler sees them."""
    code = dis.Bytecode(compile(source, "cell", "exec"))
    return {str(each.argval) for each in code if each.opname == "STORE_NAME"} - {"__annotations__"}


PIECES = st.sampled_from(
    [
        *"xy=:,;|()[]{}\n\t'\"#%!?*@\\\0\f\r\ud800é\u2028",
        "    ",
        "%%time\n",
        "f'",
        "if ",
        "class C:",
        ":=",
        " # type: ",
        ">>> ",
    ]
)


def refusal(source: str) -> str | None:
    """Return why a cell is refused; None if it is read."""
    try:
        found = declarations(source)
    except InvalidCellError as error:
        return str(error)
    assert all(isinstance(each.accepts([1]), bool) for declared in found.values() for each in declared)
    return None


@settings(max_examples=150)
@given(st.lists(PIECES, max_size=25).map("".join))
def test_any_text_is_read_or_refused_with_a_line(source: str) -> None:
    reason = refusal(source)
    assert reason is None or re.fullmatch(r"line \d+: [^\n]+", reason)
