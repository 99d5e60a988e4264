"""Orders and answers as JSON, who gets an order, and when a worker is fit."""

import datetime
import json
from pathlib import Path

import pytest

from autoflow.cluster.fitness import FIRST_PAUSE, MOST_FAILURES, Fitness
from autoflow.cluster.orders import Answer, Order, Verdict
from autoflow.cluster.roster import Roster, worker_info
from autoflow.cluster.work import Result, Work
from autoflow.errors import (
    AutoflowError,
    NoRoomError,
    NotebookError,
    ReportError,
    RunSkipped,
    RunStopped,
    UnexpectedError,
)
from autoflow.runs.checks import Check, Checks, Severity
from autoflow.runs.run import NotebookOutputs
from autoflow.specs import NO_TIMEOUT, ReportFormat
from autoflow.system.log import log_fields
from tests.conftest import TOKEN_OF_NO_USE, Deployed, write_notebook

NOW = datetime.datetime(2016, 1, 1)


def test_order_has_no_secret_and_no_path_of_a_machine_and_is_the_same_elsewhere(
    deployed: Deployed, tmp_path: Path
) -> None:
    notebook = write_notebook(deployed.inputs / "folder" / "n.ipynb", "1")
    work = Work(
        label="n",
        notebook=notebook,
        sources={"a": "region", "b": "first", "c": "flowapi_url"},
        values={"region": "Åland", "reference_date": "2016-01-01"},
        upstream={"first": "first.ipynb"},
        stem="one__n",
        timeout=NO_TIMEOUT,
        report_timeout=300.0,
        formats=(ReportFormat.PDF,),
        title="One",
        dates="today",
    )
    here = deployed.settings()
    with log_fields(run=7, workflow="one"):
        order = Order.of(work, here, claim_id=7, topic="topic", wants_progress=True)
    text = order.as_text(here)
    (tmp_path / "elsewhere").symlink_to(deployed.inputs)
    there = deployed.settings(AUTOFLOW_INPUTS_DIR=str(tmp_path / "elsewhere"), FLOWAPI_URL="http://there:1")
    copy = Order.of_text(text, there)

    assert TOKEN_OF_NO_USE not in text
    assert str(tmp_path) not in text
    assert str(here.asciidoc_template_path) not in text
    assert copy.work.notebook == tmp_path / "elsewhere" / "folder" / "n.ipynb"
    assert copy.work.parameters(there) == {
        "a": "Åland",
        "b": str(there.notebooks_dir / "first.ipynb"),
        "c": "http://there:1",
    }
    assert set(copy.digests.values()) == set(order.digests.values())
    assert Order.of_text(text, here) == order
    assert copy.log_fields == {"run": 7, "workflow": "one"}


@pytest.mark.parametrize(
    "error",
    [
        NotebookError("n", 3, "ValueError", "it fails", code="In [3]: 1 / 0"),
        NotebookError("n", None, "DeadKernelError", "the kernel died", is_death=True),
        ReportError("no report", is_death=True, is_timeout=True),
        NoRoomError("the disk is full", []),
        RunStopped("AutoFlow was stopped"),
        RunSkipped("n", 3, "nobody moved"),
        UnexpectedError("LookupError: a bug"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_error_comes_back_whole(deployed: Deployed, error: AutoflowError) -> None:
    settings = deployed.settings()
    outputs = NotebookOutputs(settings.notebooks_dir / "n.ipynb", (settings.reports_dir / "n.pdf",))
    checks = Checks().with_check(Check(name="few outliers", ok=False, severity=Severity.WARNING, message="7 %", cell=3))
    answer = Answer(verdict=Verdict.DONE, result=Result(outputs=outputs, error=error, checks=checks))
    copy = Answer.of_text(answer.as_text(), settings)

    assert copy.result.outputs == outputs
    assert copy.result.checks == checks
    assert type(copy.result.error) is type(error)
    assert str(copy.result.error) == str(error)
    attributes = {name: value for name, value in vars(error).items() if name != "folders"}
    assert {name: getattr(copy.result.error, name) for name in attributes} == attributes


def worker(address: str, *, slots: int = 2, others: int = 0, problem: str | None = None) -> dict[str, object]:
    state = {"slots": slots, "used": {"us": 1, "them": others}, "version": "1", "problem": problem, "name": address}
    return {"metrics": {"autoflow": json.loads(json.dumps(state))}, "host": "127.0.0.1"}


def test_worker_with_most_free_slots_gets_the_next_order_and_one_that_is_refused_none() -> None:
    roster = Roster()
    found = {
        "small": worker("small", slots=1),
        "large": worker("large", slots=4, others=1),
        "ill": worker("ill", slots=9, problem="its disk is full"),
    }
    infos = [worker_info(name, each, version="1", topic="us", now=NOW) for name, each in found.items()]
    infos.append(worker_info("old", worker("old", slots=9), version="2", topic="us", now=NOW))
    infos.append(worker_info("foreign", {"metrics": {}, "name": "foreign"}, version="1", topic="us", now=NOW))
    roster.update(infos)
    taken = [roster.take() for _ in range(5)]
    roster.give_back("small")
    again = roster.take(), roster.take(avoided=["small"])
    slots = roster.slots
    roster.give_back("small")
    roster.suspend()

    assert taken.count("large") == 3
    assert taken.count("small") == 1
    assert taken[0] == "large"
    assert taken[-1] is None
    assert again == ("small", None)
    assert slots == 5
    assert roster.take() is None
    assert roster.has("small")
    refused = {each.name: each.refused for each in roster.workers() if each.refused}
    assert refused.keys() == {"ill", "old", "foreign"}


def test_worker_is_left_out_after_three_failures_in_a_row_and_may_try_again_later() -> None:
    seconds = [0.0]
    found: list[str | None] = [None]
    fitness = Fitness(lambda: found[0], clock=lambda: seconds[0])
    for _ in range(MOST_FAILURES - 1):
        fitness.failed("no kernel starts")
    fitness.succeeded()
    for _ in range(MOST_FAILURES - 1):
        fitness.failed("no kernel starts")
    before = fitness.problem
    fitness.failed("no kernel starts")
    out = fitness.problem
    seconds[0] += FIRST_PAUSE
    trial = fitness.problem
    fitness.failed("no kernel starts")
    seconds[0] += FIRST_PAUSE
    still_out = fitness.problem
    seconds[0] += FIRST_PAUSE
    fitness.succeeded()
    found[0] = "the disk is full"
    fitness.check()

    assert before is None
    assert out == "3 orders in a row failed, the last one because no kernel starts"
    assert trial is None
    assert still_out
    assert fitness.problem == "the disk is full"
