import re
from pathlib import Path

import pytest

from autoflow.specs import ReportFormat
from tests.reports.convert import PIXEL, code, images_in, notebook, report_of, shows, text_of, words_of


def test_headings_may_skip_a_level(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = text_of(report_of(notebook("# T\n\n# One\n\n#### Four\n\n- # in a list\n\n> ## in a quote"), tmp_path))

    assert all(words in text for words in ("One", "Four", "in a list", "in a quote"))
    assert not caplog.records


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


def test_text_that_is_marked_right_after_a_link_a_picture_or_a_formula_stays_apart(tmp_path: Path) -> None:
    pixel = f"![dot](data:image/png;base64,{PIXEL})"
    marked = ("`code`", "**bold**", "*slanted*", "<u>underlined</u>", "x^2^")
    lines = [f"{before}{mark} end." for before in ("[here](https://example.org/)", pixel, "$a^2$") for mark in marked]
    report = report_of(notebook("\n\n".join(lines)), tmp_path)
    text = text_of(report)
    assert text.count("here") == len(marked)
    assert text.count("code end.") == 3
    assert "class=" not in text
    assert images_in(report) >= len(marked)
