"""The settings of AutoFlow, from the environment, docker secrets and config.toml: read once, at the start."""

import math
import os
import re
import ssl
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import SplitResult, quote, unquote, unquote_plus, urlsplit

from get_secret_or_env_var import environ as environ_with_secrets

from autoflow.errors import SettingsError

CONFIG_DIR = Path(__file__).resolve().parent.parent / "config"
"""AutoFlow's own config.toml and template."""

CONFIG_KEYS: Mapping[str, str] = {
    "flowapi_url": "$FLOWAPI_URL",
    "db_uri": "$AUTOFLOW_DB_URI",
    "asciidoc_template_path": "",
    "inputs.inputs_dir": "$AUTOFLOW_INPUTS_DIR",
    "outputs.notebooks_dir": "$AUTOFLOW_OUTPUTS_DIR/notebooks",
    "outputs.reports_dir": "$AUTOFLOW_OUTPUTS_DIR/reports",
    "logging.level": "$AUTOFLOW_LOG_LEVEL",
}
"""Every key of config.toml, and what it is where the file does not say."""

PRELOAD = ("pandas", "matplotlib.pyplot", "scrapbook", "flowclient")
"""What is imported for notebooks ahead of time, as far as it is installed."""

MAX_SECONDS = 366 * 24 * 3600
"""The longest time that can be set: a year."""

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

HIDDEN_FROM_KERNELS = frozenset(
    {
        "AUTOFLOW_DB_PASSWORD",
        "AUTOFLOW_DB_URI",
        "AUTOFLOW_NOTIFY_URLS",
        "PREFECT__DB_URI",
        "PREFECT_API_AUTH_STRING",
        "PREFECT_API_DATABASE_CONNECTION_URL",
        "PREFECT_API_KEY",
        "PREFECT_SERVER_API_AUTH_STRING",
        "PREFECT_SERVER_DATABASE_CONNECTION_URL",
    }
)
"""Names of environment variables that hold secrets which are not a notebook's business."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What AutoFlow is told from outside; folders are absolute, durations in seconds.

    `db_uri` holds the password of the database in its place. `prefect_api_url` is None where AutoFlow runs a Prefect
    server of its own, which listens on `prefect_host` and, unless `prefect_port` says otherwise, on 4200 or the next
    port that is free. `notify_urls` are Apprise's; `report_url_base` is where a web server shows the outputs folder.
    """

    inputs_dir: Path
    outputs_dir: Path
    notebooks_dir: Path
    reports_dir: Path
    log_level: str
    db_uri: str = field(repr=False)
    db_password: str | None = field(repr=False)
    flowapi_url: str
    flowapi_token: str = field(repr=False)
    flowapi_timeout: float
    ssl_certificate: Path | None
    asciidoc_template_path: Path
    max_parallel_runs: int
    max_runs_per_tick: int
    report_timeout: float
    shutdown_grace: float
    heartbeat_timeout: float
    forked_kernels: bool
    preload: tuple[str, ...]
    prefect_api_url: str | None
    prefect_home: Path
    prefect_host: str
    prefect_port: int | None
    notify_urls: tuple[str, ...] = field(repr=False)
    notify_after: float
    report_url_base: str | None
    environ: Mapping[str, str] = field(repr=False, compare=False)

    @property
    def workflows_file(self) -> Path:
        """The workflows.yml to run."""
        return self.inputs_dir / "workflows.yml"

    @property
    def written_folders(self) -> tuple[Path, ...]:
        """The folders that AutoFlow writes to, whose disks need room."""
        found = [self.outputs_dir, self.notebooks_dir, self.reports_dir, Path(self.environ.get("TMPDIR") or "/tmp")]  # noqa: S108 - nothing is written here
        if self.prefect_api_url is None:
            found.append(self.prefect_home)
        if self.db_uri.startswith("sqlite:///"):
            found.append(Path(self.db_uri.removeprefix("sqlite:///").partition("?")[0]).parent)
        return tuple(dict.fromkeys(found))

    @property
    def secrets(self) -> tuple[str, ...]:
        """Everything that must not be shown, newest token included; the longest first."""
        tokens = {self.flowapi_token, self.current_flowapi_token()}
        found = {*tokens, *map(_signature, tokens), self.db_password or "", *_passwords(self.db_uri)}
        found |= {self._value(name) or "" for name in ("PREFECT_API_KEY", "PREFECT_API_AUTH_STRING")}
        found |= {secret for url in self.notify_urls for secret in (url, *_passwords(url))}
        return tuple(sorted(found - {""}, key=len, reverse=True))

    def address_of(self, output: Path) -> str:
        """Return where people find an output: its URL if AutoFlow knows it, or else its path."""
        if self.report_url_base is None or not output.is_relative_to(self.outputs_dir):
            return str(output)
        return f"{self.report_url_base}/{quote(output.relative_to(self.outputs_dir).as_posix())}"

    def current_flowapi_token(self) -> str:
        """Return the token for FlowAPI as it is now: a docker secret may have been replaced since the start."""
        return (self._value("FLOWAPI_TOKEN") or "").strip() or self.flowapi_token

    @property
    def kernel_environ(self) -> dict[str, str]:
        """The environment that notebooks run in: AutoFlow's own less the secrets that are not theirs."""
        values = {name: self._value(name) for name in self.environ if name not in HIDDEN_FROM_KERNELS}
        names = {name: value for name, value in values.items() if value is not None}
        if self.ssl_certificate:
            # So that flowclient, in a notebook, trusts FlowAPI's certificate without being told.
            names.setdefault("SSL_CERT_FILE", str(self.ssl_certificate))
        return names | {"FLOWAPI_URL": self.flowapi_url, "FLOWAPI_TOKEN": self.current_flowapi_token()}

    def _value(self, name: str) -> str | None:
        """Return a variable or secret as it is now; None where it is not set, or is just being replaced."""
        try:
            return self.environ[name]
        except (KeyError, OSError, UnicodeDecodeError):
            return None

    @classmethod
    def read(cls, environ: Mapping[str, str] = environ_with_secrets) -> "Settings":
        """Read the settings from `environ`, which may look for names among docker secrets first.

        Raises
        ------
        SettingsError
            With a line for everything that is missing or wrong.

        """
        reader = _Reader(environ)
        settings = _read(reader)
        if reader.problems:
            raise SettingsError(tuple(dict.fromkeys(reader.problems)))
        return cls(**settings)


