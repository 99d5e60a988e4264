"""Convert the file's text to plain values; if it is not valid YAML, stop at the first problem."""

from pathlib import Path

import yaml

from autoflow.parser.loader import BoundedLoader
from autoflow.parser.plain_values import PlainValues
from autoflow.parser.problems import Problems
from autoflow.parser.syntax import explain
from autoflow.parser.wording import show

MAX_FILE_BYTES = 256 * 1024
"""Larger files are refused: reading them would delay each tick by seconds."""

_KEYS = "a mapping with the keys 'workflows' and 'available_dates_sensor'"


def read_document(path: Path, problems: Problems) -> object:
    """Return the plain values of the file at `path`, and record their lines.

    Raises
    ------
    WorkflowsFileError
        If it cannot be read or is not valid YAML.

    """
    text = _read_text(path, problems)
    try:
        loader = BoundedLoader(text)
        node = loader.get_single_node()
        if node is None:
            raise problems.stop(f"the file is empty; expected {_KEYS}", line=1)
        if not isinstance(node, yaml.MappingNode):
            raise problems.stop(f"expected {_KEYS}", line=1)
        return PlainValues(loader, problems).value(node, ())
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise problems.stop(f"YAML does not allow the character {error.character:#04x}", line=line) from error
    except yaml.MarkedYAMLError as error:
        line, message = explain(error)
        raise problems.stop(message, line=line) from error
    except RecursionError as error:
        raise problems.stop("'<<' merges are nested too deeply") from error


def _read_text(path: Path, problems: Problems) -> str:
    try:
        if not path.is_file():
            raise problems.stop(_why_no_file(path))
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise problems.stop(f"cannot read the file: {error.strerror}") from error
    if len(content) > MAX_FILE_BYTES:
        raise problems.stop(f"the file is larger than {MAX_FILE_BYTES // 1024} KiB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise problems.stop("this is not UTF-8 text; save the file as UTF-8", line=line) from error


def _why_no_file(path: Path) -> str:
    if path.is_dir():
        return "this is a folder; expected a file"
    if path.exists():
        return "this is not a regular file"
    if path.is_symlink():
        return f"broken link to {show(str(path.readlink()))}"
    return f"no such file in {path.parent}"
