"""Leases on claims in a real PostgreSQL, in seconds that the tests set."""

import datetime
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import psycopg
import pytest

from autoflow.cluster.lease import Lease
from autoflow.errors import RunStopped, RunStoreError
from autoflow.model.claim_ages import ClaimAges
from autoflow.model.store import RunStore
from autoflow.runs.records import Claim, RunKey
from autoflow.system.stop_signal import StopSignal
from tests.postgres import Postgres
from tests.waiting import wait_for

HOLDS = 40.0


@dataclass
class Held:
    """A claim, and a lease on it that has not begun."""

    postgres: Postgres
    uri: str
    store: RunStore
    ages: ClaimAges
    claim: Claim
    now: float = 1000.0
    is_wanted: bool = True

    def __post_init__(self) -> None:
        self.stop = StopSignal()

    def lease(self) -> Lease:
        return Lease(
            self.ages,
            self.claim.id,
            self.stop,
            seconds=HOLDS,
            is_wanted=lambda: self.is_wanted,
            clock=lambda: self.now,
        )

    def make_older(self, seconds: float) -> None:
        """Have the claim look as if it had been renewed so long ago."""
        with psycopg.connect(self.uri) as connection:
            connection.execute("UPDATE runs SET heartbeat_at = heartbeat_at - make_interval(secs => %s)", [seconds])


@pytest.fixture
def held(postgres: Postgres) -> Iterator[Held]:
    uri = postgres.uri()
    with closing(RunStore(uri)) as store, closing(ClaimAges(uri)) as ages:
        store.migrate()
        claim = store.claim(RunKey.of("one", {}, datetime.date(2016, 1, 1)))
        assert claim
        yield Held(postgres, uri, store, ages, claim)


def test_lease_holds_while_the_claim_is_renewed(held: Held) -> None:
    with held.lease() as lease:
        for _ in range(3):
            held.now += HOLDS - 1
            held.store.renew([held.claim])
            lease.confirm()

    assert not held.stop.is_set


def test_lease_ends_at_its_time_after_the_last_renewal(held: Held) -> None:
    held.make_older(30)
    with held.lease() as lease:
        held.now += 5
        assert not held.stop.is_set
        held.now += 10
        wait_for(lambda: held.stop.is_set)
        with pytest.raises(RunStopped, match="was not renewed within 40 s"):
            lease.confirm()


def test_claim_that_was_marked_as_crashed_lets_no_file_appear(held: Held) -> None:
    with held.lease() as lease:
        held.make_older(100)
        held.store.give_up_crashed()
        with pytest.raises(RunStopped, match="not valid any more"):
            lease.confirm()

    assert held.stop.is_set
    with pytest.raises(RunStopped), held.lease():
        pass


def test_order_that_the_scheduler_has_given_up_is_stopped(held: Held) -> None:
    with held.lease():
        held.is_wanted = False
        wait_for(lambda: held.stop.is_set)

    assert held.stop.reason == "the scheduler has given it up"


def test_lease_ends_when_the_claim_cannot_be_read_for_too_long(held: Held) -> None:
    with psycopg.connect(held.postgres.conninfo("postgres"), autocommit=True) as connection, held.lease() as lease:
        name = held.uri.rpartition("/")[2]
        held.store.close()
        held.ages.close()
        rename = psycopg.sql.SQL("ALTER DATABASE {} RENAME TO {}")
        connection.execute(rename.format(*map(psycopg.sql.Identifier, (name, f"{name}_away"))))
        assert not held.stop.is_set
        held.now += HOLDS + 1
        with pytest.raises(RunStopped, match="as far as this worker can see"):
            lease.confirm()
        with pytest.raises(RunStoreError):
            held.lease().__enter__()
