import datetime
import json
import re
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import nbformat
import pytest
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.expected_conditions import visibility_of_element_located
from selenium.webdriver.support.wait import WebDriverWait

from autoflow.dates.periods import Every
from autoflow.dates.stencil import DateStencil, PeriodOffset
from autoflow.model.old_outputs import OldRun, delete_files, with_all_outputs
from autoflow.model.opening import PAGE_NAME, open_run_store
from autoflow.model.resuming import Resuming
from autoflow.model.store import RunStore
from autoflow.notebooks.live_files import live_folder
from autoflow.page.banner import BANNER_BEGIN, BANNER_END
from autoflow.page.page import Page, View
from autoflow.page.readable import LONGEST_HIGHLIGHTED, readable_html
from autoflow.page.writer import PageWriter, write_page
from autoflow.runs.attention import Condition, Need
from autoflow.runs.finished import FinishedNotebook
from autoflow.runs.records import RunError, RunKey, RunState, WorkflowKey, utc_now
from autoflow.runs.run import EndedRun, Outcome, WorkflowRun
from autoflow.settings import Settings
from autoflow.specs import NotebookSpec, OnChange, TriggerSpec, WorkflowSpec
from tests.browser import chromium
from tests.conftest import TOKEN_OF_NO_USE, Deployed, write_notebook
from tests.pages import catalogue, data_of, statuses

SPEC = WorkflowSpec(name="flows & <more>", notebooks=(NotebookSpec(label="n", path=Path("/inputs/n.ipynb")),))
STAMP = "20261123T040000.000Z"


def day(number: int) -> datetime.date:
    return datetime.date(2016, 1, number)


def key(number: int) -> RunKey:
    return RunKey.of(SPEC.name, {}, day(number))


def finish(store: RunStore, number: int, state: RunState, settings: Settings, *, error: RunError | None = None) -> Path:
    """Record a run as it ends, with its executed notebook and report; return the notebook."""
    stem = f"flows 100% #1__n__{day(number)}__abcdef01__{STAMP}"
    notebook, report = settings.notebooks_dir / f"{stem}.ipynb", settings.reports_dir / f"{stem}.pdf"
    write_notebook(notebook, "print(1)")
    report.write_bytes(b"%PDF")
    claim = store.claim(key(number))
    assert claim
    store.finish(claim, state, outputs={"n": {"notebook": str(notebook), "reports": [str(report)]}}, error=error)
    return notebook


@pytest.fixture
def store(deployed: Deployed) -> Any:
    store = RunStore(deployed.settings().db_uri)
    store.migrate()
    yield store
    store.close()


def content(settings: Settings) -> Any:
    """Return the content of the only data file."""
    (entry,) = (entry for entry in catalogue(settings.outputs_dir)["entries"] if entry["years"])
    (year,) = entry["years"]
    return data_of(settings.outputs_dir, entry, year)


def states(settings: Settings) -> dict[int, str]:
    (entry,) = (entry for entry in catalogue(settings.outputs_dir)["entries"] if entry["years"])
    return {date.day: status for date, status in statuses(settings.outputs_dir, entry).items()}


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[WebDriver]:
    with chromium(tmp_path / "chromium") as driver:
        yield driver


def shown(browser: WebDriver, selector: str) -> WebElement:
    """Return the element as soon as it exists: calendars are drawn when they are scrolled near the visible part."""
    return WebDriverWait(browser, 60).until(visibility_of_element_located((By.CSS_SELECTOR, selector)))


def test_links_stay_in_an_outputs_folder_whose_path_has_the_date_and_time_of_a_run(
    deployed: Deployed, tmp_path: Path
) -> None:
    outputs = tmp_path / STAMP / f"from {day(1)}"
    settings = deployed.settings(AUTOFLOW_OUTPUTS_DIR=str(outputs))
    for folder in (settings.notebooks_dir, settings.reports_dir):
        folder.mkdir(parents=True)
    with open_run_store(settings) as store:
        finish(store, 1, RunState.SUCCEEDED, settings)
        write_page(settings, store)

    series = content(settings)
    ((label, notebook, _, reports),) = series["sets"][0]
    name = "flows%20100%25%20%231__n__{d}__abcdef01__{t}"
    assert (label, notebook, reports) == ("n", f"notebooks/{name}.ipynb", [f"reports/{name}.pdf"])


