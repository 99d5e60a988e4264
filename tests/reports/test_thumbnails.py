"""A PDF report has a small picture of its first page, if that can be made."""

from pathlib import Path

import pytest
from PIL import Image

from autoflow.reports import thumbnails
from autoflow.reports.programs import missing_tools
from autoflow.reports.thumbnails import LONGEST_SIDE, first_page, keep_thumbnail
from autoflow.specs import ReportFormat
from autoflow.system.stop_signal import StopSignal
from autoflow.utils import thumbnail_path
from tests.reports.convert import code, notebook, report_of, shows
from tests.reports.test_programs import program


def test_pdf_has_a_small_picture_of_its_first_page_and_html_has_none(tmp_path: Path) -> None:
    magenta = "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAFUlEQVR4nGP8z8Dwn4GBgYmBgYEBAA4MAgFb3gIDAAAAAElFTkSuQmCC"
    both = notebook("# The title", code(shows(image_png=magenta)), *["text " * 500] * 4)
    report_of(both, tmp_path, report_format=ReportFormat.HTML)
    assert not (tmp_path / "thumbnails").exists()

    report = report_of(both, tmp_path)

    assert [path.name for path in (tmp_path / "thumbnails").iterdir()] == ["report.png"]
    with Image.open(thumbnail_path(report), formats=["PNG"]) as picture:
        assert max(picture.size) == LONGEST_SIDE
        assert picture.size[0] < picture.size[1]
        assert len(set(picture.convert("L").tobytes())) > 20  # the text has shades of grey
    assert thumbnail_path(report).stat().st_size < 100_000


def test_report_without_a_picture_is_a_report(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.pdf"
    damaged.write_bytes(b"%PDF-1.7 nothing")
    assert first_page(damaged, timeout=60, stop=StopSignal()) is None
    keep_thumbnail(None, damaged)
    assert not (tmp_path / "thumbnails").exists()

    (tmp_path / "thumbnails").touch()
    report = report_of(notebook("text"), tmp_path)
    assert report.read_bytes().startswith(b"%PDF")


def test_picture_that_takes_too_long_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = report_of(notebook("text"), tmp_path)
    program(tmp_path / "bin", "pdftocairo", "import time\ntime.sleep(600)", monkeypatch)
    monkeypatch.setattr(thumbnails, "_MOST_SECONDS", 0.0)
    assert first_page(report, timeout=60, stop=StopSignal()) is None
    assert missing_tools() == ()
