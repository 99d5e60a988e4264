import json
from pathlib import Path

import pytest

from autoflow.errors import AutoflowError
from autoflow.parser.single_value import parse_value
from autoflow.runs.records import WorkflowKey
from tests.parser.good_file import ENTRY, REPORT, SENSOR, changed, parse, problems

HALF = "is half of a pair of escapes, and the other half is missing"

SURPRISES = {
    "NO": "false",
    "yes": "true",
    "On": "true",
    "0123456": "the number 42798",
    "012": "the number 10",
    "-007": "the number -7",
    "12:30": "the number 750",
    "1:30.5": "the number 90.5",
    "1_000": "the number 1000",
    "0x1_0": "the number 16",
    "1_0.5": "the number 10.5",
}
"""Values that users mean as text or as another number, and their meaning in YAML."""


@pytest.mark.parametrize("written", SURPRISES)
def test_value_that_yaml_reads_differently_from_users_is_refused(inputs: Path, written: str) -> None:
    meaning = SURPRISES[written]
    advice = f"write '{written}' for text, or {meaning.removeprefix('the number ')}"
    message = f"YAML reads {written} as {meaning}; {advice}"
    place = f"24: {ENTRY}.parameters.count.a[0]"
    assert problems(inputs, changed(("{count: 3}", f"{{count: {{a: [{written}]}}}}"))) == [f"{place}: {message}"]
    with pytest.raises(AutoflowError) as raised:
        parse_value(f"{{a: [{written}]}}")
    assert str(raised.value) == f"'{{a: [{written}]}}': {message}"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("- -3", "- 010", f"28: {ENTRY}.date_stencil[1]: YAML reads 010 as the number 8; write '010' for text, or 8"),
        (
            "timeout: 90",
            "timeout: 1_000",
            f"9: {REPORT}.timeout: YAML reads 1_000 as the number 1000; write '1_000' for text, or 1000",
        ),
        ("'0 6 * * *'", "off", f"20: {SENSOR}.schedule: YAML reads off as false; write 'off' for text, or false"),
        (
            "name: other\n    ",
            "name: [Yes]\n    ",
            "16: workflows[1].name[0]: YAML reads Yes as true; write 'Yes' for text, or true",
        ),
        (
            "- workflow_name: other",
            "- No",
            f"32: {SENSOR}.workflows[1]: YAML reads No as false; write 'No' for text, or false",
        ),
        (
            "{count: 3}",
            '{count: "\\ud800"}',
            f"24: {ENTRY}.parameters.count: the text contains a character that cannot be stored: \\ud800 {HALF}",
        ),
    ],
)
def test_surprising_value_is_refused_at_every_place(inputs: Path, old: str, new: str, expected: str) -> None:
    assert problems(inputs, changed((old, new))) == [expected]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("'NO'", "NO"),
        ('"012"', "012"),
        ("|-\n          12:30", "12:30"),
        ("y", "y"),
        ("True", True),
        ("0", 0),
        ("-10", -10),
        ("0.5", 0.5),
        ("0x1F", 31),
        ("0b11", 3),
        ("089", "089"),
        ("a_1:0", "a_1:0"),
        ("2016-01-01 12:30:00", "2016-01-01T12:30:00"),
    ],
)
def test_value_that_is_clear_is_accepted(inputs: Path, written: str, value: object) -> None:
    file = parse(inputs, changed(("{count: 3}", f"\n        count: {written}")))
    assert file.sensor.triggers[0].parameters == {"count": value}
    assert parse_value(written) == value


@pytest.mark.parametrize("value", [":".join(["59"] * 80_000), "9" * 200_000, "9" * 200_000 + ".5"])
def test_numbers_that_take_long_to_read_are_refused(inputs: Path, value: str) -> None:
    assert problems(inputs, changed(("{count: 3}", f"{{count: {value}}}"))) == [
        f"24: {ENTRY}.parameters.count: the number is too long: it has {len(value)} characters, and may have 100",
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('"\\ud800"', f"the text contains a character that cannot be stored: \\ud800 {HALF}"),
        ('"\\ude00\\ud83d"', f"the text contains a character that cannot be stored: \\ude00 {HALF}"),
        ('{"\\0": 1}', "the text contains a character that cannot be stored: \\0"),
        ("9" * 101, "the number is too long: it has 101 characters, and may have 100"),
        ("-1.0e+400", "the number is too large; the largest is about 1.8e+308"),
        (".inf", "a parameter cannot be infinite or NaN, because JSON has no such values"),
        ("[" * 900 + "]" * 900, "values are nested more than 50 levels deep"),
        ('{"a": ' * 900 + "1" + "}" * 900, "values are nested more than 50 levels deep"),
        ("!!bool maybe", "'maybe' is not a valid boolean"),
        ("!!int many", "'many' is not a valid whole number"),
        ("2016-02-30", "'2016-02-30' is not a valid date"),
        ("{1: 2}", "the keys of a mapping must be text"),
        ("!odd x", "invalid YAML; quote text with special characters"),
    ],
)
def test_single_value_that_cannot_be_used_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(AutoflowError) as raised:
        parse_value(text)
    shown = text if len(text) <= 80 else f"{text[:80]}..."
    assert str(raised.value) == f"{shown!r}: {reason}"


def test_pairs_of_escapes_are_emoji_as_in_json(inputs: Path) -> None:
    text = changed(("{count: 3}", '{count: ["\\ud83d\\ude00 \\ud834\\udd1e", {"\\ud83d\\ude00": 😀}]}'))
    (trigger, _) = parse(inputs, text).sensor.triggers
    assert trigger.parameters == {"count": ["😀 𝄞", {"😀": "😀"}]}
    assert parse_value('"\\ud83d\\ude00"') == "😀"


def test_half_of_a_pair_of_escapes_is_refused_in_a_key(inputs: Path) -> None:
    assert problems(inputs, changed(("{count: 3}", '{count: {"\\ud83d": 1}}'))) == [
        f"24: {ENTRY}.parameters.count['?']: the text contains a character that cannot be stored: \\ud83d {HALF}",
    ]


@pytest.mark.parametrize("number", [2**63, -(2**64), 10**99, 1.7976931348623157e308])
def test_large_number_is_read_exactly(inputs: Path, number: float) -> None:
    (trigger, _) = parse(inputs, changed(("{count: 3}", f"{{count: {number}}}"))).sensor.triggers
    assert trigger.parameters == {"count": number}
    key = WorkflowKey.of("w", trigger.parameters)
    assert json.loads(key.parameters) == {"count": number}


@pytest.mark.parametrize("number", ["1.0e+309", "-1.0e+999999999"])
def test_number_beyond_those_of_json_is_refused_with_the_reason(inputs: Path, number: str) -> None:
    assert problems(inputs, changed(("{count: 3}", f"{{count: {number}}}"))) == [
        f"24: {ENTRY}.parameters.count: the number is too large; the largest is about 1.8e+308",
    ]
