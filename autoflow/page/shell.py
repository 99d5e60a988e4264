"""The page itself: HTML with its style, its script and the catalogue, but not the data of each year."""

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from autoflow.page.texts import as_json

SCRIPTS = ("elements", "dates", "content", "addresses", "tooltip", "calendar", "cards", "details", "views", "start")
"""The parts of the page's script, in the order in which they build on each other."""

_FOLDER = Path(__file__).parent


def shell_html(catalogue: Mapping[str, Any], *, banner: str, made: str) -> str:
    """Return the page for a `catalogue`, with the HTML of the `banner`; `made` is its time for people."""
    script = _script()
    style = (_FOLDER / "page.css").read_text(encoding="utf-8")
    return template("page.html").render(
        banner=banner,
        content=as_json(catalogue),
        made=made,
        made_iso=catalogue["made"],
        script=script,
        script_hash=_hash(script),
        style=style,
        style_hash=_hash(style),
    )


def template(name: str) -> jinja2.Template:
    """Return a template of this folder, which escapes what it is given."""
    return jinja2.Environment(autoescape=True).from_string((_FOLDER / name).read_text(encoding="utf-8"))


def _script() -> str:
    """Return the script as one function, so that its names are no globals of the browser."""
    parts = [(_FOLDER / "browser" / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS]
    return "\n".join(['"use strict";', "(() => {", *parts, "})();"])


def _hash(text: str) -> str:
    """Return the source expression with which a Content-Security-Policy allows an inline script or style."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
