"""What people were notified of, and the messages that are not sent yet, for all daemons that share the database."""

import datetime as dt
import enum
import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from autoflow.model.queries import read_histories
from autoflow.model.store import RunStore
from autoflow.model.tables import entries_table, is_done, messages_table, notices_table, runs_table
from autoflow.runs.records import Histories, RunState, WorkflowKey
from autoflow.specs import Json

OTHERS_WAIT = dt.timedelta(minutes=2)
"""How long other processes leave a message to the one that made it, which has the reports at hand."""

_ONE_AT_A_TIME = 7236402
"""The number of PostgreSQL's lock under which daemons record what they notify people of, one after the other."""

_notice, _message, _entry, _run = notices_table.c, messages_table.c, entries_table.c, runs_table.c


class Topic(enum.StrEnum):
    """What a notice is about."""

    GIVEN_UP = "given_up"
    CHANGE = "change"
    DEADLINE = "deadline"
    CONDITION = "condition"


@dataclass(frozen=True, kw_only=True)
class Notice:
    """People were notified of something at `noted_at` (UTC). `daemon` is the one that finds a condition."""

    noted_at: dt.datetime
    text: str = ""
    daemon: str = ""


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """A message for one URL: the one with this `number`, from 1, among those of the `recipient`.

    `attempts` counts those that failed since `created_at` (UTC).
    """

    id: int
    recipient: str
    number: int
    content: Mapping[str, Any]
    created_at: dt.datetime
    attempts: int


@dataclass(frozen=True, kw_only=True)
class KnownEntry:
    """What the record knows about an entry of the sensor; times are in UTC.

    `first_seen` is when a daemon first had it; `removed_at` is when one last noticed that it was removed.
    `reports_since` is since when its successes are messages, and `reported_date` is the newest date of these.
    """

    first_seen: dt.datetime
    removed_at: dt.datetime | None = None
    reports_since: dt.datetime | None = None
    reported_date: dt.date | None = None


@dataclass(frozen=True, kw_only=True)
class Success:
    """A run that has succeeded, or `is_skipped`, and that no message has named. `warns`: one of its checks does."""

    run_id: int
    date: dt.date
    is_skipped: bool = False
    warns: bool = False


