import html
import time
from pathlib import Path

import pytest

from autoflow.specs import ReportFormat
from tests.reports.convert import notebook, report_of, text_of, words_of
from tests.waiting import LONG


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
def test_dollars_are_formulas_only_where_the_rules_say_so(
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
    assert time.monotonic() - start < 2 * LONG
