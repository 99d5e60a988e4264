import datetime as dt
from contextlib import closing
from pathlib import Path

import alembic.command
import sqlalchemy as sa

from autoflow.dates.availability import LONG_AGO, Arrival, Availability
from autoflow.dates.periods import Every
from autoflow.dates.stencil import DateStencil
from autoflow.model.database import alembic_config
from autoflow.model.store import RunStore
from autoflow.runs.plan import due_work, keys_with_reruns
from autoflow.runs.records import RunState, WorkflowKey
from autoflow.specs import DEFAULT_STENCIL, NotebookSpec, OnChange, TriggerSpec, WorkflowSpec
from tests.model.conftest import Clock

FIRST, SECOND, THIRD = (dt.date(2016, 1, number) for number in (1, 2, 3))
MINUTE = dt.timedelta(minutes=1)


def found(*dates: dt.date) -> dict[str, frozenset[dt.date]]:
    return {"calls": frozenset(dates)}


def test_first_look_finds_what_arrived_long_ago(store: RunStore, clock: Clock) -> None:
    assert store.note_dates(found(FIRST)) == {"calls": {FIRST: Arrival(LONG_AGO)}}
    clock.now += MINUTE
    assert store.note_dates(found(FIRST, SECOND))["calls"][SECOND] == Arrival(clock.now)
    assert store.arrivals() == {"calls": {FIRST: Arrival(LONG_AGO), SECOND: Arrival(clock.now)}}


def test_a_first_look_that_finds_nothing_counts(store: RunStore, clock: Clock) -> None:
    assert store.note_dates({}) == {}
    clock.now += MINUTE
    assert store.note_dates(found(FIRST)) == {"calls": {FIRST: Arrival(clock.now)}}


def test_dates_that_vanish_and_return_are_recorded(store: RunStore, clock: Clock) -> None:
    store.note_dates(found(FIRST, SECOND))
    times = []
    for dates in ([FIRST], [FIRST], [FIRST, SECOND], [FIRST, SECOND]):
        clock.now += MINUTE
        times.append(clock.now)
        arrivals = store.note_dates(found(*dates))
    gone, _, back, _ = times
    assert arrivals["calls"][SECOND] == Arrival(LONG_AGO, gone, back)
    clock.now += MINUTE
    assert store.note_dates(found(FIRST))["calls"][SECOND].is_gone
    clock.now += MINUTE
    assert store.note_dates(found(FIRST, SECOND))["calls"][SECOND] == Arrival(LONG_AGO, clock.now - MINUTE, clock.now)


def test_a_type_that_is_missing_from_the_answer_has_not_vanished(store: RunStore, clock: Clock) -> None:
    store.note_dates({**found(FIRST), "sms": frozenset({FIRST})})
    clock.now += MINUTE
    for answer in (found(FIRST), {**found(FIRST), "sms": frozenset()}):
        assert store.note_dates(answer)["sms"] == {FIRST: Arrival(LONG_AGO)}


def test_two_daemons_agree(uri: str, store: RunStore, clock: Clock) -> None:
    with closing(RunStore(uri, clock=clock)) as other:
        store.note_dates(found(FIRST))
        clock.now += MINUTE
        expected = store.note_dates(found(FIRST, THIRD))
        clock.now += MINUTE
        assert other.note_dates(found(FIRST, THIRD)) == expected


def test_ten_years_are_recorded_and_read_back(store: RunStore) -> None:
    dates = frozenset(FIRST + dt.timedelta(days=number) for number in range(3_650))
    arrivals = store.note_dates(dict.fromkeys(("calls", "sms"), dates))
    assert {name: arrivals[name].keys() for name in arrivals} == {"calls": dates, "sms": dates}


def database_of_the_version_before(uri: str, dates: list[dt.date]) -> None:
    """Make a database without arrivals, in which the workflow `w` has been run for `dates`."""
    engine = sa.create_engine(uri.replace("postgresql://", "postgresql+psycopg://"))
    insert = sa.text(
        "INSERT INTO runs (workflow, parameters_hash, parameters, reference_date, attempt, state, holder, started_at,"
        " heartbeat_at, finished_at) VALUES ('w', :hash, '{}', :date, 1, 'succeeded', 'me',"
        " '2025-06-01 00:00:00.000000', '2025-06-01 00:00:00.000000', '2025-06-01 00:00:00.000000')"
    )
    with engine.begin() as connection:
        config = alembic_config()
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, "0006")
        parameters_hash = WorkflowKey.of("w", {}).parameters_hash
        connection.execute(insert, [{"hash": parameters_hash, "date": date.isoformat()} for date in dates])
    engine.dispose()


def test_database_of_the_version_before_goes_on_and_reruns_nothing(uri: str, clock: Clock) -> None:
    january = [FIRST + dt.timedelta(days=number) for number in range(31)]
    workflow = WorkflowSpec(name="w", notebooks=(NotebookSpec(label="n", path=Path("/n.ipynb")),))
    daily = TriggerSpec(workflow=workflow, date_stencil=DateStencil([0]), on_change=OnChange.RERUN)
    monthly = TriggerSpec(
        workflow=workflow, every=Every.MONTH, date_stencil=DateStencil(DEFAULT_STENCIL, every=Every.MONTH)
    )
    database_of_the_version_before(uri, january[:-1])

    def due(entry: TriggerSpec, *dates: dt.date) -> list[dt.date]:
        available = Availability.of(dates).with_arrivals(store.note_dates(found(*dates)))
        work = due_work([entry], available, store.histories(keys_with_reruns([entry])), clock.now)
        clock.now += MINUTE
        return [run.reference_date for runs in work.runs.values() for run in runs]

    with closing(RunStore(uri, clock=clock)) as store:
        store.migrate()
        assert due(daily, *january) == [january[-1]]
        # The rows of the version before are those of days: the month that ends on the same day is not done.
        assert due(monthly, *january) == [january[-1]]
        claim = store.claim(WorkflowKey.of_trigger(daily).on(january[-1]))
        assert claim
        assert store.finish(claim, RunState.SUCCEEDED)
        assert (due(daily, *january), due(monthly, *january)) == ([], [january[-1]])
        # From now on, changes count.
        assert due(daily, *january[1:]) == []
        assert due(daily, *january) == [FIRST]
