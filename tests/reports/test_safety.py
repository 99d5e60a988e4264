import http.server
import re
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from nbformat import NotebookNode, v4

from autoflow.specs import ReportFormat
from tests.reports.convert import report_of, text_of

CANARY = "CANARY-7f3b21"


def notebook_with(text: str, **bundle: str) -> NotebookNode:
    """Return a notebook that has `text` wherever a notebook can have one, and an output with `bundle`."""
    outputs = [
        v4.new_output("stream", text=text),
        v4.new_output("display_data", {"text/plain": text}),
        v4.new_output("display_data", {"text/markdown": text}),
        v4.new_output("error", ename="Error", evalue=text, traceback=text.splitlines()),
        *([v4.new_output("display_data", bundle)] if bundle else []),
    ]
    cells = [
        v4.new_markdown_cell("# Title\n\nfirst"),
        v4.new_markdown_cell(text),
        v4.new_markdown_cell(f"## {text.splitlines()[0]}\n\n- {text}\n\n| {text.splitlines()[0]} |\n|---|\n| x |"),
        v4.new_code_cell(text, outputs=outputs),
        v4.new_raw_cell(text),
        v4.new_markdown_cell("last"),
    ]
    return NotebookNode(v4.new_notebook(cells=cells, metadata={"title": text}))


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """Write a file that no report may show, outside the folder of inputs."""
    (tmp_path / "outside").mkdir()
    path = tmp_path / "outside" / "canary.html"
    path.write_text(f"<p>{CANARY}</p>")
    return path


TRICKS = {
    "include": "include::{canary}[]",
    "include after a block": "----\n----\n\ninclude::{canary}[]",
    "include in a table": "|===\na|include::{canary}[]\n|===",
    "image": "image::{canary}[]",
    "inline image": "text image:{canary}[x] text",
    "conditional": "ifdef::asciidoctor[]\ninclude::{canary}[]\nendif::[]",
    "evaluated": "ifeval::[1 == 1]\ninclude::{canary}[]\nendif::[]",
    "attribute": ":doc: {canary}\n\ninclude::{{doc}}[]",
    "attribute reference": "{{docdir}} {{docfile}} {{user-home}} {{asciidoctor-version}}",
    "counter": "{{counter:x}} {{set:docinfo:shared}}",
    "author": ":author: Somebody\nJohn Doe <john@example.org>\nv1.0, 2016-01-07",
    "listing": "before\n----\ninclude::{canary}[]\n----\nafter",
    "literal": "....\ninclude::{canary}[]\n....",
    "table": "|===\n| a | b\n|===",
    "passthrough": "+++<b>bold</b>+++ pass:[<img src='file://{canary}'>] $$x$$",
    "passthrough block": "++++\n<iframe src='file://{canary}'></iframe>\n++++",
    "stem": "stem:[x] latexmath:[y] asciimath:[z]",
    "cross reference": "<<a,b>> xref:{canary}#x[y] link:file://{canary}[z]",
    "macros": "kbd:[x] btn:[y] menu:File[z] icon:heart[] footnote:[n] indexterm:[t] (((t)))",
    "style": "[source,ruby]\n----\nputs 1\n----\n[stem]\n++++\nx\n++++",
    "block attributes": "[cols=2*]\n[.role]\n[[id]]\n[#id]",
    "guards": "\u0096 0 \u0097 \u00960\u0097 \x00 \x1e include::{canary}[]",
    "separator": "a\x1ehtml\n<iframe src='{canary}'></iframe>",
}


@pytest.mark.parametrize("trick", TRICKS.values(), ids=TRICKS.keys())
def test_asciidoc_in_a_notebook_is_text(trick: str, canary: Path, tmp_path: Path) -> None:
    text = text_of(report_of(notebook_with(trick.format(canary=canary)), tmp_path))

    assert CANARY not in text
    assert "first" in text
    assert "last" in text
    assert "2.0.18" not in text


