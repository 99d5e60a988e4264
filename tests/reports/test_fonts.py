from pathlib import Path

from autoflow.reports import missing_fonts


def test_missing_fonts_are_reported_with_their_package(tmp_path: Path) -> None:
    assert missing_fonts() == ()

    lines = missing_fonts(font_dirs=(tmp_path,))

    for script, package in (
        ("Devanagari", "fonts-noto-core"),
        ("Chinese", "fonts-droid-fallback"),
        ("Latin", "fonts-"),
    ):
        assert any(script in line and package in line for line in lines)
