import datetime
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from autoflow.cli import main
from autoflow.dates.periods import Every
from autoflow.dates.stencil import DateStencil, PeriodOffset
from autoflow.errors import AutoflowError, NotebookError, SettingsError
from autoflow.messages.notices_file import NOTICES_FILE
from autoflow.messages.notifier import Notifier
from autoflow.messages.texts import LONGEST_REASON
from autoflow.model.store import RunStore
from autoflow.runs.attention import Attention, Condition, Need, stuck_condition
from autoflow.runs.changes import Change
from autoflow.runs.records import RunError, RunKey, RunState, WorkflowKey, utc_now
from autoflow.runs.retries import RetryPolicy
from autoflow.runs.run import EndedRun, NotebookOutputs, Outcome, WorkflowRun
from autoflow.runs.stuck import StuckRun
from autoflow.settings import Settings
from autoflow.specs import NotebookSpec, TriggerSpec, WorkflowSpec
from autoflow.workflows.stuck_watch import StuckWatch
from examples.flowapi import ExampleFlowApi
from tests.cli.test_health import WORKFLOWS
from tests.conftest import TOKEN_OF_NO_USE, Deployed, write_notebook
from tests.receiver import Receiver
from tests.test_acceptance import environment

# Apprise's own, as its plugins are imported.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

NOW = datetime.datetime(2026, 1, 1, 12)
SPEC = WorkflowSpec(name="flows", notebooks=(NotebookSpec(label="n", path=Path("/inputs/n.ipynb")),))


@pytest.fixture
def store(deployed: Deployed) -> Iterator[RunStore]:
    with closing(RunStore(deployed.settings().db_uri)) as store:
        store.migrate()
        yield store


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
    deployed: Deployed, receiver: Receiver, store: RunStore
) -> None:
    settings = deployed.settings(
        AUTOFLOW_NOTIFY_URLS=receiver.url, AUTOFLOW_REPORT_URL_BASE="https://reports.example.org/x/"
    )
    error = NotebookError("n", 3, "ValueError", f"no data {TOKEN_OF_NO_USE}")
    with Notifier(settings, store) as notifier:
        notifier.run_ended(ended(RunState.FAILED, settings, failures=0, error=error))
    assert receiver.titles() == []

    given_up = ended(RunState.FAILED, settings, failures=1, error=error)
    with Notifier(settings, store) as notifier:
        notifier.run_ended(given_up)
    message = receiver.messages.get_nowait()
    assert message["title"] == "AutoFlow: flows 2016-01-05 was given up"
    assert "notebook 'n', cell 3: ValueError: no data [secret]" in message["message"]
    assert "Cell 3: https://reports.example.org/x/notebooks/a%20b.html#cell-3" in message["message"]
    assert "Executed notebook: https://reports.example.org/x/notebooks/a%20b.ipynb" in message["message"]

    with Notifier(settings, store) as notifier:
        notifier.given_up([given_up.run.key])
    assert receiver.titles() == []

    # A user requested a retry, which failed, too.
    with Notifier(settings, store) as notifier:
        notifier.run_ended(given_up)
        notifier.given_up([given_up.run.key])
    assert receiver.titles() == ["AutoFlow: flows 2016-01-05 was given up"]

    for _ in range(2):
        with Notifier(settings, store) as notifier:
            notifier.run_ended(ended(RunState.SUCCEEDED, settings))
    assert receiver.titles() == ["AutoFlow: flows 2016-01-05 succeeded"]


def test_many_runs_that_are_given_up_make_one_message(deployed: Deployed, receiver: Receiver, store: RunStore) -> None:
    settings = deployed.settings(AUTOFLOW_NOTIFY_URLS=receiver.url)
    keys = [RunKey.of("flows", {}, datetime.date(2016, 1, number)) for number in range(1, 29)]
    with Notifier(settings, store) as notifier:
        notifier.given_up(keys)
    message = receiver.messages.get_nowait()
    assert message["title"] == "AutoFlow: flows 2016-01-01 and 27 more were given up"
    lines = message["message"].splitlines()
    assert [line for line in lines if line.startswith("flows")] == [f"flows 2016-01-{day:02}" for day in range(1, 21)]
    assert lines[-2] == "… and 8 more"


