import datetime
import json
import queue
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from autoflow.cli import main
from autoflow.errors import AutoflowError, FlowApiError, NotebookError, SettingsError
from autoflow.notify import NOTICES_FILE, Notifier
from autoflow.runs.records import RunKey, RunState
from autoflow.runs.retries import RetryPolicy
from autoflow.runs.run import EndedRun, NotebookOutputs, Outcome, WorkflowRun
from autoflow.settings import Settings
from autoflow.specs import NotebookSpec, WorkflowSpec
from examples.flowapi import ExampleFlowApi
from tests.conftest import TOKEN_OF_NO_USE, Deployed, write_notebook
from tests.test_acceptance import environment

# Apprise's own, as its plugins are imported.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

NOW = datetime.datetime(2026, 1, 1, 12)
SPEC = WorkflowSpec(name="flows", notebooks=(NotebookSpec(label="n", path=Path("/inputs/n.ipynb")),))


@dataclass(frozen=True)
class Receiver:
    """Where messages arrive."""

    url: str
    messages: "queue.Queue[dict[str, str]]"

    def titles(self) -> list[str]:
        return [self.messages.get_nowait()["title"] for _ in range(self.messages.qsize())]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    messages: queue.Queue[dict[str, str]] = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            messages.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        yield Receiver(f"json://127.0.0.1:{server.server_port}/", messages)
        server.shutdown()


def ended(state: RunState, settings: Settings, *, failures: int = 0, error: AutoflowError | None = None) -> EndedRun:
    outcome = Outcome(outputs={"n": NotebookOutputs(settings.notebooks_dir / "a b.ipynb")})
    if error:
        outcome.errors["n"] = error
    date = datetime.date(2016, 1, 5)
    run = WorkflowRun(
        workflow=SPEC, parameters={}, reference_date=date, date_ranges=(), failures=failures, retry=RetryPolicy(60, 2)
    )
    return EndedRun(run=run, state=state, outcome=outcome)


def test_one_message_is_sent_for_a_run_that_is_given_up_even_after_a_restart_and_one_for_its_success(
    deployed: Deployed, receiver: Receiver
) -> None:
    settings = deployed.settings(
        AUTOFLOW_NOTIFY_URLS=receiver.url, AUTOFLOW_REPORT_URL_BASE="https://reports.example.org/x/"
    )
    error = NotebookError("n", 3, "ValueError", f"no data {TOKEN_OF_NO_USE}")
    with Notifier(settings) as notifier:
        notifier.run_ended(ended(RunState.FAILED, settings, failures=0, error=error))
    assert receiver.titles() == []

    given_up = ended(RunState.FAILED, settings, failures=1, error=error)
    with Notifier(settings) as notifier:
        notifier.run_ended(given_up)
    message = receiver.messages.get_nowait()
    assert message["title"] == "AutoFlow: flows 2016-01-05 was given up"
    assert "notebook 'n', cell 3: ValueError: no data [secret]" in message["message"]
    assert "https://reports.example.org/x/notebooks/a%20b.ipynb" in message["message"]

    with Notifier(settings) as notifier:
        notifier.given_up([given_up.run.key])
    assert receiver.titles() == []

    # A user requested a retry, which failed, too.
    with Notifier(settings) as notifier:
        notifier.run_ended(given_up)
        notifier.given_up([given_up.run.key])
    assert receiver.titles() == ["AutoFlow: flows 2016-01-05 was given up"]

    for _ in range(2):
        with Notifier(settings) as notifier:
            notifier.run_ended(ended(RunState.SUCCEEDED, settings))
    assert receiver.titles() == ["AutoFlow: flows 2016-01-05 succeeded"]


def test_many_runs_that_are_given_up_make_one_message(deployed: Deployed, receiver: Receiver) -> None:
    settings = deployed.settings(AUTOFLOW_NOTIFY_URLS=receiver.url)
    keys = [RunKey.of("flows", {}, datetime.date(2016, 1, number)) for number in range(1, 29)]
    with Notifier(settings) as notifier:
        notifier.given_up(keys)
    message = receiver.messages.get_nowait()
    assert message["title"] == "AutoFlow: 28 runs were given up"
    assert message["message"].splitlines()[-2:] == ["flows 2016-01-20", "…"]


def test_one_message_is_sent_for_a_flowapi_that_keeps_failing_and_one_for_its_recovery(
    deployed: Deployed, receiver: Receiver
) -> None:
    settings = deployed.settings(AUTOFLOW_NOTIFY_URLS=receiver.url, AUTOFLOW_NOTIFY_AFTER="3600")
    error = FlowApiError(f"Token {TOKEN_OF_NO_USE} has expired")
    titles = []
    for minutes in (0, 59, 60, 61, 600):
        now = NOW + datetime.timedelta(minutes=minutes)
        with Notifier(settings, clock=lambda now=now: now) as notifier:  # type: ignore[misc]
            notifier.flowapi_failed(error)
        titles.append(receiver.titles())
    assert titles == [[], [], ["AutoFlow: FlowAPI is failing"], [], []]

    with Notifier(settings) as notifier:
        notifier.flowapi_works()
        notifier.flowapi_works()
    assert receiver.titles() == ["AutoFlow: FlowAPI works again"]


