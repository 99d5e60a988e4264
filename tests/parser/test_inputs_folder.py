from pathlib import Path

import pytest

from autoflow.parser import parse_workflows_file
from tests.conftest import write_notebook
from tests.parser.good_file import GOOD, ONLY, REPORT, RUN, changed, parse, problems


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "report.ipynb",
            "repork.ipynb",
            f"6: {REPORT}.filename: no file 'repork.ipynb' in the inputs folder; did you mean 'report.ipynb'?",
        ),
        (
            "report.ipynb",
            "custom.tpl",
            f"6: {REPORT}.filename: 'custom.tpl' is not a notebook; expected a name that ends in .ipynb",
        ),
        ("sub/run.ipynb", "sub", f"11: {RUN}.filename: 'sub' is not a file"),
        ("sub/run.ipynb", "../run.ipynb", f"11: {RUN}.filename: '../run.ipynb' is outside the inputs folder"),
        ("sub/run.ipynb", "/etc/passwd", f"11: {RUN}.filename: '/etc/passwd' is outside the inputs folder"),
        (
            "custom.tpl",
            "custom.tp",
            f"8: {REPORT}.output.template: no file 'custom.tp' in the inputs folder; did you mean 'custom.tpl'?",
        ),
        ("custom.tpl", "../custom.tpl", f"8: {REPORT}.output.template: '../custom.tpl' is outside the inputs folder"),
    ],
)
def test_file_name_that_cannot_be_used_gives_one_line(inputs: Path, old: str, new: str, expected: str) -> None:
    assert problems(inputs, changed((old, new))) == [expected]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "it is not valid JSON"),
        ("[" * 100_000, "it is nested too deeply"),
        ("[" * 100_000 + "]" * 100_000, "it is nested too deeply"),
        ("[]", "its JSON has no 'nbformat'"),
        ('{"cells": []}', "its JSON has no 'nbformat'"),
        ('{"nbformat": 4, "nbformat_minor": 5, "cells": []}', "'metadata' is a required property"),
        ('{"nbformat": 9, "nbformat_minor": 5, "cells": []}', "unknown format 9.5"),
        (
            '{"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": 3}, "cells": []}',
            "metadata.kernelspec: 3 is not of type 'object'",
        ),
        (
            f'{{"nbformat": 4, "nbformat_minor": 5, "metadata": {{"x": {"[" * 900}{"]" * 900}}}, "cells": []}}',
            "it is nested too deeply",
        ),
        (b"\xff\xfe", "it is not UTF-8 text"),
    ],
)
def test_invalid_notebook_is_refused_with_the_reason(inputs: Path, content: str | bytes, reason: str) -> None:
    (inputs / "plain.ipynb").write_bytes(content.encode() if isinstance(content, str) else content)
    assert problems(inputs, GOOD) == [f"17: {ONLY}.filename: 'plain.ipynb' is not a valid notebook: {reason}"]


def test_inputs_folder_can_be_another_than_that_of_the_file(
    inputs: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("elsewhere") / "workflows.yml"
    path.write_text(GOOD)
    file = parse_workflows_file(path, inputs_dir=inputs)
    assert file.workflow("other").notebooks[0].path == inputs / "plain.ipynb"


def test_notebook_can_be_a_link_within_the_inputs_folder(inputs: Path) -> None:
    (inputs / "link.ipynb").symlink_to("plain.ipynb")
    parse(inputs, changed(("plain.ipynb", "link.ipynb")))


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside.ipynb"])
def test_link_out_of_the_inputs_folder_is_refused(inputs: Path, target: str) -> None:
    (inputs / "link.ipynb").symlink_to(target)
    assert problems(inputs, changed(("plain.ipynb", "link.ipynb"))) == [
        f"17: {ONLY}.filename: 'link.ipynb' is outside the inputs folder",
    ]


def test_link_to_itself_is_refused(inputs: Path) -> None:
    (inputs / "link.ipynb").symlink_to("link.ipynb")
    (problem,) = problems(inputs, changed(("plain.ipynb", "link.ipynb")))
    assert problem.startswith(f"17: {ONLY}.filename: cannot access 'link.ipynb': ")


def test_name_that_no_file_can_have_is_refused(inputs: Path) -> None:
    (problem,) = problems(inputs, changed(("plain.ipynb", f"{'x' * 300}.ipynb")))
    assert problem.startswith(f"17: {ONLY}.filename: cannot access 'xxx")
    assert problem.endswith(": File name too long")


def test_braces_in_a_file_name_mean_nothing(inputs: Path) -> None:
    write_notebook(inputs / "a{b}{}.ipynb", parameters="path = ''")
    notebook = "{only: {filename: 'a{b}{}.ipynb', parameters: {path: date_ranges}}}"
    parse(inputs, changed(("{only: {filename: plain.ipynb}}", notebook)))