class MessageRecord:
    """The record of what people were notified of, in one transaction; `now` is in UTC."""

    def __init__(self, connection: sa.Connection, now: dt.datetime, holder: str) -> None:
        self._connection = connection
        self._holder = holder
        self.now = now

    def known(self, topic: Topic) -> dict[str, list[Notice]]:
        """Return what people were notified of: for each key, a notice for each daemon that finds it."""
        found = defaultdict(list)
        columns = (_notice.key, _notice.daemon, _notice.text, _notice.noted_at)
        for key, daemon, text, noted_at in self._connection.execute(sa.select(*columns).where(_notice.topic == topic)):
            found[key].append(Notice(noted_at=noted_at, text=text, daemon=daemon))
        return dict(found)

    def note(self, topic: Topic, notices: Mapping[str, str], *, daemon: str = "") -> None:
        """Record that people were notified just now; `notices` have a text for each key. Older ones are replaced."""
        self.forget(topic, notices, daemon=daemon)
        rows = [
            {"topic": topic.value, "key": key, "daemon": daemon, "text": text, "noted_at": self.now}
            for key, text in notices.items()
        ]
        if rows:
            self._connection.execute(sa.insert(notices_table), rows)

    def forget(self, topic: Topic, keys: Iterable[str], *, daemon: str | None = None) -> None:
        """Forget notices; without `daemon`, those of all daemons."""
        same = [_notice.topic == topic.value, _notice.key == sa.bindparam("forgotten")]
        same += [] if daemon is None else [_notice.daemon == daemon]
        if rows := [{"forgotten": key} for key in keys]:
            self._connection.execute(sa.delete(notices_table).where(*same), rows)

    def post(self, recipient: str, numbers: Iterable[int], content: Mapping[str, Json]) -> None:
        """Have a message sent to those URLs of a recipient that have these `numbers`, by this process if it can."""
        row = {
            "recipient": recipient,
            "content": json.dumps(content, ensure_ascii=False),
            "created_at": self.now,
            "due_at": self.now,
            "holder": self._holder,
            "held_until": self.now + OTHERS_WAIT,
        }
        if rows := [{**row, "number": number} for number in numbers]:
            self._connection.execute(sa.insert(messages_table), rows)

    def is_due(self, numbers: Mapping[str, int]) -> bool:
        """Return whether `take` would return a message."""
        statement = sa.select(_message.id).where(*self._may_send(numbers)).limit(1)
        return self._connection.execute(statement).first() is not None

    def take(self, numbers: Mapping[str, int], lease: dt.timedelta) -> Delivery | None:
        """Take the oldest message that is due, which no other process sends within `lease`; None if there is none.

        `numbers` says how many URLs each recipient has here.
        """
        delivery = self._first(*self._may_send(numbers))
        if delivery:
            self._change(delivery.id, held_until=self.now + lease)
        return delivery

    def own(self, numbers: Mapping[str, int], *, without: Iterable[int]) -> Delivery | None:
        """Return the oldest message that is due and that this process has anyway, apart from those with some ids."""
        is_own = (_message.holder == self._holder, _message.held_until > self.now, _message.id.not_in(without))
        return self._first(*self._may_send(numbers), *is_own)

    def _first(self, *conditions: sa.ColumnElement[bool]) -> Delivery | None:
        statement = sa.select(messages_table).where(*conditions).order_by(_message.due_at, _message.id).limit(1)
        row = self._connection.execute(statement).first()
        return (
            None
            if row is None
            else Delivery(
                id=row.id,
                recipient=row.recipient,
                number=row.number,
                content=json.loads(row.content),
                created_at=row.created_at,
                attempts=row.attempts,
            )
        )

    def remove(self, delivery: Delivery) -> None:
        """Remove a message that was sent, or is not to be sent any more."""
        self._connection.execute(sa.delete(messages_table).where(_message.id == delivery.id))

    def postpone(self, delivery: Delivery, due_at: dt.datetime) -> None:
        """Record that a message could not be sent, and is to be tried again at `due_at`, by this process if it can."""
        self._change(delivery.id, attempts=delivery.attempts + 1, due_at=due_at, held_until=due_at + OTHERS_WAIT)

    def remove_before(self, time: dt.datetime, numbers: Mapping[str, int]) -> list[str]:
        """Remove messages from before `time` (UTC) for which there is no URL here; return their recipients."""
        is_old = (_message.created_at < time, sa.not_(_has_url(numbers)))
        statement = sa.delete(messages_table).where(*is_old).returning(_message.recipient)
        return list(self._connection.execute(statement).scalars())

    def _change(self, message_id: int, **values: object) -> None:
        statement = sa.update(messages_table).where(_message.id == message_id)
        self._connection.execute(statement.values(holder=self._holder, **values))

    def _may_send(self, numbers: Mapping[str, int]) -> tuple[sa.ColumnElement[bool], ...]:
        is_free = sa.or_(_message.held_until <= self.now, _message.holder == self._holder)
        return _message.due_at <= self.now, is_free, _has_url(numbers)

    def entries(self) -> dict[tuple[str, str, str], KnownEntry]:
        """Return all known entries, by `entry_id`."""
        return {
            (row.workflow, row.parameters_hash, row.every): KnownEntry(
                first_seen=row.first_seen,
                removed_at=row.removed_at,
                reports_since=row.reports_since,
                reported_date=row.reported_date,
            )
            for row in self._connection.execute(sa.select(entries_table))
        }

    def add_entry(self, key: WorkflowKey) -> None:
        """Record that a daemon has the entry since now, and not since before."""
        self._connection.execute(sa.delete(entries_table).where(*_is_entry(key)))
        names = dict(zip(("workflow", "parameters_hash", "every"), entry_id(key), strict=True))
        self._connection.execute(sa.insert(entries_table).values(**names, first_seen=self.now))

    def change_entry(self, key: WorkflowKey, **values: dt.date | None) -> None:
        """Change what is recorded about an entry, named as in `KnownEntry`."""
        self._connection.execute(sa.update(entries_table).where(*_is_entry(key)).values(values))

    def successes(self, key: WorkflowKey, since: dt.datetime) -> list[Success]:
        """Return the runs of an entry that ended well since a time (UTC) and that no message has named.

        Those that a user asked for are left out.
        """
        is_wanted = (_run.reported_at.is_(None), ~_run.is_requested, _run.finished_at >= since)
        statement = sa.select(_run.id, _run.reference_date, _run.state, _run.checks).where(
            _run.workflow == key.workflow,
            _run.parameters_hash == key.parameters_hash,
            _run.every == key.every.value,
            is_done,
            *is_wanted,
        )
        return [
            Success(
                run_id=run_id,
                date=date,
                is_skipped=RunState(state).is_skip,
                warns=any(each["warnings"] for each in json.loads(checks or "{}").values()),
            )
            for run_id, date, state, checks in self._connection.execute(statement)
        ]

    def with_successes(self) -> set[tuple[str, str, str]]:
        """Return the entries, as `entry_id` names them, that may have successes that no message has named."""
        since = sa.select(sa.func.min(_entry.reports_since)).scalar_subquery()
        statement = sa.select(_run.workflow, _run.parameters_hash, _run.every).distinct()
        is_wanted = (_run.reported_at.is_(None), ~_run.is_requested, _run.finished_at >= since)
        found = self._connection.execute(statement.where(is_done, *is_wanted))
        return {(row.workflow, row.parameters_hash, row.every) for row in found}

    def mark_reported(self, successes: Iterable[Success]) -> None:
        """Record that a message names these runs."""
        statement = sa.update(runs_table).where(_run.id == sa.bindparam("run")).values(reported_at=self.now)
        if rows := [{"run": each.run_id} for each in successes]:
            self._connection.execute(statement, rows)


