import base64
import time
from pathlib import Path

from nbformat import v4

from autoflow import CHECK_TYPE
from autoflow.runs.checks import Check, Checks, Severity
from autoflow.specs import ReportFormat
from tests.reports.convert import PIXEL, code, images_in, notebook, prints, report_of, shows, text_of
from tests.waiting import LONG


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


def test_a_line_of_10_megabytes_is_clipped_and_says_so(tmp_path: Path) -> None:
    start = time.monotonic()

    text = " ".join(text_of(report_of(notebook(code(prints("x" * 10_000_000)), "y " * 5_000_000), tmp_path)).split())

    assert "9,998,000 more characters" in text
    assert "9,950,000 more characters" in text
    assert time.monotonic() - start < 2 * LONG


def test_a_progress_bar_is_shown_in_its_final_state(tmp_path: Path) -> None:
    text = text_of(report_of(notebook(code(prints(" 10 %\r 50 %\r\x1b[32m100 %\x1b[0m\n"))), tmp_path))

    assert "100 %" in text
    assert "10 %\n" not in text.replace("100 %", "")
    assert "[32m" not in text


def test_an_invalid_picture_leaves_a_placeholder(tmp_path: Path) -> None:
    report = report_of(notebook(code(shows(image_png=base64.b64encode(b"no picture").decode())), "after"), tmp_path)

    assert "[picture]" in text_of(report)
    assert "after" in text_of(report)


def test_tabs_align_what_is_printed(tmp_path: Path) -> None:
    printed = code(prints("a\tb\nlonger\tc\n"))

    lines = text_of(report_of(notebook(printed), tmp_path)).splitlines()

    (first,), (second,) = ([line for line in lines if line.endswith(end)] for end in (" b", " c"))
    assert first.index("b") == second.index("c")


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


def test_checks_that_warn_are_above_the_report_as_text_and_others_are_not_shown(tmp_path: Path) -> None:
    odd = "<b>odd</b> |*name*_ [[x]] {asciidoctor-version} include::/etc/passwd[] ++"
    checks = Checks().with_check(Check(name="all is there", ok=True))
    for number in range(12):
        name = f"{odd} {number}"
        checks = checks.with_check(Check(name=name, ok=False, severity=Severity.WARNING, message="7 %", cell=1))
    results = [{"name": each.name, "ok": each.ok, "severity": "warning", "message": ""} for each in checks.kept]
    outputs = [v4.new_output("display_data", {CHECK_TYPE: each, "text/plain": "CHECK"}) for each in results]
    contents = notebook("# Title", "Before the checks", code(*outputs))
    contents.metadata["checks"] = checks.as_json()
    words = " ".join(text_of(report_of(contents, tmp_path)).split())
    assert max(map(words.index, ("WARNING", f"{odd} 0: 7 %"))) < words.index("Before the checks")
    assert "and 2 more" in words
    for hidden in ("CHECK", "all is there", f"{odd} 10"):
        assert hidden not in words
    # A template of its own may have no place for them.
    template = tmp_path / "own.tpl"
    template.write_text("{% extends 'asciidoc.tpl' %}{% block header %}= Own{% endblock %}")
    words = " ".join(text_of(report_of(contents, tmp_path, template=template)).split())
    assert "WARNING" not in words
    assert words.count("CHECK") == 12