def _read(reader: "_Reader") -> dict[str, Any]:
    """Read every setting; values are of no use where `reader` has found problems."""
    config = reader.config()
    notebooks_dir = reader.uri_folder("outputs.notebooks_dir", config["outputs.notebooks_dir"])
    outputs_dir = reader.uri_folder(
        "AUTOFLOW_OUTPUTS_DIR", reader.text("AUTOFLOW_OUTPUTS_DIR") or str(notebooks_dir.parent)
    )
    password = reader.text("AUTOFLOW_DB_PASSWORD")
    home = reader.text("PREFECT_HOME")
    return {
        "inputs_dir": reader.inputs_folder(config["inputs.inputs_dir"]),
        "outputs_dir": outputs_dir,
        "notebooks_dir": notebooks_dir,
        "reports_dir": reader.folder("outputs.reports_dir", config["outputs.reports_dir"]),
        "log_level": reader.log_level(config["logging.level"]),
        "db_uri": reader.db_uri(config["db_uri"], password) or f"sqlite:///{outputs_dir / 'autoflow.db'}",
        "db_password": password or None,
        "flowapi_url": reader.flowapi_url(config["flowapi_url"]),
        "flowapi_token": reader.required("FLOWAPI_TOKEN", "the access token for FlowAPI").strip(),
        "flowapi_timeout": reader.number("AUTOFLOW_FLOWAPI_TIMEOUT", 60.0, above=0),
        "ssl_certificate": reader.certificate("SSL_CERTIFICATE_FILE"),
        "asciidoc_template_path": reader.file("asciidoc_template_path", config["asciidoc_template_path"])
        or CONFIG_DIR / "asciidoc_extended.tpl",
        "max_parallel_runs": reader.whole_number("AUTOFLOW_MAX_PARALLEL_RUNS", len(os.sched_getaffinity(0))),
        "max_runs_per_tick": reader.whole_number("AUTOFLOW_MAX_RUNS_PER_TICK", 100),
        "report_timeout": reader.number("AUTOFLOW_REPORT_TIMEOUT", 300.0, above=0),
        "heartbeat_timeout": reader.number("AUTOFLOW_HEARTBEAT_TIMEOUT", 60.0, at_least=3),
        "forked_kernels": reader.switch("AUTOFLOW_FORKED_KERNELS", default=True),
        "preload": reader.modules("AUTOFLOW_PRELOAD", PRELOAD),
        "shutdown_grace": reader.number("AUTOFLOW_SHUTDOWN_GRACE", 5.0, at_least=0),
        "prefect_api_url": reader.web_address("PREFECT_API_URL", "http://prefect.example.org:4200/api"),
        "prefect_home": reader.uri_folder("PREFECT_HOME", home)
        if home
        else reader.folder("PREFECT_HOME", str(outputs_dir / "prefect")),
        "prefect_host": reader.text("PREFECT_SERVER_API_HOST") or "127.0.0.1",
        "prefect_port": reader.port("PREFECT_SERVER_API_PORT"),
        "notify_urls": reader.notify_urls("AUTOFLOW_NOTIFY_URLS"),
        "notify_after": reader.number("AUTOFLOW_NOTIFY_AFTER", 3600.0, at_least=0),
        "report_url_base": reader.web_address("AUTOFLOW_REPORT_URL_BASE", "https://reports.example.org/autoflow"),
        "environ": reader.environ,
    }


