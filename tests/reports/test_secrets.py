"""What a reader sees of a notebook that AutoFlow has written contains no secret in any form."""

import base64
import html
import json
import re
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from autoflow.notebooks.redaction import Redaction
from autoflow.page.readable import readable_html
from autoflow.specs import ReportFormat
from tests.reports.convert import code, notebook, report_of, shows, text_of

TOKEN = "tok.en_with-marks"
ENTITIES = "".join(f"&#{ord(each)};" for each in TOKEN)
DRAWING = f'<svg xmlns="http://www.w3.org/2000/svg" width="90" height="9"><text y="9">{ENTITIES}</text></svg>'
ENCODED = base64.b64encode(DRAWING.encode()).decode()


def _shown() -> NotebookNode:
    """Return a notebook as AutoFlow writes it, which shows the token in several forms."""
    attached = nbformat.v4.new_markdown_cell("![](attachment:a.svg)", attachments={"a.svg": {"image/svg+xml": ENCODED}})
    found = notebook(
        TOKEN.replace("_", r"\_").replace(".", r"\."),
        f"| a |\n| --- |\n| {TOKEN[:4]}**{TOKEN[4:]}** |",
        attached,
        code(
            shows(text_html=f"<p>{ENTITIES}</p>"),
            shows(text_html=f"<table><tr><td>{TOKEN[:4]}<b>{TOKEN[4:]}</b></td></tr></table>"),
            shows(text_html=f'<img src="data:image/svg+xml;base64,{ENCODED}"><p title="{ENTITIES}">text</p>'),
            NotebookNode(nbformat.v4.new_output("display_data", {"image/svg+xml": DRAWING})),
        ),
    )
    return Redaction([TOKEN]).of_notebook(found)


def _without_secret(text: str) -> bool:
    drawings = [base64.b64decode(each).decode() for each in re.findall(r"svg\+xml;base64,([\w+/=]+)", text)]
    shown = [html.unescape(re.sub(r"<[^<>]*>", "", each)) for each in (text, *drawings)]
    return not any("with-marks" in each for each in (*shown, html.unescape(text)))


def test_notebook_as_a_page_shows_no_secret() -> None:
    page = readable_html(json.loads(nbformat.writes(_shown())), title="t")

    assert page.count("[secret]") >= 4
    assert _without_secret(page)


@pytest.mark.parametrize("report_format", list(ReportFormat))
def test_report_shows_no_secret(report_format: ReportFormat, tmp_path: Path) -> None:
    report = report_of(_shown(), tmp_path, report_format=report_format)

    text = text_of(report)
    assert text.count("[secret]") >= 4
    assert _without_secret(text)
    if report_format is ReportFormat.HTML:
        assert _without_secret(report.read_text(encoding="utf-8"))
