import datetime

import pytest

from autoflow.dates.periods import Every
from autoflow.runs.records import RunKey
from tests.cli.conftest import Cli

WORKFLOWS = """
workflows:
  - name: simple
    notebooks: {n: {filename: n.ipynb, parameters: {level: level, missing: missing_dates}}}
available_dates_sensor:
  schedule: null
  workflows:
    - {workflow_name: simple, for_each: {level: [1, 2]}, every: week, enough: 60%, wait: 0}
    - {workflow_name: simple, parameters: {level: 3}, label: daily, latest_date: 2016-01-02}
"""


@pytest.fixture
def weekly(cli: Cli) -> Cli:
    """Return verbs with weekly entries, whose first date is the third of January, and a daily one."""
    notebook = cli.deployed.inputs / "n.ipynb"
    notebook.write_text(notebook.read_text().replace("level = 1", "level = 1\\nmissing = []"))
    cli.deployed.write_workflows(WORKFLOWS)
    return cli


def test_plan_shows_periods_as_such(weekly: Cli) -> None:
    plans = weekly.json("plan", "--dates")["workflows"]
    assert [(plan["label"], plan["every"]) for plan in plans] == [("1", "week"), ("2", "week"), ("daily", "day")]
    dates = {each["date"]: each["standing"] for each in plans[0]["dates"]}
    assert list(dates) == ["2016-01-03", "2016-01-10", "2016-01-17"]
    assert weekly("plan", "--dates") == 0
    printed = weekly.printed()
    assert "simple:1, every week" in printed
    assert "2015-12-28   2016-01-03   dates missing" in printed
    assert "2016-01-04   2016-01-10   due" in printed
    assert max(map(len, printed.splitlines())) <= 80


def test_a_date_within_a_period_is_refused_with_the_nearest_ones(weekly: Cli) -> None:
    problem = weekly.fails("run", "simple:1", "--date", "2016-01-09")
    assert "'simple:1' runs every week, and no week ends on 2016-01-09" in problem
    assert "the nearest dates are 2016-01-03 and 2016-01-10" in problem


@pytest.mark.parametrize("date", ["0001-01-01", "9999-12-31"])
def test_a_date_whose_period_is_beyond_the_calendar_is_refused(weekly: Cli, date: str) -> None:
    assert f"'simple:1' cannot run for {date}: the week of {date}" in weekly.fails("run", "simple:1", "--date", date)
    assert weekly("plan", "--dates") == 0


def test_ambiguous_workflow_is_refused_with_its_labels(weekly: Cli) -> None:
    problem = weekly.fails("run", "simple", "--date", "2016-01-10")
    assert "'simple' has 3 entries in workflows.yml: choose one of simple:1, simple:2, simple:daily" in problem
    assert "has no entry labelled 'x' in workflows.yml, but 1, 2, daily" in weekly.fails(
        "run", "simple:x", "--date", "2016-01-10"
    )


def test_backfill_accounts_for_every_period(weekly: Cli) -> None:
    content = weekly.json("backfill", "simple:1", "--from", "2015-12-20", "--to", "2016-01-31", "--dry-run")
    assert content["would_run"] == ["2016-01-10"]
    assert sum(content["left_out"].values()) == 6
    assert content["left_out"]["without data in FlowAPI"] == 4


def test_run_of_an_entry_with_a_label_is_listed_by_it_and_forgotten_on_request(running_cli: Cli, weekly: Cli) -> None:
    ran = running_cli.json("run", "simple:2", "--date", "2016-01-10")
    (run,) = running_cli.json("runs")
    assert (run["label"], run["every"], run["parameters"]) == ("2", "week", {"level": 2})
    assert "simple--2__n__2016-01-10__week__" in ran["outputs"]["n"]["notebook"]
    assert running_cli("runs", "show", "1") == 0
    assert "1: simple:2 week 2016-01-04 to 2016-01-10, attempt 1" in running_cli.printed()

    assert "its date may become due" in running_cli.fails("forget", "1")
    assert running_cli.json("forget", "1", "--force") == {"id": 1, "files": 1}
    assert running_cli.json("runs") == []
    assert not list((weekly.deployed.outputs / "notebooks").glob("*.ipynb"))