def test_page_links_to_notebooks_in_the_folder_that_was_set_before(deployed: Deployed, store: RunStore) -> None:
    before = finish(store, 1, RunState.SUCCEEDED, deployed.settings())
    before.with_suffix(".html").touch()
    without_html = finish(store, 2, RunState.SUCCEEDED, deployed.settings())
    settings = deployed.settings(PREFECT__OUTPUTS__NOTEBOOKS_DIR=str(deployed.outputs / "executed"))

    assert write_page(settings, store) == []

    series = content(settings)
    links = {day: series["sets"][number][0][1:3] for day, _, number, *_ in series["days"]}
    shown = [
        unquote(link.replace("{d}", str(day(n))).replace("{t}", STAMP))
        for n, (link, _) in zip((2, 1), links.values(), strict=True)
    ]
    assert [deployed.outputs / link for link in shown] == [without_html, before]
    assert [is_readable for _, is_readable in links.values()] == [False, True]


def test_date_whose_notebook_is_no_longer_kept_stays_done_with_a_link_to_its_report(
    deployed: Deployed, store: RunStore
) -> None:
    settings, page = deployed.settings(), Page(deployed.settings(), store)
    for number in (1, 2, 3):
        finish(store, number, RunState.SUCCEEDED, settings)
    page.write(View())
    first, second, _ = reversed(store.runs())
    delete_files(with_all_outputs(first, settings), store, with_flow_run=False)
    notebooks = tuple(path for path in with_all_outputs(second, settings).files if path.suffix == ".ipynb")
    delete_files(OldRun(record=second, files=notebooks), store, with_flow_run=False)
    page.write(View())

    series = content(settings)
    report = "reports/flows%20100%25%20%231__n__{d}__abcdef01__{t}.pdf"
    assert set(states(settings).values()) == {"done"}
    outputs = [series["sets"][number] if number >= 0 else None for _, _, number, *_ in series["days"]]
    assert outputs[1:] == [[["n", "", False, [report]]], None]
    assert [row[3] for row in series["days"]] == [STAMP, STAMP, ""]