def test_a_failure_of_flowapi_that_began_while_the_clock_was_ahead_is_told_after_the_usual_time(
    deployed: Deployed, receiver: Receiver
) -> None:
    settings = deployed.settings(AUTOFLOW_NOTIFY_URLS=receiver.url, AUTOFLOW_NOTIFY_AFTER="3600")
    told = []
    for minutes in (365 * 24 * 60, 0, 59, 60):
        now = NOW + datetime.timedelta(minutes=minutes)
        with Notifier(settings, clock=lambda now=now: now) as notifier:  # type: ignore[misc]
            notifier.flowapi_failed(FlowApiError("down"))
        told.append(receiver.titles())
    assert told == [[], [], [], ["AutoFlow: FlowAPI does not work"]]


@pytest.mark.parametrize(
    "broken",
    ["[]", '{"given_up": null, "flowapi_failing_since": 7}', '{"given_up": [7], "flowapi_failing_since": "x"}'],
)
def test_messages_are_sent_again_if_the_file_of_notices_is_broken(
    deployed: Deployed, receiver: Receiver, broken: str
) -> None:
    settings = deployed.settings(AUTOFLOW_NOTIFY_URLS=receiver.url, AUTOFLOW_NOTIFY_AFTER="0")
    settings.outputs_dir.mkdir(exist_ok=True)
    (settings.outputs_dir / NOTICES_FILE).write_text(broken)
    with Notifier(settings) as notifier:
        notifier.flowapi_failed(FlowApiError("it is gone"))
        notifier.flowapi_works()
        notifier.given_up([RunKey.of("flows", {}, datetime.date(2016, 1, 5))])
    assert receiver.titles() == [
        "AutoFlow: FlowAPI is failing",
        "AutoFlow: FlowAPI works again",
        "AutoFlow: flows 2016-01-05 was given up",
    ]


def test_no_message_is_sent_for_a_short_failure_of_flowapi(deployed: Deployed, receiver: Receiver) -> None:
    settings = deployed.settings(AUTOFLOW_NOTIFY_URLS=receiver.url)
    with Notifier(settings) as notifier:
        notifier.flowapi_failed(FlowApiError("it is down"))
        notifier.flowapi_works()
    assert receiver.titles() == []


def test_a_message_that_cannot_be_sent_is_one_warning_without_the_url(deployed: Deployed, logged: list[str]) -> None:
    settings = deployed.settings(AUTOFLOW_NOTIFY_URLS="json://user:my-password@127.0.0.1:9/my-path")
    with Notifier(settings) as notifier:
        notifier.given_up([RunKey.of("flows", {}, datetime.date(2016, 1, 1))])
    (line,) = logged
    assert "could not send a message" in line
    assert not any(secret in line for secret in ("my-password", "127.0.0.1", "my-path"))


def test_unsupported_urls_are_reported_by_their_number_only(deployed: Deployed, receiver: Receiver) -> None:
    settings = deployed.settings(AUTOFLOW_NOTIFY_URLS=f"{receiver.url}, nonsense://my-password")
    with pytest.raises(SettingsError, match=r"^AUTOFLOW_NOTIFY_URLS: number 2 is not a URL that Apprise supports$"):
        Notifier(settings)
    with pytest.raises(SettingsError, match=r"^AUTOFLOW_NOTIFY_URLS: number 1 is not a URL such as"):
        deployed.settings(AUTOFLOW_NOTIFY_URLS="my-password")
    assert tuple(url.get_secret_value() for url in settings.notify_urls) == (receiver.url, "nonsense://my-password")
    assert "nonsense://my-password" in settings.secrets
    assert "AUTOFLOW_NOTIFY_URLS" not in settings.kernel_environ
    assert "my-password" not in repr(settings)


@pytest.mark.usefixtures("log_as_before")
def test_messages_are_sent_after_the_last_attempt_of_a_failing_notebook_and_when_it_works_again(
    deployed: Deployed, receiver: Receiver, example_flowapi: ExampleFlowApi, prefect_running: Mapping[str, str]
) -> None:
    def deploy(source: str, max_attempts: int) -> None:
        write_notebook(deployed.inputs / "n.ipynb", source)
        deployed.write_workflows(f"""
            workflows: [{{name: simple, notebooks: {{n: {{filename: n.ipynb}}}}}}]
            available_dates_sensor:
              schedule: null
              workflows:
                - {{workflow_name: simple, earliest_date: 2016-01-12, retry_delay: 0, max_attempts: {max_attempts}}}
        """)

    environ = environment(deployed, example_flowapi, AUTOFLOW_NOTIFY_URLS=receiver.url, **prefect_running)
    titles = []
    for source, max_attempts in (("1 / 0", 2), ("1 / 0", 2), ("1 / 0", 2), ("1 / 1", 3)):
        deploy(source, max_attempts)
        main([], environ)
        titles.append(receiver.titles())
    given_up, recovered = ["AutoFlow: simple 2016-01-12 was given up"], ["AutoFlow: simple 2016-01-12 succeeded"]
    assert titles == [[], given_up, [], recovered]
