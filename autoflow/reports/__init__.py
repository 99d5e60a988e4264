"""Convert executed notebooks to reports: nbconvert writes asciidoc, asciidoctor-pdf makes PDF or HTML of it."""

import json
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import nbformat

from autoflow.errors import ReportError
from autoflow.reports.asciidoctor import asciidoctor
from autoflow.reports.document import Document, Workplace, write_document
from autoflow.reports.every_output import notebook_with_every_output
from autoflow.reports.fonts import font_theme, missing_fonts
from autoflow.reports.limits import SHARE_IN_FULL
from autoflow.reports.markup import escape_line
from autoflow.reports.programs import missing_tools
from autoflow.reports.template_places import complaints, refused
from autoflow.reports.thumbnails import first_page, keep_thumbnail
from autoflow.settings import CONFIG_DIR
from autoflow.specs import ReportFormat
from autoflow.system.stop_signal import StopSignal
from autoflow.utils import owned_folder, remove_abandoned_folders, whole_file

__all__ = [
    "ReportContext",
    "convert",
    "missing_fonts",
    "missing_tools",
    "remove_abandoned_report_folders",
    "try_template",
]

_FOLDER = "autoflow-report-"
"""The prefix of the folders in which reports are made."""

_SOURCE = "report.adoc"

_ATTRIBUTES = {
    "attribute-undefined": "drop@",
    "figure-caption!@": "",
    "imagesdir": "",
    "reproducible": "",
    "sectids!@": "",
    "table-caption!@": "",
}
"""Asciidoctor's attributes; a template can change those with an @."""

_ATTRIBUTES_OF = {
    ReportFormat.PDF: {"pdf-theme": "./theme.yml"},
    ReportFormat.HTML: {"data-uri": "", "docinfo": "shared", "nolang": "", "stylesheet": "report.css", "webfonts!": ""},
}
_CONTENT_POLICY = """<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
"""
"""Browsers must not run or fetch anything either."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ReportContext:
    """The workflow and its dates, which are in the footer."""

    workflow: str
    dates: str = ""

    def __str__(self) -> str:
        """Return the footer."""
        return " · ".join(filter(None, (self.workflow, self.dates)))


def convert(  # noqa: PLR0913 - what a conversion needs, all by keyword
    notebook: Path,
    report: Path,
    *,
    report_format: ReportFormat,
    context: ReportContext,
    template: Path,
    inputs_dir: Path,
    timeout: float = 300.0,
    stop: StopSignal | None = None,
    config_dir: Path = CONFIG_DIR,
    confirm: Callable[[], None] | None = None,
) -> None:
    """Convert the executed `notebook` to `report`, which appears complete or not at all; a PDF gets a thumbnail.

    `template` is trusted, the notebook is not. `inputs_dir` is the folder of the original notebook, with the pictures
    it links to. `timeout` limits the whole conversion, in seconds; `stop` ends it. `config_dir` has the base
    template, the theme and the filters. `confirm` is called right before `report` appears, and may raise RunStopped to
    prevent it.

    Raises
    ------
    ReportError
        If the conversion fails, with the message of the tool that failed. RunStopped, if `stop` is set before its end.

    """
    deadline, stop = time.monotonic() + timeout, stop or StopSignal()
    try:
        with (
            stop.prevailing(),
            owned_folder(_FOLDER, Path(tempfile.gettempdir())) as folder,
            whole_file(report, confirm) as unfinished,
        ):
            workplace = Workplace(folder.resolve(), inputs_dir, template, config_dir, deadline, stop)
            made, warnings = _made_in_time(notebook, workplace, report_format, context)
            picture = _picture(made, workplace, report_format)
            shutil.copyfile(made, unfinished)
    except OSError as error:
        raise ReportError(f"cannot convert {notebook} to {report}: {error}") from error
    _finish(notebook, report, picture, warnings, confirm)


def _finish(
    notebook: Path, report: Path, picture: bytes | None, warnings: str, confirm: Callable[[], None] | None
) -> None:
    """Do what follows a conversion: keep the thumbnail of the report, and log asciidoctor's warnings."""
    keep_thumbnail(picture, report, confirm)
    if warnings:
        _log.warning("asciidoctor-pdf warned about %s: %s", notebook, warnings, extra={"action": "report_warned"})


def _picture(made: Path, workplace: Workplace, report_format: ReportFormat) -> bytes | None:
    """Return the thumbnail of a report if it is a PDF."""
    if report_format is not ReportFormat.PDF:
        return None
    return first_page(made, timeout=workplace.seconds_left, stop=workplace.stop)