def test_page_says_how_far_a_run_is(deployed: Deployed, store: RunStore) -> None:
    settings = deployed.settings()
    claims = [store.claim(key(number)) for number in (1, 2)]
    page, progress = Page(settings, store), list[object]()

    def write() -> None:
        page.write(View())
        (entry,) = catalogue(settings.outputs_dir)["entries"]
        progress.append([each["progress"] for each in entry["running"]])

    write()
    assert claims[1]
    with live_folder(settings.outputs_dir, claims[1].id, 1) as folder:
        assert folder
        for cell in (1, 2):
            lines = [{"notebook": f"maps {TOKEN_OF_NO_USE}", "executed": "n.ipynb"}, {"cell": cell, "cells": 10}]
            (folder / "n.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
            write()
    write()
    assert progress == [
        ["", ""],
        ["cell 1 of 10 of maps [secret]", ""],
        ["cell 2 of 10 of maps [secret]", ""],
        ["", ""],
    ]


def test_each_date_has_its_status(deployed: Deployed, store: RunStore) -> None:
    settings = deployed.settings()
    error = RunError("ValueError", "no data", "n", 3)
    finish(store, 1, RunState.SUCCEEDED, settings)
    finish(store, 2, RunState.FAILED, settings, error=error)
    for _ in range(2):
        finish(store, 3, RunState.FAILED, settings, error=error)
    finish(store, 4, RunState.CANCELLED, settings)
    assert store.claim(key(5))
    finish(store, 6, RunState.INTERRUPTED, settings)
    finish(store, 7, RunState.SUCCEEDED, settings)
    assert store.claim(key(7), again=True)

    write_page(settings, store, triggers=[TriggerSpec(workflow=SPEC, max_attempts=2)])

    assert states(settings) == {
        1: "done",
        2: "waiting for a retry",
        3: "given up",
        4: "cancelled",
        5: "running",
        6: "waiting for a retry",
        7: "done",  # and being run again
    }
    assert content(settings)["reasons"] == ["notebook 'n', cell 3: ValueError: no data"]


def test_failed_date_that_no_entry_covers_is_not_waiting_for_a_retry(deployed: Deployed, store: RunStore) -> None:
    settings = deployed.settings()
    for number in (1, 2, 3):
        finish(store, number, RunState.FAILED, settings, error=RunError("ValueError", "no data", "n", 3))
    stencil = DateStencil([["2016-01-02", -1]])

    write_page(settings, store, triggers=[TriggerSpec(workflow=SPEC, earliest_date=day(2), date_stencil=stencil)])
    assert states(settings) == {1: "failed", 2: "failed", 3: "waiting for a retry"}
    write_page(settings, store, triggers=[TriggerSpec(workflow=SPEC, parameters={"other": 1})])
    assert set(states(settings).values()) == {"failed"}


def test_a_secret_that_is_also_a_word_of_the_page_does_not_break_the_page(
    deployed: Deployed, store: RunStore, browser: WebDriver
) -> None:
    for secret in ("workflow", "content"):
        settings = deployed.settings(FLOWAPI_TOKEN=secret)
        finish(store, 1, RunState.FAILED, settings, error=RunError("ValueError", f"a {secret} <b>", "n", 1))
        write_page(settings, store)
        browser.get((settings.outputs_dir / PAGE_NAME).as_uri())
        shown(browser, '.calendar [data-date="2016-01-01"]').click()
        assert shown(browser, ".details pre").text == "notebook 'n', cell 1: ValueError: a [secret] <b>"


def test_a_calendar_opens_at_the_newest_date_that_is_done(
    deployed: Deployed, store: RunStore, browser: WebDriver
) -> None:
    settings = deployed.settings()
    finish(store, 1, RunState.SUCCEEDED, settings)
    claim = store.claim(RunKey.of(SPEC.name, {}, datetime.date(2061, 1, 1)))
    assert claim
    store.finish(claim, RunState.FAILED)
    write_page(settings, store)

    browser.get((settings.outputs_dir / PAGE_NAME).as_uri())

    assert shown(browser, '[data-date="2016-01-01"][data-look="done"]')
    assert not browser.find_elements(By.CSS_SELECTOR, '[data-date^="2061"]')
    browser.find_element(By.LINK_TEXT, "All years").click()
    assert shown(browser, '[data-date="2061-01-01"][data-look="failed"]')


def test_nothing_in_the_run_store_can_break_out_of_the_page_and_no_secret_is_shown(
    deployed: Deployed, store: RunStore
) -> None:
    settings = deployed.settings()
    poison = f"</script><script>alert(1)</script><!-- {TOKEN_OF_NO_USE}"
    finish(store, 1, RunState.FAILED, settings, error=RunError("ValueError", poison, "n", 1))
    finish(store, 2, RunState.SUCCEEDED, settings)

    write_page(settings, store)

    html = (settings.outputs_dir / PAGE_NAME).read_text()
    assert TOKEN_OF_NO_USE not in html
    assert html.count("<script") == 2
    assert html.count("</script") == 2
    (data,) = (settings.outputs_dir / "page").glob("*/*")
    assert TOKEN_OF_NO_USE not in data.read_text()
    assert "</script><script>alert(1)</script><!-- [secret]" in content(settings)["reasons"][0]


def banner(settings: Settings) -> str:
    html = (settings.outputs_dir / PAGE_NAME).read_text()
    return html.partition(BANNER_BEGIN)[2].partition(BANNER_END)[0].strip()


def conditions() -> list[Condition]:
    """Return conditions whose texts try to break out of the page, and contain a secret."""
    poison = f"</li></section><script>alert(1)</script>{BANNER_END} {TOKEN_OF_NO_USE}"
    return [
        Condition(
            need=Need.DISK,
            reason=f"reason {poison}",
            what_to_do=f"do {poison}",
            details=(f"detail {poison}",),
            since=datetime.datetime(2016, 1, 9, 7),
        )
    ]


def test_the_banner_shows_what_needs_a_person_and_is_gone_when_that_is_over(
    deployed: Deployed, store: RunStore, browser: WebDriver
) -> None:
    settings = deployed.settings()
    finish(store, 1, RunState.SUCCEEDED, settings)
    write_page(settings, store, conditions=conditions())

    html = (settings.outputs_dir / PAGE_NAME).read_text()
    assert TOKEN_OF_NO_USE not in html
    assert html.count("<script") == 2
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    for media in ("screen", "print"):
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media})
        browser.get((settings.outputs_dir / PAGE_NAME).as_uri())
        text = shown(browser, ".banner").text
        for part in ("reason </li></section><script>", "Do </li>", "detail </li>", "2016-01-09 07:00 UTC", "[secret]"):
            assert part in text
    write_page(settings, store)
    assert banner(settings) == ""


