"""Make the pictures of a report, in a separate process because notebooks are not trusted.

It reads an order as JSON from standard input, ``{"pictures": [key], "formulas": {key: [LaTeX, is displayed]}}``, finds
each picture in the current folder as ``key.source``, and writes the files it made as JSON to standard output,
``{key: [file name, width, height]}``, in CSS pixels. It imports nothing of AutoFlow, which would take longer than its
work, and matplotlib only if there is a formula.
"""

import json
import sys
from pathlib import Path

from images import finished  # type: ignore[import-not-found]


def main() -> None:
    """Process the order on standard input."""
    order = json.load(sys.stdin)
    folder = Path.cwd()
    made = {key: finished(folder, key) for key in order["pictures"]}
    if order["formulas"]:
        # Most reports have no formula to draw, and matplotlib loads slowly.
        from formulas import drawn  # type: ignore[import-not-found]  # noqa: PLC0415

        for key, (latex, is_display) in order["formulas"].items():
            made[key] = drawn(folder, key, latex, is_display=is_display)
    json.dump({key: result for key, result in made.items() if result}, sys.stdout)


if __name__ == "__main__":
    main()
