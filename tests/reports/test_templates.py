"""Templates that were written for nbconvert: they make what plain nbconvert makes of them."""

import html
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from nbconvert.exporters import ASCIIDocExporter
from nbformat import NotebookNode, v4

from autoflow.errors import ReportError
from autoflow.reports import try_template
from autoflow.reports.every_output import notebook_with_every_output
from autoflow.specs import ReportFormat
from tests.reports.convert import (
    DEFAULT_TEMPLATE,
    code,
    images_in,
    notebook,
    prints,
    report_of,
    shows,
    text_of,
    words_of,
)

FIVE = """{%- extends 'asciidoc.tpl' -%}
{% block header %}
:imagesdir: {{ resources['output_files_dir'] }}
{% endblock header %}
{% block output_group %}
{% block outputs %}
{{- super() -}}
{% endblock outputs %}
{% endblock output_group %}
{% block data_svg %}
image::{{ output.metadata.filenames['image/svg+xml'].split('/')[-1] }}[pdfwidth=30%]
{% endblock data_svg %}
{% block data_png %}
image::{{ output.metadata.filenames['image/png'] | path2url }}[pdfwidth=30%]
{% endblock data_png %}
{% block data_jpg %}
image::{{ output.metadata.filenames['image/jpeg'] }}[]
{% endblock data_jpg %}
{% block data_text scoped %}
----
{{ super() }}
----
{% endblock data_text %}
"""
"""In the manner of FlowKit's template, for nbconvert 5."""


def every_output() -> NotebookNode:
    return notebook_with_every_output()


def every_output_but_formulas() -> NotebookNode:
    """Return the same without formulas: drawing them takes six times as long as all the rest."""
    notebook = every_output()
    notebook.cells[0].source = notebook.cells[0].source.replace("$x^2$", "").replace("$$\\sum_i x_i$$", "")
    notebook.cells = [cell for cell in notebook.cells if "text/latex" not in str(cell.get("outputs"))]
    assert "$" not in str(notebook)
    return notebook


def written(text: str, folder: Path) -> Path:
    path = folder / "own.tpl"
    path.write_text(text)
    return path


def test_a_template_for_nbconvert_5_shows_pictures_listings_and_the_first_heading(tmp_path: Path) -> None:
    report = report_of(every_output(), tmp_path, template=written(FIVE, tmp_path))

    text = text_of(report)
    assert "A title" in text
    assert "A heading" in text
    assert images_in(report) >= 3  # the attachment, PNG and JPEG; the SVG is drawn
    assert "[1,\n" in re.sub(r"\n +", "\n", text)
    assert "...." not in text
    assert "----" not in text
    assert "&#" not in text


def test_pictures_that_a_template_names_are_in_html_reports(tmp_path: Path) -> None:
    template = written(FIVE, tmp_path)

    report = report_of(every_output(), tmp_path, template=template, report_format=ReportFormat.HTML)

    page = html.unescape(report.read_text())
    assert len(re.findall(r'<img src="data:image/(?:png|jpe?g);base64', page)) >= 3
    assert "<pre>[1,\n 2]</pre>" in page


