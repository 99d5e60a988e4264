import base64
import concurrent.futures
import html
import os
import re
import signal
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from nbformat import NotebookNode, v4
from selenium.webdriver import Chrome
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

from autoflow.errors import ReportError
from autoflow.reports import CONFIG_DIR, ReportContext, missing_fonts, missing_tools
from autoflow.specs import ReportFormat
from autoflow.stop_signal import StopSignal
from tests.reports.convert import images_in, pages_of, report_of, right_edge_of, text_of, title_of
from tests.waiting import LONG, wait_for

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="


def notebook(*cells: NotebookNode | str) -> NotebookNode:
    """Return an executed notebook; a text is a markdown cell."""
    given = [v4.new_markdown_cell(cell) if isinstance(cell, str) else cell for cell in cells]
    return NotebookNode(v4.new_notebook(cells=given))


def code(*outputs: NotebookNode, source: str = "secret_code()", tags: tuple[str, ...] = ()) -> NotebookNode:
    cell = v4.new_code_cell(source, execution_count=7, outputs=list(outputs), metadata={"tags": list(tags)})
    return NotebookNode(cell)


def shows(**bundle: str) -> NotebookNode:
    """Return an output; ``text_html`` is ``text/html``."""
    return NotebookNode(
        v4.new_output("display_data", {kind.replace("_", "/"): content for kind, content in bundle.items()})
    )


def prints(text: str, name: str = "stdout") -> NotebookNode:
    return NotebookNode(v4.new_output("stream", text=text, name=name))


def words_of(report: Path) -> str:
    """Return the words of a report with a single space between them."""
    return " ".join(text_of(report).split())


def test_a_report_has_no_code_no_prompts_and_no_noise(tmp_path: Path) -> None:
    scrap = {"application/scrapbook.scrap.json+json": {"name": "x", "data": "GLUED"}}
    text = text_of(
        report_of(
            notebook(
                "# Title",
                code(prints("printed"), prints("NOISE", "stderr"), source="secret_code()"),
                code(v4.new_output("display_data", scrap, metadata={"scrapbook": {"name": "x"}})),
                code(prints("REMOVED"), tags=("remove-output",)),
                v4.new_markdown_cell("An Exception was encountered", metadata={"tags": ["papermill-error-cell-tag"]}),
            ),
            tmp_path,
        )
    )

    assert "printed" in text
    for hidden in ("secret_code", "In [", "Out[", "[7]", "NOISE", "GLUED", "REMOVED", "An Exception"):
        assert hidden not in text


def test_the_first_heading_is_the_title_and_stands_once(tmp_path: Path) -> None:
    report = report_of(notebook("before", "# Flows *above* normal & more\n\n## Part"), tmp_path)

    assert title_of(report) == "Flows above normal & more"
    assert text_of(report).count("Flows above normal & more") == 1


def test_without_headings_the_notebooks_metadata_have_the_title(tmp_path: Path) -> None:
    untitled = notebook("text")
    untitled.metadata["title"] = "From *metadata*"

    assert title_of(report_of(untitled, tmp_path)) == "From *metadata*"


def test_the_footer_of_each_page_has_workflow_date_and_page_number(tmp_path: Path) -> None:
    pages = text_of(report_of(notebook(*["paragraph"] * 100), tmp_path)).split("\f")[:-1]

    assert len(pages) > 1
    for number, page in enumerate(pages, start=1):
        footer = page.strip().splitlines()[-1]
        assert footer.startswith("Flows *above* normal · 2016-01-07")
        assert footer.replace(" ", "").endswith(f"{number}/{len(pages)}")


def test_pages_are_a4(tmp_path: Path) -> None:
    assert all("(A4)" in size for size in pages_of(report_of(notebook("text"), tmp_path)))


def test_without_a_reference_date_the_footer_has_the_workflow_only(tmp_path: Path) -> None:
    context = ReportContext(workflow="Once", reference_date=None)

    assert (
        text_of(report_of(notebook("text"), tmp_path, context=context)).strip().splitlines()[-1].split("  ")[0]
        == "Once"
    )


