"""The container's files, as far as they can be checked without a container engine."""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from autoflow.model.opening import PAGE_NAME
from autoflow.reports.fonts import LATIN, MONOSPACED, SCRIPTS
from autoflow.settings import CONFIG_KEYS, Settings
from tests.conftest import Deployed
from tests.test_docs import README, names, page

ROOT = Path(__file__).resolve().parent.parent
STACK = ROOT / "docker-stack.yml"
PREFECT_STACK = ROOT / "docker-stack.prefect.yml"
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
DEFAULT_PACKAGES = json.loads((ROOT / "Pipfile.lock").read_text(encoding="utf-8"))["default"]


def loaded(stack: Path) -> Mapping[str, Any]:
    content: Mapping[str, Any] = yaml.safe_load(stack.read_text(encoding="utf-8"))
    return content


def services() -> Iterator[Any]:
    for stack in (STACK, PREFECT_STACK):
        for name, service in loaded(stack)["services"].items():
            if "image" in service:  # otherwise it is an addition to a service of the other file
                yield pytest.param(service, id=name)


def secrets_of(service: Mapping[str, Any]) -> set[str]:
    return set(service.get("secrets", ()))


def variables_of(stack: Path) -> list[str]:
    comments = re.compile(r"^ *#.*$", re.MULTILINE)
    return re.findall(r"(?<!\$)\$\{?[A-Z_]+[^}]*\}?", comments.sub("", stack.read_text(encoding="utf-8")))


def section(text: str, title: str) -> str:
    """Return a section of a page, with those below it."""
    _, rest = re.split(rf"^(?=##+ {title}$)", text, flags=re.MULTILINE)
    level = len(rest) - len(rest.lstrip("#"))
    return re.split(rf"^#{{2,{level}}} ", rest[level:], flags=re.MULTILINE)[0]


def code(language: str, text: str) -> str:
    """Return the one block of code in `language` in a text."""
    (block,) = re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return str(block)


OTHER_SETTINGS = section(page("how-to/stack.md"), "Add other settings")


def image_environment() -> dict[str, str]:
    (block,) = re.findall(r"^ENV (.*?[^\\])\n", DOCKERFILE, re.MULTILINE | re.DOTALL)
    return dict(part.split("=", 1) for part in block.replace("\\\n", " ").split())


def requirements() -> list[str]:
    printed = subprocess.run(
        [sys.executable, "-I", "-S", ROOT / "scripts" / "requirements.py", ROOT / "Pipfile.lock"],
        capture_output=True,
        check=True,
        text=True,
    )
    return printed.stdout.splitlines()


def test_requirements_are_the_packages_that_are_locked_and_no_others() -> None:
    names = [re.split(r"[\[=]", line, maxsplit=1)[0] for line in requirements()]
    assert names == list(DEFAULT_PACKAGES)


def test_requirements_have_the_versions_extras_markers_and_hashes_that_are_locked() -> None:
    for line, (name, locked) in zip(requirements(), DEFAULT_PACKAGES.items(), strict=True):
        what, *hashes = line.split(" --hash=")
        pin, _, markers = what.partition(" ; ")
        extras = f"[{','.join(locked['extras'])}]" if "extras" in locked else ""
        assert pin == f"{name}{extras}{locked['version']}"
        assert markers == locked.get("markers", "")
        assert hashes == locked["hashes"]


def test_package_that_is_locked_to_a_commit_is_refused(tmp_path: Path) -> None:
    lock = tmp_path / "Pipfile.lock"
    lock.write_text('{"default": {"thing": {"git": "https://example.org/thing", "ref": "abc"}}}', encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, ROOT / "scripts" / "requirements.py", lock], capture_output=True, check=False, text=True
    )
    assert ended.returncode != 0
    assert not ended.stdout


def test_image_does_not_use_the_pipfile() -> None:
    assert not re.search(r"Pipfile(?!\.lock)", DOCKERFILE)
    assert "--require-hashes" in DOCKERFILE


def test_image_has_the_fonts_for_all_scripts() -> None:
    installed = set(re.findall(r"\bfonts-[a-z-]+\b", DOCKERFILE))
    assert {script.package for script in (LATIN, MONOSPACED, *SCRIPTS)} == installed


