"""The settings of AutoFlow, from docker secrets, the environment and config.toml: read once, at the start."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import quote, unquote, unquote_plus

from get_secret_or_env_var import environ as environ_with_secrets
from pydantic import Field, PrivateAttr, SecretStr, SkipValidation, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from autoflow.errors import SettingsError
from autoflow.settings import checks
from autoflow.settings.checks import Problem, seconds, web_address, whole_number
from autoflow.settings.sources import (
    CONFIG_FILE,
    ConfigKey,
    config_keys,
    config_toml,
    overrides,
    read_token,
    variables,
)
from autoflow.utils import cell_anchor, readable_path

CONFIG_DIR = Path(__file__).resolve().parents[2] / "config"
"""AutoFlow's own config.toml, template and stylesheets."""

PRELOAD = ("pandas", "matplotlib.pyplot", "scrapbook", "flowclient")
"""The modules that are preloaded for notebooks, where they are installed."""

OWN_SECRETS = frozenset(
    {"AUTOFLOW_DASK_CERT", "AUTOFLOW_DB_PASSWORD", "AUTOFLOW_DB_URI", "AUTOFLOW_NOTIFY_URLS", "PREFECT__DB_URI"}
)
"""Environment variables with secrets that only AutoFlow itself needs."""

PREFECT_SECRETS = frozenset(
    {
        "PREFECT_API_AUTH_STRING",
        "PREFECT_API_DATABASE_CONNECTION_URL",
        "PREFECT_API_KEY",
        "PREFECT_SERVER_API_AUTH_STRING",
        "PREFECT_SERVER_DATABASE_CONNECTION_URL",
    }
)
"""Environment variables with secrets for Prefect."""

UNNAMED = ""
"""The name under which URLs for messages are that have none."""

HIDDEN_FROM_KERNELS = OWN_SECRETS | PREFECT_SECRETS
"""Environment variables with secrets that notebooks do not need."""


def _named(name: str, description: str, default: Any = ..., **options: Any) -> Any:
    """Declare a setting, its name for operators, and what it means; without a default, it has to be set."""
    if "default_factory" not in options:
        options["default"] = default
    return Field(validation_alias=name, description=description, **options)


class SchedulerSettings(BaseSettings):
    """The settings that the scheduler of a cluster needs, which every service has; durations are in seconds.

    Each is looked for under its name: a variable or, where it is only in config.toml, a key. Descriptions are for the
    documentation, and for the messages about settings that are missing. `environ` is what the settings were read from.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore", validate_default=False, hide_input_in_errors=True)

    config_file: checks.AbsolutePath = _named(CONFIG_FILE, "a TOML file with settings", CONFIG_DIR / "config.toml")
    log_level: Annotated[checks.LogLevel, ConfigKey("logging.level", "$AUTOFLOW_LOG_LEVEL")] = _named(
        "AUTOFLOW_LOG_LEVEL", "the lowest level that is logged", "INFO"
    )
    log_format: checks.LogFormat = _named("AUTOFLOW_LOG_FORMAT", "how lines are logged: as text or as json", "text")
    heartbeat_timeout: Annotated[float, seconds(at_least=3)] = _named(
        "AUTOFLOW_HEARTBEAT_TIMEOUT",
        "how long after its last heartbeat a run has crashed; the same for all daemons",
        60.0,
    )
    dask_scheduler: checks.SchedulerAddress | None = _named(
        "AUTOFLOW_DASK_SCHEDULER", "the address of the Dask scheduler; without it, notebooks run on this machine", None
    )
    dask_ca: checks.Pem | None = _named(
        "AUTOFLOW_DASK_CA", "the certificate of the CA of the cluster, as PEM or the path of a PEM file", None
    )
    dask_cert: checks.SecretPem | None = _named(
        "AUTOFLOW_DASK_CERT",
        "the certificate and the key of this service of the cluster, as PEM or the path of a PEM file",
        None,
    )
    environ: SkipValidation[Mapping[str, str]] = Field(repr=False, exclude=True)

    @classmethod
    def read(cls, environ: Mapping[str, str] = environ_with_secrets) -> Self:
        """Read the settings from `environ`, which may look for names among docker secrets first.

        Raises
        ------
        SettingsError
            With a line for each setting that is missing or wrong.

        """
        values: dict[str, Any] = {"environ": environ}
        try:
            return cls(**values)
        except ValidationError as error:
            lines = [_line(each) for each in error.errors() if each["type"] != "default_factory_not_called"]
            # Suppress the original error, which contains the values.
            raise SettingsError(tuple(dict.fromkeys(lines))) from None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - it reads the environment of the process alone
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - there is no such file
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - docker secrets are among the variables
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return where settings are looked for, in this order."""
        fields, environ = settings_cls.model_fields, init_settings()["environ"]
        found = (
            overrides(fields, environ),
            config_toml(fields, environ, CONFIG_DIR / "config.toml", known=list(CONFIG_KEYS)),
            variables(fields, environ),
        )
        return init_settings, *(InitSettingsSource(settings_cls, values) for values in found)

    @field_validator("*", mode="before")
    @classmethod
    def _raise_problem(cls, value: object) -> object:
        if isinstance(value, Problem):
            raise value
        return value

    @property
    def secrets(self) -> tuple[str, ...]:
        """All texts that must not be shown; the longest first."""
        return tuple(sorted(self._secrets() - {""}, key=len, reverse=True))

    def _secrets(self) -> set[str]:
        lines = self.dask_cert.get_secret_value().splitlines() if self.dask_cert else []
        return {line for line in lines if len(line) >= _SHORTEST_SIGNATURE}

    def _current(self, name: str) -> str | None:
        """Return a variable or secret as it is now; None where it is not set, or is just being replaced."""
        try:
            return self.environ[name]
        except (KeyError, OSError, UnicodeDecodeError):
            return None