def try_template(
    template: Path, report_format: ReportFormat, *, timeout: float = 300.0, config_dir: Path = CONFIG_DIR
) -> tuple[str, ...]:
    """Convert a notebook with every kind of output with `template`; return warnings about what it writes.

    AutoFlow's own template is known to be good.

    Raises
    ------
    ReportError
        If the template has a mistake; with its file and line, and what to do.

    """
    deadline = time.monotonic() + timeout
    with owned_folder(_FOLDER, Path(tempfile.gettempdir())) as folder:
        notebook = folder / "every_output.ipynb"
        nbformat.write(notebook_with_every_output(), notebook)
        workplace = Workplace(folder.resolve(), folder.resolve(), template, config_dir, deadline, StopSignal())
        if workplace.has_own_template:
            return ()
        context = ReportContext(workflow="validate")
        made, warnings = _made(notebook, workplace, report_format, context)
        return complaints(warnings, made.with_name(_SOURCE).read_text(encoding="utf-8"), template)


def remove_abandoned_report_folders() -> None:
    """Remove folders of conversions whose AutoFlow was killed."""
    remove_abandoned_folders(Path(tempfile.gettempdir()), _FOLDER)


def _made_in_time(
    notebook: Path, workplace: Workplace, report_format: ReportFormat, context: ReportContext
) -> tuple[Path, str]:
    """Make the report, or one in plain text if that takes too long or the notebook is nested too deeply."""
    in_full = replace(workplace, deadline=workplace.deadline - (1 - SHARE_IN_FULL) * workplace.seconds_left)
    try:
        return _made(notebook, in_full, report_format, context)
    except RecursionError:
        reason = "tables or HTML are nested too deeply"
    except ReportError as error:
        if not error.is_timeout:
            raise
        reason = str(error)
    made = _made(notebook, workplace, report_format, context, is_plain=True)
    _log.warning("the report of %s has plain text only: %s", notebook, reason, extra={"action": "report_plain"})
    return made


def _made(
    notebook: Path,
    workplace: Workplace,
    report_format: ReportFormat,
    context: ReportContext,
    *,
    is_plain: bool = False,
) -> tuple[Path, str]:
    """Make the report in the workplace's folder; return its path and asciidoctor's warnings."""
    folder = workplace.folder
    source, made = folder / _SOURCE, folder / f"report.{report_format}"
    tool = asciidoctor(workplace.config_dir)  # it loads while the document is written
    paged = report_format is ReportFormat.PDF
    document = write_document(notebook, workplace, subtitle=str(context), paged=paged, is_plain=is_plain)
    source.write_text(document.text, encoding="utf-8")
    if report_format is ReportFormat.PDF:
        _write_theme(document, workplace)
    else:
        _write_style(document, workplace)
    arguments = [*_arguments(workplace, report_format, context), "--out-file", made.name, source.name]
    try:
        return made, tool.make(arguments, folder=folder, timeout=workplace.seconds_left, stop=workplace.stop)
    except ReportError as error:
        if workplace.has_own_template or error.is_timeout:
            raise
        raise refused(error, document.text, workplace.template) from error


def _arguments(workplace: Workplace, report_format: ReportFormat, context: ReportContext) -> list[str]:
    """Return the arguments for asciidoctor-pdf, without the files."""
    arguments = ["--base-dir", str(workplace.folder), "--failure-level", "ERROR"]
    if report_format is ReportFormat.PDF:
        arguments += ["--safe-mode", "secure"]
    else:
        arguments += ["--safe-mode", "server", "--backend", "html5"]
    attributes = _ATTRIBUTES | _ATTRIBUTES_OF[report_format] | {"report-footer": escape_line(str(context))}
    for name, value in attributes.items():
        arguments += ["--attribute", f"{name}={value}" if value else name]
    return arguments


def _write_theme(document: Document, workplace: Workplace) -> None:
    fonts, warnings = font_theme(document.text)
    for warning in warnings:
        _log.warning("%s", warning, extra={"action": "font_missing"})
    roles = {
        role: {"font_color": colour or None, "background_color": background or None}
        for role, (colour, background) in document.colours.items()
    }
    theme = {"extends": str(workplace.config_dir / "report-theme.yml"), "font": fonts, "role": roles}
    (workplace.folder / "theme.yml").write_text(json.dumps(theme), encoding="utf-8")


def _write_style(document: Document, workplace: Workplace) -> None:
    style = (workplace.config_dir / "report.css").read_text(encoding="utf-8")
    (workplace.folder / "report.css").write_text(style + _colour_rules(document.colours), encoding="utf-8")
    (workplace.folder / "docinfo.html").write_text(_CONTENT_POLICY, encoding="utf-8")


def _colour_rules(colours: Mapping[str, tuple[str, str]]) -> str:
    return "".join(
        f".{role}{{{f'color:#{colour};' if colour else ''}{f'background:#{background};' if background else ''}}}\n"
        for role, (colour, background) in colours.items()
    )
