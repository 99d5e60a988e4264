"""What AutoFlow uses of Prefect and docket beyond their public API, in `orchestration/prefect_*_internals.py`.

If one of these tests fails after an upgrade, read the docstring of what it tests. Without these tests, AutoFlow
would replace a name that is gone, without an error and without an effect.
"""

import ast
import asyncio
import dataclasses
import functools
import inspect
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docket.worker
import httpx
import prefect
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.context import SyncClientContext, TagsContext
from prefect.events.worker import EventsWorker
from prefect.flow_engine import FlowRunEngine, run_flow
from prefect.logging.configuration import DEFAULT_LOGGING_SETTINGS_PATH, load_logging_config
from prefect.logging.handlers import APILogWorker
from prefect.server.api import background_workers
from prefect.server.database import provide_database_interface
from prefect.server.database.configurations import AioSqliteConfiguration
from prefect.server.database.dependencies import MODELS_DEPENDENCIES
from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL
from prefect.settings.context import get_current_settings
from prefect.settings.models.flows import FlowsSettings
from prefect.settings.models.root import Settings
from prefect.settings.models.server.database import ServerDatabaseSettings
from pydantic import AliasChoices, BaseModel, SecretStr
from sqlalchemy import text

from autoflow.orchestration.flow_runs import FlowRuns, result_storage
from autoflow.orchestration.prefect_api import client_environment, server_environment
from autoflow.orchestration.prefect_client_internals import disable_heartbeats, prefect_queues_flushed
from autoflow.orchestration.prefect_server_internals import (
    CalmWorker,
    PatientSqliteConfiguration,
    check_background_tasks_every,
    set_database_url,
    use_patient_sqlite,
)
from tests.conftest import Deployed

ROOT = Path(__file__).resolve().parents[2]

INTERNAL = {
    "docket",
    "prefect.events.worker",
    "prefect.flow_engine",
    "prefect.logging.handlers",
    "prefect.server.api.background_workers",
    "prefect.server.database",
}
"""Modules that are not part of Prefect's public API."""

WRITERS = 12