def test_headings_that_skip_a_level_are_no_mistake(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = text_of(report_of(notebook("# T\n\n# One\n\n#### Four\n\n- # in a list\n\n> ## in a quote"), tmp_path))

    assert all(words in text for words in ("One", "Four", "in a list", "in a quote"))
    assert not caplog.records


def test_numbers_in_a_table_stand_on_the_right(tmp_path: Path) -> None:
    table = "<table><thead><tr><th></th><th>n</th></tr></thead><tbody>{}</tbody></table>"
    rows = "".join(f"<tr><th>{number}</th><td>{10**number}</td></tr>" for number in range(5))

    report = report_of(notebook(code(shows(text_html=table.format(rows)))), tmp_path)

    ends = [right_edge_of(f"{10**number}", report) for number in range(1, 5)]
    assert max(ends) - min(ends) < 0.5
    assert right_edge_of("n", report) == pytest.approx(ends[0], abs=0.5)


def test_html_tables_without_end_tags_are_tables(tmp_path: Path) -> None:
    text = text_of(report_of(notebook(code(shows(text_html="<table><tr><td>a<td>b<tr><td>c<td>d</table>"))), tmp_path))

    assert [line.split() for line in text.splitlines() if line.split() in (["a", "b"], ["c", "d"])]


def test_a_table_of_100000_rows_is_clipped_and_says_so(tmp_path: Path) -> None:
    rows = "".join(f"<tr><td>row {number}</td></tr>" for number in range(100_000))

    text = text_of(report_of(notebook(code(shows(text_html=f"<table>{rows}</table>"))), tmp_path))

    assert "row 99\n" in text
    assert "row 100\n" not in text
    assert "of 100,000 rows are shown" in text


def test_a_wide_table_is_split_so_that_nothing_is_cut_off(tmp_path: Path) -> None:
    head = "".join(f"<th>heading{number}</th>" for number in range(40))
    body = "".join(f"<td>value{number}</td>" for number in range(40))
    table = f"<table><thead><tr><th></th>{head}</tr></thead><tbody><tr><th>index</th>{body}</tr></tbody></table>"

    text = text_of(report_of(notebook(code(shows(text_html=table))), tmp_path))

    assert all(f"heading{number}" in text and f"value{number}" in text for number in range(40))
    assert text.count("index") > 1


def test_a_wide_and_long_table_is_on_a_turned_page(tmp_path: Path) -> None:
    row = "<tr>" + "".join(f"<td>value{number}</td>" for number in range(16)) + "</tr>"

    sizes = pages_of(report_of(notebook("# T", code(shows(text_html=f"<table>{row * 30}</table>")), "after"), tmp_path))

    assert any(size.startswith("841") for size in sizes)
    assert any(size.startswith("595") for size in sizes)


def test_the_text_of_a_huge_cell_is_clipped_not_cut_off(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = f"<table><tr><td>{'word ' * 20_000}</td><td>beside</td></tr></table>"

    text = text_of(report_of(notebook(code(shows(text_html=table)), "after"), tmp_path))

    assert "…" in text
    assert "after" in text
    assert not caplog.records


def test_a_line_of_10_megabytes_is_clipped_and_says_so(tmp_path: Path) -> None:
    start = time.monotonic()

    text = " ".join(text_of(report_of(notebook(code(prints("x" * 10_000_000)), "y " * 5_000_000), tmp_path)).split())

    assert "9,998,000 more characters" in text
    assert "9,950,000 more characters" in text
    assert time.monotonic() - start < LONG


def test_a_progress_bar_is_shown_as_it_ended(tmp_path: Path) -> None:
    text = text_of(report_of(notebook(code(prints(" 10 %\r 50 %\r\x1b[32m100 %\x1b[0m\n"))), tmp_path))

    assert "100 %" in text
    assert "10 %\n" not in text.replace("100 %", "")
    assert "[32m" not in text


def test_a_picture_that_is_none_leaves_a_mark(tmp_path: Path) -> None:
    report = report_of(notebook(code(shows(image_png=base64.b64encode(b"no picture").decode())), "after"), tmp_path)

    assert "[picture]" in text_of(report)
    assert "after" in text_of(report)


@pytest.mark.parametrize("report_format", ReportFormat)
@pytest.mark.parametrize(
    ("markdown", "shown"),
    [
        ("It costs $5 a day; set `$HOME` and `$PATH` first.", "It costs $5 a day; set $HOME and $PATH first."),
        ("from $5 to $10, or US$5/US$7 a day", "from $5 to $10, or US$5/US$7 a day"),
        ("a $x $ b, a $x$5 c", "a $x $ b, a $x$5 c"),
        ("$x `y` z$", "$x y z$"),
        ("```\n$a\n```\n($x$)", "$a (x)"),
        ("- US$a\n- ($x$)", "US$a (x)"),
        ("`` ` $x$ `` <b>$5</b> or `5$`, or 5$", "` $x$ $5 or 5$, or 5$"),
    ],
)
def test_dollars_are_formulas_only_where_pandoc_says_so(
    report_format: ReportFormat, markdown: str, shown: str, tmp_path: Path
) -> None:
    words = words_of(report_of(notebook(markdown), tmp_path, report_format=report_format))

    assert shown in words.replace("• ", "")


def test_formulas_keep_their_dollars(tmp_path: Path) -> None:
    texts = ["$x$$y$", r"$\text{if $z$ holds}$", "$$\n\\frac{1}{2}\n+1\n$$", "$\\frac{a}{\\sqrt{b}}$, not $5"]

    page = report_of(notebook(*texts), tmp_path, report_format=ReportFormat.HTML)

    assert "$" not in text_of(page).replace("not $5", "")
    assert page.read_text().count("<img") >= 2


def test_addresses_keep_their_dollars(tmp_path: Path) -> None:
    links = "[a](https://example.org/?b=$c) <b>x</b> and <https://example.org/d$>, $5"

    page = report_of(notebook(links), tmp_path, report_format=ReportFormat.HTML).read_text()

    assert "https://example.org/?b=$c" in html.unescape(page)
    assert "https://example.org/d$" in html.unescape(page)


def test_braces_and_dollars_without_end_are_read_quickly(tmp_path: Path) -> None:
    start = time.monotonic()

    assert "${a ${a" in text_of(report_of(notebook("${a " * 12_500), tmp_path, report_format=ReportFormat.HTML))
    assert time.monotonic() - start < LONG


@pytest.mark.parametrize("report_format", ReportFormat)
def test_a_footnote_of_many_parts_is_one_line(report_format: ReportFormat, tmp_path: Path) -> None:
    note = "text[^1]\n\n[^1]: One\\\n    more.\n\n    Two.\n\n    - three\n    - four\n"

    words = words_of(report_of(notebook(note), tmp_path, report_format=report_format))

    assert "One more. Two. three four" in words


LEVELS = range(60)


@pytest.mark.parametrize("report_format", ReportFormat)
@pytest.mark.parametrize(
    "markdown",
    [
        "\n".join(f"{'  ' * level}- level{level}" for level in LEVELS),
        "\n>\n".join(f"{'>' * level} level{level}" for level in LEVELS),
        "\n\n".join(f"{'    ' * level}- level{level}\n\n{'    ' * level}    > quote" for level in LEVELS),
        "level0\n\n" + "\n\n".join(f"{'1. > ' * level}level{level}" for level in LEVELS),
    ],
    ids=["lists", "quotes", "quotes in lists", "lists in quotes"],
)
def test_lists_and_quotes_may_be_nested_deeply(markdown: str, report_format: ReportFormat, tmp_path: Path) -> None:
    words = text_of(report_of(notebook(markdown), tmp_path, report_format=report_format)).split()

    assert {f"level{level}" for level in LEVELS} <= set(words)


@pytest.mark.parametrize("report_format", ReportFormat)
def test_a_picture_may_be_in_a_link(report_format: ReportFormat, tmp_path: Path) -> None:
    linked = (
        f"[before ![*alt*, [text]](data:image/png;base64,{PIXEL}) behind $\\frac{{1}}{{2}}$](https://example.org) end"
    )

    report = report_of(notebook(linked), tmp_path, report_format=report_format)

    assert "before behind end" in words_of(report).replace("1", "").replace("2", "")
    if report_format is ReportFormat.PDF:
        assert images_in(report) == 1
    else:
        assert re.search(r'<a href="https://example.org">before .*<img .*<img .*</a> end', report.read_text())


@pytest.mark.parametrize("report_format", ReportFormat)
def test_a_line_break_before_all_text_leaves_no_mark(report_format: ReportFormat, tmp_path: Path) -> None:
    output = code(shows(text_html="<pre>x</pre><br>text<br>more"))

    assert "+" not in words_of(report_of(notebook(output), tmp_path, report_format=report_format))


def test_tabs_align_what_is_printed(tmp_path: Path) -> None:
    printed = code(prints("a\tb\nlonger\tc\n"))

    lines = text_of(report_of(notebook(printed), tmp_path)).splitlines()

    (first,), (second,) = ([line for line in lines if line.endswith(end)] for end in (" b", " c"))
    assert first.index("b") == second.index("c")


def test_long_words_do_not_make_an_html_report_wider_than_its_window(tmp_path: Path) -> None:
    word = "x" * 400
    texts = [f"# {word}", word, f"- {word}", f"> `{word}`", f"| a | b |\n|---|---|\n| {word} | {word} |"]

    report = report_of(notebook(*texts, code(prints(word))), tmp_path, report_format=ReportFormat.HTML)

    options = Options()
    options.binary_location = "/usr/bin/chromium"
    for switch in ("headless", "no-sandbox", "disable-gpu", f"user-data-dir={tmp_path / 'chromium'}"):
        options.add_argument(f"--{switch}")
    with Chrome(options=options, service=Service("/usr/bin/chromedriver")) as browser:
        browser.set_window_size(1000, 800)
        browser.get(report.as_uri())
        width = browser.execute_script("return document.documentElement.scrollWidth")
    assert width <= 1000


@pytest.mark.parametrize("span", ["99999999", "'99999999'", "' 99999999 '", "0x5ffffff", "&#57;9999999"])
def test_a_cell_that_claims_millions_of_columns_is_read_quickly(span: str, tmp_path: Path) -> None:
    rows = (
        f"<tr><td title='>' COLSPAN = {span}>first</td><td>x</td></tr><tr><td>y</td><td rowspan=9999999>last</td></tr>"
    )
    table = f"<table>{rows}</table>"

    words = words_of(report_of(notebook(table, code(shows(text_html=table))), tmp_path, timeout=LONG))

    assert words.count("last") == 2


def test_a_cell_covers_the_columns_that_it_says(tmp_path: Path) -> None:
    table = "<table><tr><th colspan=2>a</th><th colspan='1'>b</th></tr><tr><td>c</td><td>d</td><td>e</td></tr></table>"

    page = report_of(notebook(code(shows(text_html=table))), tmp_path, report_format=ReportFormat.HTML).read_text()

    assert page.count('colspan="2"') == 1


def test_pictures_stay_in_order_among_the_outputs(tmp_path: Path) -> None:
    outputs = [prints("one"), shows(image_png=PIXEL, text_plain="<Figure>"), prints("two"), shows(image_png=PIXEL)]

    page = report_of(notebook(code(*outputs)), tmp_path, report_format=ReportFormat.HTML).read_text()

    assert [page.index("one"), page.index("<img"), page.index("two"), page.rindex("<img")] == sorted(
        [page.index("one"), page.index("<img"), page.index("two"), page.rindex("<img")]
    )
    assert "Figure" not in page


def test_what_needs_a_browser_is_replaced_by_its_static_form(tmp_path: Path) -> None:
    plotly = {"application/vnd.plotly.v1+json": {}, "text/html": "<div></div><script>draw()</script>"}
    static = {**plotly, "image/png": PIXEL}
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "IntSlider(value=7)"}
    folium = {"text/html": "Make this Notebook Trusted to load map: <iframe srcdoc=x></iframe>"}
    outputs = [v4.new_output("display_data", bundle) for bundle in (plotly, static, widget, folium)]

    report = report_of(notebook(code(*outputs)), tmp_path)

    assert text_of(report).count("Interactive content") == 2
    assert "IntSlider(value=7)" in text_of(report)
    assert images_in(report) == 1


def test_the_same_content_comes_as_pdf_and_as_html(tmp_path: Path) -> None:
    both = notebook(
        "# T\n\n- a\n\n| b | c |\n|---|---|\n| 1.5 | x@y |", code(prints("d")), code(shows(text_html="<i>e</i>"))
    )

    words = [text_of(report_of(both, tmp_path, report_format=report_format)).split() for report_format in ReportFormat]

    assert {"a", "b", "c", "1.5", "x@y", "d", "e"} <= set(words[0]) & set(words[1])


@pytest.mark.parametrize("name", ["asciidoc.tpl", "asciidoc/index.asciidoc.j2", "asciidoc_extended.tpl"])
def test_an_operators_template_extends_asciidocs_by_any_of_its_names(name: str, tmp_path: Path) -> None:
    template = tmp_path / "own.tpl"
    template.write_text(
        f"{{% extends '{name}' %}}\n"
        "{% block header %}{{ super() }}\n*From the ministry*\n\n{% endblock %}\n"
        "{% block input %}\n----\n{{ cell.source }}\n----\n{% endblock %}\n"
    )
    source = "print('*x*')  # include::/etc/passwd[]\n----\ny = 1"

    text = text_of(report_of(notebook("# T", code(prints("printed"), source=source)), tmp_path, template=template))

    assert "From the ministry" in text
    assert "*From" not in text
    assert "print('*x*') # include::/etc/passwd[]" in " ".join(text.split())
    assert "y = 1" in text
    assert "printed" in text


def test_an_operators_template_shows_a_picture_that_lies_beside_it(tmp_path: Path) -> None:
    template = tmp_path / "own.tpl"
    (tmp_path / "logo.png").write_bytes(base64.b64decode(PIXEL))
    template.write_text(
        "{% extends 'asciidoc.tpl' %}{% block header %}{{ super() }}\n"
        "image::{{ 'logo.png' | beside }}[]\n\n{% endblock %}"
    )

    assert images_in(report_of(notebook("# T"), tmp_path, template=template)) > 0


def test_text_that_an_operators_template_changes_is_still_data(tmp_path: Path) -> None:
    template = tmp_path / "own.tpl"
    template.write_text(
        "{% extends 'asciidoc.tpl' %}"
        "{% block markdowncell %}{{ (cell.source ~ ' *changed*') | markdown2asciidoc }}"
        "\n\n{{ cell.source }}{% endblock %}"
    )

    text = text_of(report_of(notebook("include::/etc/passwd[]"), tmp_path, template=template))

    assert text.count("include::/etc/passwd[]") >= 2
    assert "*changed*" not in text


@pytest.mark.parametrize(
    ("template", "place"),
    [
        ("{% extends 'asciidoc.tpl' %}\n{% block input %}\n{{ cell.source | }}\n{% endblock %}", "own.tpl:3"),
        ("{% extends 'asciidoc.tpl' %}\n{% block input %}\n{{ cell.missing.name }}\n{% endblock %}", "own.tpl:3"),
        ("{% extends 'asciidoc.tpl' %}\n{% block input %}\n{{ 1 | no_filter }}\n{% endblock %}", "own.tpl:3"),
        ("{% extends 'nothing.tpl' %}", "own.tpl:1"),
    ],
)
def test_a_mistake_in_a_template_is_told_with_file_and_line(template: str, place: str, tmp_path: Path) -> None:
    own = tmp_path / "own.tpl"
    own.write_text(template)

    with pytest.raises(ReportError, match=place):
        report_of(notebook("# T", code()), tmp_path, template=own)


def test_a_notebook_that_is_none_is_told_by_name(tmp_path: Path) -> None:
    from autoflow.reports import convert  # noqa: PLC0415 - the tests' own helper writes whole notebooks

    (tmp_path / "broken.ipynb").write_text("{")
    with pytest.raises(ReportError, match=r"broken\.ipynb is not a notebook"):
        convert(
            tmp_path / "broken.ipynb",
            tmp_path / "report.pdf",
            report_format=ReportFormat.PDF,
            context=ReportContext(workflow="w", reference_date=None),
            template=CONFIG_DIR / "asciidoc_extended.tpl",
            inputs_dir=tmp_path,
        )


def program(folder: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a program called `name`, written in Python, before all others on PATH."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!{sys.executable}\n{textwrap.dedent(script)}")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


@pytest.mark.parametrize("name", ["pandoc", "asciidoctor-pdf"])
def test_a_failing_tools_own_message_is_told_and_no_report_appears(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "bin", name, "raise SystemExit('out of cheese')", monkeypatch)
    (tmp_path / "work").mkdir()

    with pytest.raises(ReportError, match=rf"{name} failed: out of cheese"):
        report_of(notebook("text"), tmp_path / "work")

    assert {path.name for path in (tmp_path / "work").iterdir()} == {"executed.ipynb", "inputs"}


def test_what_asciidoctor_cannot_fit_on_a_page_is_told_in_its_own_words(tmp_path: Path) -> None:
    template = tmp_path / "own.tpl"
    fences = ["_" * (4 + depth) for depth in range(40)]
    quotes = "\n".join([*fences, "deep", *reversed(fences)])
    template.write_text(f"{{% extends 'asciidoc.tpl' %}}{{% block header %}}= T\n\n{quotes}\n\n{{% endblock %}}")

    with pytest.raises(ReportError, match=r"asciidoctor-pdf failed: .*CannotFit$"):
        report_of(notebook("text"), tmp_path, template=template)


def test_a_text_that_pandoc_leaves_out_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = """import sys; sys.stdin.read(); print('{"blocks": []}')"""
    program(tmp_path / "bin", "pandoc", script, monkeypatch)

    with pytest.raises(ReportError, match="pandoc gave 0 texts for 1"):
        report_of(notebook("text"), tmp_path)


def test_a_conversion_that_takes_too_long_is_ended_with_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = f"""
    import pathlib, subprocess, time
    child = subprocess.Popen(["sleep", "600"])
    pathlib.Path({str(tmp_path / "pid")!r}).write_text(str(child.pid))
    time.sleep(600)
    """
    program(tmp_path / "bin", "pandoc", script, monkeypatch)

    with pytest.raises(ReportError, match=r"pandoc took too long.*AUTOFLOW_REPORT_TIMEOUT"):
        report_of(notebook("text"), tmp_path, timeout=3)

    child = int((tmp_path / "pid").read_text())
    wait_for(lambda: _has_ended(child))


def test_a_conversion_that_is_stopped_ends_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin", "pandoc", "import time; time.sleep(600)", monkeypatch)
    stop = StopSignal()
    threading.Timer(1.0, stop.set, ["the operator asked for it"]).start()

    with pytest.raises(ReportError, match="pandoc was stopped: the operator asked for it"):
        report_of(notebook("text"), tmp_path, stop=stop)


def test_a_conversion_works_after_asciidoctor_was_killed(tmp_path: Path) -> None:
    report_of(notebook("text"), tmp_path)
    for process in _children_running("report_server.rb"):
        os.kill(process, signal.SIGKILL)

    assert "again" in text_of(report_of(notebook("again"), tmp_path))


def _children_running(name: str) -> list[int]:
    """Return the processes that this one has started, with `name` in their command line."""
    status = [path for path in Path("/proc").glob("[0-9]*/stat") if _parent_of(path) == os.getpid()]
    return [int(path.parent.name) for path in status if name in (path.parent / "cmdline").read_text()]


def _parent_of(stat: Path) -> int | None:
    try:
        return int(stat.read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None  # it has ended meanwhile


def _has_ended(pid: int) -> bool:
    """Return whether a process is gone, or a zombie that nobody waits for."""
    status = Path(f"/proc/{pid}/status")
    return not status.exists() or "State:\tZ" in status.read_text()


def test_tools_see_nothing_of_the_daemons_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOFLOW_DB_PASSWORD", "PASSWORD-IN-ENVIRONMENT")
    program(
        tmp_path / "bin", "pandoc", "import os, sys; sys.stdin.read(); sys.exit(repr(dict(os.environ)))", monkeypatch
    )

    with pytest.raises(ReportError, match="pandoc failed") as raised:
        report_of(notebook("text"), tmp_path)

    assert "PASSWORD-IN-ENVIRONMENT" not in str(raised.value)
    assert "AUTOFLOW" not in str(raised.value)


def test_missing_tools_are_told_with_their_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert missing_tools() == ()
    monkeypatch.setenv("PATH", str(tmp_path))

    lines = missing_tools()

    assert [line.split()[0] for line in lines] == ["pandoc", "asciidoctor-pdf"]
    assert "ruby-asciidoctor-pdf" in lines[1]
    with pytest.raises(ReportError, match="asciidoctor-pdf is not on PATH"):
        report_of(notebook("text"), tmp_path)


def test_missing_fonts_are_told_with_their_package(tmp_path: Path) -> None:
    assert missing_fonts() == ()

    lines = missing_fonts(font_dirs=(tmp_path,))

    for script, package in (
        ("Devanagari", "fonts-noto-core"),
        ("Chinese", "fonts-droid-fallback"),
        ("Latin", "fonts-"),
    ):
        assert any(script in line and package in line for line in lines)


def test_conversions_side_by_side_do_not_mix(tmp_path: Path) -> None:
    def made(number: int) -> str:
        folder = tmp_path / str(number)
        folder.mkdir()
        return text_of(report_of(notebook(f"# Report {number}", code(shows(image_png=PIXEL))), folder))

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        texts = list(pool.map(made, range(6)))

    assert all(f"Report {number}" in text for number, text in enumerate(texts))


def test_a_conversion_leaves_no_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))

    report_of(notebook("text"), tmp_path)

    assert not list(temporary.iterdir())
    assert {path.name for path in tmp_path.iterdir()} == {"executed.ipynb", "inputs", "report.pdf", "temporary"}