SHOWN: dict[str, tuple[str, list[str]]] = {
    "indented text": (
        "{% block data_text %}\n{{ output.data['text/plain'] | indent }}\n{% endblock %}",
        ["    [1,\n     2]"],
    ),
    "delimiters on the line of super()": (
        "{% block data_text %}\n----{{ super() }}----\n{% endblock %}",
        ["\n[1,\n 2]\n"],
    ),
    "bare text keeps its lines": (
        "{% block data_text %}Value: {{ output.data['text/plain'] }}{% endblock %}",
        ["Value: [1,\n 2]"],
    ),
    "text in a table": ("{% block data_text %}\n|===\n| Value | {{ super() }}\n|===\n{% endblock %}", ["[1,\n 2]"]),
    "code with super()": (
        "{% block input %}.The code\n{{ super() }}{% endblock %}",
        ["The code", "# a comment", "In[1]"],
    ),
    "the group of the code": ("{% block input_group %}{{ super() }}{% endblock %}", ["# a comment"]),
    "prompts": ("{% block in_prompt %}Prompt {{ cell.execution_count }}.\n\n{% endblock %}", ["Prompt 3."]),
    "stream with super()": (
        "{% block stream %}\n----\n{{ super() }}\n----\n{% endblock %}",
        ["2 *stars*", "a warning"],
    ),
    "stderr": ("{% block stream_stderr %}\nERR {{ output.text }}\n{% endblock %}", ["ERR UserWarning: a warning"]),
    "lines of a traceback": (
        "{% block traceback_line %}TB {{ line | strip_ansi }}\n{% endblock %}",
        ["TB Traceback\nTB bad"],
    ),
    "error with super()": ("{% block error %}\nFAILED\n\n{{ super() }}{% endblock %}", ["FAILED", "ValueError: bad"]),
    "raw cells": ("{% block rawcell %}\n{{ super() }}\n\n{% endblock %}", ["A raw cell", "<b>A raw cell</b>"]),
    "a heading of the header": (
        "{% block header %}= My report\n\n{% endblock %}",
        ["My report", "A title", "A heading"],
    ),
    "a header with the name": ("{% block header %}= {{ resources.metadata.name }}\n\n{% endblock %}", ["executed"]),
    "a footer": (
        "{% block footer %}\nEnd of {{ nb.metadata.kernelspec.display_name }}\n{% endblock %}",
        ["End of Python 3"],
    ),
    "another form of the output": (
        "{% block data_html %}\n....\n{{ output.data['text/plain'] }}\n....\n{% endblock %}",
        ["a-b 1\nc 2"],
    ),
    "execute_result": ("{% block execute_result %}RESULT{{ super() }}{% endblock %}", ["RESULT", "a-b"]),
    "a table in a listing": ("{% block data_html %}\n----\n{{ super() }}\n----\n{% endblock %}", ["a-b"]),
    "output_group with super()": (
        "{% block output_group %}\n----\n{{ super() }}\n----\n{% endblock %}",
        ["a-b", "[1,\n 2]"],
    ),
    "within a line": (
        "{% block data_markdown %}\nNOTE: {{ output.data['text/markdown'] | markdown2asciidoc }}\n{% endblock %}",
        ["Note", "\nbold"],
    ),
    "strings of the template": (
        "{% block data_text %}\n{{ '=' * 3 }} Value {{ '*bold*' }}\n\n{% endblock %}",
        ["Value bold"],
    ),
    "set, macro, call and join": (
        """{% macro mark(text) %}_{{ text }}_{% endmacro %}
        {% block data_text %}{% set all %}*{{ super() }}*{% endset %}
{{ ['*x*', mark('y'), output.output_type] | join(', ') }} {{ all | length > 0 }}

{% endblock %}""",
        ["x, y, execute_result True"],
    ),
    "filters of nbconvert": (
        """{% block data_markdown %}
{{ output.data['text/markdown'] | convert_pandoc('markdown', 'html') }}

{{ output.data['text/markdown'] | markdown2rst }} {{ cell.source | comment_lines }}
{{ output.metadata | json_dumps }} {{ cell.source | wrap_text(20) | ipython2python }}

{% endblock %}""",
        ["<strong>bold</strong>", "**bold**", "# shown()"],
    ),
}


@pytest.mark.parametrize(("blocks", "expected"), SHOWN.values(), ids=SHOWN.keys())
def test_blocks_of_a_template_show_what_nbconvert_shows(blocks: str, expected: list[str], tmp_path: Path) -> None:
    template = written("{%- extends 'asciidoc.tpl' -%}\n" + blocks, tmp_path)

    text = text_of(report_of(every_output_but_formulas(), tmp_path, template=template, report_format=ReportFormat.HTML))

    assert [each for each in expected if each not in text] == []
    assert "&#" not in text
    assert "----" not in text
    assert "\n...." not in text
    assert "A title" in text


@pytest.mark.parametrize(
    "parent",
    ["asciidoc.asciidoc.j2", "index.asciidoc.j2", "asciidoc/index.asciidoc.j2", "null.tpl", "display_priority.tpl"],
)
def test_a_template_extends_any_template_of_nbconvert_for_asciidoc(parent: str, tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "cell.tpl").write_text("{% macro shown(cell) %}CODE {{ cell.source }}\n\n{% endmacro %}")
    (tmp_path / "parts" / "end.tpl").write_text("The end of {{ nb.cells | length }} cells")
    template = written(
        f"{{% extends '{parent}' %}}{{% from 'parts/cell.tpl' import shown %}}"
        "{% block input %}{{ shown(cell) }}{% endblock %}"
        "{% block footer %}\n{% include 'parts/end.tpl' %}\n{% endblock %}",
        tmp_path,
    )

    text = text_of(report_of(notebook("# T", code(source="x = 1")), tmp_path, template=template))

    assert "CODE x = 1" in text
    assert "The end of 2 cells" in text


