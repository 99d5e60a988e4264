"""Executed notebooks as reports: nbconvert makes asciidoc of them, asciidoctor-pdf makes PDF or HTML of that."""

import datetime
import json
import logging
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from autoflow.errors import ReportError
from autoflow.reports.document import Document, Workplace, write_document
from autoflow.reports.fonts import font_theme, missing_fonts
from autoflow.reports.markup import escape_line
from autoflow.reports.programs import missing_tools, run
from autoflow.specs import ReportFormat
from autoflow.utils import whole_file

__all__ = ["ReportContext", "convert", "missing_fonts", "missing_tools"]

CONFIG_DIR = Path(__file__).resolve().parents[2] / "config"
"""Where AutoFlow's own template, theme and filters are."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ReportContext:
    """What the footer says."""

    workflow: str
    reference_date: datetime.date | None

    def __str__(self) -> str:
        date = self.reference_date.isoformat() if self.reference_date else ""
        return " · ".join(filter(None, (self.workflow, date)))


def convert(
    notebook: Path,
    report: Path,
    *,
    report_format: ReportFormat,
    context: ReportContext,
    template: Path,
    inputs_dir: Path,
    timeout: float = 300.0,
    config_dir: Path = CONFIG_DIR,
) -> None:
    """Convert the executed `notebook` to `report`, which appears whole or not at all.

    `template` is trusted, the notebook is not. `inputs_dir` is the folder of the original notebook: pictures beside
    it are found there. `timeout` is for all of the conversion, in seconds. `config_dir` has the template that others
    extend, the theme and the filters.

    Raises
    ------
    ReportError
        If it cannot be converted; with the message of the tool that failed.

    """
    deadline = time.monotonic() + timeout
    try:
        with tempfile.TemporaryDirectory(prefix="autoflow-report-") as temporary, whole_file(report) as unfinished:
            workplace = Workplace(
                folder=Path(temporary).resolve(),
                inputs_dir=inputs_dir,
                template=template,
                config_dir=config_dir,
                deadline=deadline,
            )
            document = write_document(notebook, workplace, subtitle=str(context))
            made = _make(document, workplace, report_format, context)
            shutil.copyfile(made, unfinished)
    except OSError as error:
        raise ReportError(f"{notebook} cannot be made into {report}: {error}") from error


def _make(document: Document, workplace: Workplace, report_format: ReportFormat, context: ReportContext) -> Path:
    """Return the file that asciidoctor-pdf made of `document`."""
    folder = workplace.folder
    source, made = folder / "report.adoc", folder / f"report.{report_format}"
    source.write_text(document.text, encoding="utf-8")
    attributes = (
        _pdf_attributes(document, workplace)
        if report_format is ReportFormat.PDF
        else _html_attributes(document, workplace)
    )
    attributes |= {
        "report-footer": escape_line(str(context)),
        "figure-caption!": "",
        "table-caption!": "",
        "sectids!": "",
        "attribute-undefined": "drop",
        "reproducible": "",
    }
    command = ["asciidoctor-pdf", "--base-dir", str(folder), "--failure-level", "ERROR", "--out-file", made.name]
    if report_format is ReportFormat.PDF:
        command += ["--safe-mode", "secure", "--require", str(workplace.config_dir / "report_pdf.rb")]
    else:
        command += ["--safe-mode", "server", "--backend", "html5"]
    for name, value in attributes.items():
        command += ["--attribute", f"{name}={value}" if value else name]
    _, warnings = run([*command, source.name], folder=folder, timeout=workplace.seconds_left)
    if warnings:
        _log.warning("asciidoctor-pdf says: %s", warnings, extra={"action": "report_warned"})
    return made


def _pdf_attributes(document: Document, workplace: Workplace) -> dict[str, str]:
    fonts, warnings = font_theme(document.text)
    for warning in warnings:
        _log.warning("%s", warning, extra={"action": "font_missing"})
    roles = {
        role: {"font_color": colour or None, "background_color": background or None}
        for role, (colour, background) in document.colours.items()
    }
    theme = {"extends": str(workplace.config_dir / "report-theme.yml"), "font": fonts, "role": roles}
    path = workplace.folder / "theme.yml"
    path.write_text(json.dumps(theme), encoding="utf-8")
    return {"pdf-theme": str(path)}


def _html_attributes(document: Document, workplace: Workplace) -> dict[str, str]:
    style = (workplace.config_dir / "report.css").read_text(encoding="utf-8") + _colour_rules(document.colours)
    (workplace.folder / "report.css").write_text(style, encoding="utf-8")
    (workplace.folder / "docinfo.html").write_text(_CONTENT_POLICY, encoding="utf-8")
    return {
        "stylesheet": "report.css",
        "data-uri": "",
        "webfonts!": "",
        "nolang": "",
        "docinfo": "shared",
        "last-update-label!": "",
    }


def _colour_rules(colours: Mapping[str, tuple[str, str]]) -> str:
    return "".join(
        f".{role}{{{f'color:#{colour};' if colour else ''}{f'background:#{background};' if background else ''}}}\n"
        for role, (colour, background) in colours.items()
    )


_CONTENT_POLICY = "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
"""A browser shall not run or fetch anything either."""
