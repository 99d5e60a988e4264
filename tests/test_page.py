import datetime
import json
import re
import subprocess
import threading
from pathlib import Path
from typing import Any

import nbformat
import pytest

from autoflow.model import RunError, RunKey, RunState, RunStore
from autoflow.page import PAGE_NAME, PageWriter, write_page
from autoflow.page.readable import readable_html
from autoflow.runs import EndedRun, Outcome, WorkflowRun
from autoflow.settings import Settings
from autoflow.specs import NotebookSpec, TriggerSpec, WorkflowSpec
from tests.conftest import TOKEN_OF_NO_USE, Deployed, write_notebook

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
def store(deployed: Deployed) -> Any:  # noqa: ANN401 - a store
    store = RunStore(deployed.settings().db_uri)
    store.migrate()
    yield store
    store.close()


def content(settings: Settings) -> Any:  # noqa: ANN401 - JSON
    html = (settings.outputs_dir / PAGE_NAME).read_text()
    found = re.search(r'<script type="application/json" id="content">(.*?)</script>', html, re.DOTALL)
    assert found
    return json.loads(found[1])


def states(settings: Settings) -> dict[int, str]:
    page = content(settings)
    (series,) = page["series"]
    first = (day(1) - datetime.date(1970, 1, 1)).days
    return {number - first + 1: page["states"][state] for number, state, *_ in series["days"]}


def dumped(page: Path, tmp_path: Path) -> str:
    """Return the page as it is in a browser when its scripts have run."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    options += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command = ["chromium", *options, f"--user-data-dir={tmp_path / 'chromium'}", "--virtual-time-budget=5000"]
    ended = subprocess.run(
        [*command, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=60, check=True
    )
    return ended.stdout


def test_each_date_has_the_state_that_the_run_store_tells(deployed: Deployed, store: RunStore) -> None:
    settings = deployed.settings()
    error = RunError("ValueError", "no data", "n", 3)
    finish(store, 1, RunState.SUCCEEDED, settings)
    finish(store, 2, RunState.FAILED, settings, error=error)
    for _ in range(2):
        finish(store, 3, RunState.FAILED, settings, error=error)
    finish(store, 4, RunState.CANCELLED, settings)
    assert store.claim(key(5))
    finish(store, 6, RunState.INTERRUPTED, settings)

    write_page(settings, store, triggers=[TriggerSpec(workflow=SPEC, max_attempts=2)])

    assert states(settings) == {
        1: "done",
        2: "waiting for a retry",
        3: "given up",
        4: "cancelled",
        5: "running",
        6: "waiting for a retry",
    }
    assert content(settings)["reasons"] == ["notebook 'n', cell 3: ValueError: no data"]


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
    assert "flows &amp; &lt;more&gt;" in html
    assert "</script><script>alert(1)</script><!-- [secret]" in content(settings)["reasons"][0]


def test_a_browser_shows_calendars_and_links_that_lead_to_files(
    deployed: Deployed, store: RunStore, tmp_path: Path
) -> None:
    settings = deployed.settings()
    finish(store, 1, RunState.SUCCEEDED, settings)
    finish(store, 2, RunState.FAILED, settings, error=RunError("ValueError", "no data", "n", 3))
    write_page(settings, store)

    html = dumped(settings.outputs_dir / PAGE_NAME, tmp_path)

    assert 'aria-label="2016-01-01: done"' in html
    assert 'aria-label="2016-01-02: waiting for a retry"' in html
    assert 'aria-label="2016-01-03: nothing"' in html
    assert html.count('tabindex="0"') == 2  # of all days one, and the table
    (link,) = re.findall(r'<a href="([^"]*\.pdf)">', html)
    assert link == f"reports/flows%20100%25%20%231__n__2016-01-01__abcdef01__{STAMP}.pdf"
    assert not re.search(r'(src|href)="(https?:)?//', html)


def test_executed_notebooks_are_made_into_html_beside_them_in_the_background(
    deployed: Deployed, store: RunStore
) -> None:
    settings = deployed.settings()
    before = finish(store, 1, RunState.SUCCEEDED, settings)
    with PageWriter(settings, store, shortest_pause=0.0) as page:
        after = finish(store, 2, RunState.SUCCEEDED, settings)
        run = WorkflowRun(workflow=SPEC, parameters={}, reference_date=day(2), date_ranges=())
        page.run_ended(EndedRun(run=run, state=RunState.SUCCEEDED, outcome=Outcome()))
        page.finish()

    assert states(settings) == {1: "done", 2: "done"}
    for notebook in (before, after):
        assert "print(1)" in notebook.with_suffix(".html").read_text()
    (series,) = content(settings)["series"]
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


def test_a_page_that_cannot_be_written_does_not_stop_anybody(deployed: Deployed, store: RunStore) -> None:
    settings = deployed.settings()
    (settings.outputs_dir / PAGE_NAME).mkdir()
    with PageWriter(settings, store, shortest_pause=0.0) as page:
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
        "1 &lt; 2",
        "<td>7</td>",
        "data:image/png;base64,iVBORw0KGgo=",
        "&lt;no&gt;",
    ):
        assert shown in html
    for hidden in ("<script", "onclick", "onerror", "onload", 'href="javascript', "evil()</", "p{}", "<b>"):
        assert hidden not in html
    assert "default-src 'none'" in html
    assert "<title>a&lt;b</title>" in html
