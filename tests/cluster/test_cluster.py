"""Runs on a cluster of real processes."""

import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from autoflow.runs.records import RunState
from autoflow.specs import NotebookSpec, ReportFormat
from tests.cluster.conftest import ROOT, Farm, daemon_of, meanwhile, run_of
from tests.conftest import TOKEN_OF_NO_USE
from tests.waiting import wait_for

pytestmark = pytest.mark.usefixtures("prefect_url")

SAYS_WHERE = "import os, pathlib; pathlib.Path({name!r}).write_text(str(os.getpid()))"
WAITS = f"{SAYS_WHERE}\nimport time\nwhile not pathlib.Path({{go!r}}).exists(): time.sleep(0.05)"


class Waiting:
    """A notebook that writes its process id into a file, and waits for another file."""

    def __init__(self, farm: Farm, more: str = "") -> None:
        self._started, self._go = farm.inputs / f"started-{id(self)}", farm.inputs / f"go-{id(self)}"
        self.path = farm.notebook(more, WAITS.format(name=str(self._started), go=str(self._go)))

    def wait(self) -> int:
        """Wait for its start; return its process id."""
        wait_for(lambda: self._started.exists() and self._started.read_text())
        return int(self._started.read_text())

    def forget_start(self) -> None:
        """Forget that it has started."""
        self._started.unlink()

    def go(self) -> None:
        """Let it end."""
        self._go.touch()