def test_a_message_names_what_tells_a_run_apart_why_it_failed_and_where(
    deployed: Deployed, receiver: Receiver, store: RunStore
) -> None:
    settings = deployed.settings(
        AUTOFLOW_NOTIFY_URLS=receiver.url, AUTOFLOW_REPORT_URL_BASE="https://reports.example.org"
    )
    north, south = ({"region": region, "level": 2} for region in ("north", "south"))
    keys = [RunKey.of("flows", parameters, datetime.date(2016, 1, 5)) for parameters in (north, south)]
    # The token begins before the limit and ends after it.
    error = RunError("ValueError", "z" * (LONGEST_REASON - 40) + TOKEN_OF_NO_USE, "n", 3)
    for key in keys:
        claim = store.claim(key)
        assert claim
        notebook = str(settings.notebooks_dir / f"{key.parameters_hash[:4]}.ipynb")
        store.finish(claim, RunState.FAILED, outputs={"n": {"notebook": notebook, "reports": []}}, error=error)

    with Notifier(settings, store) as notifier:
        notifier.follow([TriggerSpec(workflow=SPEC, parameters=north), TriggerSpec(workflow=SPEC, parameters=south)])
        notifier.given_up(keys)

    (message,) = receiver.taken()
    assert message["title"] == "AutoFlow: flows (region=north) 2016-01-05 and 1 more were given up"
    for key, region in zip(keys, ("north", "south"), strict=True):
        assert f"flows (region={region}) 2016-01-05\nnotebook 'n', cell 3: ValueError: zzz" in message["message"]
        for end in (".ipynb", ".html#cell-3"):
            assert f"https://reports.example.org/notebooks/{key.parameters_hash[:4]}{end}" in message["message"]
    assert TOKEN_OF_NO_USE[:12] not in message["message"]


def test_one_message_is_sent_for_each_change_of_days_even_after_restarts(
    deployed: Deployed, receiver: Receiver, store: RunStore
) -> None:
    settings = deployed.settings(AUTOFLOW_NOTIFY_URLS=receiver.url)
    stencil = DateStencil([PeriodOffset(0)], every=Every.WEEK)
    weekly = TriggerSpec(workflow=SPEC, label="north", every=Every.WEEK, date_stencil=stencil)
    key = WorkflowKey.of_trigger(weekly)
    days = [datetime.date(2016, 1, number) for number in (5, 6, 8)]
    first = Change(key.on(datetime.date(2016, 1, 10)), days, NOW)
    for found in ([first], [first], [], [first]):
        with Notifier(settings, store) as notifier:
            notifier.follow([weekly])
            notifier.days_changed(found)
    (message,) = receiver.taken()
    name = "flows:north week 2016-01-04 to 2016-01-10"
    assert message["title"] == f"AutoFlow: the data of {name} has changed"
    assert f"{name}: 2016-01-05 to 2016-01-06, 2016-01-08" in message["message"]

    again = replace(first, time=NOW + datetime.timedelta(days=1))
    daily = Change(RunKey.of("flows", {}, datetime.date(2016, 1, 10)), days[:1], NOW)
    for _ in range(2):
        with Notifier(settings, store) as notifier:
            notifier.follow([weekly])
            notifier.days_changed([again, daily])
    assert receiver.titles() == [f"AutoFlow: the data of {name} and 1 more has changed"]


def test_a_message_about_a_rerun_that_was_given_up_says_that_the_old_report_stays(
    deployed: Deployed, receiver: Receiver, store: RunStore
) -> None:
    settings = deployed.settings(AUTOFLOW_NOTIFY_URLS=receiver.url)
    failed = ended(RunState.FAILED, settings, failures=1, error=NotebookError("n", 3, "ValueError", "no"))
    rerun = replace(failed.run, is_rerun=True, changed=[datetime.date(2016, 1, 4)])
    with Notifier(settings, store) as notifier:
        notifier.run_ended(replace(failed, run=rerun))
    (message,) = receiver.taken()
    assert "2016-01-04 arrived or changed after the last run, whose report stays." in message["message"]


