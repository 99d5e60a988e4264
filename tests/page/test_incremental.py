"""The page is written where something has changed, and is then the same as one that is written anew."""

import datetime
import hashlib
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from autoflow.dates.completeness import Completeness, Enough
from autoflow.dates.periods import Every
from autoflow.dates.stencil import DateStencil, PeriodOffset
from autoflow.model.opening import PAGE_NAME, open_run_store
from autoflow.model.store import RunStore
from autoflow.page.page import ENTRIES_IN_PART, MOST_ENTRIES, NEWEST_ENTRIES, Page, View
from autoflow.runs.records import RunError, RunState, WorkflowKey
from autoflow.settings import Settings
from autoflow.specs import NotebookSpec, OnChange, TriggerSpec, WorkflowSpec
from tests.conftest import TOKEN_OF_NO_USE, Deployed
from tests.pages import Json, catalogue, data_of, rows, statuses

SPEC = WorkflowSpec(name="flows", notebooks=(NotebookSpec(label="n", path=Path("/inputs/n.ipynb")),))
NOW = datetime.datetime(2026, 11, 29, 12)


def entry(label: str, **more: Any) -> TriggerSpec:
    return TriggerSpec(workflow=SPEC, parameters={"region": label}, label=label, **more)


def key_of(trigger: TriggerSpec) -> WorkflowKey:
    return WorkflowKey.of_trigger(trigger)


@pytest.fixture
def settings(deployed: Deployed) -> Settings:
    return deployed.settings()


@pytest.fixture
def store(settings: Settings) -> Iterator[RunStore]:
    with open_run_store(settings) as store:
        yield store


def run(
    store: RunStore,
    trigger: TriggerSpec,
    date: datetime.date,
    state: RunState = RunState.SUCCEEDED,
    *,
    settings: Settings | None = None,
    **more: Any,
) -> int:
    """Record a run that has ended, with a notebook and a report if `settings` are given; return its number."""
    claim = store.claim(key_of(trigger).on(date), label=trigger.label, **more)
    assert claim
    outputs: dict[str, Any] = {}
    if settings and state.is_success:
        stem = f"flows--{trigger.label}__n__{date}__abcdef01__20261123T0400{claim.id % 60:02}.000Z"
        report = settings.reports_dir / f"{stem}.pdf"
        report.write_bytes(f"%PDF {claim.id}".encode())
        outputs = {"n": {"notebook": str(settings.notebooks_dir / f"{stem}.ipynb"), "reports": [str(report)]}}
    error = RunError("ValueError", f"no data for {date}", "n", 3) if state.is_failure else None
    store.finish(claim, state, outputs=outputs, error=error)
    return claim.id


def files(settings: Settings) -> dict[str, tuple[int, int]]:
    """Return what identifies the content of each file of the page."""
    paths = [settings.outputs_dir / PAGE_NAME, *(settings.outputs_dir / "page").rglob("*.js")]
    found = {str(path.relative_to(settings.outputs_dir)): path.stat() for path in paths}
    return {name: (status.st_ino, status.st_mtime_ns) for name, status in found.items()}


def written(settings: Settings, write: Callable[[], object]) -> set[str]:
    """Return the files that were written or removed by a call."""
    before = files(settings)
    write()
    after = files(settings)
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def shown(settings: Settings) -> Json:
    """Return all that the page shows, apart from the time of its making."""
    page = catalogue(settings.outputs_dir)
    del page["made"]
    for each in page["entries"]:
        for year, of_year in each["years"].items():
            data = (settings.outputs_dir / "page" / each["slug"] / f"{year}.js").read_bytes()
            assert hashlib.sha256(data).hexdigest()[:8] == of_year["v"]
            of_year.pop("s", None)  # what it was made of, which depends on the folders
        each["data"] = {year: data_of(settings.outputs_dir, each, year) for year in each["years"]}
    assert {name for name in files(settings) if name.startswith("page/")} == {
        f"page/{each['slug']}/{year}.js" for each in page["entries"] for year in each["years"]
    }
    return page


