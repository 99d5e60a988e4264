import datetime
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from autoflow.model.store import RunStore

if TYPE_CHECKING:
    from tests.postgres import Postgres


class Clock:
    """A clock that shows the time that a test has set."""

    def __init__(self) -> None:
        self.now = datetime.datetime(2026, 1, 1)

    def __call__(self) -> datetime.datetime:
        return self.now

    def seconds(self) -> float:
        return (self.now - datetime.datetime.min).total_seconds()


@pytest.fixture(params=["sqlite", "postgresql"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URI of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/autoflow.db"
    postgres: Postgres = request.getfixturevalue("postgres")
    return postgres.uri()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(uri: str, clock: Clock) -> Iterator[RunStore]:
    with closing(RunStore(uri, clock=clock)) as store:
        store.migrate()
        yield store