def flowapi(*, fails: bool = True, error: str = "it is gone") -> Attention:
    """Return what needs attention if FlowAPI fails, or works."""
    if not fails:
        return Attention(fine=frozenset({Need.FLOWAPI}))
    return Attention(conditions=(Condition(need=Need.FLOWAPI, reason=error, since=NOW, what_to_do="wait"),))


def test_one_message_is_sent_for_each_condition_and_one_for_its_end_even_after_restarts(
    deployed: Deployed, receiver: Receiver, store: RunStore
) -> None:
    settings = deployed.settings(AUTOFLOW_NOTIFY_URLS=receiver.url)
    failing, unknown, working = flowapi(error=f"no {TOKEN_OF_NO_USE}"), Attention(), flowapi(fails=False)
    titles = []
    for attention in (unknown, failing, failing, unknown, failing, working, working, failing):
        with Notifier(settings, store) as notifier:
            notifier.attend(attention)
        titles.append([(message["title"], message["message"]) for message in receiver.taken()])

    failure = ("AutoFlow: FlowAPI is failing", "no [secret].\nSince 2026-01-01 12:00 UTC.\nWait.")
    recovery = ("AutoFlow: FlowAPI works again", "Before: no [secret] (since 2026-01-01 12:00 UTC)")
    assert titles == [[], [failure], [], [], [], [recovery], [], [failure]]


def stuck_run(number: int, store: RunStore) -> StuckRun:
    claim = store.claim(RunKey.of("flows", {"region": str(number)}, datetime.date(2016, 1, 1)))
    assert claim
    (record,) = (each for each in store.runs() if each.id == claim.id)
    return StuckRun(record=record, running_for=datetime.timedelta(hours=2), usual=None)


def test_several_stuck_runs_at_once_are_listed_in_one_message(
    deployed: Deployed, receiver: Receiver, store: RunStore
) -> None:
    settings = deployed.settings(AUTOFLOW_NOTIFY_URLS=receiver.url)
    stuck = [stuck_run(number, store) for number in range(25)]
    still = tuple(stuck_condition(run, str) for run in stuck[1:])
    with Notifier(settings, store) as notifier:
        notifier.runs_are_stuck(stuck)
        notifier.runs_are_stuck(stuck[:1])
        notifier.attend(Attention(conditions=still, fine=frozenset({Need.STUCK})))

    first, over = receiver.taken()
    assert first["title"] == "AutoFlow: flows 2016-01-01 (run 1) and 24 more seem stuck"
    assert "flows 2016-01-01 (run 20) seems stuck: running for 2 h 0 min" in first["message"]
    assert first["message"].endswith("… and 5 more")
    assert over["title"] == "AutoFlow: flows 2016-01-01 (run 1) is no longer stuck"


def test_of_two_daemons_on_one_database_the_one_that_executes_a_stuck_run_reports_it(
    deployed: Deployed, receiver: Receiver, tmp_path: Path, store: RunStore
) -> None:
    ours = deployed.settings(AUTOFLOW_NOTIFY_URLS=receiver.url)
    theirs = deployed.settings(AUTOFLOW_NOTIFY_URLS=receiver.url, AUTOFLOW_OUTPUTS_DIR=str(tmp_path))
    claim = store.claim(RunKey.of("flows", {}, datetime.date(2016, 1, 1)))
    assert claim
    later = partial(RunStore, ours.db_uri, clock=lambda: utc_now() + datetime.timedelta(hours=2))
    with (
        closing(later()) as first,
        closing(later()) as second,
        Notifier(ours, first) as notifier,
        Notifier(theirs, second) as other,
    ):
        first.holder = store.holder
        for notifies, sees in ((notifier, first), (other, second), (notifier, first)):
            StuckWatch(sees, followers=[notifies.runs_are_stuck]).look()
            notifies.attend(Attention(conditions=tuple(stuck_condition(run, str) for run in sees.stuck_runs())))
    (message,) = receiver.taken()
    assert "(run 1) seems stuck" in message["title"]


