"""Runs on a cluster of real processes."""

import re
import secrets
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from autoflow.notebooks.executed import ExecutedNotebook
from autoflow.notebooks.live_files import RunProgress, progress_of_run
from autoflow.runs.records import RunState
from autoflow.specs import NotebookSpec, OutputSpec, ReportFormat
from tests.cluster.conftest import ROOT, Farm, daemon_of, meanwhile, run_of
from tests.conftest import TOKEN_OF_NO_USE, write_notebook
from tests.waiting import LONG, wait_for

MB = 1024 * 1024

SAYS_WHERE = "import os, pathlib; pathlib.Path({name!r}).write_text(str(os.getpid()))"
WAITS = f"{SAYS_WHERE}\nimport time\nwhile not pathlib.Path({{go!r}}).exists(): time.sleep(0.05)"


class Waiting:
    """A notebook that writes its process id into a file, and waits for another file."""

    def __init__(self, farm: Farm, more: str = "") -> None:
        name = secrets.token_hex(4)
        self._started, self._go = farm.inputs / f"started-{name}", farm.inputs / f"go-{name}"
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


def test_checks_and_skips_come_back(farm: Farm) -> None:
    warns = run_of(farm.notebook("import autoflow\nautoflow.check('odd', False, 'warning', '7 %')"))
    fails = run_of(farm.notebook("import autoflow\nautoflow.check('bad', False)"), formats=(ReportFormat.HTML,))
    skips = run_of(farm.notebook("import autoflow\nautoflow.skip('nobody moved')"), formats=(ReportFormat.HTML,))
    with daemon_of(farm, workers=2) as daemon:
        states = [daemon.run(run) for run in (warns, fails, skips)]
        warned, failed, skipped = (daemon.last(run) for run in (warns, fails, skips))

    assert states == [RunState.SUCCEEDED, RunState.FAILED, RunState.SKIPPED]
    assert warned.warnings == ["odd: 7 %"]
    assert str(failed.failure) == "notebook 'n0', cell 1 (In [1]: import autoflow): CheckFailed: bad"
    assert failed.outputs["n0"]["reports"] == []
    assert skipped.skipped == "nobody moved"


TAKES_TOO_MUCH = """
import subprocess, sys, time
own = "import os, time; open('taker', 'w').write(str(os.getpid())); taken = b'x' * 600_000_000; time.sleep(600)"
child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {own!r}])"
subprocess.Popen([sys.executable, "-c", child], start_new_session=True)
time.sleep(600)
"""
"""A grandchild of the notebook, in a session of its own, takes 600 MB."""


def test_notebook_that_takes_too_much_memory_ends_and_those_beside_it_do_not(farm: Farm) -> None:
    too_large = NotebookSpec(label="large", path=farm.notebook("1", TAKES_TOO_MUCH), memory=300 * MB)
    run, others = run_of(too_large), [Waiting(farm), Waiting(farm)]
    with daemon_of(farm, workers=2) as daemon:
        with (
            meanwhile(daemon, run_of(others[0].path)) as states,
            meanwhile(daemon, run_of(others[1].path)) as more_states,
        ):
            # One on each worker, so that the large one has a neighbour.
            workers = {worker_of(other.wait()) for other in others}
            state = daemon.run(run)
            for other in others:
                other.go()
        record = daemon.last(run)
        after = run_of(farm.notebook("1"))
        assert daemon.run(after) is RunState.SUCCEEDED

    assert (state, states, more_states) == (RunState.FAILED, [RunState.SUCCEEDED], [RunState.SUCCEEDED])
    assert len(workers) == 2
    assert all(is_alive(pid) for pid in workers)
    assert re.search(r"cell 2 .*: OutOfMemory: out of memory \(\d+ MB of 300 MB\)", str(record.error))
    executed = ExecutedNotebook.read(Path(record.outputs["large"]["notebook"]))
    assert executed
    assert executed.peak_memory
    assert executed.peak_memory > 300 * MB
    assert not is_alive(int((farm.inputs / "taker").read_text(encoding="ascii")))


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


def test_worker_of_another_version_gets_no_orders_and_one_that_is_stopped_finishes_what_it_has(
    bare_farm: Farm, tmp_path: Path
) -> None:
    program = tmp_path / "other"
    shutil.copytree(ROOT / "autoflow", program / "autoflow")
    shutil.copytree(ROOT / "config", program / "config")
    (program / "autoflow" / "another.py").touch()
    first, second = Waiting(bare_farm), Waiting(bare_farm)
    finished, moved = run_of(first.path), run_of(second.path)
    with (
        bare_farm.worker(program=program),
        daemon_of(bare_farm) as daemon,
        meanwhile(daemon, finished) as states,
        meanwhile(daemon, moved) as moved_states,
    ):
        wait_for(daemon.cluster.workers)
        (other,) = daemon.cluster.workers()
        has_claim = bool(daemon.store.runs(workflow=finished.key.workflow))
        with bare_farm.worker(AUTOFLOW_SHUTDOWN_GRACE="600") as leaving:
            first.wait()
            second.wait()
            leaving.signal(signal.SIGTERM)
            wait_for(lambda: all(worker.refused for worker in daemon.cluster.workers()))
            first.go()
            wait_for(lambda: states)
            leaving.signal(signal.SIGTERM)  # its grace ends
            leaving.process.wait(LONG)
        second.forget_start()
        with bare_farm.worker():
            second.go()
            wait_for(lambda: moved_states)
        attempts = daemon.store.runs(workflow=moved.key.workflow)

    assert other.refused
    assert "and the daemon of version" in other.refused
    assert not has_claim
    assert states == moved_states == [RunState.SUCCEEDED]
    assert len(attempts) == 1, "another worker carried out the notebook, under the same claim"


