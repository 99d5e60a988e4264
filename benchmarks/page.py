"""Measure the index page after years of many entries: ``python -m benchmarks.page``."""

import argparse
import datetime
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from autoflow.model.opening import PAGE_NAME, open_run_store
from autoflow.model.store import RunStore
from autoflow.model.tables import arrivals_table, runs_table
from autoflow.page.data_files import FOLDER_NAME
from autoflow.page.page import Page, View
from autoflow.runs.records import RunKey, RunState, WorkflowKey
from autoflow.settings import Settings
from autoflow.specs import NotebookSpec, OutputSpec, ReportFormat, TriggerSpec, WorkflowSpec
from benchmarks.goals import Goal, add_options, judge
from tests.browser import chromium

CPU_GOAL = 0.3
"""Seconds of CPU time for the page after one run."""

BYTES_GOAL = 300_000
"""Bytes that are written for the page after one run."""

PAINT_GOAL = 300.0
"""Milliseconds until a browser first paints the page."""

SHIFT_GOAL = 0.05
"""The cumulative layout shift of the page."""

FIRST_DATE = datetime.date(2010, 1, 1)


@dataclass(frozen=True)
class Shape:
    """How many entries there are, and how many days each was run for; `labels` makes them entries of one workflow."""

    name: str
    entries: int
    days: int
    labels: bool = False

    @cached_property
    def triggers(self) -> Sequence[TriggerSpec]:
        """The entries."""
        return [self._trigger(number) for number in range(self.entries)]

    def _trigger(self, number: int) -> TriggerSpec:
        notebook = NotebookSpec(
            label="maps", path=Path("/inputs/maps.ipynb"), output=OutputSpec(formats=tuple(ReportFormat))
        )
        name = "mobility" if self.labels else f"mobility_{number}"
        workflow = WorkflowSpec(
            name=name, notebooks=(notebook,), title="Mobility of people", description="Who moved where."
        )
        if not self.labels:
            return TriggerSpec(workflow=workflow, title=f"Mobility of people, part {number}")
        region = f"district-{number}"
        return TriggerSpec(
            workflow=workflow,
            parameters={"region": region, "unit": "admin2"},
            label=region,
            title=f"Mobility of people in {region}",
            description=f"How many people moved into {region}, and from where.",
        )

    @property
    def dates(self) -> Sequence[datetime.date]:
        """The dates that have run: one in forty is missing."""
        days = (FIRST_DATE + datetime.timedelta(days=number) for number in range(self.days))
        return [day for number, day in enumerate(days) if number % 40 != 20]


def outputs_of(settings: Settings, key: RunKey) -> Mapping[str, Any]:
    """Make the files of a run, which are empty; return their paths."""
    stem = f"{key.workflow}__maps__{key.reference_date}__{key.parameters_hash[:8]}__20261123T040000.000Z"
    notebook = settings.notebooks_dir / f"{stem}.ipynb"
    reports = [settings.reports_dir / f"{stem}.{each}" for each in ReportFormat]
    for path in (notebook, notebook.with_suffix(".html"), *reports):
        path.touch()
    return {"maps": {"notebook": str(notebook), "reports": list(map(str, reports))}}


def fill(store: RunStore, settings: Settings, shape: Shape) -> int:
    """Record the arrival of all dates and a success of each entry for each date but the newest; count these."""
    store.note_dates({})
    total = 0
    with store.database.writing("cannot be filled") as connection:
        rows = [{"cdr_type": "calls", "date": date} for date in shape.dates]
        connection.execute(sa.insert(arrivals_table), rows)
        for trigger in shape.triggers:
            keys = [WorkflowKey.of_trigger(trigger).on(date) for date in shape.dates[:-1]]
            connection.execute(sa.insert(runs_table), [_row(settings, key, trigger.label) for key in keys])
            total += len(keys)
    return total


def _row(settings: Settings, key: RunKey, label: str | None) -> Mapping[str, Any]:
    noon = datetime.datetime.combine(key.reference_date + datetime.timedelta(days=2), datetime.time(12))
    outputs = {
        name: {
            "notebook": str(Path(files["notebook"]).relative_to(settings.outputs_dir)),
            "reports": [str(Path(report).relative_to(settings.outputs_dir)) for report in files["reports"]],
        }
        for name, files in outputs_of(settings, key).items()
    }
    return {
        "workflow": key.workflow,
        "parameters_hash": key.parameters_hash,
        "parameters": key.parameters,
        "every": key.every.value,
        "reference_date": key.reference_date,
        "attempt": 1,
        "state": RunState.SUCCEEDED.value,
        "holder": "benchmark",
        "label": label,
        "missing_days": 0,
        "outputs": json.dumps(outputs),
        "outputs_dir": str(settings.outputs_dir),
        **dict.fromkeys(("started_at", "heartbeat_at", "finished_at"), noon),
    }


def written(settings: Settings) -> Mapping[tuple[str, int, int], int]:
    """Return the size of each file of the page, by what identifies it."""
    paths = [settings.outputs_dir / PAGE_NAME, *(settings.outputs_dir / FOLDER_NAME).rglob("*.js")]
    found = ((path, path.stat()) for path in paths)
    return {(str(path), status.st_ino, status.st_mtime_ns): status.st_size for path, status in found}