class Settings(SchedulerSettings):
    """AutoFlow's settings; paths are absolute, and durations are in seconds."""

    inputs_dir: Annotated[checks.InputsFolder, ConfigKey("inputs.inputs_dir", "$AUTOFLOW_INPUTS_DIR")] = _named(
        "AUTOFLOW_INPUTS_DIR", "the folder with workflows.yml and the notebooks"
    )
    notebooks_dir: Annotated[
        checks.FolderInUri, ConfigKey("outputs.notebooks_dir", "$AUTOFLOW_OUTPUTS_DIR/notebooks")
    ] = _named("outputs.notebooks_dir", "the folder for executed notebooks")
    reports_dir: Annotated[checks.Folder, ConfigKey("outputs.reports_dir", "$AUTOFLOW_OUTPUTS_DIR/reports")] = _named(
        "outputs.reports_dir", "the folder for reports"
    )
    outputs_dir: checks.FolderInUri = _named(
        "AUTOFLOW_OUTPUTS_DIR",
        "the folder for executed notebooks, reports and AutoFlow's own databases",
        default_factory=lambda settings: settings["notebooks_dir"].parent,
        validate_default=True,
    )
    flowapi_url: Annotated[checks.FlowApiUrl, ConfigKey("flowapi_url", "$FLOWAPI_URL")] = _named(
        "FLOWAPI_URL", "the address of FlowAPI, such as https://flowapi.example.org:9090"
    )
    token_file: checks.AbsolutePath | None = _named("FLOWAPI_TOKEN_FILE", "a file with the access token", None)
    flowapi_token: checks.Token = _named("FLOWAPI_TOKEN", "the access token for FlowAPI", "", validate_default=True)
    flowapi_timeout: Annotated[float, seconds(above=0)] = _named(
        "AUTOFLOW_FLOWAPI_TIMEOUT", "how long FlowAPI may take to answer", 60.0
    )
    ssl_certificate: checks.Certificate | None = _named(
        "SSL_CERTIFICATE_FILE", "the certificate to trust, for a FlowAPI behind a private one", None
    )
    db_password: SecretStr | None = _named("AUTOFLOW_DB_PASSWORD", "the password for the database of runs", None)
    database: Annotated[checks.DatabaseUri | None, checks.SuitsCluster, ConfigKey("db_uri", "$AUTOFLOW_DB_URI")] = (
        _named(
            "AUTOFLOW_DB_URI",
            "the database of runs, SQLite or PostgreSQL; '{}' stands for the password",
            None,
            validate_default=True,
        )
    )
    max_parallel_runs: Annotated[int, whole_number(highest=1_000_000)] = _named(
        "AUTOFLOW_MAX_PARALLEL_RUNS",
        "how many runs are executed at the same time",
        default_factory=lambda: len(os.sched_getaffinity(0)),
    )
    max_runs_per_tick: str | None = _named(
        "AUTOFLOW_MAX_RUNS_PER_TICK", "ignored, because a tick no longer waits for runs; remove it", None
    )
    notebook_timeout: Annotated[float, seconds(above=0)] = _named(
        "AUTOFLOW_NOTEBOOK_TIMEOUT", "how long a notebook may run if workflows.yml does not say so", 21600.0
    )
    report_timeout: Annotated[float, seconds(above=0)] = _named(
        "AUTOFLOW_REPORT_TIMEOUT", "how long the conversion of a report may take", 300.0
    )
    shutdown_grace: Annotated[float, seconds(at_least=0)] = _named(
        "AUTOFLOW_SHUTDOWN_GRACE", "how long runs may continue after SIGTERM", 5.0
    )
    worker_slots: Annotated[int, whole_number(highest=10_000)] = _named(
        "AUTOFLOW_WORKER_SLOTS",
        "how many notebooks a worker of a cluster executes at the same time",
        default_factory=lambda: len(os.sched_getaffinity(0)),
    )
    worker_port: Annotated[int, whole_number(highest=checks.HIGHEST_PORT)] | None = _named(
        "AUTOFLOW_WORKER_PORT", "the port on which a worker of a cluster listens; without it, a free one", None
    )
    forked_kernels: checks.Switch = _named(
        "AUTOFLOW_FORKED_KERNELS", "whether kernels are forked from a process that has preloaded modules", True
    )
    preload: checks.Modules = _named("AUTOFLOW_PRELOAD", "the modules to preload, separated by commas", PRELOAD)
    keep_notebooks: Annotated[int, whole_number(highest=checks.MOST_DAYS_KEPT)] | None = _named(
        "AUTOFLOW_KEEP_NOTEBOOKS",
        "how many days executed notebooks are kept if workflows.yml does not say so; without it, forever",
        None,
    )
    keep_reports: Annotated[int, whole_number(highest=checks.MOST_DAYS_KEPT)] | None = _named(
        "AUTOFLOW_KEEP_REPORTS",
        "how many days reports are kept if workflows.yml does not say so; without it, forever",
        None,
    )
    notify_urls: checks.SecretUrls = _named(
        "AUTOFLOW_NOTIFY_URLS", "where messages are sent: Apprise's URLs, with or without names", ()
    )
    notify_after: Annotated[float, seconds(at_least=0)] = _named(
        "AUTOFLOW_NOTIFY_AFTER", "how long FlowAPI has to fail before it needs attention", 3600.0
    )
    report_url_base: Annotated[str, web_address("https://reports.example.org/autoflow")] | None = _named(
        "AUTOFLOW_REPORT_URL_BASE", "the address at which a web server shows the outputs folder", None
    )
    asciidoc_template_path: Annotated[checks.File, ConfigKey("asciidoc_template_path", "")] = _named(
        "asciidoc_template_path",
        "the asciidoc template for reports that do not name their own",
        CONFIG_DIR / "asciidoc_extended.tpl",
    )
    prefect_api_url: Annotated[str, web_address("http://prefect.example.org:4200/api")] | None = _named(
        "PREFECT_API_URL", "the Prefect API to use; without it, AutoFlow runs a Prefect server of its own", None
    )
    prefect_home: checks.FolderInUri = _named(
        "PREFECT_HOME",
        "the folder for the database of AutoFlow's Prefect server",
        default_factory=lambda settings: settings["outputs_dir"] / "prefect",
    )
    prefect_host: str = _named(
        "PREFECT_SERVER_API_HOST", "the address on which AutoFlow's Prefect server listens", "127.0.0.1"
    )
    prefect_port: Annotated[int, whole_number(highest=checks.HIGHEST_PORT)] | None = _named(
        "PREFECT_SERVER_API_PORT", "its port; without it, 4200 or the next one that is free", None
    )
    ui_hosts: checks.HostNames = _named(
        "AUTOFLOW_UI_HOSTS",
        "the host names under which Prefect's UI is published, beside those of this machine",
        (),
    )
    metrics_port: Annotated[int, whole_number(highest=65535)] | None = _named(
        "AUTOFLOW_METRICS_PORT", "the port for metrics of Prometheus; without it, there are none", None
    )
    metrics_host: str = _named("AUTOFLOW_METRICS_HOST", "the address on which metrics are served", "127.0.0.1")
    # Later, AutoFlow adds variables for Prefect to its own environment. Kernels must not get them: a kernel is forked
    # only if its environment is that of the warm process.
    _variables: Mapping[str, str] = PrivateAttr()
    # All tokens so far, the newest last.
    _tokens: tuple[str, ...] = PrivateAttr(default=())

    def model_post_init(self, _context: object) -> None:
        """Keep the variables for kernels as they are at the start."""
        values = {name: self._current(name) for name in self.environ if name not in HIDDEN_FROM_KERNELS}
        self._variables = {name: value for name, value in values.items() if value is not None}

    @field_validator("flowapi_token")
    @classmethod
    def _require_token(cls, token: SecretStr, info: ValidationInfo) -> SecretStr:
        if not token.get_secret_value() and info.data.get("token_file") is None:
            field = cls.model_fields["flowapi_token"]
            raise Problem(f"{field.validation_alias} is not set: {field.description}")
        return token

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
    def given_parallel_runs(self) -> int | None:
        """How many runs are executed at the same time if that is set; None if not."""
        return self.max_parallel_runs if "max_parallel_runs" in self.model_fields_set else None

    @property
    def db_uri(self) -> str:
        """The URI of the database of runs, with its password."""
        if self.database is None:
            return f"sqlite:///{self.outputs_dir / 'autoflow.db'}"
        password = self.db_password.get_secret_value() if self.db_password else ""
        # Quoted, so that it may hold any character.
        return self.database.get_secret_value().replace("{}", quote(password, safe=""))

    def _secrets(self) -> set[str]:
        """Return all texts that must not be shown, including the current token."""
        tokens = {self.flowapi_token.get_secret_value(), self.current_flowapi_token(), *self._tokens}
        found = {*super()._secrets(), *tokens, *map(_signature, tokens), *_passwords(self.db_uri)}
        found |= {self.db_password.get_secret_value()} if self.db_password else set()
        for name in PREFECT_SECRETS:
            found |= secrets_in(self._current(name) or "")
        for urls in self.recipients.values():
            found |= {secret for url in urls for secret in secrets_in(url.get_secret_value())}
        return found

    @property
    def recipients(self) -> Mapping[str, Sequence[SecretStr]]:
        """The URLs to which messages are sent, by the name of the recipient; those without a name under `UNNAMED`."""
        found: dict[str, list[SecretStr]] = {}
        for given in self.notify_urls:
            name, url = checks.name_and_url(given.get_secret_value())
            found.setdefault(name, []).append(SecretStr(url))
        return found

    @property
    def kernel_environ(self) -> dict[str, str]:
        """The environment of notebooks: AutoFlow's own at the start, without its secrets, and the newest token."""
        names = dict(self._variables)
        if self.ssl_certificate:
            # So that flowclient trusts FlowAPI's certificate in a notebook, too.
            names.setdefault("SSL_CERT_FILE", str(self.ssl_certificate))
        # While its file is being replaced, the last token.
        token = self.current_flowapi_token() or "".join(self._tokens[-1:])
        return names | {"FLOWAPI_URL": self.flowapi_url, "FLOWAPI_TOKEN": token}

    def values_of(self, names: Iterable[str]) -> dict[str, str]:
        """Return the variables or secrets with these names that are set, as they are now."""
        values = {name: self._current(name) for name in names}
        return {name: value for name, value in values.items() if value}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the operator should know about settings that have no effect, a line for each."""
        field = type(self).model_fields["max_runs_per_tick"]
        found = [] if self.max_runs_per_tick is None else [f"{field.validation_alias} is {field.description}"]
        if self.token_file and self.flowapi_token.get_secret_value():
            found.append("FLOWAPI_TOKEN is ignored, because FLOWAPI_TOKEN_FILE is set; remove one of them")
        return tuple(found)

    def address_of(self, output: Path) -> str:
        """Return where readers find an output: its URL if AutoFlow knows it, or else its path."""
        if self.report_url_base is None or not output.is_relative_to(self.outputs_dir):
            return str(output)
        return f"{self.report_url_base}/{quote(output.relative_to(self.outputs_dir).as_posix())}"

    def address_of_cell(self, notebook: Path, cell: int) -> str:
        """Return where readers find a cell of an executed notebook: in its copy as HTML, which may not exist yet."""
        return self.address_of(readable_path(notebook)) + cell_anchor(cell)

    def current_flowapi_token(self) -> str:
        """Return the token for FlowAPI as it is now: its file or secret may have been replaced since the start.

        It is empty if `token_problem` says why.
        """
        if self.token_file:
            token = read_token(self.token_file)[0]
        else:
            token = (self._current("FLOWAPI_TOKEN") or "").strip() or self.flowapi_token.get_secret_value()
        if token and self._tokens[-1:] != (token,):
            self._tokens = (*(each for each in self._tokens if each != token), token)
        return token

    @property
    def token_problem(self) -> str | None:
        """What is wrong with FLOWAPI_TOKEN_FILE now; None if it has a token, or is not used."""
        problem = read_token(self.token_file)[1] if self.token_file else ""
        return f"FLOWAPI_TOKEN_FILE: {problem}; get a token from FlowAuth and put it there" if problem else None

    @property
    def renewed_in(self) -> str:
        """The variable or the file into which a new token has to be put."""
        return str(self.token_file) if self.token_file else "FLOWAPI_TOKEN"


CONFIG_KEYS: Mapping[str, str] = {key.name: key.default for key, _ in config_keys(Settings.model_fields)}
"""Every key of config.toml, with its value in a file without it."""


class TrialSettings(Settings):
    """The settings for trying a notebook, whose folder needs no workflows.yml."""

    inputs_dir: Annotated[checks.ExistingFolder, ConfigKey("inputs.inputs_dir", "$AUTOFLOW_INPUTS_DIR")] = _named(
        "AUTOFLOW_INPUTS_DIR", "the folder with the notebook"
    )

    @classmethod
    def read_changed(
        cls,
        changes: Mapping[str, str],
        defaults: Mapping[str, str],
        environ: Mapping[str, str] = environ_with_secrets,
    ) -> Self:
        """Read the settings from `environ` with some `changes`, and with `defaults` for what is not set there.

        Raises
        ------
        SettingsError
            With a line for each setting that is missing or wrong.

        """
        given = {name: value for name in environ if (value := environ.get(name))}
        missing = {name: value for name, value in defaults.items() if not environ.get(name)}
        return cls.read({**given, **missing, **changes})


_SHORTEST_SIGNATURE = 16
"""Shorter ones are not those of a JSON web token; in characters."""


def _line(error: ErrorDetails) -> str:
    """Return the line for the operator about what is wrong with a setting."""
    name = error["loc"][0]
    if error["type"] == "missing":
        meanings = {field.validation_alias: field.description for field in Settings.model_fields.values()}
        return f"{name} is not set: {meanings[str(name)]}"
    problem = error["ctx"]["error"]
    return str(problem) if isinstance(problem, Problem) else f"{name}: {problem}"


def _signature(token: str) -> str:
    """Return the part of a JSON web token without which the rest of it is worth nothing; empty if it has none."""
    parts = token.split(".")
    return parts[2] if len(parts) == 3 and len(parts[2]) >= _SHORTEST_SIGNATURE else ""


def secrets_in(value: str) -> set[str]:
    """Return a secret and, if it is a URI, the passwords in it."""
    return {value, *_passwords(value)}


def _passwords(uri: str) -> Iterator[str]:
    """Yield the passwords in `uri`, as they are written and as they are meant.

    Where there is more than one '@', libraries differ on which of them ends the password: each is taken for it.
    """
    user, _, rest = uri.partition("://")[2].partition(":")
    found = [rest[: at.start()] for at in re.finditer("@", rest) if "/" not in user]
    found += re.findall(r"[?&]\w*password=([^&#]*)", uri)
    for password in found:
        yield from (password, unquote(password), unquote_plus(password))
