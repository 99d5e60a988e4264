"""Where settings come from. Each source returns values by the names of settings, or a `Problem` in place of a value.

Variables are docker secrets or environment variables; a blank one counts as not set.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from pydantic.fields import FieldInfo

from autoflow.settings.checks import Problem, absolute

MAX_CONFIG_BYTES = 256 * 1024
"""A larger config.toml is refused."""

CONFIG_FILE = "PREFECT__USER_CONFIG_PATH"
"""The variable that names the config.toml to read."""


_KEYS_OF_PREFECT = re.compile(
    r"(?:agent|cloud|context|engine|flows|server|tasks)\..+|backend|debug|home_dir"
    r"|logging\.(?:datefmt|extra_loggers|format|log_attributes|log_to_cloud)"
)
"""Keys that Prefect read from the same file before its version 2."""


@dataclass(frozen=True)
class ConfigKey:
    """The key of config.toml for a setting, and its value in a file without it."""

    name: str
    default: str

    @property
    def override(self) -> str:
        """The variable that overrides the key."""
        return "PREFECT__" + self.name.upper().replace(".", "__")


def config_keys(fields: Mapping[str, FieldInfo]) -> Iterator[tuple[ConfigKey, FieldInfo]]:
    """Yield the keys of config.toml, with the settings that they are for."""
    for field in fields.values():
        yield from ((each, field) for each in field.metadata if isinstance(each, ConfigKey))


def variables(fields: Mapping[str, FieldInfo], environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the values of the variables that have the names of settings."""
    names = [str(field.validation_alias) for field in fields.values()]
    return _present({name: _variable(name, environ) for name in names if name.isupper()})


def overrides(fields: Mapping[str, FieldInfo], environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the values of the variables that override keys of config.toml."""
    keys = config_keys(fields)
    return _present({str(field.validation_alias): _variable(key.override, environ) for key, field in keys})


def config_toml(
    fields: Mapping[str, FieldInfo], environ: Mapping[str, str], default_file: Path, *, known: Sequence[str]
) -> dict[str, Any]:
    """Return the values in config.toml, where `$NAME` stands for a variable; keys that are not `known` are mistakes."""
    keys = dict(config_keys(fields))
    given: Mapping[str, object] = {}
    try:
        given = _read(_variable(CONFIG_FILE, environ) or str(default_file))
        problem = _unknown_keys(given, known)
    except Problem as error:
        problem = error
    meanings = {str(field.validation_alias): str(field.description) for field in fields.values()}
    values: dict[str, Any] = {CONFIG_FILE: problem} if problem else {}
    for key, field in keys.items():
        try:
            text = _filled(given.get(key.name, key.default), key, environ, meanings, is_required=field.is_required())
            values[str(field.validation_alias)] = text or field.default
        except Problem as error:
            values[str(field.validation_alias)] = error
    return values


def _read(file: str | Problem) -> dict[str, object]:
    if isinstance(file, Problem):
        raise file
    try:
        with absolute(file).open("rb") as toml:
            content = toml.read(MAX_CONFIG_BYTES + 1)
        if len(content) <= MAX_CONFIG_BYTES:
            return dict(_flat(tomllib.loads(content.decode())))
    except RecursionError as error:
        raise Problem(f"{CONFIG_FILE}: {file} is nested too deeply") from error
    except OSError as error:
        raise Problem(f"{CONFIG_FILE}: cannot read {file}: {error.strerror}") from error
    except ValueError as error:
        raise Problem(f"{CONFIG_FILE}: {file} is not valid TOML: {error}") from error
    raise Problem(f"{CONFIG_FILE}: {file} is larger than {MAX_CONFIG_BYTES // 1024} KiB")


def _unknown_keys(given: Mapping[str, object], known: Sequence[str]) -> Problem | None:
    unknown = [name for name in sorted(given.keys() - set(known)) if not _KEYS_OF_PREFECT.fullmatch(name)]
    names = ", ".join(f"'{name}'" for name in unknown)
    return Problem(f"config.toml: unknown key {names}; the keys are {', '.join(known)}") if unknown else None


def _flat(tables: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield the values of nested tables with dotted keys."""
    for key, value in tables.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _filled(
    text: object, key: ConfigKey, environ: Mapping[str, str], meanings: Mapping[str, str], *, is_required: bool
) -> str:
    """Return `text` with variables filled in; empty if it need not be there, and is a variable that is not set."""
    if not isinstance(text, str):
        raise Problem(f"config.toml: {key.name}: '{text}' is not a string")
    template = Template(text)
    if not template.is_valid():
        raise Problem(f"config.toml: {key.name}: '$' must be followed by a name or by another '$'")
    if is_required and not text:
        raise Problem(f"config.toml: {key.name} is empty")
    values = {}
    for name in template.get_identifiers():
        value = _variable(name, environ)
        if isinstance(value, Problem):
            raise value
        if value is None and not is_required and text in {f"${name}", f"${{{name}}}"}:
            return ""
        if value is None:
            raise Problem(f"{name} is not set: {meanings.get(name, f'config.toml uses it for {key.name}')}")
        values[name] = value
    return template.substitute(values)


def read_token(file: Path) -> tuple[str, str]:
    """Return the token in a file, without what surrounds it, and an empty text; or the other way round, why not."""
    try:
        with file.open("rb") as opened:
            token = opened.read(MAX_CONFIG_BYTES).decode().strip()
    except OSError as error:
        return "", f"cannot read {file}: {error.strerror}"
    except UnicodeDecodeError:
        return "", f"{file} is not UTF-8 text"
    return token, "" if token else f"{file} is empty"


def _variable(name: str, environ: Mapping[str, str]) -> str | Problem | None:
    """Return the value of a variable; None where it is not set."""
    try:
        text = environ[name]
    except KeyError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        return Problem(f"{name}: cannot read the secret of this name: {reason}")
    return text if text.strip() else None


def _present(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
