"""Read a cell of parameters by Python's grammar: which parameters it declares, and which values they accept."""

import ast
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from autoflow.notebooks.value_types import accepts, type_of
from autoflow.specs import Json
from autoflow.utils import without_warnings

_LONGEST_SHOWN = 60
_LINE_END = re.compile(r"\r\n|\r|\n")
_CELL_MAGIC = re.compile(r"\A\s*%%\w[^\n]*")
_BLANK_LINES = re.compile(r"(?:[ \t]*\n)*")
_TYPE_COMMENT = re.compile(r"\s*#\s*type:\s*(?!ignore)(\S+)")
_TOO_COMPLEX = "line 1: it is too complex, or nested too deeply"
_OWN_SCOPE = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


class InvalidCellError(ValueError):
    """The cell is not valid Python; the message is the line in the cell and the reason ("line 2: invalid syntax")."""


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """A line of a cell that gives a parameter a default, a type, or both.

    `line` is counted from 1 within the cell; `written` is its text, shortened if it is long.
    """

    line: int
    written: str
    default: ast.expr | None
    annotation: ast.expr | None

    def accepts(self, value: Json) -> bool:
        """Return whether `value` has the type of the annotation or, where there is none, of the default."""
        if self.annotation is None:
            return accepts(type_of(self.default), value)
        is_none_default = isinstance(self.default, ast.Constant) and self.default.value is None
        return accepts(self.annotation, value) or (value is None and is_none_default)


@dataclass(frozen=True)
class _Assignment:
    """One name to which a statement or an expression assigns, or that it annotates."""

    node: ast.stmt | ast.expr
    name: str
    value: ast.expr | None
    annotation: ast.expr | None = None


def normal_name(name: str) -> str:
    """Return a name as Python reads it: different ways to write the same letter make no difference."""
    return unicodedata.normalize("NFKC", name)


def declarations(source: str) -> dict[str, tuple[Declaration, ...]]:
    """Return the declarations of each parameter in the source of a cell: names that it assigns to or annotates.

    What is in a function or a class is not part of this.

    Raises
    ------
    InvalidCellError
        If the cell is not valid Python.

    """
    source, tree = _read(source)
    lines = _LINE_END.split(source)
    found: dict[str, tuple[Declaration, ...]] = {}
    for each in sorted(_assignments(tree), key=lambda assignment: assignment.node.lineno):
        declaration = Declaration(
            line=each.node.lineno,
            written=_shortened(lines[each.node.lineno - 1]),
            default=each.value,
            annotation=each.annotation or _type_comment(each.node, lines),
        )
        name = normal_name(each.name)
        found[name] = (*found.get(name, ()), declaration)
    return found


def _read(source: str) -> tuple[str, ast.Module]:
    """Return Python source, with a tree of the same lines, for the source of a cell."""
    # What follows a magic such as %%time in the first line is ordinary code.
    source = _CELL_MAGIC.sub(lambda magic: "\n" * magic[0].count("\n"), source)
    try:
        return source, _parsed(source)
    except InvalidCellError:
        source = _without_magics(source)
        return source, _parsed(source)


def _parsed(source: str) -> ast.Module:
    try:
        # Python warns about escapes such as "\d".
        with without_warnings():
            return ast.parse(source)
    except SyntaxError as error:
        raise InvalidCellError(f"line {error.lineno or 1}: {error.msg}") from error
    except UnicodeEncodeError as error:
        line = len(_LINE_END.split(source[: error.start]))
        raise InvalidCellError(f"line {line}: it contains half a character ({source[error.start]!a})") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise InvalidCellError(_TOO_COMPLEX) from error


def _without_magics(source: str) -> str:
    """Return the Python code that IPython makes of a cell with magics and commands."""
    # IPython takes most of a second to import, and few cells need it.
    from IPython.core.inputtransformer2 import TransformerManager  # noqa: PLC0415 - see above

    try:
        with without_warnings():
            code = TransformerManager().transform_cell(source)  # type: ignore[no-untyped-call] # untyped in IPython
    except SyntaxError:
        return source
    blank = _BLANK_LINES.match(source)  # IPython removes these lines
    return f"{blank[0] if blank else ''}{code}"


def _assignments(tree: ast.AST) -> Iterator[_Assignment]:
    """Yield what is assigned in the scope of the module; comprehensions assign there by `:=` only."""
    nodes = [tree]
    while nodes:
        node = nodes.pop()
        if isinstance(node, _OWN_SCOPE):
            continue
        nodes.extend(ast.iter_child_nodes(node))
        match node:
            case ast.Assign():
                for target in node.targets:
                    yield from _unpacked(node, target, node.value)
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield _Assignment(node, name, node.value, node.annotation)
            case ast.NamedExpr(target=ast.Name(id=name)):
                yield _Assignment(node, name, node.value)


def _unpacked(node: ast.Assign, target: ast.expr, value: ast.expr | None) -> Iterator[_Assignment]:
    """Yield the names of a target, with their values where these are written one by one."""
    match target:
        case ast.Name(id=name):
            yield _Assignment(node, name, value)
        case ast.Starred(value=inner):
            yield from _unpacked(node, inner, None)
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            values: list[ast.expr | None] = [None] * len(parts)
            if isinstance(value, ast.Tuple | ast.List) and not any(
                isinstance(part, ast.Starred) for part in (*parts, *value.elts)
            ):
                values = list(value.elts)
            for part, item in zip(parts, values, strict=False):
                yield from _unpacked(node, part, item)


def _type_comment(node: ast.stmt | ast.expr, lines: list[str]) -> ast.expr | None:
    """Return the type that a comment after a declaration gives, as in ``x = 1  # type: float``."""
    rest = lines[(node.end_lineno or node.lineno) - 1].encode()[node.end_col_offset or 0 :].decode()
    match = _TYPE_COMMENT.match(rest)
    return ast.Constant(match[1]) if match else None


def _shortened(line: str) -> str:
    text = line.strip()
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 3]}..."
