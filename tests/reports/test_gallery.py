import importlib.util
import re
from pathlib import Path

import pytest

from tests.reports.convert import fonts_in, images_in, pages_of, text_of, title_of

GALLERY = Path(__file__).resolve().parents[2] / "examples" / "gallery"


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the gallery, and return its folder."""
    folder = tmp_path_factory.mktemp("gallery")
    spec = importlib.util.spec_from_file_location("make_gallery", GALLERY / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.make(folder)
    return folder


@pytest.fixture(scope="module")
def text(gallery: Path) -> str:
    return text_of(gallery / "gallery.pdf")


@pytest.fixture(scope="module")
def words(text: str) -> str:
    """Return the gallery's words with a single space between them."""
    return " ".join(text.split())


def test_the_title_is_the_first_heading(gallery: Path) -> None:
    assert title_of(gallery / "gallery.pdf") == "What a report can show"


def test_markup_of_asciidoc_stays_text(words: str) -> None:
    assert "*stars*, _under_scores, {attributes}, <<references>>, (C), -- and ..." in words
    assert "include::/etc/passwd[]" in words
    assert "with *stars* & <angles>" in words


def test_lists_are_nested(text: str) -> None:
    indent = {
        words: len(found[0]) for words in ("a point", "the first", "deeper still") if (found := _line(words, text))
    }

    assert indent["a point"] < indent["the first"] < indent["deeper still"]
    assert re.search(r"1\. +first", text)
    assert re.search(r"a\. +second and a half", text)
    assert "☒ done" in text
    assert "☐ to do" in text


def _line(words: str, text: str) -> re.Match[str] | None:
    """Return the match of the first line that ends with `words`, with what comes before them as its group."""
    return re.search(rf"^( *\S* *)(?={re.escape(words)}$)", text, re.MULTILINE)


def test_fenced_code_keeps_its_spaces_and_a_footnote_its_place(text: str, words: str) -> None:
    assert re.search(r"-- a fenced block keeps its +spaces", text)
    assert "[1] The numbers in this notebook are made up. A footnote can have markup and links." in words


@pytest.mark.parametrize(
    "row",
    [
        ["Region", "Subscribers", "Change", "Note"],
        ["North", "12,400", "+3", "%", "with", "a", "|", "bar"],
        ["January", "120", "130"],
        ["Month", "Calls"],
        ["calls", "sms"],
        ["in", "out", "in", "out"],
        ["region", "time"],
        ["364", "2016-12-30", "1387"],
    ],
)
def test_tables_are_tables(row: list[str], text: str) -> None:
    assert row[:2] in [line.split()[:2] for line in text.splitlines()] or row in [
        line.split() for line in text.splitlines()
    ]


def test_data_frames_are_clipped_with_a_line_that_says_so(words: str) -> None:
    assert "365 rows \u00d7 2 columns" in words
    assert "The first 100 of 100,000 rows are shown." in words
    assert 'pandas left out rows; to show all: pd.set_option("display.max_rows", None)' in words


def test_a_label_over_many_rows_and_a_long_cell_continue_on_the_next_page(text: str, words: str) -> None:
    pages = [page for page in text.split("\f") if "working day" in page]

    assert len(pages) >= 2
    assert all(f"Sentence {number} of" in words for number in range(160))


def test_the_gallery_is_within_the_limits(words: str) -> None:
    assert "This report is not complete" not in words
    assert "plain text only" not in words
    assert "more marks]" not in words


def test_wide_data_frames_are_whole(words: str) -> None:
    assert all(f"column {number}" in words for number in range(40))
    assert all(f"2016-{month:02}-01" in words for month in range(1, 14))


def test_styled_tables_have_their_caption_and_colours(gallery: Path, words: str) -> None:
    page = (gallery / "gallery.html").read_text(encoding="utf-8")

    assert "Calls and messages by day" in words
    assert "background-color: #08306b" in page
    assert "colour-a3261f-same" in page


