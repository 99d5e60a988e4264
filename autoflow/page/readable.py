"""Converts executed notebooks to HTML for reading, in a process that reads their paths from standard input.

The HTML contains no scripts and makes browsers neither run nor fetch anything, whatever the notebook contains.
"""

import base64
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from html import escape, unescape
from pathlib import Path
from typing import Any

import bleach  # type: ignore[import-untyped]
import mistune
import pygments  # type: ignore[import-untyped]
from ipython_pygments_lexers import IPython3Lexer  # type: ignore[import-untyped]
from pygments.formatters.html import HtmlFormatter  # type: ignore[import-untyped]
from pygments.lexer import Lexer  # type: ignore[import-untyped]
from pygments.lexers import get_lexer_by_name  # type: ignore[import-untyped]
from pygments.util import ClassNotFound  # type: ignore[import-untyped]

from autoflow.notebooks.executed import cell_numbers, text_of
from autoflow.notebooks.terminal import as_shown
from autoflow.notebooks.widgets import Widgets
from autoflow.page.bounds import (
    SECONDS,
    SECONDS_IN_FULL,
    TooLongError,
    bounded_html,
    bounded_markdown,
    bounded_terminal,
    cpu_limit,
    plain_cell,
)
from autoflow.system.lean_imports import module_alone
from autoflow.utils import attachment_name, cell_anchor, readable_path, whole_file

# Alone, because importing the whole of nbconvert takes half a second.
ansi2html = module_alone("nbconvert", "filters/ansi.py").ansi2html

LONGEST_HIGHLIGHTED = 100_000
"""The code of longer cells is not highlighted, in characters."""

