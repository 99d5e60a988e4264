import datetime
import os
import re
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import get_secret_or_env_var
import pytest
from get_secret_or_env_var import environ as environ_with_secrets
from pydantic import SecretStr, ValidationError

from autoflow.errors import SettingsError
from autoflow.model.store import RunStore
from autoflow.runs.records import RunKey
from autoflow.settings import CONFIG_DIR, Settings
from tests.certificates import self_signed
from tests.conftest import TOKEN_OF_NO_USE, Deployed
from tests.postgres import Postgres

PASSWORD = "p@ss/w:rd{}%"
SETTINGS_PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "settings.md"
SIGNATURE = TOKEN_OF_NO_USE.rpartition(".")[2]


def problems_of(environ: Mapping[str, str]) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        Settings.read(environ)
    return caught.value.problems


@pytest.fixture
def secrets_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "secrets"
    folder.mkdir()
    monkeypatch.setattr(get_secret_or_env_var, "DOCKER_SECRETS_PATH", folder)
    return folder


@pytest.fixture
def real_environ(deployed: Deployed, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
    """The process's own environment, as AutoFlow sees it when it is run, with what it needs set."""
    for name in os.environ:
        if name.startswith(("PREFECT_", "AUTOFLOW_")):
            monkeypatch.delenv(name)
    for name, value in deployed.environ.items():
        monkeypatch.setenv(name, value)
    environ: Mapping[str, str] = environ_with_secrets
    return environ


def test_folders_url_and_token_are_enough(deployed: Deployed) -> None:
    settings = deployed.settings(AUTOFLOW_PRELOAD="")
    assert settings.inputs_dir == deployed.inputs
    assert settings.workflows_file == deployed.inputs / "workflows.yml"
    assert settings.outputs_dir == deployed.outputs
    assert settings.notebooks_dir == deployed.outputs / "notebooks"
    assert settings.reports_dir == deployed.outputs / "reports"
    assert settings.log_level == "INFO"
    assert settings.db_uri == f"sqlite:///{deployed.outputs}/autoflow.db"
    assert settings.db_password is None
    assert settings.flowapi_url == "http://127.0.0.1:9"
    assert settings.flowapi_token.get_secret_value() == TOKEN_OF_NO_USE
    assert settings.flowapi_timeout == 60
    assert settings.ssl_certificate is None
    assert settings.asciidoc_template_path == CONFIG_DIR / "asciidoc_extended.tpl"
    assert settings.max_parallel_runs == len(os.sched_getaffinity(0))
    assert settings.notebook_timeout == 6 * 3600
    assert settings.warnings == ()
    assert settings.report_timeout == 300
    assert settings.shutdown_grace == 5
    assert settings.heartbeat_timeout == 60
    assert settings.forked_kernels is (os.environ.get("AUTOFLOW_FORKED_KERNELS") != "false")
    assert settings.preload == ("pandas", "matplotlib.pyplot", "scrapbook", "flowclient")
    assert settings.prefect_api_url is None
    assert settings.prefect_home == deployed.outputs / "prefect"
    assert settings.prefect_host == "127.0.0.1"
    assert settings.prefect_port is None


def test_every_default_can_be_changed(deployed: Deployed, tmp_path: Path) -> None:
    template = tmp_path / "mine.tpl"
    template.touch()
    settings = deployed.settings(
        AUTOFLOW_LOG_LEVEL="WARNING",
        AUTOFLOW_DB_URI="postgresql://user:{}@localhost:5432/autoflow",
        AUTOFLOW_DB_PASSWORD="secret of mine",
        AUTOFLOW_FLOWAPI_TIMEOUT="2.5",
        PREFECT__ASCIIDOC_TEMPLATE_PATH=str(template),
        AUTOFLOW_MAX_PARALLEL_RUNS="3",
        AUTOFLOW_NOTEBOOK_TIMEOUT="7.5",
        AUTOFLOW_REPORT_TIMEOUT="11",
        AUTOFLOW_SHUTDOWN_GRACE="0",
        AUTOFLOW_HEARTBEAT_TIMEOUT="3",
        AUTOFLOW_FORKED_KERNELS="False",
        AUTOFLOW_PRELOAD="numpy, geopandas.tools",
        PREFECT_API_URL="http://prefect.example.org:4200/api/",
        PREFECT_HOME=str(tmp_path / "home"),
        PREFECT_SERVER_API_HOST="0.0.0.0",
        PREFECT_SERVER_API_PORT="4321",
    )
    assert settings.log_level == "WARNING"
    assert settings.db_uri == "postgresql://user:secret%20of%20mine@localhost:5432/autoflow"
    assert settings.db_password == SecretStr("secret of mine")
    assert settings.flowapi_timeout == 2.5
    assert settings.asciidoc_template_path == template
    assert (settings.max_parallel_runs, settings.notebook_timeout) == (3, 7.5)
    assert (settings.report_timeout, settings.shutdown_grace) == (11, 0)
    assert settings.heartbeat_timeout == 3
    assert not settings.forked_kernels
    assert settings.preload == ("numpy", "geopandas.tools")
    assert settings.prefect_api_url == "http://prefect.example.org:4200/api"
    assert settings.prefect_home == tmp_path / "home"
    assert (settings.prefect_host, settings.prefect_port) == ("0.0.0.0", 4321)


@pytest.mark.parametrize("value", ["100", "0", "many"])
def test_limit_of_runs_per_tick_is_accepted_with_a_warning(deployed: Deployed, value: str) -> None:
    settings = deployed.settings(AUTOFLOW_MAX_RUNS_PER_TICK=value)
    assert settings.warnings == (
        "AUTOFLOW_MAX_RUNS_PER_TICK is ignored, because a tick no longer waits for runs; remove it",
    )


def test_all_that_is_missing_is_named_at_once() -> None:
    assert problems_of({}) == (
        "AUTOFLOW_INPUTS_DIR is not set: the folder with workflows.yml and the notebooks",
        "AUTOFLOW_OUTPUTS_DIR is not set: the folder for executed notebooks, reports and AutoFlow's own databases",
        "FLOWAPI_URL is not set: the address of FlowAPI, such as https://flowapi.example.org:9090",
        "FLOWAPI_TOKEN is not set: the access token for FlowAPI",
    )


def test_switch_and_modules_that_are_none_are_named(deployed: Deployed) -> None:
    wrong = {**deployed.environ, "AUTOFLOW_FORKED_KERNELS": "on", "AUTOFLOW_PRELOAD": "pandas,my-module"}
    assert problems_of(wrong) == (
        "AUTOFLOW_FORKED_KERNELS: 'on' is neither true nor false",
        "AUTOFLOW_PRELOAD: 'my-module' is not the name of a Python module",
    )


def test_all_that_is_wrong_is_named_at_once(deployed: Deployed, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    wrong = {
        "AUTOFLOW_INPUTS_DIR": "/nowhere",
        "AUTOFLOW_OUTPUTS_DIR": str(tmp_path / "file"),
        "AUTOFLOW_LOG_LEVEL": "debug",
        "AUTOFLOW_DB_URI": "postgresql://user:{}@localhost/autoflow",
        "FLOWAPI_URL": "flowapi.example.org",
        "AUTOFLOW_FLOWAPI_TIMEOUT": "0",
        "SSL_CERTIFICATE_FILE": str(tmp_path / "file"),
        "PREFECT__ASCIIDOC_TEMPLATE_PATH": "/nowhere.tpl",
        "AUTOFLOW_MAX_PARALLEL_RUNS": "two",
        "AUTOFLOW_NOTEBOOK_TIMEOUT": "0",
        "AUTOFLOW_REPORT_TIMEOUT": "nan",
        "AUTOFLOW_SHUTDOWN_GRACE": "-1",
        "AUTOFLOW_HEARTBEAT_TIMEOUT": "2.9",
        "PREFECT_API_URL": "prefect:4200",
        "PREFECT_HOME": "~nobody-of-this-name/prefect",
        "PREFECT_SERVER_API_PORT": "70000",
    }
    text = "\n".join(problems_of({**deployed.environ, **wrong}))
    for name in wrong.keys() - {"AUTOFLOW_DB_URI", "PREFECT__ASCIIDOC_TEMPLATE_PATH"}:
        assert f"{name}: " in text
    assert "asciidoc_template_path: there is no file /nowhere.tpl" in text
    assert "AUTOFLOW_DB_PASSWORD is not set: AUTOFLOW_DB_URI has '{}' in place of the password" in text


@pytest.mark.parametrize("number", ["9" * 5000, "٣", "1e3", "+1", " 1", "1.0"])
def test_number_of_runs_is_made_of_digits(deployed: Deployed, number: str) -> None:
    (problem,) = problems_of({**deployed.environ, "AUTOFLOW_MAX_PARALLEL_RUNS": number})
    assert problem == f"AUTOFLOW_MAX_PARALLEL_RUNS: '{number}' is not a whole number from 1 to 1000000"


@pytest.mark.parametrize("time", ["1e300", "31622401", "inf", "nan", "-1"])
def test_time_is_a_year_at_most(deployed: Deployed, time: str) -> None:
    names = ("AUTOFLOW_FLOWAPI_TIMEOUT", "AUTOFLOW_HEARTBEAT_TIMEOUT")
    assert problems_of({**deployed.environ, **dict.fromkeys(names, time)}) == (
        f"AUTOFLOW_HEARTBEAT_TIMEOUT: '{time}' is not a number of seconds from 3 to 31622400",
        f"AUTOFLOW_FLOWAPI_TIMEOUT: '{time}' is not a number of seconds above 0 and up to 31622400",
    )
    assert deployed.settings(**dict.fromkeys(names, "31622400")).heartbeat_timeout == 31622400


@pytest.mark.parametrize(
    "url", ["flowapi", "ftp://flowapi", "http://", "http://flowapi:port", "http://[::1", "http://h:0"]
)
def test_what_is_not_a_web_address_is_refused_unshown(deployed: Deployed, url: str) -> None:
    (problem,) = problems_of({**deployed.environ, "FLOWAPI_URL": url})
    assert problem == "FLOWAPI_URL: not a URL such as https://flowapi.example.org:9090"


def test_password_in_flowapi_url_is_refused_unshown(deployed: Deployed) -> None:
    (problem,) = problems_of({**deployed.environ, "FLOWAPI_URL": "https://me:mysecret@flowapi.example.org"})
    assert problem == "FLOWAPI_URL: remove the user and the password; AutoFlow logs in with FLOWAPI_TOKEN"


def test_slash_after_flowapi_url_does_not_matter(deployed: Deployed) -> None:
    assert deployed.settings(FLOWAPI_URL="https://flowapi.example.org/").flowapi_url == "https://flowapi.example.org"


def test_every_setting_is_described() -> None:
    described = {name for name, field in Settings.model_fields.items() if field.description and field.validation_alias}
    assert described == Settings.model_fields.keys() - {"environ"}


def test_documented_defaults_are_those_of_the_settings() -> None:
    table = dict(re.findall(r"^\| `([A-Z_]+)` \| .* \| ([^|]+) \|$", SETTINGS_PAGE.read_text("utf-8"), re.MULTILINE))
    for field in Settings.model_fields.values():
        documented = table.get(str(field.validation_alias), "none")
        if field.is_required() or field.default == "":
            assert documented in {"required", "none"}
        elif isinstance(field.default, str | int | float):
            assert documented.strip("`").lower() == str(field.default).lower().removesuffix(".0")


def test_settings_do_not_change(deployed: Deployed) -> None:
    settings = deployed.settings()
    with pytest.raises(ValidationError):
        settings.log_level = "DEBUG"
    assert settings.model_copy(update={"prefect_port": 1}).prefect_port == 1
    assert settings.prefect_port is None


@pytest.mark.parametrize("path", ["x" * 300, "/proc/self/mem/below-a-file"])
def test_impossible_folders_are_problems_not_crashes(deployed: Deployed, path: str) -> None:
    text = "\n".join(problems_of({**deployed.environ, "AUTOFLOW_INPUTS_DIR": path}))
    assert text == f"AUTOFLOW_INPUTS_DIR: {Path(path).absolute()} is not a folder"


@pytest.mark.parametrize("name", ["AUTOFLOW_OUTPUTS_DIR", "PREFECT_HOME"])
@pytest.mark.parametrize("odd", ["?", "#"])
def test_folder_with_a_name_that_ends_a_uri_is_refused(deployed: Deployed, tmp_path: Path, name: str, odd: str) -> None:
    (problem,) = problems_of({**deployed.environ, name: str(tmp_path / f"what{odd}" / "outputs")})
    assert problem == (
        f"the folder {tmp_path}/what{odd} has a '{odd}' in its name, where SQLite or scrapbook would end the path: "
        "rename it, or choose another one"
    )


@pytest.mark.parametrize("name", ["100%", "a b", "%3F", "Zürich", "a&b=c"])
def test_database_is_in_the_outputs_folder_of_any_name(deployed: Deployed, tmp_path: Path, name: str) -> None:
    outputs = tmp_path / name
    outputs.mkdir()
    with closing(RunStore(deployed.settings(AUTOFLOW_OUTPUTS_DIR=str(outputs)).db_uri)) as store:
        store.migrate()
    assert (outputs / "autoflow.db").exists()


def test_inputs_folder_needs_a_workflows_file(deployed: Deployed) -> None:
    (deployed.inputs / "workflows.yml").unlink()
    (problem,) = problems_of(deployed.environ)
    assert problem.startswith(f"AUTOFLOW_INPUTS_DIR: there is no workflows.yml in {deployed.inputs}: put one there")


def test_folders_are_absolute(deployed: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(deployed.inputs.parent)
    settings = deployed.settings(AUTOFLOW_INPUTS_DIR="inputs", AUTOFLOW_OUTPUTS_DIR="./outputs")
    assert (settings.inputs_dir, settings.outputs_dir) == (deployed.inputs, deployed.outputs)


def test_config_file_goes_before_environment_and_override_before_both(deployed: Deployed, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        f"""
        flowapi_url = "http://from-config:1"
        db_uri = "sqlite:///$NAME_OF_DB"
        [inputs]
        inputs_dir = "$AUTOFLOW_INPUTS_DIR"
        [outputs]
        notebooks_dir = "{tmp_path}/a$$b"
        reports_dir = "${{AUTOFLOW_OUTPUTS_DIR}}/pdf"
        [logging]
        level = "ERROR"
        """
    )
    environ = {"PREFECT__USER_CONFIG_PATH": str(config), "NAME_OF_DB": "runs.db", "AUTOFLOW_LOG_LEVEL": "DEBUG"}
    settings = deployed.settings(**environ)
    assert settings.flowapi_url == "http://from-config:1"
    assert settings.db_uri == "sqlite:///runs.db"
    assert settings.log_level == "ERROR"
    assert settings.notebooks_dir == tmp_path / "a$b"
    assert settings.reports_dir == deployed.outputs / "pdf"
    overridden = deployed.settings(
        **environ,
        PREFECT__FLOWAPI_URL="http://from-override:1",
        PREFECT__LOGGING__LEVEL="CRITICAL",
        PREFECT__DB_URI="sqlite:////tmp/other.db",
        PREFECT__INPUTS__INPUTS_DIR=str(deployed.inputs),
        PREFECT__OUTPUTS__NOTEBOOKS_DIR=str(tmp_path / "n"),
        PREFECT__OUTPUTS__REPORTS_DIR=str(tmp_path / "r"),
    )
    assert overridden.flowapi_url == "http://from-override:1"
    assert overridden.log_level == "CRITICAL"
    assert overridden.db_uri == "sqlite:////tmp/other.db"
    assert (overridden.notebooks_dir, overridden.reports_dir) == (tmp_path / "n", tmp_path / "r")


def test_config_file_alone_can_say_everything_but_the_token(deployed: Deployed, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        f"""
        flowapi_url = "http://flowapi:1"
        inputs.inputs_dir = "{deployed.inputs}"
        outputs = {{ notebooks_dir = "{tmp_path}/out/n", reports_dir = "{tmp_path}/out/r" }}
        """
    )
    settings = Settings.read({"PREFECT__USER_CONFIG_PATH": str(config), "FLOWAPI_TOKEN": "token"})
    assert settings.outputs_dir == tmp_path / "out"
    assert settings.db_uri == f"sqlite:///{tmp_path}/out/autoflow.db"


@pytest.mark.parametrize(
    "key",
    ["flows.checkpointing", "logging.format", "engine.executor.default_class", "context.secrets.NAME", "home_dir"],
)
def test_keys_that_older_versions_of_prefect_read_have_no_effect(deployed: Deployed, tmp_path: Path, key: str) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f"{key} = ['anything']")
    assert deployed.settings(PREFECT__USER_CONFIG_PATH=str(config)).flowapi_url == deployed.settings().flowapi_url


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("flowapi_ulr = 'http://x'", "config.toml: unknown key 'flowapi_ulr'; the keys are logging.level, inputs."),
        ("db_uri = 1", "config.toml: db_uri: '1' is not a string"),
        ("db_uri = '$'", "config.toml: db_uri: '$' must be followed by a name or by another '$'"),
        ("db_uri = 'sqlite:///$NO_SUCH'", "NO_SUCH is not set: config.toml uses it for db_uri"),
        ("zz = 1\naa = 2", "config.toml: unknown key 'aa', 'zz'; the keys are "),
        ("backend = 'server'\nlogging.levle = 'INFO'", "config.toml: unknown key 'logging.levle'; the keys are "),
        ("flowapi_url = ''", "config.toml: flowapi_url is empty"),
        ("flowapi_url = '$NO_SUCH'", "NO_SUCH is not set: config.toml uses it for flowapi_url"),
        ("inputs = 'here'", "config.toml: unknown key 'inputs'"),
        ("db_uri", "PREFECT__USER_CONFIG_PATH: {path} is not valid TOML: Expected '=' after a key"),
    ],
)
def test_mistakes_in_config_file_are_named(deployed: Deployed, tmp_path: Path, text: str, problem: str) -> None:
    config = tmp_path / "config.toml"
    config.write_text(text)
    problems = problems_of({**deployed.environ, "PREFECT__USER_CONFIG_PATH": str(config)})
    assert any(each.startswith(problem.format(path=config)) for each in problems)