def anew(settings: Settings, store: RunStore, view: View, now: datetime.datetime = NOW) -> Json:
    """Return what the page shows if it is written for the first time."""
    shutil.rmtree(settings.outputs_dir / "page")
    (settings.outputs_dir / PAGE_NAME).unlink()
    Page(settings, store).write(view, clock=lambda: now)
    return shown(settings)


def test_after_a_run_only_the_page_and_the_year_of_the_run_are_written(settings: Settings, store: RunStore) -> None:
    triggers = [entry("north"), entry("south")]
    for trigger in triggers:
        for year in (2014, 2015, 2016):
            run(store, trigger, datetime.date(year, 1, 1), settings=settings)
    view, page = View(triggers=triggers), Page(settings, store)
    page.write(view)
    assert set(files(settings)) == {
        PAGE_NAME,
        *(f"page/flows--{label}/{year}.js" for label in ("north", "south") for year in (2014, 2015, 2016)),
    }

    assert written(settings, lambda: page.write(view)) == set()
    run(store, triggers[1], datetime.date(2015, 1, 2), settings=settings)
    assert written(settings, lambda: page.write(view)) == {PAGE_NAME, "page/flows--south/2015.js"}
    # A process that has just started knows it from the page, too.
    run(store, triggers[0], datetime.date(2016, 1, 2), settings=settings)
    assert written(settings, lambda: Page(settings, store).write(view)) == {PAGE_NAME, "page/flows--north/2016.js"}
    assert written(settings, lambda: page.write(view)) == {PAGE_NAME}
    assert shown(settings) == anew(settings, store, view)


def test_what_another_process_does_to_a_run_is_shown(settings: Settings, store: RunStore) -> None:
    trigger = entry("north", max_attempts=1)
    view, page = View(triggers=[trigger]), Page(settings, store)
    first, second, third = (datetime.date(2016, 1, number) for number in (1, 2, 3))
    done = run(store, trigger, first, settings=settings)
    run(store, trigger, second, RunState.FAILED)
    gone = run(store, trigger, datetime.date(2015, 12, 31))
    page.write(view)
    assert statuses(settings.outputs_dir)[second] == "given up"

    with open_run_store(settings) as other:
        other.forgive([key_of(trigger).on(second)])
        other.forget_outputs(done, left={}, with_flow_run=True)
        other.delete(gone)
        run(other, trigger, third, RunState.CANCELLED)
    page.write(view)
    assert statuses(settings.outputs_dir) == {first: "done", second: "waiting for a retry", third: "cancelled"}
    (listed,) = catalogue(settings.outputs_dir)["entries"]
    assert listed["latest"]["links"] == []
    assert rows(settings.outputs_dir, listed)[first][2] == -1
    assert not (settings.outputs_dir / "page" / listed["slug"] / "2015.js").exists()

    page.write(View(triggers=[entry("north", latest_date=first)]))
    assert statuses(settings.outputs_dir)[second] == "failed"


def test_older_report_is_the_newest_again_once_the_newest_is_forgotten(settings: Settings, store: RunStore) -> None:
    trigger = entry("north")
    view = View(triggers=[trigger])
    run(store, trigger, datetime.date(2014, 1, 1), settings=settings)
    newest = run(store, trigger, datetime.date(2016, 1, 1), settings=settings)
    for is_new_process in (False, True):
        page = Page(settings, store)
        page.write(view)
        store.delete(newest)
        (Page(settings, store) if is_new_process else page).write(view)
        (listed,) = catalogue(settings.outputs_dir)["entries"]
        assert listed["latest"]["date"] == "2014-01-01"
        newest = run(store, trigger, datetime.date(2016, 1, 1), settings=settings)


def test_start_repairs_a_page_whose_writer_was_killed(settings: Settings, store: RunStore) -> None:
    trigger = entry("north")
    view, page, index = View(triggers=[trigger]), Page(settings, store), settings.outputs_dir / PAGE_NAME
    for year in (2014, 2015, 2016):
        run(store, trigger, datetime.date(year, 1, 1), settings=settings)
    page.write(view)
    before = index.read_bytes()
    run(store, trigger, datetime.date(2016, 1, 2), settings=settings)
    page.write(view)
    # It was killed after the data file, and before the page.
    index.write_bytes(before)
    (settings.outputs_dir / "page" / "flows--north" / "2014.js").unlink()
    (settings.outputs_dir / "page" / "flows--north" / "1999.js").touch()
    (settings.outputs_dir / "page" / "flows--gone").mkdir()

    Page(settings, store).write(view)

    assert shown(settings) == anew(settings, store, view)
    assert [path.name for path in (settings.outputs_dir / "page").iterdir()] == ["flows--north"]


