"""reports/latest has the newest report of each entry under a name that does not change."""

import datetime
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoflow.model.opening import open_run_store
from autoflow.model.store import RunStore
from autoflow.page.page import Page, View
from autoflow.page.writer import write_page
from autoflow.runs.records import RunState, WorkflowKey
from autoflow.settings import Settings
from autoflow.specs import NotebookSpec, TriggerSpec, WorkflowSpec
from autoflow.utils import thumbnail_path
from tests.conftest import Deployed
from tests.pages import catalogue

SPEC = WorkflowSpec(name="mobility", notebooks=(NotebookSpec(label="maps", path=Path("/inputs/n.ipynb")),))


@pytest.fixture
def settings(deployed: Deployed) -> Settings:
    return deployed.settings()


@pytest.fixture
def store(settings: Settings) -> Iterator[RunStore]:
    with open_run_store(settings) as store:
        yield store


def run(
    store: RunStore, settings: Settings, trigger: TriggerSpec, day: int, text: str, *, notebook: str = "maps"
) -> tuple[Path, Path]:
    """Record a success with a PDF and an HTML report that contain `text`; return their paths."""
    claim = store.claim(WorkflowKey.of_trigger(trigger).on(datetime.date(2016, 1, day)), again=True)
    assert claim
    reports = tuple(settings.reports_dir / f"{claim.id}.{suffix}" for suffix in ("pdf", "html"))
    for report in reports:
        report.write_text(text)
    files = {"notebook": str(settings.notebooks_dir / f"{claim.id}.ipynb"), "reports": list(map(str, reports))}
    assert store.finish(claim, RunState.SUCCEEDED, outputs={notebook: files})
    return reports[0], reports[1]


def latest(settings: Settings) -> dict[str, str]:
    """Return what the files in reports/latest contain, by name."""
    return {path.name: path.read_text() for path in (settings.reports_dir / "latest").iterdir()}


def test_newest_date_and_no_older_one_is_the_latest(settings: Settings, store: RunStore) -> None:
    trigger = TriggerSpec(workflow=SPEC, parameters={"region": "north"}, label="north")
    page, view = Page(settings, store), View(triggers=[trigger])
    names = ("mobility--north--maps.pdf", "mobility--north--maps.html")
    for day, text, shown in ((5, "a", "a"), (6, "b", "b"), (4, "old", "b"), (5, "rerun", "b"), (6, "again", "again")):
        run(store, settings, trigger, day, text)
        page.write(view)
        assert latest(settings) == dict.fromkeys(names, shown)
    # Neither a try-out nor a run that failed.
    run(store, settings, TriggerSpec(workflow=SPEC, parameters={"region": "?"}), 7, "try-out")
    claim = store.claim(WorkflowKey.of_trigger(trigger).on(datetime.date(2016, 1, 8)))
    assert claim
    store.finish(claim, RunState.FAILED)
    Page(settings, store).write(view)
    assert latest(settings) == dict.fromkeys(names, "again")


def test_copy_is_replaced_as_a_whole_and_outlives_its_report(settings: Settings, store: RunStore) -> None:
    trigger = TriggerSpec(workflow=SPEC)
    pdf, html = run(store, settings, trigger, 1, "first")
    write_page(settings, store, triggers=[trigger])
    copy = settings.reports_dir / "latest" / "mobility--maps.pdf"
    with copy.open() as reader:
        run(store, settings, trigger, 2, "second")
        write_page(settings, store, triggers=[trigger])
        assert reader.read() == "first"
    for path in (*settings.reports_dir.glob("*.pdf"), *settings.reports_dir.glob("*.html")):
        path.unlink()
    copy.with_suffix(".html").unlink()
    assert not pdf.exists()
    assert not html.exists()
    write_page(settings, store, triggers=[trigger])
    assert latest(settings) == {"mobility--maps.pdf": "second"}
    write_page(settings, store, triggers=[])
    assert latest(settings) == {"mobility--maps.pdf": "second"}


