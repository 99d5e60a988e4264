"""The container's files, as far as they can be checked without a container engine."""

import hashlib
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from autoflow.model.opening import PAGE_NAME
from autoflow.page.data_files import FOLDER_NAME
from autoflow.reports.fonts import LATIN, MONOSPACED, SCRIPTS
from autoflow.settings import CONFIG_KEYS, PRELOAD, Settings
from tests.conftest import Deployed
from tests.test_docs import README, names, page

ROOT = Path(__file__).resolve().parent.parent
STACK = ROOT / "docker-stack.yml"
PREFECT_STACK = ROOT / "docker-stack.prefect.yml"
CLUSTER_STACK = ROOT / "docker-stack.cluster.yml"
STACKS = (STACK, PREFECT_STACK, CLUSTER_STACK)
COMPOSE = ROOT / "compose.yml"
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
LOCK = json.loads((ROOT / "Pipfile.lock").read_text(encoding="utf-8"))
DEFAULT_PACKAGES = LOCK["default"]


def loaded(stack: Path) -> Mapping[str, Any]:
    content: Mapping[str, Any] = yaml.safe_load(stack.read_text(encoding="utf-8"))
    return content


def services() -> Iterator[Any]:
    for stack in STACKS:
        for name, service in loaded(stack)["services"].items():
            if "image" in service:  # otherwise it is an addition to a service of the other file
                yield pytest.param(service, id=name)


def secrets_of(service: Mapping[str, Any]) -> set[str]:
    return {each if isinstance(each, str) else each["source"] for each in service.get("secrets", ())}


def names_of_secrets(service: Mapping[str, Any]) -> set[str]:
    """Return the names under which a service sees its secrets."""
    return {each if isinstance(each, str) else each["target"] for each in service.get("secrets", ())}


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


def requirements(*sections: str) -> list[str]:
    printed = subprocess.run(
        [sys.executable, "-I", "-S", ROOT / "scripts" / "requirements.py", ROOT / "Pipfile.lock", *sections],
        capture_output=True,
        check=True,
        text=True,
    )
    return printed.stdout.splitlines()


def test_requirements_are_the_packages_that_are_locked_and_no_others() -> None:
    names = [re.split(r"[\[=]", line, maxsplit=1)[0] for line in requirements()]
    assert names == list(DEFAULT_PACKAGES)


def test_requirements_of_a_cluster_are_the_usual_ones_and_those_of_its_section() -> None:
    added = set(requirements("cluster")) - set(requirements())
    names = {re.split(r"[\[=]", line, maxsplit=1)[0] for line in added}
    assert names == LOCK["cluster"].keys() - DEFAULT_PACKAGES.keys()
    assert {"dask", "distributed"} <= names
    assert set(requirements()) < set(requirements("cluster"))


def test_package_that_two_sections_lock_differently_is_refused(tmp_path: Path) -> None:
    lock = tmp_path / "Pipfile.lock"
    versions = {"default": "==1", "cluster": "==2"}
    lock.write_text(json.dumps({name: {"thing": {"version": each}} for name, each in versions.items()}))
    command = [sys.executable, str(ROOT / "scripts" / "requirements.py"), str(lock), "cluster"]
    ended = subprocess.run(command, capture_output=True, check=False, text=True)
    assert ended.returncode != 0
    assert "thing is locked to two versions" in ended.stderr


@pytest.mark.parametrize(("argument", "sections"), [("true", ["cluster"]), ("false", []), ("", None), ("yes", None)])
def test_image_has_the_packages_for_a_cluster_if_a_build_argument_says_so(
    tmp_path: Path, argument: str, sections: list[str] | None
) -> None:
    assert re.findall(r"^ARG CLUSTER=(.*)$", DOCKERFILE, re.MULTILINE) == ["false"]
    (choice,) = re.findall(r"^RUN (case .*? esac) \\$", DOCKERFILE, re.MULTILINE | re.DOTALL)
    script = f"{choice}\necho $sections"
    ended = subprocess.run(
        ["sh", "-c", script], env={"CLUSTER": argument}, cwd=tmp_path, capture_output=True, check=False, text=True
    )
    assert ended.returncode == (1 if sections is None else 0)
    assert ended.stdout.split() == (sections or [])
    assert sections is not None or f"CLUSTER is '{argument}', neither true nor false" in ended.stderr


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
    folders = {CONFIG_KEYS[f"outputs.{name}"].rpartition("/")[2] for name in ("notebooks_dir", "reports_dir")} | {
        FOLDER_NAME
    }
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