OLD_PAGES = ("", "<html>", '<script type="application/json" id="content">{"series":[]}</script>')


@pytest.mark.parametrize("content", OLD_PAGES)
def test_page_of_an_older_version_is_replaced(settings: Settings, store: RunStore, content: str) -> None:
    trigger = entry("north")
    run(store, trigger, datetime.date(2016, 1, 1))
    (settings.outputs_dir / PAGE_NAME).write_text(content)
    Page(settings, store).write(View(triggers=[trigger]))
    assert statuses(settings.outputs_dir) == {datetime.date(2016, 1, 1): "done"}


def test_several_processes_leave_a_page_that_fits_together(settings: Settings, store: RunStore) -> None:
    triggers = [entry(label) for label in ("north", "south", "east")]
    view = View(triggers=triggers)
    store.note_dates({"calls": frozenset(datetime.date(2016, 1, number) for number in range(1, 6))})

    def work(number: int) -> None:
        with open_run_store(settings) as own:
            page = Page(settings, own)
            for day in range(1, 6):
                run(own, triggers[number], datetime.date(2016, 1, day), settings=settings)
                page.write(view)
                catalogue(settings.outputs_dir)

    threads = [threading.Thread(target=work, args=[number]) for number in range(len(triggers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = shown(settings)
    assert [each["years"]["2016"]["counts"] for each in found["entries"]] == [[5]] * 3
    assert found == anew(settings, store, view)


def test_many_entries_are_in_parts(settings: Settings, store: RunStore) -> None:
    number = MOST_ENTRIES + ENTRIES_IN_PART
    triggers = [entry(f"region-{number}") for number in range(number)]
    view, page = View(triggers=triggers), Page(settings, store)
    for trigger in triggers[:30]:
        run(store, trigger, datetime.date(2016, 1, 1))
    page.write(view)

    inline = catalogue(settings.outputs_dir)
    parts = [f"page/entries-{part}.js" for part in range(-(-number // ENTRIES_IN_PART))]
    assert (inline["total"], len(inline["parts"]), len(inline["entries"])) == (number, len(parts), NEWEST_ENTRIES)
    assert all(each["latest"] for each in inline["entries"])
    assert set(parts) <= set(files(settings))
    listed = catalogue(settings.outputs_dir, with_parts=True)["entries"]
    assert [each["label"] for each in listed] == [trigger.label for trigger in triggers]

    run(store, triggers[40], datetime.date(2016, 1, 1))
    assert written(settings, lambda: page.write(view)) == {PAGE_NAME, parts[1], "page/flows--region-40/2016.js"}
    page.write(View(triggers=triggers[:35]))
    assert not set(parts) & set(files(settings))


def test_secret_that_is_new_is_removed_from_all_years(deployed: Deployed, store: RunStore) -> None:
    trigger = entry("north", max_attempts=9)
    claim = store.claim(key_of(trigger).on(datetime.date(2015, 1, 1)))
    assert claim
    store.finish(claim, RunState.CANCELLED, error=RunError("ValueError", "hunter22 is wrong", "n", 1))
    data = deployed.outputs / "page" / "flows--north" / "2015.js"
    for environ, is_shown in (({}, True), ({"FLOWAPI_TOKEN": "hunter22"}, False), ({}, True)):
        Page(deployed.settings(**environ), store).write(View(triggers=[trigger]))
        assert ("hunter22" in data.read_text()) == is_shown
    lock = deployed.outputs / "page.lock"
    assert TOKEN_OF_NO_USE not in lock.read_text()
    assert lock.stat().st_mode & 0o077 == 0


def test_entries_that_differ_in_parameters_have_files_of_their_own(settings: Settings, store: RunStore) -> None:
    triggers = [
        TriggerSpec(workflow=SPEC, parameters={"level": level}, label=label)
        for level, label in ((1, None), (2, None), (3, "North"), (4, "north"))
    ]
    for trigger in triggers:
        run(store, trigger, datetime.date(2016, 1, 1))
    Page(settings, store).write(View(triggers=triggers))
    slugs = [each["slug"] for each in catalogue(settings.outputs_dir)["entries"]]
    assert len({slug.casefold() for slug in slugs}) == 4
    assert slugs[2] == "flows--North"
    assert len(shown(settings)["entries"]) == 4


class Days:
    """Does something at random to the run store, day after day."""

    def __init__(self, settings: Settings, seed: int) -> None:
        self.settings = settings
        self.random = random.Random(seed)
        self.now = NOW
        self.store = RunStore(settings.db_uri, clock=lambda: self.now)
        self.store.migrate()
        wait = Completeness(enough=Enough.of("50%"), wait=2)
        week = DateStencil([PeriodOffset(0)], every=Every.WEEK)
        self.entries = [
            entry("plain", max_attempts=2, earliest_date=datetime.date(2015, 12, 20)),
            entry("ordered", after_previous=True, date_stencil=DateStencil([[-2, 0]])),
            entry("weekly", every=Every.WEEK, date_stencil=week, needs=wait),
            entry("again", on_change=OnChange.RERUN, max_attempts=1, date_stencil=DateStencil([["2015-12-24", 0]])),
        ]
        self.dates = {datetime.date(2015, 12, 21)}
        self.runs: list[int] = []

    def step(self) -> None:
        self.now += datetime.timedelta(hours=self.random.choice((1, 30)))
        self.random.choice((self.arrive, self.run, self.run, self.run, self.change, self.edit))()

    def arrive(self) -> None:
        newest = max(self.dates)
        self.dates |= {newest + datetime.timedelta(days=self.random.choice((1, 2, 3)))}
        gone = {date for date in self.dates if self.random.random() < 0.05}
        self.store.note_dates({"calls": frozenset(self.dates - gone), "sms": frozenset({min(self.dates)})})

    def run(self) -> None:
        trigger = self.random.choice(self.entries)
        date = self.random.choice(sorted(self.dates))
        if trigger.every is Every.WEEK:
            date += datetime.timedelta(days=6 - date.weekday())
        claim = self.store.claim(key_of(trigger).on(date), again=self.random.random() < 0.3, label=trigger.label)
        if claim and self.random.random() < 0.9:
            state = self.random.choice((RunState.SUCCEEDED, RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED))
            self.store.finish(claim, state, error=RunError("ValueError", str(date), "n", 1))
        self.runs += [claim.id] if claim else []

    def change(self) -> None:
        if not self.runs:
            return
        run_id = self.random.choice(self.runs)
        record = self.store.run(run_id)
        if record is None or record.state.is_active:
            return
        if self.random.random() < 0.5:
            self.store.delete(run_id)
        else:
            self.store.forgive([record.key])

    def edit(self) -> None:
        self.random.shuffle(self.entries)
        if self.random.random() < 0.3:
            self.entries = [each for each in self.entries if each.label != "again"] or self.entries


@pytest.mark.parametrize("seed", range(2))
def test_page_is_at_any_time_as_if_it_were_written_anew(deployed: Deployed, tmp_path: Path, seed: int) -> None:
    settings = deployed.settings()
    days = Days(settings, seed)
    with closing(days.store):
        page = Page(settings, days.store)
        for number in range(48):
            days.step()
            view = View(triggers=list(days.entries))
            if number % 16 == 15:
                page = Page(settings, days.store)
            page.write(view, clock=lambda: days.now)
            if number % 4 == 3:
                other = tmp_path / f"other-{number}"
                other.mkdir()
                elsewhere = deployed.settings(AUTOFLOW_OUTPUTS_DIR=str(other), AUTOFLOW_DB_URI=settings.db_uri)
                Page(elsewhere, days.store).write(view, clock=lambda: days.now)
                assert shown(settings) == shown(elsewhere), number
