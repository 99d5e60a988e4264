import base64
import html
import io
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from nbformat import NotebookNode, v4
from PIL import Image, ImageDraw

from autoflow.page.readable import readable_html
from autoflow.reports import pictures
from autoflow.specs import ReportFormat
from benchmarks.fuzz_reports import fuzz
from benchmarks.fuzzed import whole_picture
from tests.reports.convert import PIXEL, code, images_in, notebook, pages_of, report_of, shows, text_of, words_of

WORKER = Path(pictures.__file__).with_name("worker")
SVG = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" {head}>{inner}</svg>'
RECTANGLE = '<rect width="99" height="99" fill="#e6007e"/>'
SIZE = 'width="99" height="99"'
MAGENTA = (230, 0, 126)


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def picture(form: str, mode: str = "RGB", **options: Any) -> bytes:
    """Return a picture of one colour in a format and mode of Pillow's."""
    written = io.BytesIO()
    Image.new("RGB", (60, 40), MAGENTA).convert(mode).save(written, form, **options)
    return written.getvalue()


def colours_in(report: Path) -> set[tuple[int, int, int]]:
    """Return the colours that cover larger areas on the pages of a PDF, to the nearest multiple of 16."""
    subprocess.run(["pdftoppm", "-r", "30", str(report), str(report.with_suffix(""))], check=True, capture_output=True)
    found: set[tuple[int, int, int]] = set()
    for page in sorted(report.parent.glob("report-*.ppm")):
        with Image.open(page) as pixels:
            counted: Any = pixels.getcolors(10**6)
        found |= {tuple(round(part / 16) * 16 for part in colour) for count, colour in counted if count > 8}
        page.unlink()
    return found


MAGENTA_SEEN = tuple(round(part / 16) * 16 for part in MAGENTA)


def nested(depth: int) -> str:
    return SVG.format(head=SIZE, inner="<g>" * depth + RECTANGLE + "</g>" * depth)


def use_bomb() -> str:
    levels = "".join(f'<g id="a{level + 1}">{f"<use href=~#a{level}~/>" * 10}</g>' for level in range(9))
    return SVG.format(head=SIZE, inner=f'<g id="a0">{RECTANGLE}</g>{levels}'.replace("~", '"'))


def loop() -> str:
    return SVG.format(head=SIZE, inner='<g id="a"><use href="#b"/></g><g id="b"><use href="#a"/></g>')


def entities() -> str:
    declared = "".join(f'<!ENTITY e{level + 1} "{f"&e{level};" * 10}">' for level in range(12))
    text = SVG.format(head=SIZE, inner="<text>&e12;</text>")
    return f'<!DOCTYPE svg [<!ENTITY e0 "lol">{declared}]>{text}'


LEFT_OUT_DRAWINGS = {
    "a viewBox without a size": SVG.format(head='width="99" viewBox="0 0 0 0"', inner=RECTANGLE),
    "a negative viewBox": SVG.format(head='width="99" viewBox="0 0 -9 9"', inner=RECTANGLE),
    "a viewBox that is no number": SVG.format(head='viewBox="0 0 nan inf"', inner=RECTANGLE),
    "an endless width": SVG.format(head='width="1e400" height="9"', inner=RECTANGLE),
    "nested 1,000 deep": nested(1000),
    "nested 100,000 deep": nested(100_000),
    "an unknown encoding": '<?xml version="1.0" encoding="klingon"?>' + SVG.format(head=SIZE, inner=RECTANGLE),
    "an encoding that is none of text": '<?xml version="1.0" encoding="zlib"?>' + SVG.format(head=SIZE, inner=""),
    "repeated billions of times": use_bomb(),
    "repeated in a loop": loop(),
    "entities that expand": entities(),
    "no drawing": "<svg",
    "HTML": "<html><body>x</body></html>",
}


def huge_png() -> bytes:
    content = bytearray(picture("PNG"))
    content[16:24] = (60_000).to_bytes(4) * 2
    return bytes(content)


def bomb() -> bytes:
    written = io.BytesIO()
    Image.new("1", (40_000, 30_000)).save(written, "PNG")
    return written.getvalue()


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"


@cache
def left_out() -> dict[str, bytes]:
    return {
        "no picture": b"no picture",
        "PostScript": EPS,
        "a truncated PNG": picture("PNG")[:-30],
        "a truncated JPEG": picture("JPEG")[:300],
        "a truncated GIF": picture("GIF")[:40],
        "a damaged AVIF": picture("AVIF")[:150] + b"\xff" * 99,
        "a damaged DDS": b"DDS |" + picture("DDS")[5:90],
        "a damaged BLP": b"BLP2" + b"\xff" * 300,
        "a damaged ICNS": b"icns\0\0\1\0ic07\0\0\0\xf8" + b"\xff" * 99,
        "a damaged PSD": b"8BPS\0\1" + b"\xff" * 99,
        "a damaged TIFF": picture("TIFF")[:-60],
        "a PNG that claims 60,000 x 60,000 pixels": huge_png(),
        "a PNG of 1.2 billion pixels in 150 kB": bomb(),
        "a damaged PDF": b"%PDF-1.4\n" + b"x" * 99,
        "a PDF without end": whole_picture("PDF", MAGENTA)[:200],
    }


