"""A notebook with every kind of cell and output, to try templates on."""

import base64
import io
from typing import Any

from nbformat import NotebookNode, v4
from PIL import Image

_SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="20"><rect width="40" height="20"/></svg>'
_TABLE = "<table><thead><tr><th></th><th>flow</th></tr></thead><tbody><tr><th>a-b</th><td>1</td></tr></tbody></table>"
_TEXT = """# A title

## A heading

Text in **bold** and *italics*, `code`, $x^2$, a [link](https://www.example.org) and a footnote[^1].

- a point
    1. below it

| region | flow |
|--------|-----:|
| north  | 1.5  |

> A quote

![A picture](attachment:picture.png)

$$\\sum_i x_i$$

[^1]: The footnote.
"""


def notebook_with_every_output() -> NotebookNode:
    """Return an executed notebook with every kind of cell and output."""
    png = _picture("PNG")
    markdown = v4.new_markdown_cell(_TEXT, attachments={"picture.png": {"image/png": png}})
    cells = [
        markdown,
        v4.new_code_cell("printed = 1  # a comment\nprint(printed)", execution_count=1, outputs=_printed()),
        v4.new_code_cell(
            "table", execution_count=2, outputs=[_result({"text/html": _TABLE, "text/plain": "a-b 1\nc 2"})]
        ),
        *(_code(_displayed({kind: content, "text/plain": "<Figure>"})) for kind, content in _pictures(png).items()),
        *(_code(_displayed({kind: content, "text/plain": "value"})) for kind, content in _OTHERS.items()),
        _code(_result({"text/plain": "[1,\n 2]"})),
        _code(v4.new_output("error", ename="ValueError", evalue="bad", traceback=["Traceback", "\x1b[31mbad\x1b[0m"])),
        v4.new_code_cell("not_executed"),
        v4.new_code_cell(""),
        v4.new_markdown_cell("## A second heading\n\n```python\ncode = 1\n```"),
        v4.new_markdown_cell(""),
        v4.new_raw_cell("A raw cell"),
        v4.new_raw_cell("<b>A raw cell</b>", metadata={"raw_mimetype": "text/html"}),
    ]
    language = {"name": "python", "pygments_lexer": "ipython3", "file_extension": ".py", "mimetype": "text/x-python"}
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return NotebookNode(v4.new_notebook(cells=cells, metadata={"language_info": language, "kernelspec": kernel}))


_OTHERS: dict[str, Any] = {
    "text/markdown": "**bold**",
    "text/latex": "$$x^2$$",
    "application/javascript": "alert(1)",
    "application/json": {"a": [1, None]},
    "application/vnd.jupyter.widget-view+json": {"model_id": "0", "version_major": 2, "version_minor": 0},
    "application/vnd.plotly.v1+json": {"data": [], "layout": {}},
}


def _code(output: NotebookNode) -> NotebookNode:
    return NotebookNode(v4.new_code_cell("shown()", execution_count=3, outputs=[output]))


def _result(forms: dict[str, Any]) -> NotebookNode:
    return NotebookNode(v4.new_output("execute_result", forms, execution_count=2))


def _displayed(forms: dict[str, Any]) -> NotebookNode:
    return NotebookNode(v4.new_output("display_data", forms))


def _printed() -> list[NotebookNode]:
    return [
        v4.new_output("stream", name="stdout", text="1\n  2 *stars*\n"),
        v4.new_output("stream", name="stderr", text="UserWarning: a warning\n"),
    ]


def _pictures(png: str) -> dict[str, str]:
    return {"image/png": png, "image/jpeg": _picture("JPEG"), "image/svg+xml": _SVG}


def _picture(kind: str) -> str:
    """Return a small picture in base64."""
    drawn = io.BytesIO()
    Image.new("RGB", (40, 20), "navy").save(drawn, kind)
    return base64.b64encode(drawn.getvalue()).decode()