@pytest.mark.parametrize("stack", STACKS, ids=lambda stack: stack.name)
def test_every_other_variable_of_a_stack_has_a_default(stack: Path) -> None:
    variables = variables_of(stack)
    assert variables
    assert all(re.match(r"\$\{[A-Z_]+:[-?]", variable) for variable in variables)


@pytest.mark.parametrize("stack", STACKS, ids=lambda stack: stack.name)
def test_variables_of_a_stack_are_documented(stack: Path) -> None:
    documented = re.findall(
        r"`([A-Z_]+)`", "".join(map(page, ("how-to/stack.md", "how-to/prefect-server.md", "how-to/cluster.md")))
    )
    assert {re.findall("[A-Z_]+", variable)[0] for variable in variables_of(stack)} <= set(documented)


def test_every_setting_reaches_autoflow_in_a_stack() -> None:
    addition = yaml.safe_load(code("yaml", OTHER_SETTINGS))
    given = {"AUTOFLOW_INPUTS_DIR", "AUTOFLOW_OUTPUTS_DIR"}
    of_cluster = loaded(CLUSTER_STACK)["services"]
    for service in (loaded(STACK)["services"]["autoflow"], addition["services"]["autoflow"], *of_cluster.values()):
        given |= service.get("environment", {}).keys() | names_of_secrets(service)
    # The image sets some, and the token is a secret.
    given |= {*image_environment(), "FLOWAPI_TOKEN_FILE"}
    documented = names(page("reference/settings.md"), "variable")
    assert [name for name in documented if name not in given and not name.startswith("PREFECT_")] == []


def test_settings_that_a_stack_leaves_empty_are_at_their_defaults(deployed: Deployed) -> None:
    environment = loaded(STACK)["services"]["autoflow"]["environment"]
    empty = {name: "" for name, value in environment.items() if value == f"${{{name}:-}}"}
    assert {"AUTOFLOW_NOTIFY_AFTER", "AUTOFLOW_REPORT_URL_BASE", "AUTOFLOW_FLOWAPI_TIMEOUT"} <= empty.keys()
    defaults = {"AUTOFLOW_FORKED_KERNELS": "true", "AUTOFLOW_PRELOAD": ",".join(PRELOAD)}
    assert deployed.settings(**empty).model_dump() == deployed.settings(**defaults).model_dump()


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


