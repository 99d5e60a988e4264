import datetime as dt
from dataclasses import replace

from autoflow.dates.availability import LONG_AGO, Arrival, Availability
from autoflow.dates.stencil import DateStencil
from autoflow.runs.changes import Change, changes, due_anew, given_up_reruns
from autoflow.runs.records import Attempt, Failures, History, RunState, WorkflowKey
from autoflow.specs import OnChange, TriggerSpec, WorkflowSpec

NOW = dt.datetime(2016, 3, 1, 12)
HOUR = dt.timedelta(hours=1)
SPEC = WorkflowSpec(name="flows", notebooks=())
NOTED = TriggerSpec(workflow=SPEC, on_change=OnChange.NOTIFY, date_stencil=DateStencil([[-1, 0]]))
KEY = WorkflowKey.of_trigger(NOTED)


def day(number: int) -> dt.date:
    return dt.date(2016, 1, 1) + dt.timedelta(days=number - 1)


def available(count: int, **times: Arrival) -> Availability:
    """Return the first days of the year, with the arrivals of days called d1, d2, …"""
    arrivals = {day(int(name[1:])): arrival for name, arrival in times.items()}
    return Availability.of(map(day, range(1, count + 1))).with_arrivals({"calls": arrivals})


def test_days_that_arrive_or_return_after_a_run_started_are_changes() -> None:
    history = History(done=frozenset(map(day, (2, 3, 4))), started=dict.fromkeys(map(day, (2, 3, 4)), NOW))
    back = Arrival(LONG_AGO, NOW + HOUR, NOW + 2 * HOUR)
    dates = available(5, d1=Arrival(NOW - HOUR), d3=back, d4=Arrival(NOW + HOUR))

    assert changes([NOTED], dates, {KEY: history}, NOW + 3 * HOUR) == [
        Change(KEY.on(day(3)), (day(3),), NOW + 2 * HOUR),
        Change(KEY.on(day(4)), (day(3), day(4)), NOW + 2 * HOUR),
    ]
    for other in (OnChange.IGNORE, OnChange.RERUN):
        assert changes([replace(NOTED, on_change=other)], dates, {KEY: history}, NOW + 3 * HOUR) == []


def test_run_with_changed_days_is_given_up_after_its_last_attempt() -> None:
    trigger = replace(NOTED, on_change=OnChange.RERUN, max_attempts=2)

    def given_up(*attempts: Attempt, running: bool = False) -> bool:
        dates = frozenset({day(2)})
        history = History(
            done=dates,
            running=dates if running else frozenset(),
            started={day(2): NOW},
            attempts={day(2): attempts},
        )
        return given_up_reruns([trigger], {KEY: history}) == {KEY.on(day(2))}

    before = Attempt(RunState.FAILED, NOW - 2 * HOUR, NOW - HOUR)
    after = Attempt(RunState.FAILED, NOW + HOUR, NOW + 2 * HOUR)
    assert not given_up(before, before, after)
    assert given_up(before, after, after)
    assert not given_up(after, after, running=True)


class TestDueAnew:
    OLD = TriggerSpec(workflow=SPEC, parameters={"level": 1}, label="one")
    DONE = History(done=frozenset({day(1)}))

    def test_entry_whose_parameter_was_changed(self) -> None:
        found = due_anew(
            [replace(self.OLD, parameters={"level": 2})],
            available(31),
            {WorkflowKey.of_trigger(self.OLD): self.DONE},
            NOW,
        )
        assert found.counts == {"flows:one": 31}
        assert found.is_large
        assert str(found).startswith(
            "31 dates are due that no run has done with these names and parameters: flows:one (31)"
        )

    def test_entries_add_up_and_thirty_dates_are_few(self) -> None:
        entries = [replace(self.OLD, parameters={"level": level}, label=None) for level in (1, 2, 3)]
        histories = {WorkflowKey.of_trigger(entries[0]): self.DONE}
        found = due_anew(entries, available(15), histories, NOW)
        assert found.counts == {"flows (level=2)": 15, "flows (level=3)": 15}
        assert not found.is_large
        assert due_anew(entries, available(16), histories, NOW).is_large

    def test_workflow_that_was_renamed(self) -> None:
        renamed = replace(self.OLD, workflow=replace(SPEC, name="renamed"))
        found = due_anew([renamed], available(40), {WorkflowKey.of_trigger(self.OLD): self.DONE}, NOW)
        assert found.counts == {"renamed:one": 40}

    def test_dates_that_wait_for_earlier_ones_count(self) -> None:
        edited = replace(self.OLD, parameters={"level": 2}, after_previous=True, earliest_date=day(11))
        found = due_anew([edited], available(50), {WorkflowKey.of_trigger(self.OLD): self.DONE}, NOW)
        assert found.counts == {"flows:one": 40}

    def test_first_start_and_new_dates_of_an_old_entry_are_no_edit(self) -> None:
        key = WorkflowKey.of_trigger(self.OLD)
        assert not due_anew([self.OLD], available(50), {}, NOW).counts
        assert not due_anew([self.OLD], available(50), {key: self.DONE}, NOW).counts
        failed = History(failures={day(1): Failures(count=1, last=NOW)})
        assert not due_anew([self.OLD], available(50), {key: failed}, NOW).counts

    def test_new_workflow_beside_others_is_no_edit(self) -> None:
        new = TriggerSpec(workflow=replace(SPEC, name="new"))
        histories = {WorkflowKey.of_trigger(self.OLD): self.DONE}
        assert not due_anew([self.OLD, new], available(50), histories, NOW).counts