_TAGS = frozenset(
    """a abbr b blockquote br caption code col colgroup dd del details div dl dt em figcaption figure h1 h2 h3 h4 h5 h6
    hr i img ins kbd li mark ol p pre s samp small span strong sub summary sup table tbody td tfoot th thead tr u
    ul""".split()  # noqa: SIM905 - as a list it would take a line for each
)
_UNSHOWN = re.compile(r"<(style|script|template|title)\b.*?(</\1\s*>|\Z)", re.DOTALL | re.IGNORECASE)
_ATTRIBUTES = {
    "*": ["class", "title"],
    "a": ["href"],
    "img": ["src", "alt", "width", "height"],
    "td": ["colspan", "rowspan"],
    "th": ["colspan", "rowspan", "scope"],
}
_STYLE = """
:root{color-scheme:light dark;--quiet:#666;--bad:#c22}
body{max-width:64rem;margin:0 auto;padding:1rem;font:16px/1.5 system-ui,sans-serif;overflow-wrap:anywhere}
h1{font-size:1.5rem;margin:.5rem 0}
pre{margin:.5rem 0;padding:.6rem .8rem;overflow-x:auto;font:.85rem/1.45 ui-monospace,monospace;white-space:pre-wrap}
.source{background:#8881;border:1px solid #8884;border-radius:.3rem;break-inside:avoid}
.quiet,.number{color:var(--quiet)}
.cell{display:grid;grid-template-columns:4.5rem minmax(0,1fr);gap:0 .8rem;padding:.3rem;scroll-margin-top:1rem}
.cell:target{outline:2px solid #58f;border-radius:.3rem}
.number{font-size:.8rem;text-align:right;text-decoration:none;padding-top:1.1rem}
a.number:hover{text-decoration:underline}
.number strong{display:block;font-size:.95rem}.number code{font-size:.75rem;white-space:nowrap}
.failed>.number,.failed>.number strong,.notice{color:var(--bad)}
.error,.failed .source{border-left:3px solid var(--bad)}
.out{overflow-x:auto}.out pre{margin:.2rem 0;padding:.2rem .8rem}
table{border-collapse:collapse;font-size:.9rem}th,td{padding:.2rem .6rem;border:1px solid #8885;text-align:right}
img{max-width:100%;background:#fff}
.ansi-red-fg,.ansi-red-intense-fg{color:#d23c3c}.ansi-green-fg,.ansi-green-intense-fg{color:#2a8a3a}
.ansi-blue-fg,.ansi-blue-intense-fg{color:#3b78d8}.ansi-yellow-fg,.ansi-yellow-intense-fg{color:#9a7400}
.ansi-magenta-fg,.ansi-magenta-intense-fg{color:#b04fb0}.ansi-cyan-fg,.ansi-cyan-intense-fg{color:#1a868c}
.ansi-bold{font-weight:bold}.ansi-underline{text-decoration:underline}
@media(max-width:40rem){.cell{display:block}.number{display:block;text-align:left;padding:.4rem 0 0}
.number strong,.number code{display:inline;margin-right:.5rem}}
@media screen and (prefers-color-scheme:dark){:root{--quiet:#aaa;--bad:#f77}}
@media print{:root{color-scheme:light}body{max-width:none;padding:0}.out,pre{overflow:visible}.cell:target{outline:none}
}
"""
_LIGHT, _DARK = "default", "github-dark"
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; \
base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title><style>{style}</style></head>
<body><main><header><h1>{title}</h1>
{about}</header>
{body}
</main></body></html>
"""


_SHOWN_BY_BROWSERS = (
    "image/png",
    "image/jpeg",
    "image/svg+xml",
    "image/gif",
    "image/webp",
    "image/avif",
    "image/bmp",
)
_ATTACHED = re.compile(r'(?<=src=")attachment:([^"]*)(?=")')


class _WithAttachments(mistune.HTMLRenderer):
    """Leaves the addresses of attachments, which mistune considers harmful, as they are."""

    def sanitize_url(self, url: str) -> str:
        return url if url.startswith("attachment:") else super().sanitize_url(url)


_html_of = mistune.create_markdown(
    renderer=_WithAttachments(escape=False), plugins=["strikethrough", "footnotes", "table"]
)


def main() -> None:
    """Convert the notebooks whose paths are on standard input, each with its title, all separated by NUL."""
    os.nice(19)
    given = sys.stdin.buffer.read().decode().split("\0")
    for name, title in zip(given[::2], given[1::2], strict=False):
        path = Path(name)
        try:
            html = _html_in_time(json.loads(path.read_text(encoding="utf-8")), title=title or path.stem)
            with whole_file(readable_path(path)) as unfinished:
                unfinished.write_text(html, encoding="utf-8", errors="replace")
        except Exception as error:  # noqa: BLE001 - one broken notebook must not affect the next
            print(f"could not convert {path} to HTML: {type(error).__name__}", file=sys.stderr)  # noqa: T201 - AutoFlow's stderr


def _html_in_time(notebook: Mapping[str, Any], *, title: str) -> str:
    """Return a notebook as an HTML page; with plain text only, if it takes too long or a library fails."""
    try:
        with cpu_limit(SECONDS):
            return readable_html(notebook, title=title)
    except (TooLongError, Exception):  # noqa: BLE001 - the libraries fail in many ways
        return readable_html({**notebook, "cells": [plain_cell(cell) for cell in notebook["cells"]]}, title=title)


def readable_html(notebook: Mapping[str, Any], *, title: str) -> str:
    """Return a notebook, given as the JSON of its file, as an HTML page.

    If its first cells take long, the rest is shown as plain text.
    """
    end = time.process_time() + SECONDS_IN_FULL
    cells = list(zip(notebook["cells"], cell_numbers(notebook["cells"]), strict=True))
    highlighted, widgets = _highlighter(notebook), Widgets(notebook.get("metadata", {}))
    body = "\n".join(
        _cell(cell if time.process_time() < end else plain_cell(cell), number, highlighted, widgets)
        for cell, number in cells
    )
    about = _about(notebook, [number for cell, number in cells if number and _has_failed(cell)])
    return _PAGE.format(title=escape(title), style=_STYLE + _colours(), about=about, body=body)


def _about(notebook: Mapping[str, Any], failed: list[int]) -> str:
    """Return the lines below the title: when the notebook ran, and links to the cells that failed."""
    record = notebook.get("metadata", {}).get("papermill", {})
    started, seconds = str(record.get("start_time") or "")[:16].replace("T", " "), record.get("duration")
    took = f", took {seconds:.0f} s" if isinstance(seconds, int | float) else ""
    lines = [f'<p class="quiet">Started {escape(started)} UTC{took}</p>'] if started else []
    lines += [f'<p class="notice">Failed in <a href="{cell_anchor(number)}">cell {number}</a></p>' for number in failed]
    return "\n".join(lines)


def _has_failed(cell: Mapping[str, Any]) -> bool:
    record = cell.get("metadata", {}).get("papermill")
    return isinstance(record, Mapping) and record.get("status") == "failed"


def _cell(cell: Mapping[str, Any], number: int | None, highlighted: Callable[[str], str], widgets: Widgets) -> str:
    content = "\n".join(_content(cell, highlighted, widgets))
    if not content:
        return ""
    style = "cell failed" if _has_failed(cell) else "cell"
    prompt = f"<code>In [{cell.get('execution_count') or ' '}]</code>" if cell["cell_type"] == "code" else ""
    if number is None:
        return f'<section class="{style}"><div class="number">added {prompt}</div><div>{content}</div></section>'
    anchor = cell_anchor(number)
    label = f'<a class="number" href="{anchor}" title="Cell {number}"><strong>{number}</strong> {prompt}</a>'
    return f'<section class="{style}" id="{anchor[1:]}">{label}<div>{content}</div></section>'


def _content(cell: Mapping[str, Any], highlighted: Callable[[str], str], widgets: Widgets) -> Iterator[str]:
    source = text_of(cell["source"])
    if cell["cell_type"] == "markdown":
        yield _with_attachments(_clean(str(_html_of(bounded_markdown(source)))), cell.get("attachments") or {})
    elif cell["cell_type"] == "code":
        if source.strip():
            yield f'<pre class="source"><code>{highlighted(source)}</code></pre>'
        for output in cell.get("outputs", []):
            shown = widgets.outputs_of(output)
            for each in [output] if shown is None else shown:
                yield f'<div class="out">{_output(each)}</div>'
    elif source.strip():
        yield f"<pre>{escape(bounded_markdown(source))}</pre>"


def _highlighter(notebook: Mapping[str, Any]) -> Callable[[str], str]:
    """Return a function that turns the code of a notebook into HTML."""
    lexer, formatter = _lexer(notebook.get("metadata", {})), HtmlFormatter(nowrap=True)

    def highlighted(source: str) -> str:
        if lexer is None or len(source) > LONGEST_HIGHLIGHTED:
            return escape(source)
        return str(pygments.highlight(source, lexer, formatter))

    return highlighted


def _lexer(metadata: Mapping[str, Any]) -> Lexer | None:
    language = metadata.get("language_info")
    name = str(language.get("name", "python") if isinstance(language, Mapping) else "python").lower()
    # Newlines stay as they are.
    options = {"stripnl": False, "ensurenl": False}
    if name in {"python", "ipython"}:
        return IPython3Lexer(**options)
    try:
        return get_lexer_by_name(name, **options)
    except ClassNotFound:
        return None


def _colours() -> str:
    """Return the style of highlighted code, for light and dark screens."""
    light, dark = ("\n".join(HtmlFormatter(style=style).get_token_style_defs(".source")) for style in (_LIGHT, _DARK))
    return f"{light}\n@media screen and (prefers-color-scheme:dark){{\n{dark}\n}}\n"


def _output(output: Mapping[str, Any]) -> str:
    kind = output.get("output_type")
    if kind == "stream":
        return _terminal(text_of(output.get("text", "")))
    if kind == "error":
        traceback = "\n".join(output.get("traceback") or []) or f"{output.get('ename')}: {output.get('evalue')}"
        return _terminal(traceback, "error")
    data = output.get("data", {})
    for mime in _SHOWN_BY_BROWSERS:
        if mime in data:
            return _image(mime, text_of(data[mime]))
    if "text/html" in data:
        return _clean(text_of(data["text/html"]))
    if "text/markdown" in data:
        return _clean(str(_html_of(bounded_markdown(text_of(data["text/markdown"])))))
    return _terminal(text_of(data.get("text/plain", "")))


def _with_attachments(html: str, attachments: Mapping[str, Mapping[str, str | list[str]]]) -> str:
    """Return `html`, which is clean, with the pictures of a cell's attachments in their place."""

    def content(found: re.Match[str]) -> str:
        name = attachment_name(unescape(found[1]), attachments)
        pictures = ((kind, data) for kind, data in attachments.get(name or "", {}).items() if kind.startswith("image/"))
        return next(
            (f"data:{escape(kind)};base64,{escape(''.join(text_of(data).split()))}" for kind, data in pictures), ""
        )

    return _ATTACHED.sub(content, html)


def _image(mime: str, content: str) -> str:
    # An SVG that is shown as an image runs no scripts and fetches nothing.
    encoded = base64.b64encode(content.encode()).decode() if mime == "image/svg+xml" else "".join(content.split())
    return f'<img alt="figure" src="data:{mime};base64,{escape(encoded)}">'


def _terminal(text: str, style: str = "") -> str:
    return f'<pre class="{style}">{ansi2html(bounded_terminal(as_shown(text)))}</pre>'


def _clean(html: str) -> str:
    clean: str = bleach.clean(
        bounded_html(_UNSHOWN.sub("", html)),
        tags=_TAGS,
        attributes=_ATTRIBUTES,
        protocols={"http", "https", "mailto", "data", "attachment"},
        strip=True,
    )
    return clean


if __name__ == "__main__":
    main()