@pytest.mark.parametrize("stack", STACKS, ids=lambda stack: stack.name)
def test_secrets_of_a_stack_are_docker_secrets_of_the_same_names_or_of_others_that_are_set(stack: Path) -> None:
    content = loaded(stack)
    used = set().union(*map(secrets_of, content["services"].values()))
    others = set() if stack == STACK else loaded(STACK)["secrets"].keys()
    assert content["secrets"] == {
        name: {"external": True, "name": f"${{{name}_SECRET:-{name}}}"} for name in sorted(used - others)
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
    ends = service.get("configs") == loaded(CLUSTER_STACK)["services"]["worker-role"]["configs"]
    conditions = {"on-failure"} if ends else {"any", "${AUTOFLOW_RESTART:-any}"}
    assert service["deploy"]["restart_policy"]["condition"] in conditions
    assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory"}


@pytest.mark.parametrize("service", list(services()))
def test_service_or_its_image_has_a_health_check(service: Mapping[str, Any]) -> None:
    is_daemon = "flowminder/autoflow" in service["image"] and not {"entrypoint", "command"} & service.keys()
    # The daemon leaves out a worker that does not respond. The role of workers is made once.
    has_none = service.get("healthcheck") == {"disable": True}
    assert is_daemon or has_none or service["healthcheck"]["test"]
    assert not has_none or {"worker_role", "FLOWAPI_TOKEN"} & {
        *secrets_of(service),
        *(each["source"] for each in service.get("configs", ())),
    }


def test_runs_are_stopped_before_the_engine_kills_autoflow() -> None:
    service = loaded(STACK)["services"]["autoflow"]
    grace = float(service["environment"]["AUTOFLOW_SHUTDOWN_GRACE"])
    assert grace + 5 < float(service["stop_grace_period"].removesuffix("s"))
    docker_stop_waits = 10
    assert float(image_environment()["AUTOFLOW_SHUTDOWN_GRACE"]) + 5 < docker_stop_waits


def cluster(name: str) -> Mapping[str, Any]:
    service: Mapping[str, Any] = loaded(CLUSTER_STACK)["services"][name]
    return service


def test_services_of_a_cluster_find_the_scheduler_where_it_listens() -> None:
    services = [cluster(name) for name in ("autoflow", "scheduler", "worker")]
    assert {service["environment"]["AUTOFLOW_DASK_SCHEDULER"] for service in services} == {"tls://scheduler:8786"}
    assert '("127.0.0.1", 8786)' in cluster("scheduler")["healthcheck"]["test"][-1]
    assert all("cluster" in service["networks"] for service in services)
    assert loaded(CLUSTER_STACK)["networks"]["cluster"]["internal"] is True
    assert all(AUTHORITY | {"AUTOFLOW_DASK_CERT"} <= names_of_secrets(service) for service in services)


AUTHORITY = {"AUTOFLOW_DASK_CA"}


def test_scheduler_gets_its_certificate_and_no_other_secret() -> None:
    assert secrets_of(cluster("scheduler")) == AUTHORITY | {"AUTOFLOW_DASK_CERT_SCHEDULER"}
    assert cluster("scheduler")["networks"] == ["cluster"]
    assert not [volume for volume in cluster("scheduler")["volumes"] if volume["type"] != "tmpfs"]


def test_workers_get_the_token_and_a_database_role_of_their_own() -> None:
    worker = cluster("worker")
    assert secrets_of(worker) == AUTHORITY | {
        "AUTOFLOW_DASK_CERT_WORKER",
        "AUTOFLOW_WORKER_DB_PASSWORD",
        "FLOWAPI_TOKEN",
    }
    assert names_of_secrets(worker) == AUTHORITY | {"AUTOFLOW_DASK_CERT", "AUTOFLOW_DB_PASSWORD", "FLOWAPI_TOKEN"}
    assert urlsplit(worker["environment"]["AUTOFLOW_DB_URI"]).username == "autoflow_worker"
    base = loaded(STACK)["services"]["autoflow"]["environment"]
    assert worker["environment"]["AUTOFLOW_DB_URI"] == base["AUTOFLOW_DB_URI"].replace(
        "//autoflow:", "//autoflow_worker:"
    )
    same = worker["environment"].keys() & base.keys() - {"AUTOFLOW_DB_URI", "AUTOFLOW_SHUTDOWN_GRACE"}
    assert {name: worker["environment"][name] for name in same} == {name: base[name] for name in same}


def test_daemon_and_workers_have_the_same_folders() -> None:
    of_daemon, of_worker = (
        {each["target"]: each for each in cluster(name)["volumes"] if each["type"] == "volume"}
        for name in ("autoflow", "worker")
    )
    prefect = of_daemon.pop(cluster("autoflow")["environment"]["PREFECT_HOME"])
    assert of_daemon == of_worker
    assert {*of_worker} == {image_environment()[f"AUTOFLOW_{name}_DIR"] for name in ("INPUTS", "OUTPUTS")}
    assert of_worker["/mounts/inputs"]["read_only"] is True
    volumes = loaded(CLUSTER_STACK)["volumes"]
    assert [volumes[each["source"]]["driver_opts"]["type"] for each in of_worker.values()] == ["nfs", "nfs"]
    assert volumes[prefect["source"]] is None
    assert f"--mode 1777 {prefect['target']}\n" in DOCKERFILE


def test_workers_run_once_on_each_node_with_the_label() -> None:
    deploy = cluster("worker")["deploy"]
    assert deploy["mode"] == "global"
    assert deploy["placement"]["constraints"] == ["${AUTOFLOW_WORKER_NODES:-node.labels.autoflow-worker == true}"]
    assert "docker node update --label-add autoflow-worker=true" in page("how-to/cluster.md")


def test_database_of_a_cluster_is_reachable_by_those_who_read_claims() -> None:
    services = loaded(CLUSTER_STACK)["services"]
    assert {name for name, each in services.items() if "database" in each["networks"]} == {"worker", "worker-role"}
    outside = {name for name, each in services.items() if "flowapi" in each["networks"]}
    assert outside == {"worker"}


def test_role_of_workers_is_made_by_the_script_as_it_is() -> None:
    stack = loaded(CLUSTER_STACK)
    config = stack["configs"][cluster("worker-role")["configs"][0]["source"]]
    script = ROOT / config["file"]
    # Docker refuses to change a config of the same name.
    assert config["name"] == f"autoflow_worker_role_{hashlib.sha256(script.read_bytes()).hexdigest()[:8]}"
    command = cluster("worker-role")["entrypoint"][-1]
    assert command.endswith(f"--file={cluster('worker-role')['configs'][0]['target']}")
    assert secrets_of(cluster("worker-role")) == {"AUTOFLOW_DB_PASSWORD", "AUTOFLOW_WORKER_DB_PASSWORD"}
    assert "/run/secrets/AUTOFLOW_WORKER_DB_PASSWORD" in script.read_text(encoding="utf-8")


def test_workers_end_before_the_engine_kills_them() -> None:
    grace = cluster("worker")["environment"]["AUTOFLOW_SHUTDOWN_GRACE"]
    assert grace == "${AUTOFLOW_WORKER_GRACE:-600}"
    assert cluster("worker")["stop_grace_period"] == "24h"


def composed(**environ: str) -> "subprocess.CompletedProcess[str]":
    """Have docker compose check compose.yml, and print what it would start."""
    command = ["docker-compose", "--file", str(COMPOSE), "config"]
    environ = {"PATH": os.environ["PATH"], **environ}
    return subprocess.run(command, env=environ, capture_output=True, check=False, text=True, cwd=COMPOSE.parent)


@pytest.fixture(scope="module")
def compose_environ(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Return what has to be set for compose.yml."""
    folder = str(tmp_path_factory.mktemp("compose"))
    folders = dict.fromkeys(("AUTOFLOW_INPUTS_DIR", "AUTOFLOW_OUTPUTS_DIR", "AUTOFLOW_SECRETS_DIR"), folder)
    return {**folders, "FLOWAPI_URL": "http://host.docker.internal:9090"}


@pytest.fixture(scope="module")
def compose_service(compose_environ: Mapping[str, str]) -> Mapping[str, Any]:
    """Return AutoFlow's service as docker compose understands compose.yml."""
    checked = composed(**compose_environ)
    assert checked.returncode == 0, checked.stderr
    services: Mapping[str, Any] = yaml.safe_load(checked.stdout)["services"]
    assert list(services) == ["autoflow"]
    service: Mapping[str, Any] = services["autoflow"]
    return service


def test_compose_file_without_a_variable_is_refused_and_names_it(compose_environ: Mapping[str, str]) -> None:
    required = re.findall(r"\$\{([A-Z_]+):\?", COMPOSE.read_text(encoding="utf-8"))
    assert set(required) == compose_environ.keys()
    name = required[0]
    refused = composed(**{**compose_environ, name: ""})
    assert refused.returncode != 0
    assert f"set {name} to " in refused.stderr


def test_variables_of_the_compose_file_are_documented_and_have_defaults_unless_they_are_required() -> None:
    variables = variables_of(COMPOSE)
    assert all(re.match(r"\$\{[A-Z_]+:[-?]", variable) for variable in variables)
    documented = set(re.findall(r"`([A-Z_]+)`", page("how-to/compose.md")))
    assert {re.findall("[A-Z_]+", variable)[0] for variable in variables} <= documented


def test_settings_of_the_compose_file_are_those_of_the_stack(compose_service: Mapping[str, Any]) -> None:
    given = {*compose_service["environment"], *image_environment()}
    stack = loaded(STACK)["services"]["autoflow"]["environment"].keys()
    assert stack - given == {"AUTOFLOW_MAX_RUNS_PER_TICK"}


def test_settings_that_the_compose_file_leaves_empty_are_at_their_defaults(
    compose_service: Mapping[str, Any], deployed: Deployed
) -> None:
    empty = {name: "" for name, value in compose_service["environment"].items() if not value}
    assert {"AUTOFLOW_DB_URI", "AUTOFLOW_PRELOAD"} <= empty.keys()
    defaults = {"AUTOFLOW_FORKED_KERNELS": "true", "AUTOFLOW_PRELOAD": ",".join(PRELOAD)}
    assert deployed.settings(**empty).model_dump() == deployed.settings(**defaults).model_dump()


def test_container_of_the_compose_file_has_few_privileges_and_is_for_this_machine_only(
    compose_service: Mapping[str, Any],
) -> None:
    assert compose_service["read_only"] is True
    assert compose_service["cap_drop"] == ["ALL"]
    # As they are written: versions of docker compose print them differently.
    ports = loaded(COMPOSE)["services"]["autoflow"]["ports"]
    assert [port.partition(":")[0] for port in ports] == ["127.0.0.1", "127.0.0.1"]
    targets = {volume["target"]: volume.get("read_only", False) for volume in compose_service["volumes"]}
    assert targets == {"/mounts/inputs": True, "/mounts/outputs": False, "/run/secrets": True, "/tmp": False}


def test_runs_of_the_compose_file_are_stopped_before_the_engine_kills_autoflow(
    compose_service: Mapping[str, Any],
) -> None:
    grace = float(compose_service["environment"]["AUTOFLOW_SHUTDOWN_GRACE"])
    assert grace + 5 < float(compose_service["stop_grace_period"].removesuffix("s"))
    assert compose_service["restart"] == "unless-stopped"
