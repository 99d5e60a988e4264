import datetime
from contextlib import closing

import pytest

from autoflow.model.heartbeat import Heartbeat
from autoflow.model.store import RunStore
from autoflow.runs.changes import DueAnew
from autoflow.runs.records import RunKey, RunState
from autoflow.system.stop_signal import Shutdown
from autoflow.workflows.dispatcher import Dispatcher
from autoflow.workflows.runner import WorkflowRunner
from autoflow.workflows.tick import EditWatch, Sensor, TokenWatch, TypesWatch
from examples.flowapi import ExampleFlowApi, first_dates
from tests.conftest import Deployed, write_notebook

NOW = datetime.datetime(2016, 2, 1, 12)


def test_a_tick_warns_of_an_edit_before_its_dates_run_and_reports_days_that_changed(
    deployed: Deployed, logged: list[str]
) -> None:
    write_notebook(deployed.inputs / "n.ipynb", "1", parameters="level = 0")
    workflows = """
        workflows: [{name: one, notebooks: {n: {filename: n.ipynb, parameters: {level: level}}}}]
        available_dates_sensor:
          schedule: null
          workflows: [{workflow_name: one, label: it, parameters: {level: 1}, on_change: notify}]
    """
    deployed.write_workflows(workflows)
    dates = first_dates(31)
    last = dates[-1]
    with ExampleFlowApi(dates) as flowapi:
        settings = deployed.settings(FLOWAPI_URL=flowapi.url, FLOWAPI_TOKEN=flowapi.token())
        with closing(RunStore(settings.db_uri)) as store, Heartbeat(store) as heartbeat:
            store.migrate()
            runner = WorkflowRunner(settings=settings, store=store, heartbeat=heartbeat)
            # It starts nothing, as its thread does not run.
            dispatcher = Dispatcher(runner, shutdown=Shutdown())
            sensor = Sensor(settings=settings, store=store, dispatcher=dispatcher, wait=lambda _: False)
            assert sensor.tick().changes == ()
            key = RunKey.of("one", {"level": 1}, last)
            claim = store.claim(key)
            assert claim
            store.finish(claim, RunState.SUCCEEDED)
            for change in (flowapi.remove_date, flowapi.add_date):
                change(last)
                tick = sensor.tick()
            assert [(each.key, each.days) for each in tick.changes] == [(key, (last,))]
            assert not any(line.startswith("workflows.yml") for line in logged)

            deployed.write_workflows(workflows.replace("level: 1", "level: 2"))
            assert [sensor.tick().due for _ in range(2)] == [31, 31]
    (warning,) = (line for line in logged if line.startswith("workflows.yml"))
    assert warning.startswith(
        "workflows.yml: 31 dates are due that no run has done with these names and parameters: one:it (31)"
    )


class TestTokenWatch:
    @pytest.mark.parametrize(
        ("left", "words"),
        [
            (datetime.timedelta(days=30), []),
            (datetime.timedelta(days=3, hours=1), ["FLOWAPI_TOKEN expires in 3 days (2016-02-04 13:00 UTC)"]),
            (datetime.timedelta(hours=5), ["FLOWAPI_TOKEN expires in 5 hours (2016-02-01 17:00 UTC)"]),
            (datetime.timedelta(hours=-1), ["FLOWAPI_TOKEN has expired (2016-02-01 11:00 UTC)"]),
        ],
    )
    def test_a_token_that_expires_soon_is_warned_about_once_a_day(
        self, left: datetime.timedelta, words: list[str], logged: list[str]
    ) -> None:
        watch, expiry = TokenWatch(), NOW.replace(tzinfo=datetime.UTC) + left
        for hours in (0, 1, 23):
            watch.look(expiry, NOW + datetime.timedelta(hours=hours))
        assert [line.split(": ")[0] for line in logged] == words
        watch.look(expiry, NOW + datetime.timedelta(hours=24))
        assert len(logged) == 2 * len(words)

    @pytest.mark.parametrize("ahead", [datetime.timedelta(hours=1), datetime.timedelta(days=400)])
    def test_a_clock_that_was_ahead_does_not_keep_it_silent(self, ahead: datetime.timedelta, logged: list[str]) -> None:
        watch, expiry = TokenWatch(), NOW.replace(tzinfo=datetime.UTC)
        for now in (NOW + ahead, NOW, NOW + datetime.timedelta(hours=23)):
            watch.look(expiry, now)
        assert len(logged) == 2

    def test_a_token_that_never_expires_is_not_warned_about(self, logged: list[str]) -> None:
        TokenWatch().look(None, NOW)
        assert logged == []


class TestEditWatch:
    def test_an_edit_that_makes_many_dates_due_is_warned_about_once(self, logged: list[str]) -> None:
        watch = EditWatch()
        few, many = DueAnew({"flows:north": 30}), DueAnew({"flows:north": 20, "flows:south": 11})
        for found in (few, many, many, DueAnew({"flows:south": 31}), DueAnew()):
            watch.look(found)
        (line,) = logged
        assert line.startswith("workflows.yml: 31 dates are due that no run has done with these names and parameters")
        assert ": flows:north (20), flows:south (11); " in line
        watch.look(many)
        assert len(logged) == 2


class TestTypesWatch:
    def test_a_type_without_dates_is_warned_about_once_for_each_outage(self, logged: list[str]) -> None:
        watch = TypesWatch()
        dates = frozenset({NOW.date()})
        known = ("calls", "sms")
        for found in ({"calls": dates}, {"calls": dates, "sms": frozenset()}, {"calls": dates, "sms": dates}):
            watch.look(known, found)
        warning = "FlowAPI has no dates of type sms, but had some before; a fault in FlowAPI: look at FlowMachine's log"
        assert logged == [warning]
        watch.look(known, {"sms": dates})
        watch.look(known, {})
        assert logged == [warning, warning.replace("sms", "calls"), warning]
