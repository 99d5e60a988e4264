import datetime
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from autoflow.model.heartbeat import Heartbeat
from autoflow.runs.records import Claim, RunKey, RunState
from autoflow.system.stop_signal import StopSignal
from tests.cli.conftest import Cli
from tests.waiting import LONG

KEY = RunKey.of("simple", {"level": 2}, datetime.date(2016, 1, 9))


@contextmanager
def running(cli: Cli, end: RunState) -> Iterator[Claim]:
    """Have a process with a heartbeat execute a run, which ends as `end` once its cancellation is requested."""
    assert cli("runs") == 0
    with cli.store() as store, Heartbeat(store) as heartbeat:
        claim, cancel = store.claim(KEY), StopSignal()
        assert claim

        def run() -> None:
            with heartbeat.of(claim, StopSignal(), cancel=cancel):
                assert cancel.wait(LONG)
                store.finish(claim, end)

        thread = threading.Thread(target=run)
        thread.start()
        yield claim
        thread.join(LONG)


def test_cancel_ends_a_run_in_another_process_and_waits_for_its_end(cli: Cli) -> None:
    with running(cli, RunState.CANCELLED) as claim:
        assert cli("cancel", str(claim.id)) == 0
    assert cli.printed() == (
        f"run {claim.id} of simple 2016-01-09 is cancelled; 'autoflow retry {claim.id}' makes its date due again\n"
    )
    (run,) = cli.json("runs")
    assert run["state"] == "cancelled"


def test_cancel_marks_a_run_whose_process_is_gone(cli: Cli) -> None:
    assert cli("runs") == 0
    with cli.store() as store:
        claim = store.claim(KEY)
    assert claim
    cli.execute_sql("UPDATE runs SET heartbeat_at = '2016-01-01 00:00:00'")
    assert cli.json("cancel", str(claim.id)) == {"id": claim.id, "state": "cancelled"}
    (run,) = cli.json("runs")
    assert run["state"] == "cancelled"


def test_cancel_refuses_a_run_that_is_not_running(cli: Cli) -> None:
    failed = cli.record_failure(KEY)
    assert f"run {failed} of simple 2016-01-09 is not running: it has failed" in cli.fails("cancel", str(failed))
    assert "there is no run 99; 'autoflow runs' lists the runs" in cli.fails("cancel", "99")
    assert "Invalid value for 'ID'" in cli.fails("cancel", "flows", code=2)


def test_cancel_says_if_a_run_ended_before(cli: Cli) -> None:
    with running(cli, RunState.SUCCEEDED) as claim:
        assert cli("cancel", str(claim.id)) == 0
    assert cli.printed() == f"run {claim.id} of simple 2016-01-09 had succeeded before it could be cancelled\n"
