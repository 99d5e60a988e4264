from pathlib import Path

import pytest

from tests.parser.good_file import ENTRY, REPORT, changed, lines_of, parse, problems

LAUGHS = "\n".join(f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 9)}]" for n in range(9))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("        timeout: 90", "        filename: x.ipynb", f"9: {REPORT}.filename: duplicate key, first on line 6"),
        ("only:", "1:", "17: workflows[1].notebooks.1: YAML does not read this key as text; write '1'"),
        ("only:", "no:", "17: workflows[1].notebooks.no: YAML does not read this key as text; write 'no'"),
        ("only:", "[a]:", "17: workflows[1].notebooks['?']: a key must be plain text"),
        ("{count: 3}", "{count: !!set {a}}", f"24: {ENTRY}.parameters.count: unsupported YAML tag '!!set'"),
        (
            "{count: 3}",
            "{count: {1: 2}}",
            f"24: {ENTRY}.parameters.count.1: YAML does not read this key as text; write '1'",
        ),
        (
            "{count: 3}",
            "{count: !!python/object/apply:os.getcwd []}",
            f"24: {ENTRY}.parameters.count: unsupported YAML tag '!!python/object/apply:os.getcwd'",
        ),
        (
            "{count: 3}",
            "{count: &a [*a]}",
            f"24: {ENTRY}.parameters.count[0]: this alias refers to a value that contains it",
        ),
        ("{count: 3}", "{count: 3, <<: 4}", f"24: {ENTRY}.parameters: '<<' can merge only mappings"),
    ],
)
def test_one_value_that_is_not_plain_gives_one_line(inputs: Path, old: str, new: str, expected: str) -> None:
    assert problems(inputs, changed((old, new))) == [expected]


def test_anchors_and_merge_keys_work(inputs: Path) -> None:
    entry = "    - workflow_name: other\n"
    merged = parse(
        inputs,
        changed(
            ("    - workflow_name: flows\n", "    - &flows\n      workflow_name: flows\n"),
            (entry, f"{entry}    - <<: *flows\n      parameters: {{count: 4}}\n"),
        ),
    )
    first, _, third = merged.sensor.triggers
    assert third.parameters == {"count": 4}
    assert (third.workflow, third.date_stencil, third.retry_delay) == (first.workflow, first.date_stencil, 5.0)


def test_the_first_of_several_merged_mappings_wins(inputs: Path) -> None:
    value = "{<<: [{a: 1, b: 1}, {a: 2, c: 2}], b: 3}"
    file = parse(inputs, changed(("{count: 3}", f"{{count: {value}}}")))
    assert file.sensor.triggers[0].parameters == {"count": {"a": 1, "b": 3, "c": 2}}


def test_aliases_that_expand_to_too_many_values_are_refused(inputs: Path) -> None:
    assert problems(inputs, f"a: &a [x]\n{LAUGHS}\n") == [
        "6: the file has more than 100000 values once its aliases are expanded",
    ]


def test_values_that_aliases_nest_too_deeply_are_refused(inputs: Path) -> None:
    links = ", ".join(f"x{number}: &x{number} [*x{number - 1}]" for number in range(1, 100))
    assert problems(inputs, changed(("{count: 3}", f"{{count: {{x0: &x0 [1], {links}}}}}"))) == [
        "19: the file has values nested more than 50 levels deep once its aliases are expanded",
    ]


def test_mappings_that_merges_nest_too_deeply_are_refused(inputs: Path) -> None:
    links = ", ".join(f"a: &x{number} {{<<: *x{number - 1}}}" for number in range(1, 3_000))
    text = changed(("{count: 3}", f"{{count: {{a: &x0 {{}}, {links}, b: {{<<: *x2999}}}}}}"))
    assert problems(inputs, text) == [" '<<' merges are nested too deeply"]


def test_mapping_that_is_merged_into_itself_is_harmless(inputs: Path) -> None:
    parse(inputs, changed(("{count: 3}", "{count: &a {<<: *a, b: 1}}")))


# Lines.


def test_lines_are_right_with_the_line_ends_of_windows(inputs: Path) -> None:
    text = changed(("timeout: 90", "timeout: 0"), ("{count: 3}", "{}"), ("max_attempts: 2", "max_attempts: 0"))
    found = problems(inputs, text)
    assert lines_of(found) == ["9", "24", "31"]
    assert problems(inputs, text.replace("\n", "\r\n")) == found


def test_lines_are_right_in_flow_style_and_after_comments_and_texts_of_several_lines(inputs: Path) -> None:
    text = """\
# A comment,
# and one more.
{
  workflows: [
    {name: "a
      b",

      notebooks: {
        one: {
          filename:
            nowhere.ipynb,
          timeout: 0,
        },  # ends here
      },
    },
  ],
  available_dates_sensor: {
    schedule: 'x
      y',
    workflows: [
      {workflow_name: a b, parameters: {
        text: 'more
          than one line',
        wrong: 1}},
      {workflow_name: c},
    ],
  },
}
"""
    assert problems(inputs, text) == [
        "11: workflows[0].notebooks.one.filename: no file 'nowhere.ipynb' in the inputs folder",
        "12: workflows[0].notebooks.one.timeout: expected more than 0 seconds, not 0",
        (
            "18: available_dates_sensor.schedule: 'x y' is not a valid cron string: "
            "expected five fields: minute, hour, day of the month, month, day of the week"
        ),
        f"22: {ENTRY}.parameters.text: no notebook of workflow 'a b' uses this parameter; remove it",
        f"24: {ENTRY}.parameters.wrong: no notebook of workflow 'a b' uses this parameter; remove it",
        "25: available_dates_sensor.workflows[1].workflow_name: unknown workflow 'c'",
    ]
