import datetime

from autoflow.runs.records import RunKey
from tests.cli.conftest import Cli


def test_plan_shows_crashed_runs_as_due(cli: Cli) -> None:
    quick = cli.with_environ(AUTOFLOW_HEARTBEAT_TIMEOUT="20")
    with cli.store() as store:
        store.claim(RunKey.of("simple", {"level": 2}, datetime.date(2016, 1, 10)))
    half_a_minute_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=30)
    cli.execute_sql("UPDATE runs SET heartbeat_at = ?", [f"{half_a_minute_ago:%Y-%m-%d %H:%M:%S.%f}"])
    assert cli.json("plan")["workflows"][0]["counts"]["running"] == 1
    counts = quick.json("plan")["workflows"][0]["counts"]
    assert (counts["running"], counts["due"]) == (0, 4)


def test_plan_shows_the_status_of_each_date(cli: Cli) -> None:
    content = cli.json("plan", "--dates")
    (plan,) = content["workflows"]
    assert content["available_dates"] == 12
    assert {name: count for name, count in plan["counts"].items() if count} == {"due": 4, "before earliest_date": 8}
    assert next(each["date"] for each in plan["dates"] if each["standing"] == "due") == "2016-01-09"
    assert cli("plan", "--dates") == 0
    assert "2016-01-09   due" in cli.printed()