def test_a_copy_of_autoflows_template_shows_what_that_shows(tmp_path: Path) -> None:
    copy = written(DEFAULT_TEMPLATE.read_text() + "{%- block footer %}\nThe end\n{% endblock -%}", tmp_path)
    ours = words_of(report_of(every_output(), tmp_path, report_format=ReportFormat.HTML))

    words = words_of(report_of(every_output(), tmp_path, template=copy, report_format=ReportFormat.HTML))

    assert words.replace(" The end", "") == ours


PLAIN = """{%- extends 'PARENT' -%}
{% block header %}
= {{ resources.metadata.name }}

{% endblock %}
{% block in_prompt %}
Prompt {{ cell.execution_count }}

{% endblock %}
{% block input %}
[source]
----
{{ cell.source }}
----
{% endblock %}
{% block output_group %}
{{ super.super() if 'asciidoc' in 'PARENT' else super() }}
{% endblock %}
{% block stream %}
....
{{ output.text }}
....
{% endblock %}
{% block error %}

Failed: {{ output.ename }}

{% endblock %}
{% block data_text %}

{{ output.data['text/plain'] | indent }}

{% endblock %}
{% block data_html %}

{{ output.data['text/html'] | convert_pandoc('html', 'asciidoc') }}

{% endblock %}
{% block data_markdown %}

{{ output.data['text/markdown'] | markdown2asciidoc }}

{% endblock %}
{% block markdowncell %}

{{ cell.source | markdown2asciidoc }}

{% endblock %}
{% block rawcell %}

RAW {{ cell.source | upper }}

{% endblock %}
"""


@pytest.mark.parametrize("parent", ["asciidoc/index.asciidoc.j2", "base/display_priority.j2"])
def test_a_template_with_blocks_of_its_own_makes_the_text_that_plain_nbconvert_makes(
    parent: str, tmp_path: Path
) -> None:
    template = written(PLAIN.replace("PARENT", parent), tmp_path)
    table = "<table><thead><tr><th>a</th><th>b</th></tr></thead><tbody><tr><td>1</td><td>two</td></tr></tbody></table>"
    cells = notebook(
        "# Title\n\nSome **bold** text\n\n- one\n- two",
        code(prints("printed\n  indented\n"), prints("warned\n", "stderr"), source="x = 1\ny = 2"),
        code(shows(text_html=table, text_plain="a b")),
        code(shows(text_markdown="*shown*", text_plain="shown")),
        code(shows(text_plain="first\n  second")),
        code(NotebookNode(v4.new_output("error", ename="Bad", evalue="worse", traceback=["line"]))),
        v4.new_raw_cell("raw"),
    )

    ours = report_of(cells, tmp_path, template=template, report_format=ReportFormat.HTML)

    assert _body(words_of(ours)) == _body(words_of(_plain(tmp_path / "executed.ipynb", template)))


def _body(words: str) -> str:
    return words.partition(" Last updated")[0].partition("Flows *above*")[0].strip()


def _plain(executed: Path, template: Path) -> Path:
    """Convert with plain nbconvert and asciidoctor."""
    exporter = ASCIIDocExporter(template_file=template.name, extra_template_paths=[str(template.parent)])  # type: ignore[no-untyped-call]
    exporter.exclude_output_prompt = True
    document, _ = exporter.from_filename(str(executed))
    source = executed.with_name("plain.adoc")
    source.write_text(document)
    program = shutil.which("asciidoctor-pdf")
    assert program
    subprocess.run([program, "-b", "html5", "-a", "webfonts!", str(source)], check=True, capture_output=True)
    return source.with_suffix(".html")


