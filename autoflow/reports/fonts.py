"""Find the fonts for a PDF on this machine, by the scripts of its text; AutoFlow ships none."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

FONT_DIRS = (Path("/usr/share/fonts"), Path("/usr/local/share/fonts"))
"""The folders of fonts from Debian packages, and of fonts that an operator adds."""

_STYLES = {"normal": ("-Regular", ""), "bold": ("-Bold",), "italic": ("-Italic", "-Oblique")}
_BOLD_ITALIC = ("-BoldItalic", "-BoldOblique")


@dataclass(frozen=True, kw_only=True)
class Script:
    """A script, its characters (as within a regular expression's brackets), and a TrueType font for it.

    `files` are the beginnings of font file names, the best first. Prawn, which draws the PDF, cannot read OpenType
    fonts with PostScript outlines or collections, which excludes most Chinese fonts.
    """

    name: str
    characters: str
    files: tuple[str, ...]
    package: str


LATIN = Script(name="Latin", characters="", files=("NotoSans", "DejaVuSans"), package="fonts-noto-core")
MONOSPACED = Script(
    name="monospaced Latin", characters="", files=("DejaVuSansMono", "NotoSansMono"), package="fonts-dejavu-core"
)
_SYMBOLS = Script(
    name="symbols",
    characters="\u02b0-\u036f\u1d00-\u1dbf\u2030-\u20ab\u20ad-\u2121\u2123-\u2e7f\uffe0-\uffff",
    files=("DejaVuSans",),
    package="fonts-dejavu-core",
)
_CHINESE = Script(
    name="Chinese, Japanese and Korean",
    characters="\u1100-\u11ff\u2e80-\ua4cf\uac00-\ud7af\uf900-\ufaff\ufe30-\ufe4f\uff00-\uffef",
    files=("DroidSansFallbackFull", "DroidSansFallback"),
    package="fonts-droid-fallback",
)
_NOTO = {
    "Devanagari": "\u0900-\u097f\ua8e0-\ua8ff",
    "Arabic": "\u0600-\u06ff\u0750-\u077f\u08a0-\u08ff\ufb50-\ufdff\ufe70-\ufefe",
    "Hebrew": "\u0590-\u05ff\ufb1d-\ufb4f",
    "Armenian": "\u0530-\u058f",
    "Bengali": "\u0980-\u09ff",
    "Gurmukhi": "\u0a00-\u0a7f",
    "Gujarati": "\u0a80-\u0aff",
    "Oriya": "\u0b00-\u0b7f",
    "Tamil": "\u0b80-\u0bff",
    "Telugu": "\u0c00-\u0c7f",
    "Kannada": "\u0c80-\u0cff",
    "Malayalam": "\u0d00-\u0d7f",
    "Sinhala": "\u0d80-\u0dff",
    "Thai": "\u0e00-\u0e7f",
    "Lao": "\u0e80-\u0eff",
    "Myanmar": "\u1000-\u109f",
    "Georgian": "\u10a0-\u10ff",
    "Ethiopic": "\u1200-\u139f",
    "Khmer": "\u1780-\u17ff",
    "Math": "\u2200-\u22ff\u27c0-\u2aff\U0001d400-\U0001d7ff",
}
_EMOJI = Script(
    name="emoji",
    characters="\u2300-\u23ff\u2600-\u27bf\u2b00-\u2bff\U0001f000-\U0001faff",
    files=("Symbola", "Symbola_hint"),
    package="fonts-symbola",
)
SCRIPTS = (
    *(
        Script(name=name, characters=characters, files=(f"NotoSans{name}",), package="fonts-noto-core")
        for name, characters in _NOTO.items()
    ),
    _CHINESE,
    _SYMBOLS,
    _EMOJI,
)
_EXPECTED = (LATIN, MONOSPACED, *SCRIPTS)


def missing_fonts(font_dirs: Sequence[Path] = FONT_DIRS) -> tuple[str, ...]:
    """Return a line for each script without an installed font, naming the Debian package that provides one."""
    files = _files(font_dirs)
    return tuple(_missing_line(script) for script in _EXPECTED if not _family(script, files))


def font_theme(text: str, font_dirs: Sequence[Path] = FONT_DIRS) -> tuple[Mapping[str, object], tuple[str, ...]]:
    """Return the ``font`` part of an asciidoctor-pdf theme for `text`, and a warning for each missing font.

    The families are ``Report Sans``, ``Report Mono``, and ``Report`` with the name of each further script.
    """
    files = _files(font_dirs)
    wanted = {f"Report {script.name}": script for script in scripts_of(text)}
    catalog = {name: _family(script, files) for name, script in wanted.items()}
    warnings = tuple(_missing_line(wanted[name]) for name, family in catalog.items() if not family)
    found: dict[str, object] = {name: family for name, family in catalog.items() if family}
    catalogued = {
        "merge": True,
        "Report Sans": _family(LATIN, files) or _bundled("notosans"),
        "Report Mono": _family(MONOSPACED, files) or _bundled("mplus1mn"),
        **found,
    }
    return {"catalog": catalogued, "fallbacks": list(found)}, warnings


def scripts_of(text: str) -> tuple[Script, ...]:
    """Return the scripts of the characters in `text`, besides Latin."""
    characters = "".join(sorted(set(text) - set(map(chr, range(0x250)))))
    return tuple(script for script in SCRIPTS if re.search(f"[{script.characters}]", characters))


def _files(font_dirs: Iterable[Path]) -> Mapping[str, Path]:
    """Return the TrueType files in `font_dirs` by name without suffix."""
    return {path.stem: path for folder in font_dirs for path in sorted(folder.rglob("*.ttf"))}


def _family(script: Script, files: Mapping[str, Path]) -> dict[str, str]:
    """Return the file of each style (the regular one if a style has none); empty if the font is not installed."""
    for start in script.files:
        regular = _first(start, _STYLES["normal"], files)
        if regular is None:
            continue
        family = {style: str(_first(start, ends, files) or regular) for style, ends in _STYLES.items()}
        return {**family, "bold_italic": str(_first(start, _BOLD_ITALIC, files) or family["bold"])}
    return {}


def _first(start: str, ends: Iterable[str], files: Mapping[str, Path]) -> Path | None:
    return next((files[start + end] for end in ends if start + end in files), None)


def _bundled(stem: str) -> dict[str, str]:
    """Return a family that comes with asciidoctor-pdf and covers western European characters."""
    styles = {"normal": "regular", "bold": "bold", "italic": "italic", "bold_italic": "bold_italic"}
    return {style: f"GEM_FONTS_DIR/{stem}-{name}-subset.ttf" for style, name in styles.items()}


def _missing_line(script: Script) -> str:
    remedy = f"on Debian: apt-get install {script.package}"
    return f"no font for {script.name}: such text prints as boxes in PDF reports ({remedy})"
