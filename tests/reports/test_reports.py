import concurrent.futures
import shutil
from pathlib import Path

import nbformat
import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

from autoflow.errors import ReportError
from autoflow.reports import ReportContext, convert
from autoflow.settings import CONFIG_DIR
from autoflow.specs import ReportFormat
from tests.reports.convert import (
    CONTEXT,
    DEFAULT_TEMPLATE,
    PIXEL,
    code,
    notebook,
    pages_of,
    prints,
    report_of,
    shows,
    text_of,
    title_of,
)


def test_the_first_heading_is_the_title_and_stands_once(tmp_path: Path) -> None:
    report = report_of(notebook("before", "# Flows *above* normal & more\n\n## Part"), tmp_path)

    assert title_of(report) == "Flows above normal & more"
    assert text_of(report).count("Flows above normal & more") == 1


def test_without_headings_the_notebooks_metadata_have_the_title(tmp_path: Path) -> None:
    untitled = notebook("text")
    untitled.metadata["title"] = "From *metadata*"

    assert title_of(report_of(untitled, tmp_path)) == "From *metadata*"


def test_the_footer_of_each_page_has_workflow_date_and_page_number(tmp_path: Path) -> None:
    pages = text_of(report_of(notebook(*["paragraph"] * 100), tmp_path)).split("\f")[:-1]

    assert len(pages) > 1
    for number, page in enumerate(pages, start=1):
        footer = page.strip().splitlines()[-1]
        assert footer.startswith("Flows *above* normal · 2016-01-07")
        assert footer.replace(" ", "").endswith(f"{number}/{len(pages)}")


def test_pages_are_a4(tmp_path: Path) -> None:
    assert all("(A4)" in size for size in pages_of(report_of(notebook("text"), tmp_path)))


def test_without_a_reference_date_the_footer_has_the_workflow_only(tmp_path: Path) -> None:
    context = ReportContext(workflow="Once")

    assert (
        text_of(report_of(notebook("text"), tmp_path, context=context)).strip().splitlines()[-1].split("  ")[0]
        == "Once"
    )


def test_long_words_do_not_make_an_html_report_wider_than_its_window(tmp_path: Path) -> None:
    word = "x" * 400
    texts = [f"# {word}", word, f"- {word}", f"> `{word}`", f"| a | b |\n|---|---|\n| {word} | {word} |"]

    report = report_of(notebook(*texts, code(prints(word))), tmp_path, report_format=ReportFormat.HTML)

    options = Options()
    options.binary_location = "/usr/bin/chromium"
    for switch in ("headless", "no-sandbox", "disable-gpu", f"user-data-dir={tmp_path / 'chromium'}"):
        options.add_argument(f"--{switch}")
    with Chrome(options=options, service=Service("/usr/bin/chromedriver")) as browser:
        browser.set_window_size(1000, 800)
        browser.get(report.as_uri())
        width = browser.execute_script("return document.documentElement.scrollWidth")
    assert width <= 1000


def test_the_same_content_comes_as_pdf_and_as_html(tmp_path: Path) -> None:
    both = notebook(
        "# T\n\n- a\n\n| b | c |\n|---|---|\n| 1.5 | x@y |", code(prints("d")), code(shows(text_html="<i>e</i>"))
    )

    words = [text_of(report_of(both, tmp_path, report_format=report_format)).split() for report_format in ReportFormat]

    assert {"a", "b", "c", "1.5", "x@y", "d", "e"} <= set(words[0]) & set(words[1])


def test_autoflow_may_be_in_a_folder_of_any_name(tmp_path: Path) -> None:
    config_dir = shutil.copytree(CONFIG_DIR, tmp_path / "AutoFlow of Ädä's-team +1, #2, (100%)" / "Config")
    folder = tmp_path / "Work: A B"
    folder.mkdir()
    executed = folder / "Executed.ipynb"
    nbformat.write(notebook("# Title", "Some *stressed* text", code(shows(text_html="<b>bold</b>"))), executed)
    for report_format in ReportFormat:
        report = folder / f"Report.{report_format}"
        convert(
            executed,
            report,
            report_format=report_format,
            context=CONTEXT,
            template=config_dir / DEFAULT_TEMPLATE.name,
            inputs_dir=folder,
            config_dir=config_dir,
        )
        assert "Some stressed text" in text_of(report)
        assert "bold" in text_of(report)


def test_an_invalid_notebook_is_reported_by_name(tmp_path: Path) -> None:
    (tmp_path / "broken.ipynb").write_text("{")
    with pytest.raises(ReportError, match=r"broken\.ipynb is not a valid notebook"):
        convert(
            tmp_path / "broken.ipynb",
            tmp_path / "report.pdf",
            report_format=ReportFormat.PDF,
            context=ReportContext(workflow="w"),
            template=DEFAULT_TEMPLATE,
            inputs_dir=tmp_path,
        )


def test_conversions_side_by_side_do_not_mix(tmp_path: Path) -> None:
    def made(number: int) -> str:
        folder = tmp_path / str(number)
        folder.mkdir()
        return text_of(report_of(notebook(f"# Report {number}", code(shows(image_png=PIXEL))), folder))

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        texts = list(pool.map(made, range(6)))

    assert all(f"Report {number}" in text for number, text in enumerate(texts))


def test_a_conversion_leaves_no_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))

    report_of(notebook("text"), tmp_path)

    assert not list(temporary.iterdir())
    found = {path.name for path in tmp_path.iterdir()}
    assert found == {"executed.ipynb", "inputs", "report.pdf", "temporary", "thumbnails"}