def measured(page: Page, view: View, settings: Settings) -> tuple[float, int, int]:
    """Write the page; return the CPU time in seconds, and the number and the size of the files that were written."""
    before = written(settings) if (settings.outputs_dir / PAGE_NAME).exists() else {}
    started = time.process_time()
    page.write(view)
    seconds = time.process_time() - started
    sizes = [size for file, size in written(settings).items() if file not in before]
    return seconds, len(sizes), sum(sizes)


def after_runs(
    page: Page, view: View, settings: Settings, store: RunStore, *, newest: datetime.date, rounds: int
) -> tuple[float, int]:
    """Run the date `newest` of some entries, one after the other; return the median CPU time and the most bytes."""
    found = []
    for trigger in view.triggers[:: max(1, len(view.triggers) // rounds)][:rounds]:
        key = WorkflowKey.of_trigger(trigger).on(newest)
        if claim := store.claim(key, label=trigger.label):
            store.finish(claim, RunState.SUCCEEDED, outputs=outputs_of(settings, key))
        found.append(measured(page, view, settings))
    return statistics.median(seconds for seconds, *_ in found), max(size for *_, size in found)


def shown(settings: Settings, folder: Path, rounds: int) -> tuple[float, float]:
    """Open the page in Chromium; return the median time of the first paint in milliseconds, and the most shift."""
    paints, shifts = [], []
    with chromium(folder) as driver:
        for _ in range(rounds):
            driver.get("about:blank")
            driver.get((settings.outputs_dir / PAGE_NAME).as_uri())
            paint = "return performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"
            deadline = time.monotonic() + 30
            while (found := driver.execute_script(paint)) is None and time.monotonic() < deadline:
                time.sleep(0.05)
            paints.append(float(found or "inf"))
            shifts.append(driver.execute_async_script(SHIFT))
    return statistics.median(paints), max(shifts)


SHIFT = """
const done = arguments[0];
let shift = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) shift += entry.value;
}).observe({ type: "layout-shift", buffered: true });
setTimeout(() => done(shift), 1500);
"""


def measure(shape: Shape, rounds: int) -> list[Goal]:
    """Measure a shape, and print a row; return its goals."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "inputs").mkdir()
        (root / "inputs" / "workflows.yml").touch()
        environ = {
            "AUTOFLOW_INPUTS_DIR": str(root / "inputs"),
            "AUTOFLOW_OUTPUTS_DIR": str(root / "outputs"),
            "FLOWAPI_URL": "http://127.0.0.1:9",
            "FLOWAPI_TOKEN": "a.b.c-a-token-that-no-flowapi-takes",
        }
        settings = Settings.read(environ)
        for path in (settings.notebooks_dir, settings.reports_dir):
            path.mkdir(parents=True)
        with open_run_store(settings) as store:
            runs = fill(store, settings, shape)
            view = View(triggers=shape.triggers)
            page = Page(settings, store)
            first, files, size = measured(page, view, settings)
            idle, *_ = measured(page, view, settings)
            cpu, most = after_runs(page, view, settings, store, newest=shape.dates[-1], rounds=rounds)
            start, *_ = measured(Page(settings, store), view, settings)
        paint, shift = shown(settings, root / "chromium", rounds)
    print(
        f"{shape.name:<24}{runs:>8}{first:>9.2f}{files:>7}{size / 1e6:>8.1f}{start:>9.3f}{idle:>9.3f}{cpu:>9.3f}"
        f"{most / 1e3:>8.0f}{paint:>8.0f}{shift:>7.3f}",
        flush=True,
    )
    return [
        Goal(f"{shape.name}: CPU after one run", cpu, CPU_GOAL, unit="s"),
        Goal(f"{shape.name}: written after one run", most / 1e3, BYTES_GOAL / 1e3, unit="kB"),
        Goal(f"{shape.name}: first paint", paint, PAINT_GOAL, unit="ms"),
        Goal(f"{shape.name}: layout shift", shift, SHIFT_GOAL, unit=""),
    ]


def main() -> int:
    """Measure, and print a table and the goals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=3650, help="of the workflows with a long history")
    parser.add_argument("--workflows", type=int, default=20, help="with a long history")
    parser.add_argument("--labels", type=int, default=500, help="of a single workflow")
    parser.add_argument("--days-of-labels", type=int, default=146)
    parser.add_argument("--rounds", type=int, default=7)
    add_options(parser)
    options = parser.parse_args()
    columns = f"{'runs':>8}{'first s':>9}{'files':>7}{'MB':>8}{'start s':>9}{'idle s':>9}{'run s':>9}"
    print(f"{'entries':<24}{columns}{'kB':>8}{'paint':>8}{'shift':>7}")
    shapes = [
        Shape(f"{options.workflows} workflows", options.workflows, options.days),
        Shape(f"{options.labels} labels", options.labels, options.days_of_labels, labels=True),
    ]
    goals = [goal for shape in shapes for goal in measure(shape, options.rounds)]
    return judge(goals, check=options.check, figures=options.figures)


if __name__ == "__main__":
    sys.exit(main())
