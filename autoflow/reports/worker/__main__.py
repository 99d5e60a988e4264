"""Make the pictures of a report, in a separate process because notebooks are not trusted.

It reads an order as JSON from standard input, ``{"pictures": [key], "formulas": {key: [LaTeX, is displayed]},
"seconds": limit}``, finds each picture in the current folder as ``key.source``, and writes what it made as JSON to
standard output, ``{key: made}``, where `made` is as in ``images.Made`` or ``{"problem": reason}``. It imports nothing
of AutoFlow, which would take longer than its work, and matplotlib only if there is a formula.
"""

import json
import sys
from functools import partial
from pathlib import Path

from documents import page_of  # type: ignore[import-not-found]
from drawings import drawing  # type: ignore[import-not-found]
from images import Made, raster  # type: ignore[import-not-found]
from isolated import isolated  # type: ignore[import-not-found]


def main() -> None:
    """Process the order on standard input."""
    order = json.load(sys.stdin)
    folder = Path.cwd()
    calls = {key: partial(finished, folder, key) for key in order["pictures"]}
    made: dict[str, Made] = isolated(calls, seconds=order["seconds"])
    if order["formulas"]:
        # Most reports have no formula to draw, and matplotlib loads slowly.
        from formulas import drawn  # type: ignore[import-not-found]  # noqa: PLC0415

        for key, (latex, is_display) in order["formulas"].items():
            if whole := drawn(folder, key, latex, is_display=is_display):
                made[key] = {"whole": whole, "parts": [], "natural": whole[1]}
    json.dump(made, sys.stdout)


def finished(folder: Path, key: str) -> Made:
    """Make the picture of the source file called `key`."""
    source = folder / f"{key}.source"
    content = source.read_bytes()
    source.unlink()
    start = content[:4000].lstrip()
    if start.startswith(b"%PDF-"):
        return page_of(content, folder, key)
    if start.startswith((b"<", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        return drawing(content, folder, key)
    return raster(content, folder, key)


if __name__ == "__main__":
    main()