def imports_of(file: Path) -> Iterator[str]:
    """Yield the dotted names that a file imports."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_only_the_two_modules_use_internals_of_prefect() -> None:
    users = {
        file.stem
        for file in (ROOT / "autoflow").rglob("*.py")
        for name in imports_of(file)
        if any(f"{name}.".startswith(f"{module}.") for module in INTERNAL) or name.startswith("prefect._")
    }
    assert users == {"prefect_client_internals", "prefect_server_internals"}


def test_daemon_does_not_import_prefects_server() -> None:
    """It would cost each start of the daemon a second, and memory for as long as it runs."""
    code = "import sys, autoflow.sensor, autoflow.workflows.connection; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert "autoflow.orchestration.prefect_client_internals" in modules.split()
    assert not {"docket", "fastapi", "prefect.runner", "prefect.server", "prefect.server.database"} & set(
        modules.split()
    )


def test_the_first_tick_runs_and_workers_need_no_prefect() -> None:
    """It takes a second to import."""
    ours = "autoflow.service, autoflow.app, autoflow.cli.run, autoflow.cli.worker, autoflow.cluster.worker"
    code = f"import sys, {ours}; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert {"autoflow.workflows.runner", "autoflow.cluster.worker"} <= {*modules.split()}
    assert "prefect" not in modules.split()


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (FlowRunEngine, "_flow_run_name_set"),
        (FlowRunEngine, "begin_run"),
        (FlowRunEngine, "call_flow_fn"),
        (FlowRunEngine, "call_hooks"),
        (FlowRunEngine, "client"),
        (FlowRunEngine, "create_flow_run"),
        (FlowRunEngine, "flow_run"),
        (FlowRunEngine, "heartbeat_seconds"),
        (FlowRunEngine, "is_running"),
        (FlowRunEngine, "run_context"),
        (FlowRunEngine, "setup_run_context"),
        (FlowRunEngine, "start"),
        (FlowRunEngine, "state"),
        (SyncPrefectClient, "create_flow"),
        (SyncPrefectClient, "get_scheduled_flow_runs_for_deployments"),
        (SyncPrefectClient, "read_flow_run"),
        (SyncPrefectClient, "request"),
        (SyncClientContext, "__enter__"),
        (SyncClientContext, "__exit__"),
        (EventsWorker, "drain_all"),
        (APILogWorker, "drain_all"),
        (AioSqliteConfiguration, "begin_transaction"),
        (background_workers, "Worker"),
        (docket.worker.Worker, "_cancellation_listener"),
    ],
)
def test_name_that_autoflow_uses_or_replaces_exists(owner: object, name: str) -> None:
    assert hasattr(owner, name)


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (run_flow, {"flow", "flow_run", "return_type"}),
        (EventsWorker.drain_all, {"timeout", "at_exit"}),
        (APILogWorker.drain_all, {"timeout", "at_exit"}),
        (FlowRunEngine, {"flow", "parameters"}),
        (FlowRunEngine.create_flow_run, {"client"}),
        (FlowRunEngine.setup_run_context, {"client"}),
        (SyncPrefectClient.get_scheduled_flow_runs_for_deployments, {"deployment_ids", "scheduled_before"}),
        (AioSqliteConfiguration, {"connection_url"}),
        (AioSqliteConfiguration.begin_transaction, {"session", "with_for_update"}),
        (docket.worker.Worker, {"minimum_check_interval", "scheduling_resolution"}),
        (TagsContext, {"current_tags"}),
    ],
)
def test_function_takes_the_arguments_that_autoflow_passes(function: Callable[..., Any], parameters: set[str]) -> None:
    assert parameters <= inspect.signature(function).parameters.keys()


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (FlowsSettings, "heartbeat_frequency"),
        (ServerDatabaseSettings, "connection_url"),
        (ServerDatabaseSettings, "migrate_on_start"),
    ],
)
def test_setting_that_autoflow_changes_at_run_time_exists(model: type[BaseModel], name: str) -> None:
    assert name in model.model_fields


def environment_variables(model: type[BaseModel]) -> Iterator[str]:
    """Yield the environment variables that a settings model of Prefect reads."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from environment_variables(field.annotation)
        elif isinstance(field.validation_alias, AliasChoices):
            yield from (choice.upper() for choice in field.validation_alias.choices if isinstance(choice, str))
        else:
            yield f"{model.model_config.get('env_prefix', '')}{name}".upper()


def test_environment_variables_that_autoflow_sets_are_settings_of_prefect(deployed: Deployed) -> None:
    settings = deployed.settings()
    ours = client_environment(settings, "http://127.0.0.1:4200/api") | server_environment(settings, {}, 4200)
    names = {name for name in ours if name.startswith("PREFECT_")} | {"PREFECT_CLIENT_CSRF_SUPPORT_ENABLED"}
    assert names - {"PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"} <= set(environment_variables(Settings))