def test_the_banner_is_written_although_the_run_store_fails_and_the_rest_of_the_page_stays(
    deployed: Deployed, store: RunStore
) -> None:
    settings = deployed.settings()
    finish(store, 1, RunState.SUCCEEDED, settings)
    with PageWriter(settings, store, shortest_pause=0.0) as page:
        page.follow([TriggerSpec(workflow=SPEC)])
        page.finish()
        before = content(settings)
        with closing(sqlite3.connect(settings.outputs_dir / "autoflow.db")) as connection:
            connection.execute("ALTER TABLE runs RENAME TO hidden")
            page.show(conditions(), None)
            page.finish()
            assert "reason" in banner(settings)
            assert content(settings) == before
            connection.execute("ALTER TABLE hidden RENAME TO runs")
        page.show([], None)
        page.finish()
    assert banner(settings) == ""
    assert content(settings) == before


def test_dates_that_were_given_up_are_in_the_banner_until_somebody_looks(deployed: Deployed, store: RunStore) -> None:
    settings = deployed.settings()
    finish(store, 1, RunState.FAILED, settings, error=RunError("ValueError", "no data", "n", 3))
    triggers = [TriggerSpec(workflow=SPEC, max_attempts=1)]
    write_page(settings, store, triggers=triggers, looked_at=utc_now() - datetime.timedelta(hours=1))
    assert "1 date was given up since the last look" in banner(settings)
    assert "flows &amp; &lt;more&gt; 2016-01-01" in banner(settings)
    write_page(settings, store, triggers=triggers, looked_at=utc_now())
    assert banner(settings) == ""


def test_a_browser_shows_calendars_and_links_that_lead_to_files(
    deployed: Deployed, store: RunStore, browser: WebDriver
) -> None:
    settings = deployed.settings()
    notebook = finish(store, 1, RunState.SUCCEEDED, settings)
    broken = finish(store, 2, RunState.FAILED, settings, error=RunError("ValueError", "no data", "n", 3, "In [3]: x"))
    broken.with_suffix(".html").write_text(readable_html(json.loads(broken.read_text()), title="n"))
    write_page(settings, store, triggers=[TriggerSpec(workflow=SPEC)])

    browser.get((settings.outputs_dir / PAGE_NAME).as_uri())

    failed = shown(browser, "[aria-label^=\"Saturday, 2 January 2016: Waiting for a retry: notebook 'n', cell 3\"]")
    assert shown(browser, '[aria-label="Sunday, 3 January 2016: Not run"]')
    assert len(browser.find_elements(By.CSS_SELECTOR, '[tabindex="0"]')) == 1  # of all days one
    assert not re.search(r'(src|href)="(https?:)?//', browser.page_source)
    failed.click()
    assert shown(browser, ".details pre").text == "notebook 'n', cell 3 (In [3]: x): ValueError: no data"
    link = browser.find_element(By.LINK_TEXT, "Show cell 3 of n").get_attribute("href") or ""
    assert Path(unquote(urlsplit(link).path)) == broken.with_suffix(".html")
    assert urlsplit(link).fragment == "cell-3"
    shown(browser, '[data-date="2016-01-02"]').send_keys(Keys.ARROW_UP)
    done = browser.switch_to.active_element
    assert done.get_attribute("aria-label") == "Friday, 1 January 2016: Done"
    done.send_keys(Keys.ENTER)
    WebDriverWait(browser, 60).until(lambda _: "1 January" in shown(browser, ".details").text)
    found = browser.find_elements(By.CSS_SELECTOR, ".details .file")
    files = [Path(unquote(urlsplit(link.get_attribute("href") or "").path)) for link in found]
    assert files == [settings.reports_dir / f"{notebook.stem}.pdf", notebook]
    assert all(file.exists() for file in files)


