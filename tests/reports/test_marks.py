import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoflow.reports.marks import GROUP, GROUP_END, OUTPUT, as_blocks, as_text, laid_out

TEMPLATE_TEXT = [
    "----\n",
    "....\n",
    "```\n",
    "++++\n",
    "|===\n",
    "| cell ",
    "a| ",
    "[source]\n",
    "\n",
    "text ",
    "* ",
    "+\n",
    "----",
]


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (f"----\n{as_text('a.b')}\n----", "----\na&#46;b\n----"),
        (f"----{as_text('a')}----", "----\na\n----"),
        (f"a\n{as_text('b')}\nc", "a\n\n....\nb\n....\n\nc"),
        (f"a {as_text('b')} c", "a b c"),
        (f"NOTE: {as_blocks('b')}", "NOTE: b"),
        (
            f"[source]\n----\nx\n{as_blocks('image::y[]')}\nz\n----",
            "[source]\n----\nx\n----\n\nimage::y[]\n\n----\nz\n----\n",
        ),
        (f"[source]\n----\n{as_blocks('image::y[]')}\n----", "image::y[]\n"),
        (f"|===\n| {as_text('a')} | b\n|===", "|===\n| a | b\n|==="),
        (f"{GROUP}{OUTPUT}a b{OUTPUT}*c*{GROUP_END}", "....\na b\n....\n\n*c*\n"),
    ],
)
def test_what_filters_make_fits_its_place(document: str, expected: str) -> None:
    assert laid_out(document).strip("\n") == expected.strip("\n")


@given(st.lists(st.sampled_from([*TEMPLATE_TEXT, "TEXT", "LINES", "BLOCK", "TABLE", GROUP + OUTPUT, GROUP_END])))
def test_nothing_is_lost_or_moved(kinds: list[str]) -> None:
    made = {"TEXT": "{}", "LINES": "{}\nx", "BLOCK": "{}", "TABLE": "|===\n|{}\n|==="}
    words = [f"W{number}W" for number, kind in enumerate(kinds) if kind in made]
    names = iter(words)
    document = "".join(
        str((as_text if kind in {"TEXT", "LINES"} else as_blocks)(made[kind].format(next(names))))
        if kind in made
        else kind
        for kind in kinds
    )

    shown = laid_out(document)

    assert [shown.count(word) for word in words] == [1] * len(words)
    assert sorted(words, key=shown.index) == words
    assert not any("\ufdd0" <= character <= "\ufdef" for character in shown)
