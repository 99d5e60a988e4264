"""Deadlines that pass, and successes, as a daemon with a test's clock notifies people of them."""

import datetime
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from autoflow.dates.deadlines import Deadline
from autoflow.dates.periods import Every, last_days
from autoflow.dates.stencil import DateStencil, PeriodOffset
from autoflow.messages.entries import EntryWatch
from autoflow.messages.notifier import Notifier
from autoflow.model.checks import record_run_checks
from autoflow.model.store import RunStore
from autoflow.model.tables import messages_table, runs_table
from autoflow.runs.checks import Check, Checks, Severity
from autoflow.runs.records import RunError, RunKey, RunState, WorkflowKey
from autoflow.settings import Settings
from autoflow.specs import NotebookSpec, NotifySpec, OnChange, SensorSpec, TriggerSpec, WorkflowSpec
from tests.conftest import Deployed
from tests.model.conftest import Clock
from tests.receiver import Receiver
from tests.waiting import LONG, wait_for

# Apprise's own, as its plugins are imported.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

SPEC = WorkflowSpec(name="flows", notebooks=(NotebookSpec(label="n", path=Path("/inputs/n.ipynb")),))
HOUR, DAY = datetime.timedelta(hours=1), datetime.timedelta(days=1)
ACCRA = ZoneInfo("Africa/Accra")
SUCCESS = NotifySpec(success=("boss",), failure=("ops",))


def entry(label: str, **more: object) -> TriggerSpec:
    """Return an entry of the workflow `flows`."""
    values: dict[str, object] = {"notify": SUCCESS, "label": label, "parameters": {"region": label}, **more}
    return TriggerSpec(workflow=SPEC, **values)  # type: ignore[arg-type]


def sensor(*triggers: TriggerSpec) -> SensorSpec:
    return SensorSpec(schedule="0 6 * * *", cdr_types=None, triggers=triggers)


def day(text: str) -> datetime.date:
    return datetime.date.fromisoformat(text)


@pytest.fixture
def settings(deployed: Deployed, receiver: Receiver) -> Settings:
    return deployed.settings(
        AUTOFLOW_NOTIFY_URLS=f"boss={receiver.url}boss ops={receiver.url}ops {receiver.url}",
        AUTOFLOW_REPORT_URL_BASE="https://reports.example.org",
    )


class Daemon:
    """The part of a daemon that watches entries, with a test's clock."""

    def __init__(self, settings: Settings, store: RunStore, clock: Clock, stack: ExitStack) -> None:
        self.notifier = stack.enter_context(Notifier(settings, store, clock=clock))
        self.watch = EntryWatch(settings, store, self.notifier, clock=clock)

    def look(self, found: SensorSpec | None = None) -> None:
        """Look at everything, after an edit if there is one."""
        if found:
            self.watch.follow(found)
        self.watch.finish()


@contextmanager
def daemon(settings: Settings, store: RunStore, clock: Clock, found: SensorSpec | None = None) -> Iterator[Daemon]:
    """Run a daemon for the duration of the block; what it has posted is sent at the end."""
    with ExitStack() as stack:
        yielded = Daemon(settings, store, clock, stack)
        yielded.look(found)
        yield yielded


def run(
    store: RunStore, trigger: TriggerSpec, date: str, *, error: str | None = None, is_requested: bool = False
) -> int:
    """Run an entry for a date, and return the number of the run."""
    key = RunKey(WorkflowKey.of_trigger(trigger), day(date))
    claim = store.claim(key, label=trigger.label, missing_days=1, is_requested=is_requested, again=True)
    assert claim
    outputs = {"n": {"notebook": f"/outputs/notebooks/{date}.ipynb", "reports": [f"/outputs/reports/{date}.pdf"]}}
    problem = RunError("ValueError", error, "n", 3) if error else None
    state = RunState.FAILED if error else RunState.SUCCEEDED
    assert store.finish(claim, state, outputs=outputs, error=problem)
    return claim.id


def nothing_is_unsent(store: RunStore) -> bool:
    with store.database.reading() as connection:
        return connection.execute(sa.select(messages_table)).first() is None


def days(first: str, last: str) -> frozenset[datetime.date]:
    return frozenset(last_days(day(first), day(last), Every.DAY))


