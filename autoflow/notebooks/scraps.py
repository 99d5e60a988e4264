"""Hints for errors of scrapbook, which do not say what it cannot store, or which scraps there are."""

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from autoflow.kernels.connection import SCRAP_TYPE

MOST_NAMES = 20
"""How many scraps a hint lists."""

LONGEST_NAME = 60
"""How much of the name of a scrap a hint repeats, in characters."""

_UNSTORABLE = re.compile(r"Scrap of type <class '([\w.]+)'> has no supported encoder")
_NOT_JSON = re.compile(r"Object of type '?([\w.]+)'? is not JSON serializable")
_NO_FRAME = re.compile(r"'([\w.]+)' object has no attribute 'to_parquet'")
_NOT_CONFORMING = re.compile(r"Scrap (payload )?\(name=(.*?)\) contents do not conform")
_MISSING = re.compile(r"'Scraps' object has no attribute '(.+)'|Scrap '(.+)' is not available in this notebook")
_WHOLE_SCRAP = re.compile(r"scraps\[[^\]]+\](?!\s*\.\s*(?:data|display|encoder|name)\b)")

_AS_ISO_TEXT = "value.isoformat()"
_AS_LIST = "value.tolist()"
_AS_TEXT = "str(value)"
_NOTHING = 'a text such as "none", or nothing'
_INSTEAD: Mapping[str, str] = {
    "numpy.ndarray": _AS_LIST,
    "numpy.datetime64": _AS_TEXT,
    "numpy.timedelta64": _AS_TEXT,
    "pandas.Series": _AS_LIST,
    "pandas.Index": _AS_LIST,
    "pandas.Timestamp": _AS_ISO_TEXT,
    "pandas.NAType": _NOTHING,
    "pandas.NaTType": _NOTHING,
    "pandas.DataFrame": 'it with encoder="pandas", or value.to_dict("records")',
    "datetime.date": _AS_ISO_TEXT,
    "datetime.datetime": _AS_ISO_TEXT,
    "datetime.time": _AS_ISO_TEXT,
    "decimal.Decimal": "float(value) or str(value)",
    "NoneType": _NOTHING,
    "set": "sorted(value)",
    "frozenset": "sorted(value)",
    "tuple": "list(value)",
    "range": "list(value)",
    "bytes": "value.decode()",
    "matplotlib.Figure": 'it with encoder="display"',
}
"""What to glue instead of a value, by its package and class."""

_WHOLE_NUMBER = "int(value) or value.item()"
_NUMPY_SCALARS = {"int": _WHOLE_NUMBER, "uint": _WHOLE_NUMBER, "float": "float(value) or value.item()"}
_ENCODERS = "scrapbook's encoders are 'json', 'text', 'pandas' and 'display'"


def scrap_hint(error_class: str, message: str, source: str, parameters: Mapping[str, Any]) -> str:
    """Return what an error of scrapbook means and what to do; empty if the error is about something else.

    `source` is that of the cell that failed. The notebooks whose scraps it can read are among the values of
    `parameters`, the notebook's own.
    """
    return _glue_hint(error_class, message, source) or _read_hint(error_class, message, source, parameters)


def _glue_hint(error_class: str, message: str, source: str) -> str:
    """Return the hint if a value could not be glued, or could not be read as it was glued."""
    unstorable = _UNSTORABLE.search(message) or ("glue" in source and _NOT_JSON.search(message))
    if unstorable:
        return f"scrapbook cannot store {unstorable[1]} as JSON; glue {_instead_of(unstorable[1])}"
    if "glue" in source and (found := _NO_FRAME.search(message)):
        return f"scrapbook's encoder 'pandas' stores only a DataFrame, not {found[1]}"
    if error_class == "ScrapbookMissingEncoder":
        return _ENCODERS
    if found := _NOT_CONFORMING.search(message):
        if found[1]:
            return f"{found[2]!r} was glued as None or NaN, which scrapbook cannot read; glue another value there"
        return f"scrapbook cannot store {found[2]!r} as JSON; a name is a text, a value a number, text, list or dict"
    return ""


def _instead_of(kind: str) -> str:
    """Return what to glue instead of a value of the class `kind`, such as "numpy.int64"."""
    package, name = kind.partition(".")[0], kind.rpartition(".")[2]
    if package == "numpy" and (found := re.fullmatch(r"(int|uint|float)\w*", name)):
        return _NUMPY_SCALARS[found[1]]
    if package == "numpy" and name in {"bool", "bool_"}:
        return "bool(value) or value.item()"
    return _INSTEAD.get(name if package == name else f"{package}.{name}", _AS_TEXT)


def _read_hint(error_class: str, message: str, source: str, parameters: Mapping[str, Any]) -> str:
    """Return the hint if the cell read a scrap that does not exist, or a scrap in a wrong way."""
    if "'Notebook' object is not subscriptable" in message:
        return 'the value of a scrap is notebook.scraps["name"].data'
    if "'Scrap' object" in message or ("tuple" in message and _WHOLE_SCRAP.search(source)):
        return "the value of a scrap is its .data"
    if found := _MISSING.search(message):
        return _names_hint(found[1] or found[2], parameters)
    if error_class == "KeyError":
        name = message.strip("'\"")
        lines = [line for line in source.splitlines() if name in line] or source.splitlines()
        is_of_scrap = any("scrap" in line.casefold() for line in lines)
        return _names_hint(name, parameters, must_be_near=not is_of_scrap)
    if "'NoneType' object has no attribute 'data'" in message and "scraps.get(" in source:
        return _names_hint(None, parameters)
    return ""


def _names_hint(name: str | None, parameters: Mapping[str, Any], *, must_be_near: bool = False) -> str:
    """Return which scraps the notebooks in `parameters` have, the nearest to `name` first."""
    hints = []
    for parameter, value in parameters.items():
        names = _scraps_of(value)
        if names is None or name in names:
            continue
        near = difflib.get_close_matches(name[:LONGEST_NAME], names, n=3) if name else []
        if must_be_near and not near:
            continue
        ordered = [*near, *(each for each in names if each not in near)]
        guess = f"; did you mean {near[0]!r}?" if near else ";"
        missing = f"{parameter} has no scrap {name[:LONGEST_NAME]!r}{guess} it" if name else parameter
        hints.append(f"{missing} has {_listed(ordered)}")
    return "; ".join(hints)


def _listed(names: list[str]) -> str:
    shown = ", ".join(repr(name[:LONGEST_NAME]) for name in names[:MOST_NAMES])
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f"the scraps {shown}{more}" if names else "no scraps"


def _scraps_of(path: Any) -> list[str] | None:
    """Return the names of the scraps in the notebook at `path`, in their order; None if there is no such notebook."""
    if not (isinstance(path, str) and path.endswith(".ipynb")):
        return None
    try:
        cells = json.loads(Path(path).read_text(encoding="utf-8"))["cells"]
        return list(dict.fromkeys(_scraps_in(cells)))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def _scraps_in(cells: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for output in (output for cell in cells for output in cell.get("outputs", ())):
        glued = [scrap for kind, scrap in output.get("data", {}).items() if kind.startswith(SCRAP_TYPE)]
        yield from (str(scrap["name"]) for scrap in glued)
        shown = output.get("metadata", {}).get("scrapbook", {})
        if not glued and "name" in shown:
            yield str(shown["name"])
