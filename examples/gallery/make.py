"""Make the gallery: execute a notebook with everything that a report can show, and convert it.

Usage: python examples/gallery/make.py OUT_DIR
"""

import argparse
import contextlib
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from autoflow.errors import NotebookError
from autoflow.notebooks.execution import Task, execute
from autoflow.reports import ReportContext, convert, missing_fonts, missing_tools
from autoflow.settings import CONFIG_DIR
from autoflow.specs import ReportFormat


def make(out_dir: Path) -> list[Path]:
    """Execute the gallery's notebook and convert it; return the reports, which are in `out_dir`."""
    out_dir.mkdir(parents=True, exist_ok=True)
    executed = out_dir / "gallery.ipynb"
    with contextlib.suppress(NotebookError):  # Its last cell fails.
        task = Task(label="gallery", parameters={}, environment=os.environ, timeout=300)
        execute(HERE / "gallery.ipynb", executed, task)
    reports = [out_dir / f"gallery.{report_format}" for report_format in ReportFormat]
    for report in reports:
        convert(
            executed,
            report,
            report_format=ReportFormat(report.suffix.removeprefix(".")),
            context=ReportContext(workflow="Gallery", dates="2016-01-07"),
            template=CONFIG_DIR / "asciidoc_extended.tpl",
            inputs_dir=HERE,
        )
    return reports


def main() -> None:
    """Make the gallery in the folder given on the command line."""
    parser = argparse.ArgumentParser(description="Make one report with everything that a report can show.")
    parser.add_argument("out_dir", type=Path, help="folder for the executed notebook and the reports")
    for line in (*missing_tools(), *missing_fonts()):
        sys.stderr.write(f"{line}\n")
    for report in make(parser.parse_args().out_dir):
        sys.stdout.write(f"{report}\n")


if __name__ == "__main__":
    main()
