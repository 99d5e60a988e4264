"""A run that resumes another takes over the executed notebooks that have not changed, and nothing else."""

import datetime
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import nbformat
import pytest

from autoflow.model.heartbeat import Heartbeat
from autoflow.model.old_outputs import delete_files, old_runs
from autoflow.model.opening import open_run_store
from autoflow.model.resuming import Resuming
from autoflow.parser import read_workflows
from autoflow.runs.records import RunRecord, RunState, utc_now
from autoflow.runs.run import WorkflowRun
from autoflow.settings import Settings
from autoflow.system.stop_signal import Shutdown
from autoflow.workflows.runner import WorkflowRunner
from tests.conftest import Deployed, write_notebook
from tests.workflows.conftest import FORK_SERVER

DAY = datetime.timedelta(days=1)

WORKFLOWS = """
    workflows:
      - name: chain
        notebooks:
          first: {filename: first.ipynb, parameters: {url: flowapi_url, folder: run_dir}}
          second: {filename: second.ipynb, parameters: {path: first}}
          third: {filename: third.ipynb, parameters: {path: second, folder: run_dir, shared: shared_dir}}
    available_dates_sensor:
      schedule: null
      workflows: [{workflow_name: chain, resume: true, retry_delay: 0}]
"""


@dataclass
class Chain:
    """A workflow of three notebooks, the last of which fails while there is a file `broken`."""

    deployed: Deployed
    log: Path
    environ: dict[str, str] = field(default_factory=dict)
    date: datetime.date = datetime.date(2016, 1, 1)

    @property
    def settings(self) -> Settings:
        return self.deployed.settings(**self.environ)

    @property
    def broken(self) -> Path:
        return self.log.with_name("broken")

    def write(self, label: str, *cells: str, parameters: str = "") -> None:
        said = f"with open({str(self.log)!r}, 'a') as log: print({label!r}, file=log)"
        write_notebook(self.deployed.inputs / f"{label}.ipynb", said, *cells, parameters=parameters)

    def write_all(self) -> None:
        (self.deployed.inputs / "helper.py").write_text("x = 1\n")
        (self.deployed.inputs / "regions.csv").write_text("a,b\n")
        self.write(
            "first",
            "import helper, pathlib, scrapbook",
            "pathlib.Path(folder, 'table.txt').write_text('42')",
            "scrapbook.glue('answer', 42)",
            parameters="url = ''\nfolder = ''",
        )
        self.write("second", "open('regions.csv').read()", "import scrapbook", parameters="path = ''")
        self.write(
            "third",
            f"import pathlib\nassert not pathlib.Path({str(self.broken)!r}).exists()",
            "assert pathlib.Path(folder, 'table.txt').read_text() == '42'",
            "assert pathlib.Path(shared).is_dir()",
            parameters="path = ''\nfolder = ''\nshared = ''",
        )
        self.deployed.write_workflows(WORKFLOWS)

    def run(self, **changes: Any) -> tuple[RunRecord, list[str]]:
        """Run the workflow once; return the record, and the notebooks that were executed."""
        workflow = read_workflows(self.settings).workflows[0]
        run = WorkflowRun(workflow=workflow, parameters={}, reference_date=self.date, date_ranges=(), resume=True)
        self.log.write_text("")
        with open_run_store(self.settings) as store, Heartbeat(store) as heartbeat:
            runner = WorkflowRunner(settings=self.settings, store=store, heartbeat=heartbeat, fork_server=FORK_SERVER)
            assert runner.run(replace(run, **changes), shutdown=Shutdown()) is not None
            return store.runs(limit=1)[0], self.log.read_text().split()

    def fail(self, **changes: Any) -> tuple[RunRecord, list[str]]:
        """Run it while the last notebook fails."""
        self.broken.touch()
        record, executed = self.run(**changes)
        self.broken.unlink()
        assert record.state is RunState.FAILED
        return record, executed


@pytest.fixture
def chain(deployed: Deployed, tmp_path: Path) -> Chain:
    chain = Chain(deployed, tmp_path / "log")
    chain.write_all()
    return chain


def files_of(record: RunRecord) -> set[str]:
    """Return the executed notebooks of a run."""
    return {files["notebook"] for files in record.outputs.values()}


ALL = ["first", "second", "third"]


def edited(path: Path) -> None:
    notebook = json.loads(path.read_text())
    notebook["cells"][-1]["source"] += "\n# edited"
    path.write_text(json.dumps(notebook))


