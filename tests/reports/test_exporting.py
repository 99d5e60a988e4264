import base64
from pathlib import Path

import pytest

from autoflow.errors import ReportError
from tests.reports.convert import PIXEL, code, images_in, notebook, prints, report_of, text_of


@pytest.mark.parametrize("name", ["asciidoc.tpl", "asciidoc/index.asciidoc.j2", "asciidoc_extended.tpl"])
def test_an_operators_template_extends_asciidocs_by_any_of_its_names(name: str, tmp_path: Path) -> None:
    template = tmp_path / "own.tpl"
    template.write_text(
        f"{{% extends '{name}' %}}\n"
        "{% block header %}{{ super() }}\n*From the ministry*\n\n{% endblock %}\n"
        "{% block input %}\n----\n{{ cell.source }}\n----\n{% endblock %}\n"
    )
    source = "print('*x*')  # include::/etc/passwd[]\n----\ny = 1"

    text = text_of(report_of(notebook("# T", code(prints("printed"), source=source)), tmp_path, template=template))

    assert "From the ministry" in text
    assert "*From" not in text
    assert "print('*x*') # include::/etc/passwd[]" in " ".join(text.split())
    assert "y = 1" in text
    assert "printed" in text


def test_an_operators_template_shows_a_picture_that_lies_beside_it(tmp_path: Path) -> None:
    template = tmp_path / "own.tpl"
    (tmp_path / "logo.png").write_bytes(base64.b64decode(PIXEL))
    template.write_text(
        "{% extends 'asciidoc.tpl' %}{% block header %}{{ super() }}\n"
        "image::{{ 'logo.png' | beside }}[]\n\n{% endblock %}"
    )

    assert images_in(report_of(notebook("# T"), tmp_path, template=template)) > 0


def test_text_that_an_operators_template_changes_is_still_data(tmp_path: Path) -> None:
    template = tmp_path / "own.tpl"
    template.write_text(
        "{% extends 'asciidoc.tpl' %}"
        "{% block markdowncell %}{{ (cell.source ~ ' *changed*') | markdown2asciidoc }}"
        "\n\n{{ cell.source }}{% endblock %}"
    )

    text = text_of(report_of(notebook("include::/etc/passwd[]"), tmp_path, template=template))

    assert text.count("include::/etc/passwd[]") >= 2
    assert "*changed*" not in text


@pytest.mark.parametrize(
    ("template", "place"),
    [
        ("{% extends 'asciidoc.tpl' %}\n{% block input %}\n{{ cell.source | }}\n{% endblock %}", "own.tpl:3"),
        ("{% extends 'asciidoc.tpl' %}\n{% block input %}\n{{ cell.missing.name }}\n{% endblock %}", "own.tpl:3"),
        ("{% extends 'asciidoc.tpl' %}\n{% block input %}\n{{ 1 | no_filter }}\n{% endblock %}", "own.tpl:3"),
        ("{% extends 'nothing.tpl' %}", "own.tpl:1"),
    ],
)
def test_a_mistake_in_a_template_is_reported_with_file_and_line(template: str, place: str, tmp_path: Path) -> None:
    own = tmp_path / "own.tpl"
    own.write_text(template)

    with pytest.raises(ReportError, match=place):
        report_of(notebook("# T", code()), tmp_path, template=own)