HTML_TRICKS = [
    "<iframe src='{canary}'></iframe>",
    "<IFRAME SRC='file://{canary}'></IFRAME>",
    "<\u0130frame src='{canary}'></\u0130frame>",
    "<div <iframe src='{canary}'></iframe>",
    "<p title='<iframe src={canary}>'>x</p>",
    "<iframe src={canary}",
    "<img src='{canary}'><img src='file://{canary}'>",
    "<object data='{canary}'></object><embed src='{canary}'>",
    "<link rel='stylesheet' href='{canary}'><style>@import url({canary});</style>",
    "<table><tr><td><iframe src='{canary}'></iframe></td></tr></table>",
    "<svg xmlns='http://www.w3.org/2000/svg'><image href='file://{canary}'/></svg>",
    "<!-- <p> --><iframe src='{canary}'></iframe>",
]


@pytest.mark.parametrize("html", HTML_TRICKS)
def test_html_in_a_notebook_reads_no_file(html: str, canary: Path, tmp_path: Path) -> None:
    html = html.format(canary=canary)

    report = report_of(notebook_with(html, **{"text/html": html}), tmp_path, report_format=ReportFormat.HTML)

    assert CANARY.encode() not in report.read_bytes()
    assert "last" in text_of(report)


def test_pictures_outside_the_notebooks_folder_are_not_read(canary: Path, tmp_path: Path) -> None:
    (tmp_path / "inputs").mkdir()
    (tmp_path / "inputs" / "link.png").symlink_to(canary)
    canary.write_text(f"<svg xmlns='http://www.w3.org/2000/svg'><text>{CANARY}</text></svg>")
    addresses = [str(canary), canary.as_uri(), "../outside/canary.html", "link.png", "%2e%2e/outside/canary.html"]
    cells = [v4.new_markdown_cell(f"![described {number}]({address})") for number, address in enumerate(addresses)]

    report = report_of(v4.new_notebook(cells=cells), tmp_path, report_format=ReportFormat.HTML)

    assert "<img" not in report.read_text()
    assert all(f"[described {number}]" in text_of(report) for number in range(len(addresses)))


def test_latex_reads_no_file(canary: Path, tmp_path: Path) -> None:
    latex = rf"\input{{{canary}}} $\input{{{canary}}}$"

    assert CANARY not in text_of(report_of(notebook_with(latex, **{"text/latex": latex}), tmp_path))


REMOTE = """![x]({url}a.png) <img src='{url}b.png'> <iframe src='{url}c.html'></iframe>

<script src='{url}d.js'></script><link rel='stylesheet' href='{url}e.css'>

image::{url}f.png[]

include::{url}g.adoc[]

<svg xmlns='http://www.w3.org/2000/svg'><image href='{url}h.png'/></svg>
"""


@pytest.mark.parametrize("report_format", ReportFormat)
def test_nothing_is_fetched(report_format: ReportFormat, tmp_path: Path) -> None:
    with counted_connections() as (url, connections):
        remote = REMOTE.format(url=url)
        svg = f"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'><image href='{url}i.png'/></svg>"
        notebook = notebook_with(remote, **{"text/html": remote})
        notebook.cells.append(v4.new_code_cell("x", outputs=[v4.new_output("display_data", {"image/svg+xml": svg})]))

        report = report_of(notebook, tmp_path, report_format=report_format)

    assert not connections
    assert report.stat().st_size


def test_html_reports_run_nothing(tmp_path: Path) -> None:
    html = "<p onclick='alert(1)'>x</p><script>alert(1)</script><a href='javascript:alert(1)'>y</a>"
    links = f"{html}\n\n[z](javascript:alert(1)) [w](data:text/html,x)"

    page = report_of(notebook_with(links, **{"text/html": html}), tmp_path, report_format=ReportFormat.HTML).read_text()

    tags = re.findall(r"<[^>]*>", page)
    assert not [tag for tag in tags if re.search(r"<script|onclick=|href=.(?:javascript|data)", tag)]
    assert "default-src 'none'" in page


@contextmanager
def counted_connections() -> Iterator[tuple[str, list[object]]]:
    """Yield the address of a server on this machine, and the connections that were made to it."""
    connections: list[object] = []

    class Counting(socketserver.ThreadingTCPServer):
        def verify_request(self, _request: object, client_address: object) -> bool:
            connections.append(client_address)
            return True

    with Counting(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/", connections
        server.shutdown()