def is_alive(pid: int) -> bool:
    """Return whether a process runs."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def worker_of(pid: int) -> int:
    """Return which worker process a kernel belongs to."""
    (found,) = [each.pid for each in psutil.Process(pid).parents() if each.cmdline()[-1:] == ["worker"]]
    return int(found)


def test_notebooks_are_executed_with_their_reports_where_workers_are(farm: Farm) -> None:
    first = NotebookSpec(label="first", path=farm.notebook("print(6 * 7)"))
    second = NotebookSpec(
        label="second",
        path=farm.notebook("import json\nprint(json.load(open(upstream))['nbformat'], date, FLOWAPI)"),
        parameters={"upstream": "first", "date": "reference_date", "FLOWAPI": "flowapi_url"},
    )
    run = run_of(first, second)
    with_reports = run_of(farm.notebook("print('hello')"), formats=(ReportFormat.PDF, ReportFormat.HTML))
    with daemon_of(farm, workers=2) as daemon:
        states = daemon.run(run), daemon.run(with_reports)
        outputs, reports = daemon.last(run).outputs, daemon.last(with_reports).outputs["n0"]["reports"]

    assert states == (RunState.SUCCEEDED, RunState.SUCCEEDED)
    assert "4 2016-01-07 http://127.0.0.1:9" in Path(outputs["second"]["notebook"]).read_text()
    assert [Path(report).read_bytes()[:4] for report in reports] == [b"%PDF", b"<!DO"]


def test_error_comes_back_whole_and_without_secrets(farm: Farm, logged: list[str]) -> None:
    notebook = farm.notebook("1", "import os\nraise ValueError(os.environ['FLOWAPI_TOKEN'])")
    missing = farm.notebook("import pandsa")
    with daemon_of(farm, workers=2) as daemon:
        run, other = run_of(notebook), run_of(missing)
        states = daemon.run(run), daemon.run(other)
        error, other_error = daemon.last(run).error, daemon.last(other).error
        executed = Path(daemon.last(run).outputs["n0"]["notebook"])

    assert states == (RunState.FAILED, RunState.FAILED)
    assert error
    assert str(error) == "notebook 'n0', cell 2 (In [2]: import os): ValueError: [secret]"
    assert other_error
    assert "pandsa" in other_error.message
    assert executed.exists()
    assert not [line for line in logged if TOKEN_OF_NO_USE in line]


def test_progress_timeout_and_cancellation_work_as_on_one_machine(farm: Farm) -> None:
    cells: list[tuple[int, int]] = []
    slow = NotebookSpec(label="slow", path=farm.notebook("import time\ntime.sleep(600)"), timeout=1.5)
    waiting = Waiting(farm)
    run, cancelled = run_of(slow), run_of(waiting.path)
    with daemon_of(farm, workers=2) as daemon:
        counted = run_of(farm.notebook("1", "2", "3"))
        daemon.runner.run(counted, shutdown=daemon.shutdown, progress=lambda _, *cell: cells.append(cell))
        wait_for(lambda: len(cells) == 3)
        daemon.run(run)
        error = daemon.last(run).error
        with meanwhile(daemon, cancelled) as states:
            kernel = waiting.wait()
            daemon.store.ask_to_cancel(daemon.last(cancelled).id)
        record = daemon.last(cancelled)

    assert cells == [(1, 3), (2, 3), (3, 3)]
    assert error
    assert (error.error_class, error.cell) == ("CellTimeoutError", 1) or "longer than 1.5 s" in error.message
    assert states == [RunState.CANCELLED]
    assert record.state is RunState.CANCELLED
    assert not is_alive(kernel)


def test_orders_go_to_the_worker_with_most_free_slots(farm: Farm) -> None:
    waiting = [Waiting(farm) for _ in range(4)]
    with daemon_of(farm, workers=2) as daemon:
        slots = daemon.runner.slots
        with meanwhile(daemon, run_of(*(each.path for each in waiting))) as states:
            workers = [worker_of(each.wait()) for each in waiting]
            has_room = daemon.cluster.reserve() is not None
            for each in waiting:
                each.go()

    assert slots == 4
    assert {workers.count(worker) for worker in workers} == {2}
    assert not has_room
    assert states == [RunState.SUCCEEDED]


def test_shutdown_of_the_daemon_ends_the_kernels(farm: Farm) -> None:
    waiting = Waiting(farm)
    run = run_of(waiting.path)
    with daemon_of(farm, workers=2) as daemon, meanwhile(daemon, run) as states:
        kernel = waiting.wait()
        daemon.shutdown.close_at_once("AutoFlow was stopped")
        wait_for(lambda: states)
        record = daemon.last(run)

    assert states == [RunState.INTERRUPTED]
    assert str(record.error) == "Interrupted: AutoFlow was stopped"
    assert not is_alive(kernel)


def test_lost_worker_counts_as_a_crash_and_its_claim_expires_before_the_next_attempt(own_farm: Farm) -> None:
    waiting = Waiting(own_farm)
    run = run_of(waiting.path)
    with own_farm.worker() as lost, daemon_of(own_farm, workers=1) as daemon, meanwhile(daemon, run) as states:
        kernel = waiting.wait()
        with own_farm.worker():
            wait_for(lambda: len(daemon.cluster.workers()) == 2)
            lost.kill()
            wait_for(lambda: not is_alive(kernel))
            waiting.forget_start()
            waiting.go()
            wait_for(lambda: states)
        attempts = daemon.store.runs(workflow=run.key.workflow)
        failures = daemon.store.histories()[run.key.workflow_key].failures

    second, first = attempts
    assert states == [RunState.SUCCEEDED]
    assert (first.state, second.state) == (RunState.CRASHED, RunState.SUCCEEDED)
    assert (second.started_at - first.heartbeat_at) >= daemon.store.crashed_after
    assert failures[run.reference_date].count == 0


def test_stopped_worker_is_given_up_and_its_late_files_are_refused(own_farm: Farm) -> None:
    waiting = Waiting(own_farm)
    run = run_of(waiting.path)
    with own_farm.worker() as frozen, daemon_of(own_farm, workers=1) as daemon, meanwhile(daemon, run) as states:
        waiting.wait()
        frozen.signal(signal.SIGSTOP)
        waiting.go()
        with own_farm.worker():
            wait_for(lambda: states)
            frozen.signal(signal.SIGCONT)
            wait_for(lambda: "lost the scheduler" in frozen.text)
            wait_for(lambda: frozen.text.count("registered as") == 2)
        attempts = daemon.store.runs(workflow=run.key.workflow)

    assert [attempt.state for attempt in attempts] == [RunState.SUCCEEDED, RunState.CRASHED]
    assert [path.name for path in (own_farm.outputs / "notebooks").iterdir()] == [
        Path(attempts[0].outputs["n0"]["notebook"]).name
    ]


def test_worker_of_another_version_gets_no_orders_and_the_run_waits(own_farm: Farm, tmp_path: Path) -> None:
    program = tmp_path / "other"
    shutil.copytree(ROOT / "autoflow", program / "autoflow")
    shutil.copytree(ROOT / "config", program / "config")
    (program / "autoflow" / "another.py").touch()
    run = run_of(own_farm.notebook("1"))
    with own_farm.worker(program=program), daemon_of(own_farm) as daemon:
        wait_for(daemon.cluster.workers)
        (other,) = daemon.cluster.workers()
        with meanwhile(daemon, run) as states:
            has_claim = bool(daemon.store.runs(workflow=run.key.workflow))
            with own_farm.worker():
                wait_for(lambda: states)

    assert other.refused
    assert "and the daemon of version" in other.refused
    assert not has_claim
    assert states == [RunState.SUCCEEDED]


def test_late_inputs_are_waited_for_and_cost_no_attempt(own_farm: Farm, tmp_path: Path) -> None:
    late = tmp_path / "late"
    shutil.copytree(own_farm.inputs, late)
    notebook = own_farm.notebook("print('new')", name="late.ipynb")
    own_farm.notebook("print('old')", name="old.ipynb").rename(late / "late.ipynb")
    run = run_of(notebook)
    with (
        own_farm.worker(AUTOFLOW_INPUTS_DIR=str(late)) as worker,
        daemon_of(own_farm, workers=1) as daemon,
        meanwhile(daemon, run) as states,
    ):
        wait_for(lambda: "is not the same file as for the daemon" in worker.text)
        shutil.copy(notebook, late / "late.ipynb")
        wait_for(lambda: states)
        attempts = daemon.store.runs(workflow=run.key.workflow)

    assert states == [RunState.SUCCEEDED]
    assert len(attempts) == 1
    assert "new" in Path(attempts[0].outputs["n0"]["notebook"]).read_text()


def test_worker_that_is_stopped_finishes_its_orders_and_takes_no_more(own_farm: Farm) -> None:
    waiting, second = Waiting(own_farm), Waiting(own_farm)
    run, moved = run_of(waiting.path), run_of(second.path)
    with daemon_of(own_farm) as daemon, own_farm.worker(AUTOFLOW_SHUTDOWN_GRACE="60") as leaving:
        wait_for(lambda: daemon.cluster.slots)
        with meanwhile(daemon, run) as states, meanwhile(daemon, moved) as moved_states:
            waiting.wait()
            second.wait()
            leaving.signal(signal.SIGTERM)
            wait_for(lambda: any(worker.refused for worker in daemon.cluster.workers()))
            waiting.go()
            wait_for(lambda: states)
            leaving.signal(signal.SIGTERM)
            leaving.process.wait()
            second.forget_start()
            with own_farm.worker():
                second.go()
                wait_for(lambda: moved_states)
        attempts = daemon.store.runs(workflow=moved.key.workflow)

    assert states == moved_states == [RunState.SUCCEEDED]
    assert len(attempts) == 1, "the notebook was moved under the same claim"


def test_worker_that_is_not_fit_is_left_out_and_comes_back(own_farm: Farm, tmp_path: Path) -> None:
    inputs = tmp_path / "mount"
    inputs.symlink_to(own_farm.inputs)
    run = run_of(own_farm.notebook("1"))
    with own_farm.worker(AUTOFLOW_INPUTS_DIR=str(inputs)), daemon_of(own_farm, workers=1) as daemon:
        inputs.unlink()
        wait_for(lambda: daemon.cluster.workers()[0].refused)
        (left_out,) = daemon.cluster.workers()
        with meanwhile(daemon, run) as states:
            inputs.symlink_to(own_farm.inputs)
            wait_for(lambda: states)

    assert left_out.refused
    assert "is the inputs folder mounted?" in left_out.refused
    assert states == [RunState.SUCCEEDED]


def test_scheduler_that_was_restarted_is_found_again(own_farm: Farm, logged: list[str]) -> None:
    waiting = Waiting(own_farm)
    run = run_of(waiting.path)
    with own_farm.worker() as worker, daemon_of(own_farm, workers=1) as daemon, meanwhile(daemon, run) as states:
        kernel = waiting.wait()
        own_farm.members[0].kill()
        wait_for(lambda: not is_alive(kernel))
        waiting.go()
        with own_farm.member("scheduler"):
            wait_for(lambda: states)
        attempts = daemon.store.runs(workflow=run.key.workflow)

    assert [attempt.state for attempt in attempts] == [RunState.SUCCEEDED, RunState.CRASHED]
    assert "lost the scheduler" in worker.text
    assert any("does not respond" in line for line in logged)


def memory_of(pid: int) -> bytes:
    """Return what a process has in its memory."""
    found = []
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            place, rights, *_ = line.split()
            if rights.startswith("rw"):
                start, end = (int(each, 16) for each in place.split("-"))
                memory.seek(start)
                with suppress(OSError):
                    found.append(memory.read(end - start))
    return b"".join(found)


def test_scheduler_keeps_no_secret_and_answers_nothing_but_that_it_is_alive(farm: Farm) -> None:
    notebook = farm.notebook("import os\nraise ValueError(os.environ['FLOWAPI_TOKEN'])")
    scheduler = farm.members[0].process.pid
    with daemon_of(farm, workers=2) as daemon:
        state = daemon.run(run_of(notebook))
        memory = memory_of(scheduler)
    ports = {each.laddr.port for each in psutil.Process(scheduler).net_connections() if each.status == "LISTEN"}
    ports.discard(urlsplit(farm.environ["AUTOFLOW_DASK_SCHEDULER"]).port)
    (port,) = ports
    answers = {path: httpx.get(f"http://127.0.0.1:{port}/{path}") for path in ("health", "", "info", "json", "metrics")}

    assert state is RunState.FAILED
    assert b"order-" in memory
    assert TOKEN_OF_NO_USE.encode() not in memory
    assert b"postgresql://" not in memory
    assert {path: answer.status_code for path, answer in answers.items()} == {
        "health": 200,
        **dict.fromkeys(("", "info", "json", "metrics"), 404),
    }
    assert not [line for line in farm.members[0].text.splitlines() if "INFO" not in line]


def test_worker_does_not_import_prefect() -> None:
    program = "import sys, autoflow.cli.worker; sys.exit('prefect' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)