def entry(every: Every, **more: Any) -> TriggerSpec:
    return TriggerSpec(workflow=SPEC, every=every, date_stencil=DateStencil([PeriodOffset(0)], every=every), **more)


def end(store: RunStore, key: RunKey, state: RunState = RunState.SUCCEEDED, **details: Any) -> None:
    """Record a run that has ended in a state."""
    claim = store.claim(key, **details)
    assert claim
    store.finish(claim, state, error=RunError("ValueError", "no data", "n", 3) if state.is_failure else None)


def test_entries_have_titles_and_removed_ones_their_last_label(deployed: Deployed, store: RunStore) -> None:
    settings = deployed.settings()
    north = TriggerSpec(workflow=SPEC, parameters={"level": 1}, label="north", description="Who moved.")
    titled = TriggerSpec(workflow=SPEC, parameters={"level": 2}, title="The <country>")
    removed = WorkflowKey.of(SPEC.name, {"level": 3})
    for of_entry in (WorkflowKey.of_trigger(north), WorkflowKey.of_trigger(titled)):
        end(store, of_entry.on(day(1)))
    end(store, removed.on(day(1)), label="before")
    end(store, removed.on(day(2)), label="last")

    write_page(settings, store, triggers=[north, titled])

    entries = catalogue(settings.outputs_dir)["entries"]
    names = [(each["title"], each["description"], each["name"], each["parameters"]) for each in entries]
    assert names == [
        (f"{SPEC.name}: north", "Who moved.", f"{SPEC.name}:north", {"level": 1}),
        ("The <country>", "", f"{SPEC.name} (level=2)", {"level": 2}),
        (f"{SPEC.name}: last", "", f"{SPEC.name}:last", {"level": 3}),
    ]
    assert [(each["label"], each["removed"]) for each in entries] == [("north", False), (None, False), ("last", True)]


def test_long_parameters_are_cut_between_their_items(deployed: Deployed, store: RunStore) -> None:
    settings = deployed.settings()
    parameters: dict[str, Any] = {
        "text": "x" * 1000,
        "sites": [f"site-{number}" for number in range(1000)],
        "limits": {f"limit-{number}": {"low": number} for number in range(1000)},
        "short": [1, {"a": None}],
    }
    write_page(settings, store, triggers=[TriggerSpec(workflow=SPEC, parameters=parameters)])

    (entry,) = catalogue(settings.outputs_dir)["entries"]
    shown = entry["parameters"]
    assert shown["text"] == "x" * 200 + "…"
    assert (shown["sites"][:2], shown["sites"][-1]) == (["site-0", "site-1"], "…")
    assert next(iter(shown["limits"].items())) == ("limit-0", {"low": 0})
    assert list(shown["limits"].items())[-1] == ("…", "…")
    assert shown["short"] == [1, {"a": None}]
    assert len(json.dumps(shown)) < 1000


