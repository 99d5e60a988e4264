"""Draw the first page of a PDF, for figures that exist in no other form."""

import re
import subprocess
from pathlib import Path

from images import Made, raster  # type: ignore[import-not-found]
from isolated import DAMAGED, NotShownError  # type: ignore[import-not-found]

_DENSITY = 200.0
_MOST_PIXELS_LONG = 8000
_PAGE = re.compile(r"^Page[ 0-9]+size: +(\d+(?:\.\d+)?) x (\d+(?:\.\d+)?) pts", re.MULTILINE)


def page_of(content: bytes, folder: Path, key: str) -> Made:
    """Write the first page of the PDF `content` as a picture."""
    source = folder / f"{key}.pdf"
    source.write_bytes(content)
    try:
        found = _PAGE.search(_output("pdfinfo", "-f", "1", "-l", "1", source.name, folder=folder))
        longest = max(float(side) for side in found.groups()) if found else 0.0
        if not 1 <= longest <= 14_400:
            raise NotShownError(DAMAGED)
        pixels = min(round(longest * _DENSITY / 72), _MOST_PIXELS_LONG)
        drawn = ["-png", "-singlefile", "-cropbox", "-f", "1", "-l", "1", "-scale-to", str(pixels)]
        _output("pdftocairo", *drawn, source.name, key, folder=folder)
    finally:
        source.unlink()
    return raster((folder / f"{key}.png").read_bytes(), folder, key, paper=pixels * 72 / longest)


def _output(program: str, *arguments: str, folder: Path) -> str:
    """Return what a program prints; it inherits the limits of this process."""
    try:
        done = subprocess.run([program, *arguments], cwd=folder, check=True, capture_output=True, timeout=20)
    except FileNotFoundError:
        raise NotShownError(f"a PDF needs {program} (on Debian: apt-get install poppler-utils)") from None
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        raise NotShownError(DAMAGED) from None
    return done.stdout.decode(errors="replace")