@pytest.mark.parametrize("report_format", ReportFormat)
def test_pictures_that_cannot_be_shown_are_left_out_with_a_note(report_format: ReportFormat, tmp_path: Path) -> None:
    outputs = {name: shows(image_png=encoded(content)) for name, content in left_out().items()}
    outputs |= {name: shows(**{"image/svg+xml": text}) for name, text in LEFT_OUT_DRAWINGS.items()}
    cells = [cell for name, output in outputs.items() for cell in (code(output), f"{name} was here")]

    words = words_of(report_of(notebook(*cells), tmp_path, report_format=report_format))

    assert [name for name in outputs if f"{name} was here" not in words] == []
    assert words.count("[picture] is left out:") == len(outputs)
    assert "40,000 \u00d7 30,000 pixels are too many" in words
    assert "its elements are nested too deeply" in words


def drawn_with_alpha(form: str) -> bytes:
    written = io.BytesIO()
    clear = Image.new("RGBA", (60, 40), (0, 0, 0, 0))
    ImageDraw.Draw(clear).rectangle([0, 0, 60, 30], fill=(*MAGENTA, 255))
    clear.save(written, form)
    return written.getvalue()


def animated(form: str) -> bytes:
    written = io.BytesIO()
    frames = [Image.new("RGB", (60, 40), colour) for colour in (MAGENTA, (0, 0, 0), (255, 255, 255))]
    frames[0].save(written, form, save_all=True, append_images=frames[1:], duration=100)
    return written.getvalue()


@cache
def shown() -> dict[str, bytes]:
    return {
        **{
            form: picture(form)
            for form in ("PNG", "JPEG", "GIF", "WEBP", "AVIF", "BMP", "TIFF", "JPEG2000", "PPM", "ICO")
        },
        **{f"animated {form}": animated(form) for form in ("GIF", "WEBP", "PNG")},
        "CMYK JPEG": picture("JPEG", "CMYK"),
        "progressive JPEG": picture("JPEG", progressive=True),
        "turned JPEG": picture("JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"),
        "palette PNG": picture("PNG", "P"),
        "transparent PNG": drawn_with_alpha("PNG"),
        "transparent WebP": drawn_with_alpha("WEBP"),
        "PNG with a damaged profile": picture("PNG", icc_profile=b"no profile"),
        "SVG": SVG.format(head=SIZE, inner=RECTANGLE).encode(),
        "SVG in UTF-16": ('<?xml version="1.0" encoding="utf-16"?>' + SVG.format(head=SIZE, inner=RECTANGLE)).encode(
            "utf-16"
        ),
        "SVG with entities": (
            '<!DOCTYPE svg [<!ENTITY m "#e6007e">]>' + SVG.format(head=SIZE, inner=RECTANGLE.replace("#e6007e", "&m;"))
        ).encode(),
        "SVG with a picture": SVG.format(
            head=SIZE,
            inner=f'<image width="99" height="99" xlink:href="data:image/png;base64,{encoded(picture("PNG"))}"/>',
        ).encode(),
        "SVG 60 deep": nested(60).encode(),
        "PDF": whole_picture("PDF", MAGENTA),
    }


def test_a_pdf_contains_the_compressed_pixels_of_a_picture_as_they_are(tmp_path: Path) -> None:
    written = io.BytesIO()
    Image.effect_noise((90, 60), 80).convert("RGB").save(written, "PNG", compress_level=3)
    content = written.getvalue()
    start = content.index(b"IDAT") + 4
    pixels = content[start : start + int.from_bytes(content[start - 8 : start - 4])]

    report = report_of(notebook(code(shows(image_png=encoded(content)))), tmp_path)

    assert pixels in report.read_bytes()
    subprocess.run(["pdfimages", "-png", str(report), str(tmp_path / "found")], check=True)
    with Image.open(tmp_path / "found-000.png") as found, Image.open(io.BytesIO(content)) as given:
        assert found.tobytes() == given.tobytes()