class MessageStore:
    """The part of the run store that messages use. Safe to use from several threads.

    Every method raises RunStoreError if the database cannot be reached.
    """

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._database = store.database

    @contextmanager
    def reading(self) -> Iterator[MessageRecord]:
        """Yield the record to read from."""
        with self._database.reading() as connection:
            yield MessageRecord(connection, self._now(connection), self._store.holder)

    @contextmanager
    def writing(self) -> Iterator[MessageRecord]:
        """Yield the record for changes in a transaction that no other daemon shares: what it adds is added once."""
        with self._database.writing("cannot record messages") as connection:
            if not self._database.is_sqlite:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ONE_AT_A_TIME)))
            yield MessageRecord(connection, self._now(connection), self._store.holder)

    def histories(self, workflow: str, with_starts: Collection[WorkflowKey] = ()) -> Histories:
        """Return the histories of the entries of a workflow, those of `with_starts` with the starts of their runs."""
        with self._database.reading() as connection:
            return read_histories(connection, with_starts, runs_table.c.workflow == workflow)

    def _now(self, connection: sa.Connection) -> dt.datetime:
        now: dt.datetime = self._store.now
        return now if isinstance(now, dt.datetime) else connection.execute(sa.select(now)).scalar_one()


def _has_url(numbers: Mapping[str, int]) -> sa.ColumnElement[bool]:
    found = [(_message.recipient == name) & (_message.number <= most) for name, most in numbers.items()]
    return sa.or_(sa.false(), *found)


def entry_id(key: WorkflowKey) -> tuple[str, str, str]:
    """Return what identifies an entry in the record."""
    return key.workflow, key.parameters_hash, key.every.value


def _is_entry(key: WorkflowKey) -> tuple[sa.ColumnElement[bool], ...]:
    workflow, parameters_hash, every = entry_id(key)
    return _entry.workflow == workflow, _entry.parameters_hash == parameters_hash, _entry.every == every
