"""Executed notebooks as reports: nbconvert makes asciidoc of them, asciidoctor-pdf makes PDF or HTML of that."""

import datetime
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from autoflow.errors import ReportError
from autoflow.reports.document import write_document
from autoflow.reports.fonts import missing_fonts
from autoflow.reports.markup import escape_line
from autoflow.reports.programs import missing_tools, run
from autoflow.specs import ReportFormat
from autoflow.utils import whole_file

__all__ = ["ReportContext", "convert", "missing_fonts", "missing_tools"]

CONFIG_DIR = Path(__file__).resolve().parents[2] / "config"
"""Where AutoFlow's template, theme and filters are."""


@dataclass(frozen=True, kw_only=True)
class ReportContext:
    """What the footer says."""

    workflow: str
    reference_date: datetime.date | None


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
    it are found there. `timeout` is for all of the conversion, in seconds.

    Raises
    ------
    ReportError
        If it cannot be converted; with the message of the tool that failed.

    """
    deadline = time.monotonic() + timeout
    try:
        with tempfile.TemporaryDirectory(prefix="autoflow-report-") as temporary, whole_file(report) as unfinished:
            folder = Path(temporary)
            document = write_document(
                notebook,
                folder=folder,
                inputs_dir=inputs_dir,
                template=template,
                config_dir=config_dir,
                deadline=deadline,
            )
            (folder / "report.adoc").write_text(document, encoding="utf-8")
            _make(folder, report_format, context, config_dir, deadline)
            shutil.copyfile(folder / f"report.{report_format}", unfinished)
    except OSError as error:
        raise ReportError(f"{notebook} cannot be made into {report}: {error}") from error


def _make(folder: Path, report_format: ReportFormat, context: ReportContext, config_dir: Path, deadline: float) -> None:
    date = context.reference_date.isoformat() if context.reference_date else ""
    attributes = {"workflow": escape_line(context.workflow), "reference-date": escape_line(date)}
    command = [
        "asciidoctor-pdf",
        "--base-dir",
        str(folder),
        "--failure-level",
        "ERROR",
        "--out-file",
        f"report.{report_format}",
    ]
    if report_format is ReportFormat.PDF:
        command += ["--safe-mode", "secure", "-a", f"pdf-theme={config_dir / 'report-theme.yml'}"]
    else:
        command += [
            "--safe-mode",
            "server",
            "--backend",
            "html5",
            "-a",
            "data-uri",
            "-a",
            "webfonts!",
            "-a",
            "nofooter",
        ]
    for name, value in attributes.items():
        command += ["-a", f"{name}={value}"]
    run([*command, "report.adoc"], folder=folder, timeout=deadline - time.monotonic())