@pytest.mark.parametrize("damage", ["end", "checksum"])
def test_a_damaged_picture_of_a_template_does_not_damage_the_report(damage: str, tmp_path: Path) -> None:
    content = picture("PNG")
    (tmp_path / "logo.png").write_bytes(content[:-40] if damage == "end" else content[:-14] + b"xxxx" + content[-10:])
    template = tmp_path / "own.tpl"
    logo = "{% block header %}{{ super() }}\nimage::{{ 'logo.png' | beside }}[]\n{% endblock %}"
    template.write_text("{% extends 'asciidoc.tpl' %}" + logo)

    report = report_of(notebook("The text."), tmp_path, template=template)

    assert "The text." in text_of(report)


@pytest.mark.parametrize("report_format", ReportFormat)
def test_whole_pictures_are_shown_whatever_kind_they_claim_to_be(report_format: ReportFormat, tmp_path: Path) -> None:
    kinds = ("image/png", "image/jpeg", "image/gif", "image/webp", "application/pdf")
    cells = [
        code(shows(**{kinds[number % len(kinds)]: encoded(content), "text/plain": "<Figure size 640x480>"}))
        for number, content in enumerate(shown().values())
    ]

    report = report_of(notebook("# All", *cells), tmp_path, report_format=report_format)

    assert "left out" not in text_of(report)
    if report_format is ReportFormat.HTML:
        assert report.read_text().count("<img") == len(shown())
    else:
        assert colours_in(report) >= {MAGENTA_SEEN}


def test_a_deep_grey_picture_keeps_its_greys(tmp_path: Path) -> None:
    written = io.BytesIO()
    Image.new("I;16", (60, 40), 0x8000).save(written, "PNG")

    assert (128, 128, 128) in colours_in(
        report_of(notebook(code(shows(image_png=encoded(written.getvalue())))), tmp_path)
    )


STRANGE_WIDTHS: list[Any] = [10**400, -(10**400), 0, True, 1e308, float("nan"), "wide", None, [1]]


def test_a_strange_width_is_ignored(tmp_path: Path) -> None:
    png = encoded(picture("PNG"))
    outputs = [shows(image_png=png) for _ in STRANGE_WIDTHS]
    for output, width in zip(outputs, STRANGE_WIDTHS, strict=True):
        output.metadata = {"image/png": {"width": width}}
    outputs.append(shows(text_html=f'<img src="data:image/png;base64,{png}" width="{10**400!s}">'))

    report = report_of(notebook(code(*outputs)), tmp_path)

    assert images_in(report) == len(outputs)
    assert "left out" not in text_of(report)


def test_a_picture_that_cannot_be_shown_gives_way_to_its_other_forms(tmp_path: Path) -> None:
    both = shows(**{"image/svg+xml": nested(1000), "image/png": encoded(picture("PNG"))})

    report = report_of(notebook(code(both)), tmp_path)

    assert "left out" not in text_of(report)
    assert MAGENTA_SEEN in colours_in(report)


def test_a_data_address_with_junk_is_read_as_browsers_do(tmp_path: Path) -> None:
    plain = encoded(picture("PNG")).rstrip("=")
    broken = "\n".join(plain[start : start + 60] for start in range(0, len(plain), 60))
    quoted = plain.replace("+", "%2B").replace("/", "%2F")
    addresses = [f"data:image/jpeg;charset=x;base64,{text}" for text in (broken, quoted)]
    given = "".join(f'<img src="{address}">' for address in addresses)

    page = report_of(notebook(code(shows(text_html=given))), tmp_path, report_format=ReportFormat.HTML).read_text()

    assert page.count("<img") == 2


def test_a_large_picture_in_markdown_is_shown_not_printed(tmp_path: Path) -> None:
    noise = Image.effect_noise((400, 300), 90)
    written = io.BytesIO()
    noise.save(written, "PNG")
    address = f"data:image/png;base64,{encoded(written.getvalue())}"
    given = notebook(f"# Noise\n\n![noise]({address})\n\nafter", code(shows(text_markdown=f"![]({address})\n\nlast")))

    report = report_of(given, tmp_path)

    assert len(address) > 80_000
    assert len(text_of(report)) < 1000
    assert "last" in text_of(report)
    assert images_in(report) >= 1


def test_postscript_is_not_handed_to_ghostscript(tmp_path: Path) -> None:
    called = tmp_path / "called"
    ghostscript = tmp_path / "gs"
    ghostscript.write_text(f"#!/bin/sh\necho > {called}\n")
    ghostscript.chmod(0o755)
    (tmp_path / "eps.source").write_bytes(EPS)

    done = subprocess.run(
        [sys.executable, "-I", str(WORKER)],
        cwd=tmp_path,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        input='{"pictures": ["eps"], "formulas": {}, "seconds": 60}',
        capture_output=True,
        text=True,
        check=True,
    )

    assert "problem" in done.stdout
    assert not called.exists()