def test_a_deadline_that_passes_without_any_run_is_one_message_with_the_reason(
    settings: Settings, store: RunStore, clock: Clock, receiver: Receiver
) -> None:
    deadline = Deadline(days=2, at=datetime.time(9), zone=ACCRA)
    found = sensor(entry("north", deadline=deadline, earliest_date=day("2025-12-31")))
    clock.now = datetime.datetime(2026, 1, 1, 12)
    with daemon(settings, store, clock, found) as watching:
        clock.now = datetime.datetime(2026, 1, 2, 8, 59)
        watching.look()
    assert receiver.taken() == []
    for _ in range(2):
        with daemon(settings, store, clock, found) as watching:
            clock.now = datetime.datetime(2026, 1, 2, 9)
            watching.look()
            watching.look()
    (message,) = receiver.taken()
    assert message["title"] == "AutoFlow: flows:north 2025-12-31 is not done by its deadline"
    assert message["message"].splitlines() == [
        "It was to be done by 2026-01-02 09:00 Africa/Accra.",
        "These days are not available: 2025-12-31.",
    ]
    assert (message["state"], message["label"], message["dates"]) == (
        "not done by its deadline",
        "north",
        ["2025-12-31"],
    )


def test_deadlines_that_pass_together_make_one_message_for_each_recipient_also_after_a_pause(
    settings: Settings, store: RunStore, clock: Clock, receiver: Receiver
) -> None:
    deadline = Deadline(days=1)
    north, south = (entry(label, deadline=deadline) for label in ("north", "south"))
    west = entry("west", deadline=deadline, notify=NotifySpec(), latest_date=day("2026-01-01"))
    stencil = DateStencil([PeriodOffset(0)], every=Every.WEEK)
    weekly = entry("weekly", deadline=deadline, every=Every.WEEK, date_stencil=stencil)
    found = sensor(north, south, west, weekly)
    clock.now = datetime.datetime(2026, 1, 1, 12)
    store.note_dates({"calls": days("2025-12-01", "2026-01-02")})
    with daemon(settings, store, clock, found):
        pass
    run(store, north, "2026-01-01")
    run(store, south, "2026-01-01", error="no data")
    receiver.taken()
    # It was down while the deadlines of four days passed, and that of a week.
    clock.now = datetime.datetime(2026, 1, 5, 12)
    with daemon(settings, store, clock, found):
        pass
    by_count = {len(message["runs"]): message for message in receiver.taken()}
    assert sorted(by_count) == [1, 8]
    assert by_count[1]["title"] == "AutoFlow: flows:west 2026-01-01 is not done by its deadline"
    ops = by_count[8]
    assert ops["title"] == "AutoFlow: flows:north 2026-01-02 and 7 more are not done by their deadlines"
    assert "flows:weekly week 2025-12-29 to 2026-01-04" in ops["message"]
    reasons = {(each["label"], *each["dates"]): each["reason"] for each in ops["runs"]}
    assert reasons[("north", "2026-01-02")] == "It is due, but has not run."
    assert reasons[("north", "2026-01-03")] == "These days are not available: 2026-01-03."
    failed = reasons[("south", "2026-01-01")]
    assert failed.startswith("It is due, but has not run: failed 1 time. notebook")
    assert "notebook 'n', cell 3: ValueError: no data" in failed
    assert "2026-01-01.html#cell-3" in failed


def test_of_two_daemons_one_notifies_people_of_a_deadline(
    settings: Settings, store: RunStore, clock: Clock, receiver: Receiver, uri: str
) -> None:
    found = sensor(entry("north", deadline=Deadline(days=2)))
    with (
        closing(RunStore(uri, clock=clock)) as other,
        daemon(settings, store, clock, found) as first,
        daemon(settings, other, clock, found) as second,
    ):
        clock.now += DAY
        first.look()
        second.look()
        # After a day, the other daemon would rightly send a message that is still being sent.
        wait_for(partial(nothing_is_unsent, store))
        clock.now += DAY
        second.look()
        first.look()
    assert sorted(message["dates"] for message in receiver.taken()) == [["2025-12-31"], ["2026-01-01"]]


def test_an_edit_of_a_deadline_counts_for_dates_since_the_entry_was_first_seen(
    settings: Settings, store: RunStore, clock: Clock, receiver: Receiver
) -> None:
    late, early = (sensor(entry("north", deadline=Deadline(days=number))) for number in (4, 2))
    with daemon(settings, store, clock, late) as watching:
        clock.now += 3 * DAY + HOUR
        watching.look(early)
        watching.look(late)
        watching.look(early)
    first, second = receiver.taken()
    # First those whose deadline has passed by the new definition, then the others that have by the old one.
    assert first["dates"] == ["2025-12-31", "2026-01-01", "2026-01-02"]
    assert second["dates"] == ["2025-12-29", "2025-12-30"]


