"""When each date arrived in FlowAPI, vanished and returned, as the ticks have found it."""

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from autoflow.dates.availability import LONG_AGO, Arrival, Arrivals
from autoflow.model.tables import arrivals_table
from autoflow.model.transactions import Database

_FIRST_LOOK = ""
"""The type in the row that records the first look of all; its `first_seen` is the time of it."""

_columns = arrivals_table.c


def preview_arrivals(database: Database, found: Mapping[str, frozenset[dt.date]], now: dt.datetime) -> Arrivals:
    """Return what `note_dates` would return now, without recording anything."""
    with database.reading() as connection:
        known = _read(connection)
    differences = _Differences.between(known, found)
    arrivals = {name: dict(rows) for name, rows in _without_first_look(known).items()}
    for name, date in differences.new:
        arrivals.setdefault(name, {})[date] = Arrival(now if _FIRST_LOOK in known else LONG_AGO)
    for name, date in differences.gone:
        arrivals[name][date] = replace(arrivals[name][date], vanished=now)
    for name, date in differences.back:
        arrivals[name][date] = replace(arrivals[name][date], last_seen=now)
    return arrivals


def note_dates(database: Database, found: Mapping[str, frozenset[dt.date]], now: Any) -> Arrivals:
    """Record the dates that FlowAPI has now, by type; return when each arrived.

    The dates of a type that is not in `found`, or has none, have not vanished: FlowAPI is faulty. Nothing is written
    unless a date is new, gone or back. `now` is a time, or an expression of the database for it.
    """
    with database.reading() as connection:
        known = _read(connection)
    if _FIRST_LOOK not in known or _Differences.between(known, found).is_any:
        with database.writing("cannot record the available dates") as connection:
            known = _read(connection)
            _write(connection, _Differences.between(known, found), now, is_first=_FIRST_LOOK not in known)
            known = _read(connection)
    return _without_first_look(known)


def known_arrivals(connection: sa.Connection) -> Arrivals:
    """Return when each date arrived, as the last tick found it."""
    return _without_first_look(_read(connection))


def arrivals_stamp(connection: sa.Connection) -> str:
    """Return a text that is another one once something was recorded."""
    times = (sa.func.max(column) for column in (_columns.first_seen, _columns.vanished, _columns.last_seen))
    gone = sa.func.sum(sa.case((_columns.vanished.is_not(None), 1), else_=0))
    back = sa.func.sum(sa.case((_columns.last_seen.is_not(None), 1), else_=0))
    found = connection.execute(sa.select(sa.func.count(), gone, back, *times)).one()
    return "/".join(map(str, found))


_Key = tuple[str, dt.date]


@dataclass(frozen=True, kw_only=True)
class _Differences:
    """The dates, with their types, that are new, gone, and back after they had been gone."""

    new: Sequence[_Key]
    gone: Sequence[_Key]
    back: Sequence[_Key]

    @classmethod
    def between(cls, known: Arrivals, found: Mapping[str, frozenset[dt.date]]) -> "_Differences":
        """Return what has changed since the last look."""
        new: list[_Key] = []
        gone: list[_Key] = []
        back: list[_Key] = []
        for name, dates in found.items():
            rows = known.get(name, {})
            absent = {date for date, arrival in rows.items() if arrival.is_gone}
            new += _keys(name, dates - rows.keys())
            gone += _keys(name, rows.keys() - absent - dates) if dates else []
            back += _keys(name, absent & dates)
        return cls(new=new, gone=gone, back=back)

    @property
    def is_any(self) -> bool:
        """Whether anything has changed."""
        return bool(self.new or self.gone or self.back)


def _keys(name: str, dates: Iterable[dt.date]) -> list[_Key]:
    return [(name, date) for date in sorted(dates)]


def _read(connection: sa.Connection) -> dict[str, dict[dt.date, Arrival]]:
    found: dict[str, dict[dt.date, Arrival]] = {}
    statement = sa.select(_columns.cdr_type, _columns.date, _columns.first_seen, _columns.vanished, _columns.last_seen)
    for name, date, first_seen, vanished, last_seen in connection.execute(statement):
        found.setdefault(name, {})[date] = Arrival(first_seen or LONG_AGO, vanished, last_seen)
    return found


def _without_first_look(known: Arrivals) -> Arrivals:
    return {name: arrivals for name, arrivals in known.items() if name != _FIRST_LOOK}


def _write(connection: sa.Connection, differences: _Differences, now: Any, *, is_first: bool) -> None:
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    # Another daemon may have noticed the same in the meantime: its time counts.
    new_rows = insert(arrivals_table).on_conflict_do_nothing()
    if is_first:
        connection.execute(new_rows.values(cdr_type=_FIRST_LOOK, date=dt.date.min, first_seen=now))
    if differences.new:
        statement = new_rows if is_first else new_rows.values(first_seen=now)
        connection.execute(statement, [{"cdr_type": name, "date": date} for name, date in differences.new])
    not_back = _columns.last_seen.is_(None) | (_columns.last_seen < _columns.vanished)
    is_gone = _columns.vanished.is_not(None) & not_back
    _set(connection, differences.gone, sa.not_(is_gone), {"vanished": now})
    _set(connection, differences.back, is_gone, {"last_seen": now})


def _set(
    connection: sa.Connection, keys: Sequence[_Key], condition: sa.ColumnElement[bool], values: Mapping[str, Any]
) -> None:
    if not keys:
        return
    is_row = (_columns.cdr_type == sa.bindparam("row_type")) & (_columns.date == sa.bindparam("row_date"))
    statement = sa.update(arrivals_table).where(is_row, condition).values(values)
    connection.execute(statement, [{"row_type": name, "row_date": date} for name, date in keys])