def test_copy_that_is_up_to_date_is_not_written_again(settings: Settings, store: RunStore) -> None:
    trigger = TriggerSpec(workflow=SPEC)
    run(store, settings, trigger, 1, "first")
    write_page(settings, store, triggers=[trigger])
    copy = settings.reports_dir / "latest" / "mobility--maps.pdf"
    before = copy.stat()
    write_page(settings, store, triggers=[trigger])
    assert copy.stat().st_ino == before.st_ino
    copy.write_text("damaged")
    write_page(settings, store, triggers=[trigger])
    assert copy.read_text() == "first"


def test_names_are_safe_and_differ(settings: Settings, store: RunStore) -> None:
    odd = WorkflowSpec(name="../müll & <co>", notebooks=SPEC.notebooks)
    one = WorkflowSpec(name="a", notebooks=SPEC.notebooks)
    other = WorkflowSpec(name="a--b", notebooks=SPEC.notebooks)
    triggers = [
        TriggerSpec(workflow=odd),
        TriggerSpec(workflow=one),
        TriggerSpec(workflow=other),
        TriggerSpec(workflow=SPEC, parameters={"level": 1}),
        TriggerSpec(workflow=SPEC, parameters={"level": 2}),
        TriggerSpec(workflow=one, parameters={"level": 1}, label="north"),
    ]
    notebooks = ("x/y", "b--c", "c", "maps", "maps", "maps")
    for number, (trigger, notebook) in enumerate(zip(triggers, notebooks, strict=True)):
        run(store, settings, trigger, 1, str(number), notebook=notebook)
    write_page(settings, store, triggers=triggers)

    pdfs = {text: name for name, text in latest(settings).items() if name.endswith(".pdf")}
    assert sorted(pdfs) == ["0", "1", "2", "3", "4", "5"]
    assert re.fullmatch(r"müll-co-[0-9a-f]{6}--x-y-[0-9a-f]{6}\.pdf", pdfs["0"])
    assert re.fullmatch(r"a--b--c-[0-9a-f]{6}\.pdf", pdfs["1"])
    assert pdfs["2"] == "a--b--c.pdf"
    # An entry with a label does not change the name of the one without.
    assert pdfs["5"] == "a--north--maps.pdf"
    assert all(re.fullmatch(r"mobility--[0-9a-f]{8}--maps\.pdf", pdfs[number]) for number in "34")


def test_folder_that_cannot_be_written_keeps_the_page_from_nothing(
    settings: Settings, store: RunStore, logged: list[str]
) -> None:
    trigger = TriggerSpec(workflow=SPEC)
    run(store, settings, trigger, 1, "first")
    (settings.reports_dir / "latest").touch()
    page, view = Page(settings, store), View(triggers=[trigger])
    page.write(view)
    assert catalogue(settings.outputs_dir)["entries"][0]["latest"]["date"] == "2016-01-01"
    assert len([line for line in logged if "could not copy the newest reports" in line]) == 1
    (settings.reports_dir / "latest").unlink()
    page.write(view)
    assert set(latest(settings).values()) == {"first"}


def test_page_shows_the_thumbnail_of_the_newest_report(settings: Settings, store: RunStore) -> None:
    trigger = TriggerSpec(workflow=SPEC)
    pdf, _ = run(store, settings, trigger, 1, "first")
    write_page(settings, store, triggers=[trigger])
    assert catalogue(settings.outputs_dir)["entries"][0]["latest"]["thumbnail"] is None
    pdf, _ = run(store, settings, trigger, 2, "second")
    thumbnail_path(pdf).parent.mkdir()
    thumbnail_path(pdf).touch()
    write_page(settings, store, triggers=[trigger])
    link = catalogue(settings.outputs_dir)["entries"][0]["latest"]["thumbnail"]
    assert link == f"reports/thumbnails/{pdf.stem}.png"
    assert os.path.samefile(settings.outputs_dir / link, thumbnail_path(pdf))