def test_captions_stand_below_pictures_that_have_one(words: str) -> None:
    assert "Three overlapping circles" in words
    assert "Subscribers seen, by month" in words
    assert "[a remote picture]" in words


def test_all_pictures_are_there(gallery: Path) -> None:
    assert images_in(gallery / "gallery.pdf") == 14
    assert (gallery / "gallery.html").read_text(encoding="utf-8").count("<img") >= 8


def test_pictures_that_cannot_be_shown_are_left_out_with_the_reason(words: str) -> None:
    assert words.count("[picture] is left out: ") == 2


def test_strips_are_shown_in_parts(words: str) -> None:
    assert "inches wide. Its 3 parts follow, from left to right." in words
    assert "Part 2 of 2 of a picture that is" in words


def test_outputs_of_a_cell_stay_in_order(gallery: Path) -> None:
    page = (gallery / "gallery.html").read_text(encoding="utf-8")
    before, after = page.index("before the figure"), page.index("after the figures")

    kinds = re.findall(r"data:image/(png|svg)", page[before:after])
    assert kinds == ["png", "svg"]


def test_formulas_are_drawn_or_text(text: str) -> None:
    assert "\\frac" not in text
    assert "\\begin" not in text
    assert "≤" in text


def test_noise_is_left_out(gallery: Path, text: str) -> None:
    for shown in (text, text_of(gallery / "gallery.html")):
        for hidden in ("NOBODY WANTS", "PROGRESS", "GLUED", "import pandas", "SCRIPT WAS RUN", "In [", "Out["):
            assert hidden not in shown


def test_widgets_and_printed_text_are_shown_as_they_ended(words: str) -> None:
    for shown in (
        "step 1 of 3",
        "step 3 of 3",
        "loaded 100 %",
        "seventeen regions",
        "weeks: 9",
        "region: East",
        "a label in bold",
        "printed into a widget",
        "the last of two states",
        "round 3 of three",
    ):
        assert shown in words
    for hidden in ("BAR", "it/s", "loaded 10 %", "weeks: 7", "UPDATED LATER", "round 2 of three"):
        assert hidden not in words


def test_a_failure_is_readable(words: str) -> None:
    assert words.count("ValueError: no flows for region 'Nowhere' on 2016-01-07") == 2


@pytest.mark.parametrize(
    "sentence",
    [
        "Français : les déplacements de la population, de l\u2019été à Noël — « cœur », œuvre, naïveté, 12 °C.",
        "lè a, nou wè plis moun k ap vwayaje pou fèt la.",
        "a população em movimento, à noite e de manhã; ações, corações, três estações.",
        "本报告显示各地区之间的人口流动情况",
        "नेपाल",
        "→ ≤ ≥ ≠ ±",
    ],
)
def test_languages_are_printed_in_their_letters(sentence: str, words: str) -> None:
    assert sentence in words


def test_arabic_runs_from_right_to_left_in_joined_letters(text: str) -> None:
    joined = "\ufefb\ufedf\ufe91\ufe8e"  # letters as they are drawn; poppler returns some of them in this form
    assert "الهاتف" in text or any(letter in text for letter in joined)


@pytest.mark.parametrize(
    "font", ["NotoSans-Regular", "NotoSansDevanagari", "NotoSansArabic", "DroidSansFallback", "Mono"]
)
def test_fonts_of_all_scripts_are_embedded(font: str, gallery: Path) -> None:
    lines = [line for line in fonts_in(gallery / "gallery.pdf").splitlines() if font in line]

    assert lines
    assert all(" yes yes yes " in line or " yes no  yes " in line for line in lines)


def test_pages_are_a4_upright_or_turned(gallery: Path) -> None:
    assert {size.split(" pts")[0] for size in pages_of(gallery / "gallery.pdf")} <= {
        "595.28 x 841.89",
        "841.89 x 595.28",
    }