def test_prefects_own_log_lines_can_be_turned_off_by_the_environment(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in client_environment(deployed.settings(), "").items():
        monkeypatch.setenv(name, value)
    loggers = load_logging_config(DEFAULT_LOGGING_SETTINGS_PATH)
    assert loggers["handlers"]["console"]["level"] == "CRITICAL"


def test_engine_has_no_heartbeat_once_they_are_disabled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(get_current_settings().flows, "heartbeat_frequency", 30)
    engine = FlowRunEngine[[], None](flow=prefect.Flow(lambda: None, name="beats"))
    assert engine.heartbeat_seconds == 30
    disable_heartbeats()
    assert engine.heartbeat_seconds is None


@pytest.mark.usefixtures("prefect_url")
def test_queues_that_are_flushed_can_be_used_again() -> None:
    before = EventsWorker.instance()
    with prefect_queues_flushed():
        pass
    assert EventsWorker.instance() is not before


@pytest.mark.usefixtures("prefect_url")
def test_run_takes_two_requests_once_its_flow_is_known(deployed: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    """One creates the run, one sets its final state; Prefect's own engine sends ten."""
    requests: list[tuple[str, str]] = []
    send = httpx.Client.send

    def noted(client: httpx.Client, request: httpx.Request, **arguments: Any) -> httpx.Response:
        requests.append((request.method, request.url.path.removeprefix("/api")))
        return send(client, request, **arguments)

    @prefect.flow(name="few requests", persist_result=False, result_storage=result_storage(deployed.settings()))
    def few_requests() -> None:
        pass

    with FlowRuns() as flow_runs:
        flow_runs.run(few_requests, {}, name="first", tags=[])
        monkeypatch.setattr(httpx.Client, "send", noted)
        assert flow_runs.run(few_requests, {}, name="second", tags=[]).is_completed()

    (created, ended) = requests
    assert created == ("POST", "/flow_runs/")
    assert ended[1].endswith("/set_state")


async def write_side_by_side(database: Path) -> list[int]:
    """Have writers read and then write at the same time; return them in the order in which they finished."""
    configuration = PatientSqliteConfiguration(connection_url=f"sqlite+aiosqlite:///{database}")
    engine = await configuration.engine()
    done: list[int] = []

    async def write(number: int) -> None:
        session = await configuration.session(engine)
        async with session, configuration.begin_transaction(session):
            count = await session.scalar(text("SELECT count(*) FROM t"))
            await asyncio.sleep(0)
            await session.execute(text("INSERT INTO t VALUES (:count)"), {"count": count})
            done.append(number)

    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE t (count INTEGER UNIQUE)"))
    await asyncio.gather(*map(write, range(WRITERS)))
    await engine.dispose()
    return done


def test_transactions_that_read_and_then_write_take_turns_in_their_order(tmp_path: Path) -> None:
    assert asyncio.run(write_side_by_side(tmp_path / "prefect.db")) == list(range(WRITERS))


def test_server_uses_the_patient_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(MODELS_DEPENDENCIES, "database_config", None)
    use_patient_sqlite(f"sqlite+aiosqlite:///{tmp_path}/prefect.db")
    assert isinstance(provide_database_interface().database_config, PatientSqliteConfiguration)


def test_url_of_the_database_is_set_where_prefect_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    database = get_current_settings().server.database
    monkeypatch.setattr(database, "connection_url", SecretStr("sqlite+aiosqlite:////a%20b/prefect.db"))
    assert set_database_url() == "sqlite+aiosqlite:////a%2520b/prefect.db"
    assert PREFECT_API_DATABASE_CONNECTION_URL.value() == "sqlite+aiosqlite:////a%2520b/prefect.db"


def test_background_worker_of_prefect_is_that_of_docket_and_can_be_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    assert vars(background_workers)["Worker"] is docket.worker.Worker
    monkeypatch.setitem(vars(background_workers), "Worker", docket.worker.Worker)
    check_background_tasks_every(2)
    replaced = vars(background_workers)["Worker"]
    assert isinstance(replaced, functools.partial)
    assert replaced.func is CalmWorker


def test_session_of_dockets_worker_has_what_the_calm_worker_needs() -> None:
    session = {field.name: field.type for field in dataclasses.fields(vars(docket.worker)["_ProcessingSession"])}
    assert session.items() >= {"stopping": "asyncio.Event", "cancellation_ready": "asyncio.Event"}.items()


def test_calm_worker_runs_tasks_and_stops() -> None:
    ran = []

    async def task() -> None:
        ran.append(1)

    async def run() -> None:
        async with docket.Docket(name="test", url="memory://") as tasks, CalmWorker(tasks) as worker:
            assert "_processing_session" in vars(worker)
            await tasks.add(task)()
            await worker.run_until_finished()

    asyncio.run(asyncio.wait_for(run(), 30))
    assert ran == [1]