def test_missing_or_binary_config_file_is_named(deployed: Deployed, tmp_path: Path) -> None:
    environ = {**deployed.environ, "PREFECT__USER_CONFIG_PATH": "/nowhere.toml"}
    message = "PREFECT__USER_CONFIG_PATH: cannot read /nowhere.toml: No such file or directory"
    assert problems_of(environ) == (message,)
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    (problem,) = problems_of({**environ, "PREFECT__USER_CONFIG_PATH": str(binary)})
    assert problem.startswith(f"PREFECT__USER_CONFIG_PATH: {binary} is not valid TOML: ")


def test_config_file_that_is_too_much_is_refused_with_the_reason(deployed: Deployed, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    environ = {**deployed.environ, "PREFECT__USER_CONFIG_PATH": str(config)}
    config.write_text(f"db_uri = {'[' * 900}{']' * 900}")
    assert problems_of(environ) == (f"PREFECT__USER_CONFIG_PATH: {config} is nested too deeply",)
    with config.open("wb") as file:
        file.truncate(2 * 1024**3)
    assert problems_of(environ) == (f"PREFECT__USER_CONFIG_PATH: {config} is larger than 256 KiB",)


def test_our_own_config_file_says_what_is_said_without_one(deployed: Deployed, tmp_path: Path) -> None:
    (tmp_path / "empty.toml").touch()
    empty = deployed.settings(PREFECT__USER_CONFIG_PATH=str(tmp_path / "empty.toml"))
    assert empty.model_dump(exclude={"config_file"}) == deployed.settings().model_dump(exclude={"config_file"})
    ours = deployed.settings(PREFECT__USER_CONFIG_PATH=str(CONFIG_DIR / "config.toml"))
    assert ours.model_dump() == deployed.settings().model_dump()


def test_docker_secrets_go_before_the_environment(real_environ: Mapping[str, str], secrets_folder: Path) -> None:
    (secrets_folder / "FLOWAPI_TOKEN").write_text("token from a file\n")
    (secrets_folder / "AUTOFLOW_DB_PASSWORD").write_text(PASSWORD + "\n")
    settings = Settings.read(real_environ)
    assert settings.flowapi_token == SecretStr("token from a file")
    assert settings.db_password == SecretStr(PASSWORD)


def test_rotated_token_is_seen(real_environ: Mapping[str, str], secrets_folder: Path) -> None:
    secret = secrets_folder / "FLOWAPI_TOKEN"
    secret.write_text("the old token")
    settings = Settings.read(real_environ)
    secret.write_text("the new token")
    assert settings.current_flowapi_token() == "the new token"
    assert settings.kernel_environ["FLOWAPI_TOKEN"] == "the new token"
    assert {"the old token", "the new token"} <= set(settings.secrets)


def test_token_stays_while_its_file_is_being_replaced(real_environ: Mapping[str, str], secrets_folder: Path) -> None:
    secret = secrets_folder / "FLOWAPI_TOKEN"
    secret.write_text("the old token")
    settings = Settings.read(real_environ)
    secret.write_text("")
    assert settings.current_flowapi_token() == "the old token"
    secret.write_bytes(b"\xff\xfe")
    assert settings.current_flowapi_token() == "the old token"
    secret.unlink()
    secret.mkdir()
    assert settings.current_flowapi_token() == "the old token"
    assert settings.kernel_environ["FLOWAPI_TOKEN"] == "the old token"


def test_token_in_a_file_is_renewed_without_a_restart(deployed: Deployed, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("the old token\n")
    settings = deployed.settings(FLOWAPI_TOKEN="", FLOWAPI_TOKEN_FILE=str(file))
    assert settings.current_flowapi_token() == "the old token"
    for number in (1, 2):
        file.write_text(f"new token {number}\n")
        assert settings.current_flowapi_token() == settings.kernel_environ["FLOWAPI_TOKEN"] == f"new token {number}"
    assert {"the old token", "new token 1", "new token 2"} <= set(settings.secrets)
    assert settings.token_problem is None
    assert settings.warnings == ()


def test_file_with_the_token_goes_before_the_variable_and_says_so(deployed: Deployed, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("token of the file")
    settings = deployed.settings(FLOWAPI_TOKEN_FILE=str(tmp_path / "token"))
    assert settings.current_flowapi_token() == settings.kernel_environ["FLOWAPI_TOKEN"] == "token of the file"
    assert TOKEN_OF_NO_USE in settings.secrets
    assert settings.warnings == ("FLOWAPI_TOKEN is ignored, because FLOWAPI_TOKEN_FILE is set; remove one of them",)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "cannot read {file}: No such file or directory"),
        (b" \n", "{file} is empty"),
        (b"\xff", "{file} is not UTF-8 text"),
    ],
    ids=["missing", "empty", "not text"],
)
def test_file_without_a_token_is_a_problem_of_the_token_alone(
    deployed: Deployed, tmp_path: Path, content: bytes | None, problem: str
) -> None:
    file = tmp_path / "token"
    file.write_text("the last token")
    settings = deployed.settings(FLOWAPI_TOKEN="", FLOWAPI_TOKEN_FILE=str(file))
    assert settings.current_flowapi_token() == "the last token"
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    hint = "get a token from FlowAuth and put it there"
    assert settings.token_problem == f"FLOWAPI_TOKEN_FILE: {problem.format(file=file)}; {hint}"
    assert settings.current_flowapi_token() == ""
    # A notebook that starts while the file is being replaced gets the last token.
    assert settings.kernel_environ["FLOWAPI_TOKEN"] == "the last token"


