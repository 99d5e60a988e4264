import datetime

import pytest

from autoflow.runs.records import RunError, RunKey, RunState
from tests.cli.conftest import Cli


def day(number: int) -> datetime.date:
    return datetime.date(2016, 1, number)


@pytest.fixture
def entries(cli: Cli) -> Cli:
    """Return verbs for entries of several kinds; FlowAPI has the first to the twelfth of January."""
    cli.deployed.write_workflows(
        """
        workflows:
          - name: simple
            notebooks: {n: {filename: n.ipynb, parameters: {level: level}}}
          - {name: alone, notebooks: {n: {filename: n.ipynb}}}
        available_dates_sensor:
          schedule: null
          workflows:
            - &entry
              workflow_name: simple
              label: daily
              parameters: {level: 2}
              earliest_date: 2016-01-03
              latest_date: 2016-01-20
              date_stencil: [[-1, 0]]
              max_attempts: 2
            - {workflow_name: simple, label: weekly, every: week, parameters: {level: 2}}
            - {workflow_name: simple, label: ordered, parameters: {level: 3}, after_previous: true}
            - {workflow_name: simple, label: patient, parameters: {level: 4}, every: week, enough: 2, wait: 3000}
    """.replace("- &entry\n              workflow_name", "- workflow_name")
    )
    return cli


def end(cli: Cli, number: int, state: RunState | None, error: RunError | None = None) -> int:
    """Record a run of the entry `daily`, which is in progress if it has no state; return its ID."""
    with cli.store() as store:
        claim = store.claim(RunKey.of("simple", {"level": 2}, day(number)), missing_days=1)
        assert claim
        if state:
            store.finish(claim, state, error=error)
    return claim.id


def why(cli: Cli, entry: str, number: int) -> tuple[str, str]:
    """Return the answer, without the name and the date, and the command."""
    assert cli("why", entry, f"2016-01-{number:02}") == 0
    *lines, command = cli.printed().splitlines()
    return " ".join(lines), command


def test_answer_says_what_happened_and_what_would_change_it(entries: Cli) -> None:
    cli, error = entries, RunError("KeyError", "'x'", "n", 5, "In [4]: x")
    done = end(cli, 4, RunState.SUCCEEDED)
    failed = end(cli, 5, RunState.FAILED, error)
    end(cli, 6, RunState.FAILED, error)
    given_up = end(cli, 6, RunState.FAILED, error)
    cancelled = end(cli, 7, RunState.CANCELLED, RunError("Cancelled", "it was cancelled in Prefect"))
    running = end(cli, 8, None)

    text, command = why(cli, "simple:daily", 4)
    assert text.startswith(f"simple:daily 2016-01-04 is done: run {done} succeeded at 20")
    assert text.endswith(" UTC, with 1 of its days missing.")
    assert command == "To run it again: autoflow run simple:daily --date 2016-01-04 --force"
    text, command = why(cli, "simple:daily", 5)
    assert text.startswith("simple:daily 2016-01-05 has failed 1 time, and is tried again at 20")
    place = "notebook 'n', cell 5 (In [4]: x)"
    assert text.endswith(f". The last attempt, run {failed}, has failed: {place}: KeyError: 'x'.")
    assert command == f"To make it due now: autoflow retry {failed}"
    text, command = why(cli, "simple:daily", 6)
    assert text.startswith("simple:daily 2016-01-06 was given up: it has failed 2 times, and has no attempts left. ")
    assert command == f"To make it due now: autoflow retry {given_up}"
    text, command = why(cli, "simple:daily", 7)
    assert text.startswith("simple:daily 2016-01-07 was cancelled, and is not retried by itself. ")
    assert command == f"To make it due now: autoflow retry {cancelled}"
    text, command = why(cli, "simple:daily", 8)
    assert text.startswith(f"simple:daily 2016-01-08 is running: run {running} started at 20")
    assert command == f"To watch it: autoflow runs show {running} --follow"


@pytest.mark.parametrize(
    ("entry", "number", "text", "command"),
    [
        (
            "daily",
            9,
            "2016-01-09 is due: it starts with the next free slot of the daemon.",
            "run it now: autoflow run simple:daily --date 2016-01-09",
        ),
        (
            "daily",
            2,
            "2016-01-02 is not run by itself: it is before its earliest_date in workflows.yml, 2016-01-03.",
            "run it now: autoflow run simple:daily --date 2016-01-02",
        ),
        (
            "daily",
            25,
            "2016-01-25 is not run by itself: it is after its latest_date in workflows.yml, 2016-01-20.",
            "run it now: autoflow run simple:daily --date 2016-01-25",
        ),
        (
            "daily",
            14,
            "2016-01-14 cannot run yet: FlowAPI has no data for 2016-01-13 to 2016-01-14.",
            "run it anyway, without the missing dates: autoflow run simple:daily --date 2016-01-14 --force",
        ),
        (
            "ordered",
            2,
            "2016-01-02 waits for an earlier date, as 'after_previous: true' asks: 2016-01-01 is due.",
            "run it now: autoflow run simple:ordered --date 2016-01-02",
        ),
        (
            "weekly",
            12,
            "2016-01-17 cannot run yet: its period is not over, as FlowAPI has no date on or after its last day.",
            "run it anyway, without the missing dates: autoflow run simple:weekly --date 2016-01-17 --force",
        ),
    ],
)
def test_answer_about_a_date_that_has_not_run(entries: Cli, entry: str, number: int, text: str, command: str) -> None:
    found, what = why(entries, f"simple:{entry}", number)
    assert f"simple:{entry} " in found
    assert found.endswith(f" {text}")
    assert what == f"To {command}"


def test_answer_as_json_and_without_flowapi(entries: Cli) -> None:
    content = entries.json("why", "simple:weekly", "2016-01-05")
    assert content["reference_date"] == "2016-01-10"
    assert content["status"] == "due"
    assert content["why"].startswith("2016-01-05 is in the week 2016-01-04 to 2016-01-10, which has its last day as ")
    assert content["command"] == "autoflow run simple:weekly --date 2016-01-10"

    end(entries, 4, RunState.SUCCEEDED)
    offline = entries.with_environ(FLOWAPI_URL="http://127.0.0.1:9")
    assert offline.json("why", "simple:daily", "2016-01-04")["status"] == "done"
    assert "FlowAPI at http://127.0.0.1:9" in offline.fails("why", "simple:daily", "2016-01-05")


def test_ambiguous_name_and_workflow_without_entry_are_refused(entries: Cli) -> None:
    assert "choose one of simple:daily, simple:weekly" in entries.fails("why", "simple", "2016-01-05")
    assert "'alone' has no entry in workflows.yml" in entries.fails("why", "alone", "2016-01-05")
