"""Compare values of parameters with Python's types, as annotations and defaults in a cell give them.

Values come from JSON: a list stands for any sequence or set. A type that is not known here accepts every value.
"""

import ast
from collections.abc import Mapping, Sequence

from autoflow.specs import Json

_NUMBERS = {"float", "complex", "Decimal", "Number", "Real"}
_LISTS = {
    *("list", "List", "tuple", "Tuple", "set", "Set", "frozenset", "FrozenSet", "AbstractSet", "MutableSet", "deque"),
    *("Sequence", "MutableSequence", "Iterable", "Collection"),
}
_MAPPINGS = {"dict", "Dict", "Mapping", "MutableMapping", "defaultdict", "OrderedDict"}
_WRAPPERS = {"Annotated", "Final", "ClassVar"}
_KINDS_OF_EXPRESSIONS: dict[type[object], str] = {
    ast.JoinedStr: "str",
    ast.Compare: "bool",
    ast.Dict: "dict",
    ast.DictComp: "dict",
    **dict.fromkeys((ast.List, ast.Tuple, ast.Set, ast.ListComp, ast.SetComp, ast.GeneratorExp), "list"),
}
_KINDS_OF_CALLS = {name: name for name in ("bool", "int", "float", "str", "list", "dict")} | dict.fromkeys(
    ("tuple", "set", "frozenset", "range", "sorted"), "list"
)


def accepts(annotation: ast.expr | None, value: Json) -> bool:
    """Return whether `value` has the type that `annotation` names; None accepts every value."""
    match annotation:
        case ast.Constant(value=None):
            return value is None
        case ast.Constant(value=str(text)):
            return accepts(_parsed(text), value)
        case ast.BinOp(op=ast.BitOr()):
            return accepts(annotation.left, value) or accepts(annotation.right, value)
        case ast.Subscript():
            argument = annotation.slice
            arguments = argument.elts if isinstance(argument, ast.Tuple) else [argument]
            return _generic_accepts(_name(annotation.value), arguments, value)
        case _:
            return _named_accepts(_name(annotation), value)


def type_of(default: ast.expr | None) -> ast.expr | None:
    """Return an annotation for the type of a default; None if any value may take its place, or it is not known."""
    kind = _kind(default)
    return ast.Name(kind) if kind else None


def _parsed(text: str) -> ast.expr | None:
    """Return an annotation that is written in quotes."""
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _name(node: ast.expr | None) -> str:
    """Return the last part of a dotted name."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _named_accepts(name: str, value: Json) -> bool:
    if name in {"bool", "str"}:
        return type(value).__name__ == name
    if name == "int":
        return _is_number(value) and isinstance(value, int)
    if name in _NUMBERS:
        return _is_number(value)
    if name in _LISTS:
        return _is_list(value)
    return isinstance(value, Mapping) if name in _MAPPINGS else True


def _generic_accepts(name: str, arguments: Sequence[ast.expr], value: Json) -> bool:
    if name in {"Optional", "Union"}:
        return (name == "Optional" and value is None) or any(accepts(each, value) for each in arguments)
    if name == "Literal":
        return any(_is_literal(each, value) for each in arguments)
    if name in _WRAPPERS:
        return accepts(arguments[0], value)
    if name in _LISTS:
        return isinstance(value, list | tuple) and _items_accept(name, arguments, value)
    if name in _MAPPINGS and len(arguments) == 2:
        key, item = arguments
        return isinstance(value, Mapping) and all(accepts(key, k) and accepts(item, v) for k, v in value.items())
    return _named_accepts(name, value)


def _items_accept(name: str, arguments: Sequence[ast.expr], values: Sequence[Json]) -> bool:
    is_open = isinstance(arguments[-1], ast.Constant) and arguments[-1].value is ... if arguments else False
    if name in {"tuple", "Tuple"} and not is_open:
        return len(values) == len(arguments) and all(map(accepts, arguments, values))
    return all(accepts(arguments[0], value) for value in values)


def _is_literal(node: ast.expr, value: Json) -> bool:
    try:
        literal = ast.literal_eval(node)
    except (ValueError, TypeError):
        return True
    return type(literal) is type(value) and bool(literal == value)


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_list(value: Json) -> bool:
    return isinstance(value, list | tuple)


def _kind(node: ast.expr | None) -> str | None:
    """Return the name of the type of an expression; None if it is not known."""
    match node:
        case ast.Constant(value=bool() | int() | float() | str() as constant):
            return type(constant).__name__
        case ast.UnaryOp(op=operator, operand=operand):
            return "bool" if isinstance(operator, ast.Not) else _kind(operand)
        case ast.BinOp():
            return _kind_of_operation(node.op, _kind(node.left), _kind(node.right))
        case ast.Call(func=ast.Name(id=name)):
            return _KINDS_OF_CALLS.get(name)
        case _:
            return _KINDS_OF_EXPRESSIONS.get(type(node))


def _kind_of_operation(operator: ast.operator, left: str | None, right: str | None) -> str | None:
    kinds = {left, right}
    if kinds <= {"int", "float"}:
        return "int" if kinds == {"int"} and not isinstance(operator, ast.Div | ast.Pow) else "float"
    if left == "str" and isinstance(operator, ast.Mod):
        return "str"
    if left == right and isinstance(operator, ast.Add):
        return left
    return None