def test_unreadable_secret_is_named(real_environ: Mapping[str, str], secrets_folder: Path) -> None:
    (secrets_folder / "FLOWAPI_TOKEN").mkdir()
    (secrets_folder / "AUTOFLOW_DB_PASSWORD").write_bytes(b"\xff")
    assert set(problems_of(real_environ)) == {
        "FLOWAPI_TOKEN: cannot read the secret of this name: Is a directory",
        "AUTOFLOW_DB_PASSWORD: cannot read the secret of this name: it is not UTF-8 text",
    }


def test_space_around_the_token_does_not_matter(deployed: Deployed) -> None:
    settings = deployed.settings(FLOWAPI_TOKEN=" a.b.c\r\n")
    assert settings.flowapi_token.get_secret_value() == settings.current_flowapi_token() == "a.b.c"
    assert problems_of({**deployed.environ, "FLOWAPI_TOKEN": " \n"})[0].startswith("FLOWAPI_TOKEN is not set")


def test_password_of_any_characters_lets_in(deployed: Deployed, postgres: Postgres) -> None:
    uri = postgres.uri(password="{}")
    postgres.set_password(PASSWORD)
    try:
        store = RunStore(deployed.settings(AUTOFLOW_DB_URI=uri, AUTOFLOW_DB_PASSWORD=PASSWORD).db_uri)
        store.migrate()
        assert store.claim(RunKey.of("w", {}, datetime.date(2016, 1, 1)))
        store.close()
    finally:
        postgres.set_password("autoflow")