def test_runs_of_no_entry_are_listed_apart_until_there_is_one(deployed: Deployed, store: RunStore) -> None:
    settings = deployed.settings()
    entries = [TriggerSpec(workflow=SPEC, parameters={"region": region}) for region in ("north", "east")]
    north, east = (WorkflowKey.of_trigger(each) for each in entries)
    end(store, north.on(day(1)))
    end(store, east.on(day(2)), is_try_out=True, missing_days=1)
    end(store, east.on(day(3)), RunState.FAILED, is_try_out=True)

    write_page(settings, store, triggers=entries[:1])
    page = catalogue(settings.outputs_dir)
    assert [each["parameters"] for each in page["entries"]] == [{"region": "north"}]
    others = [(each["parameters"], each["period"], each["status"], each["note"]) for each in page["try_outs"]]
    assert others == [
        ("region=east", "2016-01-03", "failed", ""),
        ("region=east", "2016-01-02", "done", "1 day missing"),
    ]

    write_page(settings, store, triggers=entries)
    page = catalogue(settings.outputs_dir)
    assert page["try_outs"] == []
    assert [each["parameters"] for each in page["entries"]] == [{"region": "north"}, {"region": "east"}]


def test_a_date_whose_data_has_changed_has_a_badge_once_its_new_run_is_given_up(
    deployed: Deployed, store: RunStore
) -> None:
    settings = deployed.settings()
    trigger = TriggerSpec(workflow=SPEC, on_change=OnChange.RERUN, max_attempts=2)
    finish(store, 1, RunState.SUCCEEDED, settings)
    (report,) = settings.reports_dir.glob("*.pdf")
    for is_outdated in (False, True):
        end(store, key(1), RunState.FAILED, again=True)
        write_page(settings, store, triggers=[trigger])
        ((_, state, _, _, _, *notes),) = content(settings)["days"]
        assert (state, notes) == (0, [0, int(is_outdated), 0])
    (entry,) = catalogue(settings.outputs_dir)["entries"]
    assert entry["latest"]["note"] == "data has changed since, and the new run failed"
    assert ["PDF", "n", f"reports/{quote(report.name)}"] in entry["latest"]["links"]
    end(store, key(1), again=True)
    write_page(settings, store, triggers=[trigger])
    assert content(settings)["days"][0][-1] == 0


def wait_until_drawn(browser: WebDriver, calendar: WebElement) -> None:
    WebDriverWait(browser, 60).until_not(lambda _: calendar.get_attribute("aria-busy"))


def test_calendars_have_a_cell_for_each_period(deployed: Deployed, store: RunStore, browser: WebDriver) -> None:
    settings = deployed.settings()
    dates = {
        Every.WEEK: ("2015-01-04", "2016-01-03", "2016-12-25"),
        Every.THURSDAY: ("2016-01-07",),
        Every.MONTH: ("2016-02-29",),
        Every.QUARTER: ("2016-12-31",),
        Every.YEAR: ("2014-12-31", "2016-12-31"),
    }
    for every, of_entry in dates.items():
        for date in map(datetime.date.fromisoformat, of_entry):
            key = WorkflowKey.of_trigger(entry(every)).on(date)
            end(store, key, missing_days=2 if date == datetime.date(2016, 1, 3) else 0)
    write_page(settings, store, triggers=[entry(every) for every in dates])

    browser.get((settings.outputs_dir / PAGE_NAME).as_uri())

    calendars = browser.find_elements(By.CLASS_NAME, "calendar")
    assert len(calendars) == len(dates)
    for number, newest, label, cells in (
        (0, "2016-12-25", "Week of 19\N{EN DASH}25 December 2016: Done", 52),
        (0, "2016-01-03", "Week of 28 December 2015 \N{EN DASH} 3 January 2016: Done, 2 days missing", 52),
        (1, "2016-01-07", "Week of 1\N{EN DASH}7 January 2016: Done", 52),
        (2, "2016-02-29", "February 2016: Done", 12),
        (3, "2016-12-31", "October\N{EN DASH}December 2016: Done", 4),
        (4, "2016-12-31", "Year 2016: Done", 2),
    ):
        calendar = calendars[number]
        browser.execute_script("arguments[0].scrollIntoView()", calendar)
        wait_until_drawn(browser, calendar)
        found = calendar.find_element(By.CSS_SELECTOR, f'[data-date="{newest}"]')
        assert found.get_attribute("aria-label") == label
        assert len(calendar.find_elements(By.CLASS_NAME, "cell")) == cells