ATTACHED = {
    "my picture.png": ["<attachment:my picture.png>", "attachment:my%20picture.png"],
    "été à Noël.png": ["attachment:%C3%A9t%C3%A9%20%C3%A0%20No%C3%ABl.png", "<attachment:été à Noël.png>"],
    "e\u0301te\u0301.png": ["attachment:été.png"],
    "नक्शा.png": ["attachment:नक्शा.png"],
    "Karte (1).png": ["attachment:Karte%20(1).png", "<attachment:Karte (1).png>"],
    "Upper.PNG": ["attachment:upper.png"],
    "100%25.png": ["attachment:100%25.png"],
    "a.png": ['attachment:a.png "with a title"'],
    "a.png.png": ["attachment:a.png.png"],
}


def attached_cells() -> list[NotebookNode]:
    bundles = {name: {"image/png": PIXEL} for name in ATTACHED}
    markdown = "\n\n".join(f"![{name}]({address})" for name, all_of_it in ATTACHED.items() for address in all_of_it)
    others = [
        "In code: `attachment:a.png`",
        '<img src="attachment:my%20picture.png">',
        "![r][x]",
        "[x]: attachment:a.png",
    ]
    text = "\n\n".join([markdown, *others])
    cells = [v4.new_markdown_cell(text, attachments=bundles)]
    for colour in (MAGENTA, (0, 208, 64)):
        png = encoded(whole_picture("PNG", colour))
        cells.append(
            v4.new_markdown_cell("![same](attachment:image.png)", attachments={"image.png": {"image/png": png}})
        )
    return cells


ATTACHED_COUNT = sum(map(len, ATTACHED.values())) + 4


def test_attachments_are_found_however_their_name_is_written(tmp_path: Path) -> None:
    given = notebook(*attached_cells())

    page = report_of(given, tmp_path, report_format=ReportFormat.HTML).read_text()
    colours = colours_in(report_of(given, tmp_path))

    assert "left out" not in page
    assert page.count("<img") == ATTACHED_COUNT
    assert "attachment:a.png" in html.unescape(page)
    assert "cell-0" not in page
    assert {MAGENTA_SEEN, (0, 208, 64)} <= colours


def test_attachments_are_found_in_notebooks_as_pages() -> None:
    page = readable_html(notebook(*attached_cells()), title="Attached")

    assert page.count('src="data:image/png;base64,') == ATTACHED_COUNT
    assert 'src="attachment:' not in page


def strip(width: int, height: int, dpi: int = 100) -> bytes:
    """Return a figure with letters at its ends, in the size that matplotlib would give it."""
    drawn = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(drawn)
    for place in range(0, max(width, height), 40):
        draw.text((place, height // 2) if width > height else (width // 2, place), "T", fill="black")
    written = io.BytesIO()
    drawn.save(written, "PNG", dpi=(dpi, dpi))
    return written.getvalue()


STRIPS = {
    "one": (strip(6000, 400), "This picture is 60 inches wide. Its 4 parts follow, from left to right."),
    "two": (strip(12_000, 800, 200), "This picture is 60 inches wide. Its 4 parts follow, from left to right."),
    "three": (strip(500, 6000), "Part 3 of 3 of a picture that is 60 inches high"),
    "four": (
        SVG.format(head='width="60in" height="4in"', inner=RECTANGLE).encode(),
        "This picture is 60 inches wide. Its 4 parts follow, from left to right.",
    ),
}


@pytest.mark.parametrize("report_format", ReportFormat)
def test_a_long_strip_is_shown_in_parts(report_format: ReportFormat, tmp_path: Path) -> None:
    cells = [
        cell
        for name, (content, _) in STRIPS.items()
        for cell in (f"## {name}", code(shows(image_png=encoded(content))))
    ]

    report = report_of(notebook("# Wide", *cells), tmp_path, report_format=report_format)

    words = words_of(report)
    assert [note for _, note in STRIPS.values() if note not in words] == []
    assert words.count("is 60 inches wide") == 3
    if report_format is ReportFormat.HTML:
        assert report.read_text().count("<img") == 4 + 4 + 3 + 4


@pytest.mark.parametrize("dpi", [100, 200])
def test_a_wide_figure_is_on_a_turned_page(dpi: int, tmp_path: Path) -> None:
    figure = shows(image_png=encoded(strip(24 * dpi, 9 * dpi, dpi)))
    usual = shows(image_png=encoded(strip(16 * dpi, 8 * dpi, dpi)))

    sizes = pages_of(report_of(notebook("# Wide", code(usual), code(figure), "after"), tmp_path))

    assert [size.split(" pts")[0] for size in sizes] == ["595.28 x 841.89", "841.89 x 595.28", "595.28 x 841.89"]


def test_fuzzed_pictures_and_outputs_never_fail_a_report() -> None:
    assert fuzz(60, 25, seed=14).problems == []