def test_run_that_belongs_to_no_entry_is_forgotten_without_more_ado(cli: Cli) -> None:
    run_id = cli.record_failure(RunKey.of("simple", {"level": 7}, datetime.date(2016, 1, 10)))
    assert cli("forget", str(run_id)) == 0
    assert cli.printed() == f"run {run_id} of simple (level=7) 2016-01-10 is forgotten; 0 files deleted\n"
    assert "there is no run" in cli.fails("forget", str(run_id))


@pytest.mark.usefixtures("weekly")
def test_try_out_and_missing_days_are_recorded(running_cli: Cli) -> None:
    running_cli.json("run", "simple:1", "--date", "2016-01-17", "--force")
    running_cli.json("run", "simple:1", "--date", "2016-01-10", "-p", "level=9")
    found = {run["parameters"]["level"]: (run["missing_days"], run["is_try_out"]) for run in running_cli.json("runs")}
    assert found == {1: (5, False), 9: (0, True)}
    assert running_cli("runs", "show", "2") == 0
    assert "its parameters were those of no entry" in running_cli.printed()


def test_run_is_refused_with_the_days_that_are_missing_from_its_period(weekly: Cli) -> None:
    assert (
        "simple:1 week 2015-12-28 to 2016-01-03 cannot run: FlowAPI has no data for 2015-12-28 to 2015-12-31, "
        "which leaves too few for 'enough: 60%'; wait for them, or use 'autoflow run --force'"
    ) in weekly.fails("run", "simple:1", "--date", "2016-01-03")


def test_backfill_of_several_entries_shows_what_becomes_of_each_date(weekly: Cli) -> None:
    assert weekly("backfill", "simple", "--from", "2016-01-02", "--to", "2016-01-14", "--dry-run") == 0
    lines = [line.split() for line in weekly.printed().splitlines()]
    assert ["13", "to", "run"] in lines
    assert ["simple:1", "to", "run", "1", "2016-01-10"] in lines
    assert ["simple:2", "dates", "missing", "1", "2016-01-03", "2015-12-28", "to", "2015-12-31"] in lines
    assert ["simple:daily", "to", "run", "11", "2016-01-02", "to", "2016-01-12"] in lines
    assert ["simple:daily", "without", "data", "in", "FlowAPI", "2", "2016-01-13", "to", "2016-01-14"] in lines

    assert weekly("backfill", "simple:1", "--from", "2016-01-04", "--to", "2016-01-08", "--dry-run") == 0
    assert "no week ends in the range" in weekly.printed()


def test_verbs_name_the_entry_and_the_period_of_a_run(weekly: Cli) -> None:
    keys = [RunKey.of("simple", {"level": level}, datetime.date(2016, 1, 10), Every.WEEK) for level in (1, 2, 7)]
    weekly.record_failure(RunKey.of("simple", {"level": 1}, datetime.date(2016, 1, 10)))
    first, second, _ = map(weekly.record_failure, keys)
    other = weekly.record_failure(RunKey.of("simple", {"level": 8}, datetime.date(2016, 1, 10)))
    assert [run["id"] for run in weekly.json("runs", "--workflow", "simple:1")] == [first]
    assert [run["label"] for run in weekly.json("runs", "--workflow", "simple:2")] == ["2"]
    assert weekly.json("runs", "--workflow", "simple:gone") == []
    assert len(weekly.json("runs", "--workflow", "simple")) == 5

    week = "week 2016-01-04 to 2016-01-10"
    assert weekly("retry", str(second)) == 0
    assert weekly.printed() == f"simple:2 {week} is due again if its dates are available\n"
    assert f"run {first} of simple:1 {week} is not running: it has failed" in weekly.fails("cancel", str(first))
    assert weekly("retry", str(other)) == 0
    assert "to run it now: autoflow run simple:daily --date 2016-01-10 -p level=8" in weekly.printed()


def test_runs_of_an_entry_that_was_removed_are_found_by_its_last_label(weekly: Cli) -> None:
    with weekly.store() as store:
        claim = store.claim(RunKey.of("simple", {"level": 9}, datetime.date(2016, 1, 10)), label="gone")
        assert claim
    assert [run["id"] for run in weekly.json("runs", "--workflow", "simple:gone")] == [claim.id]