def test_executed_notebooks_are_converted_to_html_in_the_background(deployed: Deployed, store: RunStore) -> None:
    settings = deployed.settings()
    before = finish(store, 1, RunState.SUCCEEDED, settings)
    with PageWriter(settings, store, shortest_pause=0.0) as page:
        page.follow([TriggerSpec(workflow=SPEC)])
        after = finish(store, 2, RunState.SUCCEEDED, settings)
        run = WorkflowRun(workflow=SPEC, parameters={}, reference_date=day(2), date_ranges=())
        page.run_ended(EndedRun(run=run, state=RunState.SUCCEEDED, outcome=Outcome()))
        page.finish()

    assert states(settings) == {1: "done", 2: "done"}
    for notebook in (before, after):
        html = notebook.with_suffix(".html").read_text()
        assert ">print</span>" in html
        assert f"<title>flows &amp; &lt;more&gt; {notebook.name.split('__')[2]}: n</title>" in html
    series = content(settings)
    assert series["sets"] == [
        [
            [
                "n",
                "notebooks/flows%20100%25%20%231__n__{d}__abcdef01__{t}.ipynb",
                True,
                ["reports/flows%20100%25%20%231__n__{d}__abcdef01__{t}.pdf"],
            ]
        ]
    ]


def test_a_notebook_that_cannot_be_converted_is_a_line_in_the_log(
    deployed: Deployed, store: RunStore, logged: list[str]
) -> None:
    broken = finish(store, 1, RunState.SUCCEEDED, deployed.settings())
    broken.write_text("{")
    with PageWriter(deployed.settings(), store, shortest_pause=0.0) as page:
        page.follow([TriggerSpec(workflow=SPEC)])
        page.finish()
    assert [line for line in logged if "could not convert" in line] == [
        f"could not convert {broken} to HTML: JSONDecodeError"
    ]


def test_a_page_that_cannot_be_written_stops_nothing(deployed: Deployed, store: RunStore) -> None:
    settings = deployed.settings()
    (settings.outputs_dir / PAGE_NAME).mkdir()
    with PageWriter(settings, store, shortest_pause=0.0) as page:
        page.follow([TriggerSpec(workflow=SPEC)])
        page.finish()
    assert not [thread for thread in threading.enumerate() if thread.name == "page"]


def test_a_notebook_as_html_has_its_outputs_and_nothing_that_runs() -> None:
    output: Any = nbformat.v4.new_output
    table = (
        "<style>p{}</style><table onclick=x()><tr><td>7</td></tr></table><script>evil()</script><img src=x onerror=y()>"
    )
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_markdown_cell("# A *title*\n<script>evil()</script>\n\n[x](javascript:evil())"),
            nbformat.v4.new_code_cell(
                "1 < 2",
                outputs=[
                    output("stream", text="\x1b[31mred\x1b[0m <b>"),
                    output("display_data", data={"text/html": table}),
                    output("display_data", data={"image/png": "iVBORw0KGgo="}),
                    output("display_data", data={"image/svg+xml": "<svg onload='evil()'/>"}),
                    output("error", ename="ValueError", evalue="no", traceback=["ValueError: <no>"]),
                ],
            ),
        ]
    )
    html = readable_html(notebook, title="a<b")
    for shown in (
        "<h1>A <em>title</em></h1>",
        '<span class="o">&lt;</span>',
        "<td>7</td>",
        "data:image/png;base64,iVBORw0KGgo=",
        "&lt;no&gt;",
    ):
        assert shown in html
    for hidden in ("<script", "onclick", "onerror", "onload", 'href="javascript', "evil()</", "p{}", "<b>"):
        assert hidden not in html
    assert "default-src 'none'" in html
    assert "<title>a&lt;b</title>" in html