def test_packages_of_debian_are_the_same_everywhere() -> None:
    (line,) = re.findall(r"^REPORT_PACKAGES := (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    packages = set(line.split())
    commands = re.findall(r"apt-get install (pandoc [\w -]+)", README + page("how-to/host.md"))
    assert [set(command.split()) for command in commands] == [packages, packages]
    (installed,) = re.findall(r"^ +(fonts-[^\\]+)\\$", DOCKERFILE, re.MULTILINE)
    assert set(installed.split()) == packages | {"tini"}
    assert set(re.findall(r"`(fonts-[a-z-]+)`", page("reference/reports.md"))) == {
        name for name in packages if name.startswith("fonts-")
    }


def test_container_as_a_service_is_started_again_after_a_reboot() -> None:
    assert re.findall(r"^docker run --detach .*--restart (\S+)", page("how-to/container.md"), re.MULTILINE) == [
        "unless-stopped"
    ]


def test_web_server_shows_what_is_for_readers_and_nothing_else() -> None:
    locations = dict(re.findall(r"location (.+) \{(.*)\}", code("nginx", page("how-to/web-server.md"))))
    assert locations.pop("/").strip() == "return 404;"
    folders = {CONFIG_KEYS[f"outputs.{name}"].rpartition("/")[2] for name in ("notebooks_dir", "reports_dir")}
    assert locations.keys() == {"= /", f"= /{PAGE_NAME}", *(f"/{folder}/" for folder in folders)}


def test_image_does_not_run_as_root() -> None:
    (user,) = re.findall(r"^USER (.+)$", DOCKERFILE, re.MULTILINE)
    assert user == "1000:1000"


def test_image_is_labelled_with_the_version_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"ARG VERSION={project['version']}\n" in DOCKERFILE
    assert 'org.opencontainers.image.version="$VERSION"' in DOCKERFILE


def test_image_sets_all_that_autoflow_needs_but_flowapi(tmp_path: Path) -> None:
    folders = {"AUTOFLOW_INPUTS_DIR": str(ROOT / "examples" / "inputs"), "AUTOFLOW_OUTPUTS_DIR": str(tmp_path)}
    flowapi = {"FLOWAPI_URL": "http://flowapi:9090", "FLOWAPI_TOKEN": "token"}
    environment = image_environment()
    assert environment["AUTOFLOW_INPUTS_DIR"] == "/mounts/inputs"
    assert environment["AUTOFLOW_OUTPUTS_DIR"] == "/mounts/outputs"
    assert Settings.read(environment | folders | flowapi).prefect_home == tmp_path / "prefect"


def test_image_takes_verbs_and_passes_signals() -> None:
    (entrypoint,) = re.findall(r"^ENTRYPOINT (.+)$", DOCKERFILE, re.MULTILINE)
    assert json.loads(entrypoint) == ["/usr/bin/tini", "-s", "--", "python", "-m", "autoflow"]


def test_build_context_is_what_the_dockerfile_copies() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    sent = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    assert sent == {source for sources in copies for source in sources.split()}
    assert "*" in ignored


@pytest.mark.parametrize("name", ["AUTOFLOW_INPUTS_DIR", "AUTOFLOW_OUTPUTS_DIR", "FLOWAPI_URL"])
def test_stack_with_a_missing_variable_is_refused_and_names_the_variable(name: str) -> None:
    assert f"${{{name}:?set {name} to " in STACK.read_text(encoding="utf-8")


@pytest.mark.parametrize("stack", [STACK, PREFECT_STACK], ids=["autoflow", "prefect"])
def test_every_other_variable_of_a_stack_has_a_default(stack: Path) -> None:
    variables = variables_of(stack)
    assert variables
    assert all(re.match(r"\$\{[A-Z_]+:[-?]", variable) for variable in variables)


@pytest.mark.parametrize("stack", [STACK, PREFECT_STACK], ids=["autoflow", "prefect"])
def test_variables_of_a_stack_are_documented(stack: Path) -> None:
    documented = re.findall(r"`([A-Z_]+)`", page("how-to/stack.md") + page("how-to/prefect-server.md"))
    assert {re.findall("[A-Z_]+", variable)[0] for variable in variables_of(stack)} <= set(documented)


def test_every_setting_reaches_autoflow_in_a_stack() -> None:
    addition = yaml.safe_load(code("yaml", OTHER_SETTINGS))
    given = {"AUTOFLOW_INPUTS_DIR", "AUTOFLOW_OUTPUTS_DIR", "AUTOFLOW_DASK_SCHEDULER", "AUTOFLOW_WORKER_SLOTS"}
    for service in (content["services"]["autoflow"] for content in (loaded(STACK), addition)):
        given |= service["environment"].keys() | secrets_of(service)
    # The image sets some, and the token is a secret.
    given |= {*image_environment(), "FLOWAPI_TOKEN_FILE"}
    documented = names(page("reference/settings.md"), "variable")
    assert [name for name in documented if name not in given and not name.startswith("PREFECT_")] == []


def test_settings_that_a_stack_leaves_empty_are_at_their_defaults(deployed: Deployed) -> None:
    environment = loaded(STACK)["services"]["autoflow"]["environment"]
    empty = {name: "" for name, value in environment.items() if value == f"${{{name}:-}}"}
    assert {"AUTOFLOW_NOTIFY_AFTER", "AUTOFLOW_REPORT_URL_BASE", "AUTOFLOW_FLOWAPI_TIMEOUT"} <= empty.keys()
    assert deployed.settings(**empty).model_dump() == deployed.settings(AUTOFLOW_FORKED_KERNELS="true").model_dump()


def test_example_of_an_additional_stack_file_defines_all_that_it_names() -> None:
    addition = yaml.safe_load(code("yaml", OTHER_SETTINGS))
    service = addition["services"]["autoflow"]
    assert addition["version"] == loaded(STACK)["version"]
    assert addition["secrets"] == {name: {"external": True} for name in secrets_of(service)}
    (config,) = service["configs"]
    assert addition["configs"] == {config["source"]: {"external": True}}
    assert service["environment"]["SSL_CERTIFICATE_FILE"] == config["target"]
    commands = code("bash", OTHER_SETTINGS)
    assert all(f" {name} " in commands for name in (*addition["secrets"], *addition["configs"]))


def test_inputs_are_mounted_read_only() -> None:
    (inputs,) = (
        volume
        for volume in loaded(STACK)["services"]["autoflow"]["volumes"]
        if volume["target"] == image_environment()["AUTOFLOW_INPUTS_DIR"]
    )
    assert inputs["read_only"] is True


@pytest.mark.parametrize("stack", [STACK, PREFECT_STACK], ids=["autoflow", "prefect"])
def test_secrets_of_a_stack_are_docker_secrets_of_the_same_names_or_of_others_that_are_set(stack: Path) -> None:
    content = loaded(stack)
    used = set().union(*map(secrets_of, content["services"].values()))
    assert content["secrets"] == {
        name: {"external": True, "name": f"${{{name}_SECRET:-{name}}}"} for name in sorted(used)
    }


def test_autoflow_gets_its_password_and_its_token_as_secrets_only() -> None:
    service = loaded(STACK)["services"]["autoflow"]
    assert secrets_of(service) == {"AUTOFLOW_DB_PASSWORD", "FLOWAPI_TOKEN"}
    assert not secrets_of(service) & service["environment"].keys()
    assert "{}" in service["environment"]["AUTOFLOW_DB_URI"]


def test_database_is_reachable_by_autoflow_alone() -> None:
    content = loaded(STACK)
    (network,) = content["services"]["database"]["networks"]
    assert content["networks"][network]["internal"] is True
    assert "ports" not in content["services"]["database"]
    assert [name for name, each in content["services"].items() if network in each["networks"]] == [
        "autoflow",
        "database",
    ]


def test_prefects_database_is_reachable_by_prefect_alone() -> None:
    content = loaded(PREFECT_STACK)
    (network,) = content["services"]["prefect-database"]["networks"]
    assert content["networks"][network]["internal"] is True
    assert [name for name, each in content["services"].items() if network in each["networks"]] == [
        "prefect",
        "prefect-database",
    ]


def test_autoflow_has_a_network_that_leads_outside() -> None:
    content = loaded(STACK)
    outside = [
        name
        for name in content["services"]["autoflow"]["networks"]
        if not content["networks"][name].get("internal", False)
    ]
    assert outside == ["flowapi"]


@pytest.mark.parametrize("service", list(services()))
def test_service_has_limits_and_is_restarted_even_after_success(service: Mapping[str, Any]) -> None:
    assert service["deploy"]["restart_policy"]["condition"] in {"any", "${AUTOFLOW_RESTART:-any}"}
    assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory"}


@pytest.mark.parametrize("service", list(services()))
def test_service_or_its_image_has_a_health_check(service: Mapping[str, Any]) -> None:
    of_image = "flowminder/autoflow" in service["image"] and "entrypoint" not in service
    assert of_image or service["healthcheck"]["test"]


def test_runs_are_stopped_before_the_engine_kills_autoflow() -> None:
    service = loaded(STACK)["services"]["autoflow"]
    grace = float(service["environment"]["AUTOFLOW_SHUTDOWN_GRACE"])
    assert grace + 5 < float(service["stop_grace_period"].removesuffix("s"))
    docker_stop_waits = 10
    assert float(image_environment()["AUTOFLOW_SHUTDOWN_GRACE"]) + 5 < docker_stop_waits