def test_deadlines_of_an_entry_do_not_count_while_it_is_removed(
    settings: Settings, store: RunStore, clock: Clock, receiver: Receiver
) -> None:
    north, south = (entry(label, deadline=Deadline(days=2)) for label in ("north", "south"))
    with daemon(settings, store, clock, sensor(north, south)) as watching:
        clock.now += DAY
        watching.look()
        watching.look(sensor(north))
        clock.now += 30 * DAY
        watching.look(sensor(north, south))
        clock.now += DAY
        watching.look()
    dates = [(each["label"], *each["dates"]) for message in receiver.taken() for each in message["runs"]]
    assert [date for label, date in dates if label == "south"] == ["2025-12-31", "2026-01-31"]
    assert len(dates) == 32 + 2


@pytest.mark.parametrize(
    ("date", "deadline"),
    [
        ("2026-01-01", "2026-01-02 01:30"),
        ("2026-03-28", "2026-03-29 01:30"),  # 02:30 does not exist on that day, and becomes 03:30
        ("2026-06-01", "2026-06-02 00:30"),
        ("2026-10-24", "2026-10-25 00:30"),  # 02:30 comes twice on that day
        ("9999-12-31", "9999-12-31 00:00"),
    ],
)
def test_deadline_is_in_the_time_zone_of_the_sensor(date: str, deadline: str) -> None:
    in_berlin = Deadline(days=1, at=datetime.time(2, 30), zone=ZoneInfo("Europe/Berlin"))
    assert f"{in_berlin.of(day(date)):%Y-%m-%d %H:%M}" == deadline
    at = in_berlin.of(day(date))
    if at.year < 9999:
        assert list(in_berlin.dates_between(at - DAY / 2, at, Every.DAY)) == [day(date)]
        assert list(in_berlin.dates_between(at, at + DAY / 2, Every.DAY)) == []


def test_a_deadline_cannot_be_before_the_reference_date() -> None:
    with pytest.raises(ValueError, match="'days' cannot be negative"):
        Deadline(days=-1)


def test_a_backlog_of_ten_years_is_one_message_about_its_newest_date(
    settings: Settings, store: RunStore, clock: Clock, receiver: Receiver
) -> None:
    north = entry("north", title="Flows in the north", deadline=Deadline(days=2))
    backlog = days("2016-01-01", "2025-12-31")
    store.note_dates({"calls": backlog})
    with daemon(settings, store, clock, sensor(north)) as watching:
        add_successes(store, north, backlog - {day("2025-12-31")}, clock.now)
        watching.look()
        run(store, north, "2025-12-31")
        clock.now += HOUR
        watching.look()
        watching.look()
    (message,) = receiver.taken()
    assert message["title"] == "Flows in the north, 2025-12-31"
    assert message["message"].split("\n\n") == [
        "Incomplete: 1 of 1 days was missing.\nAlso done: 2016-01-01 to 2025-12-30.",
        "Report: /outputs/reports/2025-12-31.pdf",
    ]
    assert len(message["dates"]) == len(backlog)


def add_successes(
    store: RunStore, trigger: TriggerSpec, dates: Iterable[datetime.date], now: datetime.datetime
) -> None:
    """Add the record of a success for each date, at once."""
    key = WorkflowKey.of_trigger(trigger)
    common: dict[str, object] = {
        "workflow": key.workflow,
        "parameters": key.parameters,
        "parameters_hash": key.parameters_hash,
    }
    common |= {"attempt": 1, "state": "succeeded", "holder": "x", "every": key.every.value}
    common |= dict.fromkeys(("started_at", "heartbeat_at", "finished_at"), now)
    with store.database.writing("cannot be written") as connection:
        connection.execute(sa.insert(runs_table), [{**common, "reference_date": date} for date in dates])


def test_a_success_is_a_message_once_nothing_newer_is_due_and_names_what_was_done_since_the_last(
    settings: Settings, store: RunStore, clock: Clock, receiver: Receiver
) -> None:
    north = entry("north")
    store.note_dates({"calls": days("2025-12-30", "2025-12-31")})
    run(store, north, "2025-12-29")  # before it was asked for
    clock.now += HOUR
    with daemon(settings, store, clock, sensor(north)) as watching:
        for date in ("2025-12-30", "2025-12-31", "2026-01-02", "2026-01-01", "2026-01-03"):
            clock.now += HOUR
            store.note_dates({"calls": days("2025-12-30", max(date, "2025-12-31"))})
            run(store, north, date)
            watching.look()
    found = [(message["reference_date"], message["dates"]) for message in receiver.taken()]
    assert found == [
        ("2025-12-31", ["2025-12-30", "2025-12-31"]),
        ("2026-01-02", ["2026-01-02"]),
        ("2026-01-03", ["2026-01-01", "2026-01-03"]),
    ]