class _Reader:
    """Reads one setting at a time and collects what is wrong; what it returns then only has the right type."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.problems: list[str] = []

    def text(self, name: str) -> str:
        """Return the value of a variable or secret; empty where it is not set."""
        try:
            return self.environ[name]
        except KeyError:
            return ""
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            self.problems.append(f"{name}: the secret of that name cannot be read: {reason}")
            return "unreadable"

    def required(self, name: str, meaning: str) -> str:
        value = self.text(name)
        if not value.strip():
            self.problems.append(f"{name} is not set: {meaning}")
        return value

    def number(self, name: str, default: float, *, above: float = -math.inf, at_least: float = -math.inf) -> float:
        text = self.text(name)
        try:
            number = float(text) if text else default
        except ValueError:
            number = math.nan
        if not (number > above and at_least <= number <= MAX_SECONDS):
            lowest = f"above {above:g} and up to" if above > -math.inf else f"from {at_least:g} to"
            self.problems.append(f"{name}: '{text}' is not a number of seconds {lowest} {MAX_SECONDS}")
        return number

    def whole_number(self, name: str, default: int, *, highest: int = 1_000_000) -> int:
        text = self.text(name)
        if not text:
            return default
        if not (text.isascii() and text.isdigit() and len(text) <= len(str(highest)) and 1 <= int(text) <= highest):
            self.problems.append(f"{name}: '{text}' is not a whole number from 1 to {highest}")
            return default
        return int(text)

    def switch(self, name: str, *, default: bool) -> bool:
        text = self.text(name).lower()
        if text not in {"", "true", "false"}:
            self.problems.append(f"{name}: '{text}' is neither true nor false")
        return text == "true" if text else default

    def modules(self, name: str, default: tuple[str, ...]) -> tuple[str, ...]:
        """Return the dotted names of Python modules, which stand with commas or spaces between them."""
        modules = tuple(self.text(name).replace(",", " ").split())
        for module in modules:
            if not all(part.isidentifier() for part in module.split(".")):
                self.problems.append(f"{name}: '{module}' is not the name of a Python module")
        return modules or default

    def port(self, name: str) -> int | None:
        return self.whole_number(name, 0, highest=65535) or None

    def path(self, name: str, value: str) -> Path:
        """Return an absolute path; `~` is the home folder."""
        try:
            return Path(value).expanduser().absolute()
        except RuntimeError:
            self.problems.append(f"{name}: there is no home folder for '{Path(value).parts[0]}'")
            return Path("/")

    def folder(self, name: str, value: str) -> Path:
        """Return a folder that AutoFlow writes to, which need not be there yet."""
        path = self.path(name, value)
        existing = next((parent for parent in (path, *path.parents) if _holds(parent.exists)), path)
        if value and not _holds(existing.is_dir):
            self.problems.append(f"{name}: {existing} is not a folder")
        elif value and not os.access(existing, os.W_OK | os.X_OK):
            self.problems.append(
                f"the outputs folder {existing} cannot be written by this user: run `chown {os.getuid()} {existing}`, "
                "or start AutoFlow as its owner (docker run --user)"
            )
        return path

    def uri_folder(self, name: str, value: str) -> Path:
        """Return a folder whose path is read as a URI: by SQLAlchemy that of a database, by scrapbook a notebook's."""
        path = self.folder(name, value)
        for folder in (*reversed(path.parents), path):
            if odd := re.search("[?#]", folder.name):
                self.problems.append(
                    f"the folder {folder} has a '{odd[0]}' in its name, where the path would end for SQLite or "
                    "scrapbook: rename it, or choose another"
                )
        return path

    def inputs_folder(self, value: str) -> Path:
        path = self.path("AUTOFLOW_INPUTS_DIR", value)
        if value and not _holds(path.is_dir):
            self.problems.append(f"AUTOFLOW_INPUTS_DIR: {path} is not a folder")
        elif value and not _holds((path / "workflows.yml").exists):
            self.problems.append(
                f"AUTOFLOW_INPUTS_DIR: there is no workflows.yml in {path}: put one there or, in a container, mount "
                "the folder that has it: -v FOLDER:/mounts/inputs:ro"
            )
        return path

    def file(self, name: str, value: str) -> Path | None:
        path = self.path(name, value) if value else None
        if path and not _holds(path.is_file):
            self.problems.append(f"{name}: there is no file {path}")
        return path

    def certificate(self, name: str) -> Path | None:
        path = self.file(name, self.text(name))
        try:
            if path and path.is_file():
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
        except OSError as error:
            reason = "no certificate in PEM form" if isinstance(error, ssl.SSLError) else error.strerror
            self.problems.append(f"{name}: {path} cannot be used: {reason}")
        return path

    def log_level(self, value: str) -> str:
        if value and value not in LOG_LEVELS:
            self.problems.append(f"AUTOFLOW_LOG_LEVEL: '{value}' is not one of {', '.join(LOG_LEVELS)} (in upper case)")
        return value or "INFO"

    def flowapi_url(self, value: str) -> str:
        parts = _web_address(value)
        if value and parts is None:
            self.problems.append("FLOWAPI_URL: it is not a URL such as https://flowapi.example.org:9090")
        if parts and "@" in parts.netloc:
            self.problems.append("FLOWAPI_URL: no user and password go into it, FLOWAPI_TOKEN is enough")
        return value.rstrip("/")

    def web_address(self, name: str, example: str) -> str | None:
        value = self.text(name)
        if value and _web_address(value) is None:
            self.problems.append(f"{name}: it is not a URL such as {example}")
        return value.rstrip("/") or None

    def notify_urls(self, name: str) -> tuple[str, ...]:
        """Return URLs with spaces, commas or ends of lines between them; a comma may be part of one, too."""
        urls = tuple(url for url in re.split(r"\s+|,\s*(?=[A-Za-z][\w.+-]*://)", self.text(name)) if url.strip(","))
        if wrong := [number for number, url in enumerate(urls, 1) if "://" not in url]:
            # Without the URL, which is a secret.
            self.problems.append(f"{name}: number {wrong[0]} is not a URL such as mailto://user:password@example.org")
        return urls

    def db_uri(self, value: str, password: str) -> str:
        """Return the URI with the password in its place, quoted, so that it may hold any character."""
        if "{}" in value and not password:
            self.problems.append("AUTOFLOW_DB_PASSWORD is not set: AUTOFLOW_DB_URI has '{}' in the place of a password")
        if value and "://" not in value:
            self.problems.append("AUTOFLOW_DB_URI: it is not a URI such as postgresql://user:{}@host:5432/autoflow")
        elif value and value.partition("://")[2].partition("/")[0].count("@") > 1:
            self.problems.append(
                "AUTOFLOW_DB_URI: an '@' that belongs to its password has to be written %40; or write {} there, and "
                "put the password as it is into AUTOFLOW_DB_PASSWORD"
            )
        return value.replace("{}", quote(password, safe=""))

    def config(self) -> dict[str, str]:
        """Return the value of every key of config.toml, environment filled in and overrides applied."""
        given = self._config_file()
        for key in sorted(given.keys() - CONFIG_KEYS.keys()):
            self.problems.append(f"config.toml: unknown key '{key}'; known are {', '.join(CONFIG_KEYS)}")
        for key in given.keys() & CONFIG_KEYS.keys():
            if given[key] == "" and CONFIG_KEYS[key] not in {"", "$AUTOFLOW_DB_URI", "$AUTOFLOW_LOG_LEVEL"}:
                self.problems.append(f"config.toml: {key} is empty")
        return {key: self._config_value(key, given) for key in CONFIG_KEYS}

    def _config_file(self) -> dict[str, object]:
        name = "PREFECT__USER_CONFIG_PATH"
        path = self.path(name, self.text(name) or str(CONFIG_DIR / "config.toml"))
        try:
            tables = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            self.problems.append(f"PREFECT__USER_CONFIG_PATH: {path} cannot be read: {error.strerror}")
            return {}
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            self.problems.append(f"PREFECT__USER_CONFIG_PATH: {path} is not TOML: {error}")
            return {}
        return _flat(tables)

    def _config_value(self, key: str, given: Mapping[str, object]) -> str:
        override = self.text("PREFECT__" + key.upper().replace(".", "__"))
        if override:
            return override
        value = given.get(key, CONFIG_KEYS[key])
        if not isinstance(value, str):
            self.problems.append(f"config.toml: {key}: '{value}' is not a text")
            return ""
        return self._filled(key, value)

    def _filled(self, key: str, text: str) -> str:
        """Return `text` with the environment filled in, or empty where a name in it is not set."""
        template = Template(text)
        if not template.is_valid():
            self.problems.append(f"config.toml: {key}: a '$' is neither followed by a name nor by another '$'")
            return ""
        values = {name: self.text(name) for name in template.get_identifiers()}
        unset = [name for name, value in values.items() if not value]
        for name in unset:
            if meaning := _REQUIRED_NAMES.get(name):
                self.problems.append(f"{name} is not set: {meaning}")
            elif text not in {f"${name}", f"${{{name}}}"}:
                self.problems.append(f"{name} is not set: config.toml names it for {key}")
        return "" if unset else template.substitute(values)


