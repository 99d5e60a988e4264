import datetime
from contextlib import closing

import pytest

from autoflow.model.store import RunStore
from autoflow.runs.records import RunKey, RunState
from autoflow.specs import Json
from tests.cli.conftest import Cli

EARLY = "it is before its earliest_date in workflows.yml, 2016-01-09"
NO_ENTRY = "the sensor in workflows.yml has no entry with its workflow and parameters"


def test_retry_makes_given_up_dates_due_again(running_cli: Cli) -> None:
    cli = running_cli
    (cli.deployed.inputs / "fail").touch()
    failed = [cli.json("run", "simple", "--date", date, code=1)["id"] for date in ("2016-01-09", "2016-01-10")]

    def statuses() -> list[str]:
        dates = cli.json("plan", "--dates")["workflows"][0]["dates"]
        return [each["standing"] for each in dates if each["date"] in {"2016-01-09", "2016-01-10"}]

    assert statuses() == ["given up", "given up"]
    due = {"workflow": "simple", "label": None, "never_due": None, "resumes": None, "takes_over": []}
    assert cli.json("retry", str(failed[1])) == [{**due, "reference_date": "2016-01-10"}]
    assert statuses() == ["given up", "due"]
    assert cli.json("retry", "--failed") == [{**due, "reference_date": "2016-01-09"}]
    assert statuses() == ["due", "due"]
    assert cli.json("retry", "--failed") == []


@pytest.mark.parametrize(
    ("workflow", "level", "date", "reason"),
    [
        ("simple", 2, "2016-01-05", f"{EARLY}; to run it now: autoflow run simple --date 2016-01-05 -p level=2"),
        (
            "simple",
            "a",
            "2016-01-10",
            f"""{NO_ENTRY}; to run it now: autoflow run simple --date 2016-01-10 -p 'level="a"'""",
        ),
        ("gone", 2, "2016-01-10", NO_ENTRY),
    ],
)
def test_retry_explains_why_no_tick_will_run_a_date(
    cli: Cli, workflow: str, level: Json, date: str, reason: str
) -> None:
    run_id = cli.record_failure(RunKey.of(workflow, {"level": level}, datetime.date.fromisoformat(date)))
    assert cli("retry", str(run_id)) == 0
    name = "simple (level=a)" if level == "a" else workflow
    assert cli.printed() == f"{name} {date} may be retried, but no tick will run it: {reason}\n"


def test_retry_says_that_a_date_is_due_again(cli: Cli) -> None:
    cli.record_failure(RunKey.of("simple", {"level": 2}, datetime.date(2016, 1, 10)))
    assert cli("retry", "--failed") == 0
    assert cli.printed() == "simple 2016-01-10 is due again if its dates are available\n"


@pytest.mark.parametrize("arguments", [("retry", "1"), ("run", "simple", "--date", "2016-01-10", "--force")])
def test_run_that_crashed_while_the_clock_was_ahead_is_no_reason_to_refuse(
    running_cli: Cli, arguments: tuple[str, ...]
) -> None:
    cli = running_cli.with_environ(AUTOFLOW_HEARTBEAT_TIMEOUT="3")
    ahead = datetime.datetime.now(datetime.UTC).replace(tzinfo=None) + datetime.timedelta(days=365)
    database = f"sqlite:///{cli.deployed.outputs}/autoflow.db"
    with closing(RunStore(database, clock=lambda: ahead)) as store:
        store.migrate()
        store.claim(RunKey.of("simple", {"level": 2}, datetime.date(2016, 1, 10)))

    assert cli(*arguments) == 0, cli.capsys.readouterr().err

    with cli.store() as store:
        assert store.runs()[-1].state is RunState.CRASHED