CHANGES: Mapping[str, tuple[Callable[[Chain, RunRecord], object], list[str]]] = {
    "nothing": (lambda _chain, _run: None, ["third"]),
    "first notebook": (lambda chain, _: edited(chain.deployed.inputs / "first.ipynb"), ALL),
    "second notebook": (lambda chain, _: edited(chain.deployed.inputs / "second.ipynb"), ["second", "third"]),
    "imported module": (lambda chain, _: (chain.deployed.inputs / "helper.py").write_text("x = 22\n"), ALL),
    "opened file": (lambda chain, _: (chain.deployed.inputs / "regions.csv").write_text("c\n"), ["second", "third"]),
    "automatic parameter": (lambda chain, _: chain.environ.update(FLOWAPI_URL="http://127.0.0.1:8"), ALL),
    "source of a parameter": (
        lambda chain, _: chain.deployed.write_workflows(WORKFLOWS.replace("flowapi_url", "reference_date")),
        ALL,
    ),
    "executed file": (lambda _, run: edited(Path(run.outputs["second"]["notebook"])), ["second", "third"]),
    "executed file gone": (lambda _, run: Path(run.outputs["first"]["notebook"]).unlink(), ALL),
    "file in the run's folder": (
        lambda chain, run: (chain.deployed.outputs / str(run.run_dir) / "table.txt").write_text("7"),
        ALL,
    ),
}


def test_notebooks_that_are_the_same_with_all_above_them_are_taken_over(chain: Chain) -> None:
    for change, (apply, expected) in CHANGES.items():
        chain.write_all()
        chain.environ.clear()
        chain.date += DAY
        failed, executed = chain.fail()
        assert executed == ALL
        apply(chain, failed)
        record, executed = chain.run()
        assert (record.state, executed) == (RunState.SUCCEEDED, expected), change
        taken = [label for label in ALL if label not in expected]
        assert record.taken_over == dict.fromkeys(taken, failed.id), change
        assert set(record.outputs) == set(ALL)
        assert {
            name for files in record.outputs.values() for name in (files["notebook"], *files["reports"])
        }.isdisjoint({files["notebook"] for files in failed.outputs.values()})
        assert record.made_from
        assert set(record.made_from["notebooks"]) == set(ALL)
        executed_first = nbformat.read(record.outputs["first"]["notebook"], as_version=4)
        assert executed_first.metadata["peak_memory"] > 1_000_000
        assert "application/scrapbook.scrap.json+json" in str(executed_first)
        is_same_folder = record.run_dir == failed.run_dir
        assert is_same_folder == ("first" in taken), change


def test_days_that_arrived_in_the_meantime_change_everything(chain: Chain) -> None:
    chain.fail(missing_dates=[chain.date])
    assert chain.run()[1] == ALL


def test_the_attempt_after_a_resumed_one_that_fails_runs_everything_and_others_can_follow_it(chain: Chain) -> None:
    chain.fail()
    resumed, executed = chain.fail()
    assert (executed, set(resumed.taken_over)) == (["third"], {"first", "second"})
    whole, executed = chain.fail()
    assert (executed, whole.taken_over) == (ALL, {})
    last, executed = chain.run()
    assert (executed, set(last.taken_over.values())) == (["third"], {whole.id})

    # A folder is deleted with the run that has it now.
    with open_run_store(chain.settings) as store:
        folders = [run.run_dir for run in store.runs()]
        assert [bool(folder) for folder in folders] == [True, False, True, False]
        (old,) = [run for run in old_runs(store, chain.settings, utc_now() + DAY) if run.record.id == whole.id]
        delete_files(old, store)
        assert (chain.deployed.outputs / str(folders[0]) / "table.txt").is_file()


def test_without_resume_everything_runs_unless_a_user_asks_for_it_once(chain: Chain) -> None:
    failed, _ = chain.fail(resume=False)
    assert chain.fail(resume=False)[1] == ALL
    with open_run_store(chain.settings) as store:
        Resuming(store).ask(failed.id)
    record, executed = chain.fail(resume=False)
    assert (executed, set(record.taken_over.values())) == (["third"], {failed.id})
    assert chain.run(resume=False)[1] == ALL


def test_a_report_that_failed_is_made_of_the_notebook_that_was_executed(chain: Chain) -> None:
    (chain.deployed.inputs / "own.tpl").write_text("{% nonsense %}")
    text = WORKFLOWS.replace("{path: first}}", "{path: first}, output: {format: html}}")
    chain.deployed.write_workflows(text.replace("{format: html}", "{format: html, template: own.tpl}"))
    failed, executed = chain.run()
    assert (failed.state, executed) == (RunState.FAILED, ["first", "second"])
    chain.deployed.write_workflows(text)
    record, executed = chain.run()
    assert (record.state, executed) == (RunState.SUCCEEDED, ["third"])
    assert len(record.outputs["second"]["reports"]) == 1
