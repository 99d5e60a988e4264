"""A secret in a parameter is refused, with the name of the parameter and the line, but never with the secret."""

from pathlib import Path

import pytest

from autoflow.errors import AutoflowError, WorkflowsFileError
from autoflow.parser import parse_workflows_file
from autoflow.parser.secret_values import check_for_secrets
from autoflow.specs import Json
from tests.parser.good_file import ENTRY, GOOD

TOKEN = 'tok.en_with-"marks"-and-many-letters-' + "x" * 200
SECRETS = (TOKEN, "98765432", "short")
HAS_ONE = "it contains the token or another of AutoFlow's secrets"

VALUES = {
    "itself": f"'{TOKEN}'",
    "a number": "98765432",
    "part of a text": f"'Bearer {TOKEN}, please'",
    "in a list": f"[1, [2, '{TOKEN}']]",
    "in a mapping": f"{{a: {{b: '{TOKEN}'}}}}",
    "a key": f"{{'{TOKEN}': 1}}",
    "spread over a list": f"['{TOKEN[:50]}', '{TOKEN[50:]}']",
    "in a URL": "'http://x/?token=" + TOKEN.replace('"', "%22") + "'",
    "over lines": '"' + TOKEN.replace('"', '\\"') + '"',
    "merged": f"&a {{b: '{TOKEN}'}}",
}


def _problems(inputs: Path, text: str) -> list[str]:
    path = inputs / "workflows.yml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(WorkflowsFileError) as raised:
        parse_workflows_file(path, secrets=SECRETS)
    return list(raised.value.problems)


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_secret_in_a_parameter_is_refused_without_showing_it(value: str, inputs: Path) -> None:
    (problem,) = _problems(inputs, GOOD.replace("{count: 3}", f"{{count: {value}}}"))

    assert problem.startswith(f"workflows.yml:24: {ENTRY}.parameters.count: {HAS_ONE}")
    assert "tok.en" not in problem


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("label", ENTRY),
        ("title", ENTRY),
        ("description", ENTRY),
        ("title", "workflows[0]"),
        ("description", "workflows[0]"),
    ],
)
def test_secret_in_a_text_for_readers_is_refused_without_showing_it(key: str, place: str, inputs: Path) -> None:
    indent, before = ("      ", "parameters: {count: 3}\n") if place == ENTRY else ("    ", "name: flows\n")
    (problem,) = _problems(inputs, GOOD.replace(before, f"{before}{indent}{key}: '98765432'\n", 1))

    assert f" {place}.{key}: {HAS_ONE}" in problem
    assert "98765432" not in problem


def test_secret_as_the_name_of_a_parameter_is_refused_without_showing_it(inputs: Path) -> None:
    problems = _problems(inputs, GOOD.replace("{count: 3}", f"{{count: 3, '{TOKEN}': 1}}"))

    assert any(HAS_ONE in problem and ":24: " in problem for problem in problems)
    assert "tok.en" not in "".join(problems)


@pytest.mark.parametrize("key", ["timeout: 90", "name: flows", "schedule: '0 6 * * *'", "max_attempts: 2"])
def test_secret_in_another_key_is_in_no_message(key: str, inputs: Path) -> None:
    name = key.partition(":")[0]
    for value in (f"['{TOKEN}']", f"'{TOKEN}\\n'", f"{{'{TOKEN}': 1}}", f"'{TOKEN}'"):
        text = GOOD.replace(key, f"{name}: {value}").replace("cdr_types: [calls, sms]", f"cdr_types: ['{TOKEN}']")

        assert "tok.en" not in "".join(_problems(inputs, text))


@pytest.mark.parametrize("value", [3, "short", None, True, ["a", {"b": 1.5}], "tok.en_with", 987654321])
def test_other_values_are_accepted(value: Json) -> None:
    check_for_secrets({"count": value}, SECRETS)


@pytest.mark.parametrize("value", [TOKEN, 98765432, [{"a": f"x{TOKEN}"}], {TOKEN: 1}])
def test_value_of_a_request_is_refused_without_showing_it(value: Json) -> None:
    with pytest.raises(AutoflowError, match=rf"^parameter 'count': {HAS_ONE}") as raised:
        check_for_secrets({"level": 1, "count": value}, SECRETS)

    assert "tok.en" not in str(raised.value)