def test_unquoted_at_sign_in_database_uri_is_refused_unshown(deployed: Deployed) -> None:
    (problem,) = problems_of({**deployed.environ, "AUTOFLOW_DB_URI": "postgresql://user:p@ss@host/db"})
    assert problem.startswith("AUTOFLOW_DB_URI: write an '@' in the password as %40")
    assert "p@ss" not in problem


def test_what_is_no_uri_is_refused_unshown(deployed: Deployed) -> None:
    (problem,) = problems_of({**deployed.environ, "AUTOFLOW_DB_URI": "hunter22@host"})
    assert problem == "AUTOFLOW_DB_URI: not a URI such as postgresql://user:{}@host:5432/autoflow"


def test_representation_shows_no_secret(deployed: Deployed) -> None:
    settings = deployed.settings(
        AUTOFLOW_DB_URI="postgresql://user:{}@localhost/autoflow", AUTOFLOW_DB_PASSWORD="hunter22"
    )
    assert "hunter22" in settings.db_uri
    assert "hunter22" not in repr(settings)
    assert TOKEN_OF_NO_USE not in repr(settings)


def test_secrets_are_all_ways_in_which_a_password_can_be_written(deployed: Deployed) -> None:
    settings = deployed.settings(AUTOFLOW_DB_URI="postgresql://user:{}@host/db", AUTOFLOW_DB_PASSWORD=PASSWORD)
    assert settings.secrets == (TOKEN_OF_NO_USE, SIGNATURE, "p%40ss%2Fw%3Ard%7B%7D%25", PASSWORD)
    written_out = deployed.settings(AUTOFLOW_DB_URI="postgresql://user:hunter%3A22@host/db")
    assert set(written_out.secrets) == {TOKEN_OF_NO_USE, SIGNATURE, "hunter:22", "hunter%3A22"}
    assert deployed.settings(AUTOFLOW_DB_URI="sqlite:////tmp/a:b@c.db").secrets == (TOKEN_OF_NO_USE, SIGNATURE)
    assert "of the server" in deployed.settings(PREFECT_API_AUTH_STRING="of the server").secrets


