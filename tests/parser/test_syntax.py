from pathlib import Path

import pytest

from tests.parser.good_file import changed, problems


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "- name: flows",
            "- name:flows",
            "4: a key is not allowed here; put a space after each colon, and quote text that contains a colon",
        ),
        ("        timeout: 90", "        timeout 90", "9: missing colon after this key"),
        ("        timeout: 90", "         timeout: 90", "9: the indentation does not match the lines before"),
        ("'0 6 * * *'", "'0 6 * * *", "20: this quote is never closed"),
        ("[calls, sms]", "[calls, sms", "22: missing ',' or ']' before this; line 21 has the opening '['"),
        ("run, date", "run date", "7: missing ',' or '}' before this; line 7 has the opening '{'"),
        ("[calls, sms]", "[calls, sms]]", "21: unexpected ']'"),
        ("{count: 3}", "{count: %3}", "24: text that starts with '%' must be quoted"),
        (
            "{count: 3}",
            '{count: "\\d"}',
            "24: unknown escape sequence; put text with backslashes in single quotes",
        ),
    ],
)
def test_common_mistake_is_explained_without_yaml_jargon(inputs: Path, old: str, new: str, expected: str) -> None:
    assert problems(inputs, changed((old, new))) == [expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [1,\nb: 2\n", "3: missing ',' or ']' before this; line 1 has the opening '['"),
        (
            "workflows: []\navailable_dates_sensor:\n  schedule: * * * * *\n",
            "3: text that starts with '*' must be quoted, as in schedule: '* * * * *'",
        ),
        ("schedule: @daily\n", "1: text that starts with '@' must be quoted, as in schedule: '@daily'"),
        ("workflows:\n\t- name: a\n", "2: a tab is not allowed here; indent with spaces"),
        ("a: 1\n---\nb: 2\n", "2: a second YAML document starts here; expected only one"),
        ("a: *b\n", "1: unknown alias '*b'; text that starts with '*' must be quoted"),
    ],
)
def test_invalid_yaml_gives_one_line(inputs: Path, text: str, expected: str) -> None:
    assert problems(inputs, text) == [expected]