def test_a_run_that_a_person_asked_for_is_no_message(
    settings: Settings, store: RunStore, clock: Clock, receiver: Receiver
) -> None:
    north = entry("north")
    store.note_dates({"calls": days("2025-12-30", "2025-12-31")})
    with daemon(settings, store, clock, sensor(north)) as watching:
        run(store, north, "2025-12-31", is_requested=True)
        watching.look()
        run(store, north, "2025-12-30")
        watching.look()
    assert [message["dates"] for message in receiver.taken()] == [["2025-12-30"]]


def test_a_new_run_of_the_newest_date_is_a_message_that_replaces_the_other(
    settings: Settings, store: RunStore, clock: Clock, receiver: Receiver
) -> None:
    north = entry("north", on_change=OnChange.RERUN)
    store.note_dates({"calls": days("2025-12-30", "2025-12-31")})
    with daemon(settings, store, clock, sensor(north)) as watching:
        for date in ("2025-12-30", "2025-12-31", "2025-12-30", "2025-12-31"):
            clock.now += HOUR
            run(store, north, date)
            watching.look()
    first, second = receiver.taken()
    assert "This replaces the report in an earlier message, because days have changed since." in second["message"]
    assert "Also done since the last message: 2025-12-30." in second["message"]
    assert "replaces" not in first["message"]


def test_of_two_daemons_one_notifies_people_of_a_success_and_a_restart_does_not_repeat_it(
    settings: Settings, store: RunStore, clock: Clock, receiver: Receiver, uri: str
) -> None:
    found = sensor(entry("north"), entry("silent", notify=NotifySpec()))
    store.note_dates({"calls": days("2025-12-31", "2025-12-31")})
    with (
        closing(RunStore(uri, clock=clock)) as other,
        daemon(settings, store, clock, found) as first,
        daemon(settings, other, clock, found) as second,
    ):
        for trigger in found.triggers:
            run(store, trigger, "2025-12-31")
        first.look()
        second.look()
    clock.now += HOUR
    with daemon(settings, store, clock, sensor(*(replace(each, notify=SUCCESS) for each in found.triggers))):
        pass
    assert [message["label"] for message in receiver.taken()] == ["north"]


def test_running_watch_needs_no_tick_to_notice_a_deadline_and_no_run_of_its_own_to_notice_a_success(
    settings: Settings, store: RunStore, clock: Clock, receiver: Receiver
) -> None:
    found = sensor(entry("north", deadline=Deadline(days=2)))
    store.note_dates({"calls": days("2025-12-30", "2025-12-30")})
    with Notifier(settings, store, clock=clock) as notifier:
        watch = EntryWatch(settings, store, notifier, clock=clock)
        with watch.running(found):
            watch.tick_ended()
            run(store, found.triggers[0], "2025-12-30")
            watch.tick_ended()
            assert receiver.messages.get(timeout=LONG)["title"] == "flows, 2025-12-30"
            clock.now += DAY
            message = receiver.messages.get(timeout=LONG)
            assert (message["state"], message["dates"]) == ("not done by its deadline", ["2025-12-31"])
    assert receiver.taken() == []


def test_warnings_and_skipped_dates_are_in_the_message(
    settings: Settings, store: RunStore, clock: Clock, receiver: Receiver
) -> None:
    north = entry("north")
    checks = Checks()
    for name in ("few outliers", "all regions"):
        checks = checks.with_check(Check(name=name, ok=False, severity=Severity.WARNING, message="7 %"))

    def skip(date: str) -> None:
        claim = store.claim(RunKey(WorkflowKey.of_trigger(north), day(date)), label="north")
        assert claim
        assert store.finish(claim, RunState.SKIPPED, error=RunError("Skipped", "nobody moved", "n", 2))

    with daemon(settings, store, clock, sensor(north)) as watching:
        clock.now += HOUR
        skip("2015-12-30")
        record_run_checks(store.database, run(store, north, "2015-12-31"), {"n": checks})
        watching.look()
        wait_for(partial(nothing_is_unsent, store))
        clock.now += HOUR
        skip("2016-01-01")
        watching.look()
    warned, skipped = receiver.taken()
    assert warned["title"] == "flows, 2015-12-31, with warnings"
    assert "Warning: few outliers: 7 %\nWarning: all regions: 7 %\n" in warned["message"]
    assert "Skipped: 2015-12-30." in warned["message"]
    assert (warned["type"], warned["state"]) == ("warning", "succeeded")
    assert warned["runs"][0]["warnings"] == ["few outliers: 7 %", "all regions: 7 %"]
    assert skipped["title"] == "flows, 2016-01-01: skipped"
    assert skipped["message"] == "It was skipped: nobody moved"
    assert (skipped["type"], skipped["state"], skipped["dates"]) == ("success", "skipped", ["2016-01-01"])
    assert skipped["runs"][0]["reason"] == "nobody moved"
