"""Converts executed notebooks to HTML for reading, in a process that reads their paths from standard input.

The HTML contains no scripts and makes browsers neither run nor fetch anything, whatever the notebook contains.
"""

import base64
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from html import escape, unescape
from pathlib import Path
from typing import Any

import bleach  # type: ignore[import-untyped]
import mistune

from autoflow.system.lean_imports import module_alone
from autoflow.utils import attachment_name, whole_file

# Alone, because importing the whole of nbconvert takes half a second.
ansi2html = module_alone("nbconvert", "filters/ansi.py").ansi2html

LONGEST_OUTPUT = 500_000
"""Longer outputs are truncated, in characters: an HTML table of this size takes seconds to clean."""

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
:root{color-scheme:light dark}
body{max-width:60rem;margin:0 auto;padding:1rem;font:16px/1.5 system-ui,sans-serif;overflow-wrap:anywhere}
pre{margin:.5rem 0;padding:.6rem .8rem;overflow-x:auto;font:.85rem/1.45 ui-monospace,monospace;white-space:pre-wrap}
.source{background:#8881;border:1px solid #8884;border-radius:.3rem}
.error{border-left:3px solid #d33}
.out{overflow-x:auto}
table{border-collapse:collapse;font-size:.9rem}th,td{padding:.2rem .6rem;border:1px solid #8885;text-align:right}
img{max-width:100%;background:#fff}
"""
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; \
base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title><style>{style}</style></head>
<body><main><h1>{title}</h1>
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
    """Leaves the addresses of attachments, which mistune believes to be harmful, as they are."""

    def sanitize_url(self, url: str) -> str:
        return url if url.startswith("attachment:") else super().sanitize_url(url)


_html_of = mistune.create_markdown(
    renderer=_WithAttachments(escape=False), plugins=["strikethrough", "footnotes", "table"]
)


def main() -> None:
    """Convert the notebooks whose paths are on standard input, separated by NUL."""
    os.nice(19)
    for name in filter(None, sys.stdin.buffer.read().decode().split("\0")):
        path = Path(name)
        try:
            html = readable_html(json.loads(path.read_text(encoding="utf-8")), title=path.stem)
            with whole_file(path.with_suffix(".html")) as unfinished:
                unfinished.write_text(html, encoding="utf-8", errors="replace")
        except Exception as error:  # noqa: BLE001 - one broken notebook must not affect the next
            print(f"could not convert {path} to HTML: {type(error).__name__}", file=sys.stderr)  # noqa: T201 - AutoFlow's stderr


def readable_html(notebook: Mapping[str, Any], *, title: str) -> str:
    """Return a notebook, given as the JSON of its file, as an HTML page."""
    body = "\n".join(part for cell in notebook["cells"] for part in _cell(cell))
    return _PAGE.format(title=escape(title), style=_STYLE, body=body)


def _cell(cell: Mapping[str, Any]) -> Iterator[str]:
    source = _text(cell["source"])
    if cell["cell_type"] == "markdown":
        yield _with_attachments(_clean(str(_html_of(source[:LONGEST_OUTPUT]))), cell.get("attachments") or {})
    elif cell["cell_type"] == "code":
        if source.strip():
            yield f'<pre class="source"><code>{escape(source)}</code></pre>'
        for output in cell.get("outputs", []):
            yield f'<div class="out">{_output(output)}</div>'


def _output(output: Mapping[str, Any]) -> str:
    kind = output.get("output_type")
    if kind == "stream":
        return _terminal(_text(output.get("text", "")))
    if kind == "error":
        traceback = "\n".join(output.get("traceback") or []) or f"{output.get('ename')}: {output.get('evalue')}"
        return _terminal(traceback, "error")
    data = output.get("data", {})
    for mime in _SHOWN_BY_BROWSERS:
        if mime in data:
            return _image(mime, _text(data[mime]))
    if "text/html" in data:
        return _clean(_text(data["text/html"]))
    if "text/markdown" in data:
        return _clean(str(_html_of(_text(data["text/markdown"])[:LONGEST_OUTPUT])))
    return _terminal(_text(data.get("text/plain", "")))


def _with_attachments(html: str, attachments: Mapping[str, Mapping[str, str | list[str]]]) -> str:
    """Return `html`, which is clean, with the pictures of a cell's attachments in their place."""

    def content(found: re.Match[str]) -> str:
        name = attachment_name(unescape(found[1]), attachments)
        pictures = ((kind, data) for kind, data in attachments.get(name or "", {}).items() if kind.startswith("image/"))
        return next(
            (f"data:{escape(kind)};base64,{escape(''.join(_text(data).split()))}" for kind, data in pictures), ""
        )

    return _ATTACHED.sub(content, html)


def _image(mime: str, content: str) -> str:
    # An SVG that is shown as an image runs no scripts and fetches nothing.
    encoded = base64.b64encode(content.encode()).decode() if mime == "image/svg+xml" else "".join(content.split())
    return f'<img alt="figure" src="data:{mime};base64,{escape(encoded)}">'


def _terminal(text: str, style: str = "") -> str:
    return f'<pre class="{style}">{ansi2html(_cut(text))}</pre>'


def _clean(html: str) -> str:
    cut = len(html) > LONGEST_OUTPUT
    clean = bleach.clean(
        _UNSHOWN.sub("", html[:LONGEST_OUTPUT]),
        tags=_TAGS,
        attributes=_ATTRIBUTES,
        protocols={"http", "https", "mailto", "data", "attachment"},
        strip=True,
    )
    return f"{clean}<p>(truncated)</p>" if cut else clean


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_OUTPUT else text[:LONGEST_OUTPUT] + "\n… (truncated)"


def _text(value: str | list[str]) -> str:
    return value if isinstance(value, str) else "".join(value)


if __name__ == "__main__":
    main()