@pytest.mark.parametrize(
    ("uri", "secrets"),
    [
        ("postgresql://user:pa/ss-word@host/db", {"pa/ss-word"}),
        ("postgresql://user:hunter22@host/db?options=a@b", {"hunter22", "hunter22@host/db?options=a"}),
        ("postgresql://host/db?user=me&password=hunter+22%21", {"hunter+22%21", "hunter+22!", "hunter 22!"}),
        ("postgresql://me@host:5432/db?sslmode=require&sslpassword=hunter22", {"hunter22"}),
        ("postgresql://me@host:5432/db", set()),
    ],
)
def test_password_is_known_wherever_a_database_uri_has_it(deployed: Deployed, uri: str, secrets: set[str]) -> None:
    assert set(deployed.settings(AUTOFLOW_DB_URI=uri).secrets) == {TOKEN_OF_NO_USE, SIGNATURE, *secrets}


def test_kernels_get_what_notebooks_need_and_no_other_secret(deployed: Deployed) -> None:
    hidden = {
        "AUTOFLOW_DB_URI": "postgresql://user:hunter22@host/db",
        "AUTOFLOW_DB_PASSWORD": "hunter22",
        "PREFECT__DB_URI": "postgresql://user:hunter22@host/db",
        "PREFECT_API_KEY": "hunter22",
        "PREFECT_API_AUTH_STRING": "hunter22",
        "PREFECT_SERVER_API_AUTH_STRING": "hunter22",
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": "postgresql://user:hunter22@host/db",
        "PREFECT_API_DATABASE_CONNECTION_URL": "postgresql://user:hunter22@host/db",
    }
    environ = deployed.settings(**hidden, MY_OWN="kept").kernel_environ
    assert "hunter22" not in repr(environ)
    assert environ["MY_OWN"] == "kept"
    assert environ["FLOWAPI_URL"] == "http://127.0.0.1:9"
    assert environ["FLOWAPI_TOKEN"] == TOKEN_OF_NO_USE


def test_kernels_get_the_environment_of_the_start_with_the_newest_token(deployed: Deployed) -> None:
    environ = {**deployed.environ, "MY_OWN": "first"}
    settings = Settings.read(environ)
    environ |= {"MY_OWN": "second", "PREFECT_API_URL": "http://127.0.0.1:1/api", "FLOWAPI_TOKEN": "a new token"}
    assert settings.kernel_environ["MY_OWN"] == "first"
    assert "PREFECT_API_URL" not in settings.kernel_environ
    assert settings.kernel_environ["FLOWAPI_TOKEN"] == "a new token"


def test_kernels_trust_the_certificate_of_flowapi(deployed: Deployed, tmp_path: Path) -> None:
    certificate = tmp_path / "flowapi.pem"
    certificate.write_bytes(self_signed().certificate)
    environ = deployed.settings(SSL_CERTIFICATE_FILE=str(certificate)).kernel_environ
    assert environ["SSL_CERT_FILE"] == str(certificate)