def test_notices_of_an_older_version_are_understood(deployed: Deployed, receiver: Receiver, store: RunStore) -> None:
    settings = deployed.settings(AUTOFLOW_NOTIFY_URLS=receiver.url)
    old = {"given_up": [], "flowapi_failing_since": NOW.isoformat(), "flowapi_told": True}
    (settings.outputs_dir / NOTICES_FILE).write_text(json.dumps(old))
    with Notifier(settings, store) as notifier:
        notifier.attend(flowapi())
        notifier.attend(flowapi(fails=False))
    assert receiver.titles() == ["AutoFlow: FlowAPI works again"]


@pytest.mark.parametrize("broken", ["[]", '{"given_up": null, "conditions": 7}', '{"given_up": [7], "conditions": []}'])
def test_messages_are_sent_again_if_the_file_of_notices_is_broken(
    deployed: Deployed, receiver: Receiver, broken: str, store: RunStore
) -> None:
    settings = deployed.settings(AUTOFLOW_NOTIFY_URLS=receiver.url)
    (settings.outputs_dir / NOTICES_FILE).write_text(broken)
    with Notifier(settings, store) as notifier:
        notifier.attend(flowapi())
        notifier.attend(flowapi(fails=False))
        notifier.given_up([RunKey.of("flows", {}, datetime.date(2016, 1, 5))])
    assert receiver.titles() == [
        "AutoFlow: FlowAPI is failing",
        "AutoFlow: FlowAPI works again",
        "AutoFlow: flows 2016-01-05 was given up",
    ]


def test_a_message_is_sent_once_although_the_notices_cannot_be_written(
    deployed: Deployed, receiver: Receiver, store: RunStore
) -> None:
    settings = deployed.settings(AUTOFLOW_NOTIFY_URLS=receiver.url)
    (settings.outputs_dir / NOTICES_FILE).mkdir()
    with Notifier(settings, store) as notifier:
        for _ in range(3):
            notifier.attend(flowapi())
    assert receiver.titles() == ["AutoFlow: FlowAPI is failing"]


def test_a_message_that_cannot_be_sent_is_one_warning_without_the_url(
    deployed: Deployed, logged: list[str], store: RunStore
) -> None:
    settings = deployed.settings(AUTOFLOW_NOTIFY_URLS="json://user:my-password@127.0.0.1:9/my-path")
    with Notifier(settings, store) as notifier:
        notifier.given_up([RunKey.of("flows", {}, datetime.date(2016, 1, 1))])
    (line,) = logged
    assert "could not send a message" in line
    assert not any(secret in line for secret in ("my-password", "127.0.0.1", "my-path"))


def test_unsupported_urls_are_reported_by_their_number_only(
    deployed: Deployed, receiver: Receiver, store: RunStore
) -> None:
    settings = deployed.settings(AUTOFLOW_NOTIFY_URLS=f"{receiver.url}, nonsense://my-password")
    with pytest.raises(SettingsError, match=r"^AUTOFLOW_NOTIFY_URLS: number 2 is not a URL that Apprise supports$"):
        Notifier(settings, store)
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
    # The second attempt follows at once.
    assert titles == [given_up, [], [], recovered]


@pytest.mark.usefixtures("log_as_before")
@pytest.mark.parametrize(
    ("change", "title", "reason"),
    [
        ({}, "AutoFlow: workflows.yml is invalid", "workflows.yml:1: the file is empty"),
        ({"AUTOFLOW_DB_URI": "postgresql://x@127.0.0.1:9/x"}, "AutoFlow: the database of runs", "cannot be prepared"),
        ({"PREFECT_SERVER_API_HOST": "203.0.113.1"}, "AutoFlow: the daemon cannot start", "PREFECT_SERVER_API_HOST"),
    ],
)
def test_one_message_is_sent_for_a_daemon_that_cannot_start_however_often_it_tries(
    deployed: Deployed,
    receiver: Receiver,
    change: Mapping[str, str],
    title: str,
    reason: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.rmtree(deployed.outputs)  # it was never started before
    if change:
        write_notebook(deployed.inputs / "n.ipynb", "1")
        deployed.write_workflows(WORKFLOWS)
    environ = {**deployed.environ, "AUTOFLOW_NOTIFY_URLS": receiver.url, **change}
    assert main(["start"], environ) == 1
    assert "could not" not in capsys.readouterr().err
    assert main(["start"], environ) == 1
    (message,) = receiver.taken()
    assert message["title"].startswith(title)
    assert reason in message["message"]