_SHORTEST_SIGNATURE = 16
"""Shorter ones are none of a JSON web token, in characters."""

_REQUIRED_NAMES: Mapping[str, str] = {
    "AUTOFLOW_INPUTS_DIR": "the folder with workflows.yml and the notebooks",
    "AUTOFLOW_OUTPUTS_DIR": "the folder for executed notebooks and reports",
    "FLOWAPI_URL": "the address of FlowAPI, such as https://flowapi.example.org:9090",
}


def _holds(check: Callable[[], bool]) -> bool:
    """Tell whether `check` of a path holds; of one that is too long, or behind a closed folder, nothing does."""
    try:
        return check()
    except OSError:
        return False


def _web_address(value: str) -> SplitResult | None:
    """Return the parts of a URL for HTTP; None if it is not one."""
    try:
        parts = urlsplit(value)
        is_url = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    return parts if is_url else None


def _signature(token: str) -> str:
    """Return the part of a JSON web token without which the rest of it is worth nothing; empty if it has none."""
    parts = token.split(".")
    return parts[2] if len(parts) == 3 and len(parts[2]) >= _SHORTEST_SIGNATURE else ""


def _passwords(uri: str) -> Iterator[str]:
    """Yield the passwords in `uri`, as they are written and as they are meant.

    Where there is more than one '@', libraries differ on which of them ends the password: each is taken for it.
    """
    user, _, rest = uri.partition("://")[2].partition(":")
    found = [rest[: at.start()] for at in re.finditer("@", rest) if "/" not in user]
    found += re.findall(r"[?&]\w*password=([^&#]*)", uri)
    for password in found:
        yield from (password, unquote(password), unquote_plus(password))


def _flat(tables: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    """Return the values of nested tables under dotted keys."""
    values: dict[str, object] = {}
    for key, value in tables.items():
        if isinstance(value, Mapping):
            values |= _flat(value, f"{prefix}{key}.")
        else:
            values[prefix + key] = value
    return values