def test_cells_of_a_notebook_as_html_are_numbered_as_its_author_counts_them() -> None:
    new_code: Any = nbformat.v4.new_code_cell
    parameters = {"tags": ["injected-parameters"]}
    failure = nbformat.v4.new_output("error", ename="ValueError", evalue="no", traceback=["ValueError: no"])
    cells = [
        nbformat.v4.new_markdown_cell('# Title <b id="cell-3">b</b>'),
        new_code("a = 1", execution_count=1),
        new_code("a = 2", execution_count=2, metadata=parameters),
        new_code("def f(x):\n    return '<&'", execution_count=3),
        new_code("f(1", execution_count=4, outputs=[failure], metadata={"papermill": {"status": "failed"}}),
        nbformat.v4.new_raw_cell("<raw>"),
    ]
    record = {"start_time": "2026-11-23T04:00:00.123456+00:00", "duration": 12.3}
    html = readable_html(
        nbformat.v4.new_notebook(cells=cells, metadata={"papermill": record}), title="flows 2016-01-05"
    )

    assert re.findall(r'<section class="([^"]*)"(?: id="([^"]*)")?>', html) == [
        ("cell", "cell-1"),
        ("cell", "cell-2"),
        ("cell", ""),
        ("cell", "cell-3"),
        ("cell failed", "cell-4"),
        ("cell", "cell-5"),
    ]
    assert html.count("id=") == 5
    assert re.findall(r"<strong>(\d)</strong> <code>(In \[\d\])</code>", html) == [
        ("2", "In [1]"),
        ("3", "In [3]"),
        ("4", "In [4]"),
    ]
    assert '<a href="#cell-4">cell 4</a>' in html
    assert "Started 2026-11-23 04:00 UTC, took 12 s" in html
    assert '<span class="k">def</span>' in html
    assert "&lt;&amp;" in html
    assert "&lt;raw&gt;" in html
    assert "prefers-color-scheme:dark" in html


@pytest.mark.parametrize("language", [None, {"name": "R"}, {"name": "<no language>"}, 3])
@pytest.mark.parametrize("length", [0, LONGEST_HIGHLIGHTED])
def test_code_of_any_language_and_length_is_shown(language: object, length: int) -> None:
    cell = nbformat.v4.new_code_cell("x <- 1 %in% y" + "\n#" * length)
    html = readable_html({"cells": [cell], "metadata": {"language_info": language}}, title="t")
    text = re.sub(r"<[^<>]*>", "", html[html.index("<main>") :])
    assert "x &lt;- 1 %in% y" in text


def test_a_notebook_as_html_shows_widgets_and_printed_text_as_they_ended() -> None:
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "m"}, "text/plain": "IntSlider(value=7)"}
    states = {"m": {"model_name": "HTMLModel", "state": {"value": "<b>9</b><script>evil()</script>"}}}
    outputs = [
        nbformat.v4.new_output("display_data", data=view),
        nbformat.v4.new_output("stream", text=" 50 %\r100 %\n"),
    ]
    metadata = {"widgets": {"application/vnd.jupyter.widget-state+json": {"state": states}}}
    html = readable_html({"cells": [nbformat.v4.new_code_cell("", outputs=outputs)], "metadata": metadata}, title="t")
    assert "<b>9</b>" in html
    assert "100 %" in html
    for hidden in ("IntSlider", "<script", "evil()<", " 50 %"):
        assert hidden not in html


def test_notebooks_that_were_taken_over_are_named(deployed: Deployed, store: RunStore, browser: WebDriver) -> None:
    settings = deployed.settings()
    executed = finish(store, 1, RunState.SUCCEEDED, settings)
    (run,) = store.runs()
    taken = FinishedNotebook(executed=executed, reports=(), fingerprint="f", digest="d", taken_from=7)
    Resuming(store).record(run.id, {"n": taken, "other": replace(taken, taken_from=None)})
    write_page(settings, store)

    assert content(settings)["reasons"] == ["notebooks taken over from an earlier attempt: n"]
    browser.set_window_size(1300, 1000)
    browser.get((settings.outputs_dir / "index.html").as_uri())
    shown(browser, f"[data-date='{day(1)}']").click()
    assert "Notebooks taken over from an earlier attempt: n" in shown(browser, ".details").text