HOSTILE = "image::/etc/hostname[] *bold* +++<b>x</b>+++"
WAYS: list[str] = [
    "{{ cell.source | safe }}",
    "{{ cell.source | e }}",
    "{{ cell.source | escape_html }}",
    "{{ cell.source | forceescape }}",
    "{{ super() ~ cell.source }}",
    "{{ super() + cell.source }}",
    "{{ '*a* ' ~ cell.source }}",
    "{{ '%s' | format(cell.source) }} {{ '%s' % cell.source }} {{ '{}'.format(cell.source) }}",
    "{{ [super(), cell.source] | join }} {{ ['*a*', cell.source] | join('*') }}",
    "{% set x %}{{ cell.source }}{% endset %}{{ x }} {{ x | replace('a', 'a') }} {{ x | indent }}",
    "{% macro m(x) %}{{ x }} {{ caller() }}{% endmacro %}{% call m(cell.source) %}{{ cell.source }}{% endcall %}",
    "{% autoescape false %}{{ cell.source }}{% endautoescape %}",
    "{% filter upper %}{{ cell.source }}{% endfilter %} {{ self.header() ~ cell.source }}",
    "{{ cell.source | urlize }} {{ cell.source | tojson }} {{ {'a': cell.source} | xmlattr }} {{ [cell.source] }}",
    "{{ (super() ~ cell.source) | html2text }} {{ (super() ~ cell.source) | striptags }}",
    "{{ (super() ~ cell.source) | markdown2html }} {{ cell.source | markdown2html }}",
]


def test_no_way_of_printing_makes_text_of_a_notebook_asciidoc(tmp_path: Path) -> None:
    blocks = "\n\n".join(WAYS)
    template = written("{% extends 'asciidoc.tpl' %}{% block rawcell %}\n" + blocks + "\n\n{% endblock %}", tmp_path)

    page = report_of(
        notebook("# T", v4.new_raw_cell(HOSTILE)), tmp_path, template=template, report_format=ReportFormat.HTML
    ).read_text()

    assert "<img" not in page
    assert "<strong>bold" not in page
    assert "<strong>a</strong>" in page
    assert "<b>" not in page
    assert page.count("image&#58;&#58;") >= len(WAYS)


WRONG: dict[str, tuple[str, str]] = {
    "syntax": ("\n{{ 1 + }}", r"own\.tpl:2: .*correct the template"),
    "an undefined filter": ("\n\n{{ 1 | no_filter }}", r"own\.tpl:3: No filter named 'no_filter': correct the name"),
    "a missing name": ("\n{{ nb.missing.name }}", r"own\.tpl:2: .*no attribute 'missing': correct the name"),
    "a missing template": ("\n{% include 'x.tpl' %}", r"own\.tpl:2: there is no template 'x\.tpl': put it beside"),
    "a missing picture": ("\nimage::{{ 'x.png' | beside }}[]", r"own\.tpl:2: there is no file .*x\.png: put it there"),
    "an error": ("\n{{ 1 / 0 }}", r"own\.tpl:2: ZeroDivisionError: division by zero: correct the template"),
    "asciidoc that asciidoctor refuses": (
        "\n\nText\n\n= Title {{ 1 }}\n",
        r"own\.tpl:5: asciidoctor: level 0 sections .*: correct the asciidoc",
    ),
}


@pytest.mark.parametrize(("footer", "expected"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_in_a_template_is_reported_in_a_line(footer: str, expected: str, tmp_path: Path) -> None:
    template = written(f"{{% extends 'asciidoc.tpl' %}}{{% block footer %}}{footer}{{% endblock %}}", tmp_path)

    with pytest.raises(ReportError) as raised:
        try_template(template, ReportFormat.PDF)

    assert re.search(expected, str(raised.value))
    assert "\n" not in str(raised.value)


def test_warnings_of_asciidoctor_name_the_line_of_the_template(tmp_path: Path) -> None:
    template = written(
        "{% extends 'asciidoc.tpl' %}\n{% block footer %}\n\nimage::logo.png[]\n\n----\nnever ends\n{% endblock %}",
        tmp_path,
    )

    picture, listing = sorted(try_template(template, ReportFormat.PDF))

    assert "own.tpl:4: asciidoctor: image to embed not found or not readable: logo.png: put the picture" in picture
    assert "own.tpl:6: asciidoctor: unterminated listing block" in listing


def test_a_template_that_works_has_no_warnings(tmp_path: Path) -> None:
    assert try_template(written(FIVE, tmp_path), ReportFormat.HTML) == ()