def test_late_inputs_and_a_worker_that_is_not_fit_cost_no_attempt(bare_farm: Farm, tmp_path: Path) -> None:
    mounted, late = tmp_path / "mounted", tmp_path / "late"
    late.mkdir()
    (late / "workflows.yml").touch()
    notebook = bare_farm.notebook("print('new')", name="late.ipynb")
    bare_farm.notebook("print('old')", name="old.ipynb").rename(late / "late.ipynb")
    mounted.symlink_to(late)
    run, other = run_of(notebook), run_of(bare_farm.notebook("1"))
    with bare_farm.worker(AUTOFLOW_INPUTS_DIR=str(mounted)) as worker, daemon_of(bare_farm, workers=1) as daemon:
        with meanwhile(daemon, run) as states:
            wait_for(lambda: "is not the same file as for the daemon" in worker.text)
            shutil.copy(notebook, late / "late.ipynb")
            wait_for(lambda: states)
        mounted.unlink()
        wait_for(lambda: daemon.cluster.workers()[0].refused)
        (left_out,) = daemon.cluster.workers()
        with meanwhile(daemon, other) as other_states:
            mounted.symlink_to(bare_farm.inputs)
            wait_for(lambda: other_states)
        attempts = [daemon.store.runs(workflow=each.key.workflow) for each in (run, other)]

    assert states == other_states == [RunState.SUCCEEDED]
    assert [len(each) for each in attempts] == [1, 1]
    assert "new" in Path(attempts[0][0].outputs["n0"]["notebook"]).read_text()
    assert left_out.refused
    assert "is the inputs folder mounted?" in left_out.refused


def test_connection_that_cannot_be_closed_counts_as_closed_and_is_made_again(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(timeout: float) -> None:
        raise ValueError(f"IOStream is not idle, also after {timeout:g} s")

    with daemon_of(farm, workers=2) as daemon:
        client = daemon.cluster.client()
        with monkeypatch.context() as patch:
            patch.setattr(client, "close", fail)
            daemon.cluster.disconnect()
        # Otherwise, the orders that it has sent would be waited for forever.
        assert client.status == "closed"
        wait_for(lambda: daemon.cluster.is_connected)
        client.status = "running"
        client.close()


def test_output_of_a_notebook_on_a_worker_can_be_read_while_it_runs(farm: Farm) -> None:
    path = farm.notebook("1", "import pathlib, time\nwhile not pathlib.Path('go').exists(): time.sleep(0.05)")
    run = run_of(path)
    with daemon_of(farm, workers=2) as daemon:
        with meanwhile(daemon, run) as states:
            wait_for(lambda: daemon.store.runs(workflow=run.key.workflow))
            run_id = daemon.last(run).id
            at_work = RunProgress("cell 2 of 2 of n0", 50.0)
            wait_for(lambda: progress_of_run(farm.outputs, run_id) == at_work)
            (farm.inputs / "go").touch()
        assert states == [RunState.SUCCEEDED]


def test_notebooks_are_taken_over_on_workers_with_the_folder_of_the_run(farm: Farm) -> None:
    """The worker copies what was executed, makes the report anew, and finds the files in the folder of the run."""
    log, broken = farm.folder / "resumed", farm.folder / "broken"
    note = f"with open({str(log)!r}, 'a') as log: print('first', file=log)"
    folders = "run_dir = ''\nshared_dir = ''"
    first = write_notebook(
        farm.inputs / "resumed.ipynb",
        note,
        "import pathlib\npathlib.Path(run_dir, 'x').write_text('1')\npathlib.Path(shared_dir, 'y').write_text('2')",
        "import autoflow\nautoflow.check('few', False, severity='warning')",
        parameters=folders,
    )
    second = write_notebook(
        farm.inputs / "resuming.ipynb",
        f"import pathlib\nassert not pathlib.Path({str(broken)!r}).exists()",
        "pathlib.Path(run_dir, 'x').read_text() + pathlib.Path(shared_dir, 'y').read_text()",
        parameters=f"{folders}\npath = ''",
    )
    names = {"run_dir": "run_dir", "shared_dir": "shared_dir"}
    output = OutputSpec(formats=(ReportFormat.HTML,))
    run = run_of(
        NotebookSpec(label="first", path=first, parameters=names, output=output),
        NotebookSpec(label="second", path=second, parameters={**names, "path": "first"}),
    )
    broken.touch()
    with daemon_of(farm, workers=2) as daemon:
        assert daemon.run(run) is RunState.FAILED
        failed = daemon.last(run)
        broken.unlink()
        assert daemon.run(replace(run, resume=True)) is RunState.SUCCEEDED
        record = daemon.last(run)
    assert log.read_text().split() == ["first"]
    assert record.taken_over == {"first": failed.id}
    assert record.warnings_count == 1
    (report,) = record.outputs["first"]["reports"]
    assert Path(report).is_file()
    assert record.run_dir == failed.run_dir
    assert (farm.outputs / str(record.run_dir) / "x").is_file()
