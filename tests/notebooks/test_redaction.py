import base64
import html
import json
import re
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

from autoflow.notebooks.outputs import LONGEST_ERROR, OUTPUT_LIMIT
from autoflow.notebooks.redaction import Redaction
from tests.conftest import Deployed, write_notebook
from tests.notebooks.running import SECRET, Runner


def test_secrets_are_redacted_everywhere(tmp_path: Path, run: Runner) -> None:
    path = write_notebook(tmp_path / "n.ipynb", "s = value", parameters="value = 1")
    notebook = nbformat.read(path, as_version=4)
    sources = [
        f"# {SECRET}\nprint(s[:9], end='', flush=True); print(s[9:])",
        "from IPython.display import HTML, JSON; import html; HTML(html.escape(s))",
        "display(JSON({'lines': [s[:9], s[9:]], s: s}))",
        "raise ValueError('\\x1b[31m' + s[:9] + '\\x1b[1m' + s[9:])",
    ]
    notebook.cells += [nbformat.v4.new_code_cell(source) for source in sources]
    notebook.cells[0].metadata["note"] = [SECRET]
    notebook.metadata["note"] = {SECRET: SECRET}
    nbformat.write(notebook, path)
    ran = run.run(path, values={"value": SECRET}, secrets=[SECRET, "short"])
    assert ran.failure() == (6, "ValueError", "[secret]")
    assert ran.printed(3) == "[secret]\n"
    text = ran.executed.read_text(encoding="utf-8")
    for traces in (SECRET, SECRET[9:], json.dumps(SECRET[9:])[1:-1], "&lt;odd&gt; characters"):
        assert traces not in text.replace("s[9:]", "")


def test_token_over_several_lines_or_in_its_parts_is_redacted(run: Runner, deployed: Deployed) -> None:
    parts = [character * 60 for character in "hps"]
    settings = deployed.settings(FLOWAPI_TOKEN=".".join(parts))
    ran = run(
        f"parts = {parts}",
        "import textwrap; print('it is', textwrap.fill('.'.join(parts), 50), 'so')",
        "print(parts[2])",
        secrets=settings.secrets,
    )
    assert ran.printed(1) == "it is [secret] so\n"
    assert ran.printed(2) == "[secret]\n"


def test_secret_that_is_a_word_of_the_format_leaves_a_notebook(run: Runner) -> None:
    ran = run("print('stdout')", secrets=["stdout", "source", "outputs", "cell_type", "stream"])
    assert ran.printed() == "[secret]\n"


LONG_TOKEN = ".".join(["h" * 60, "p_-" * 100, "s" * 43])
SECRETS = [SECRET, LONG_TOKEN, "hunter22"]


def _between(between: str) -> Callable[[str], str]:
    return lambda secret: between.join(map(html.escape, secret))


WAYS: dict[str, Callable[[str], str]] = {
    "decimal entities": lambda secret: "".join(f"&#{ord(each)};" for each in secret),
    "hexadecimal entities": lambda secret: "".join(f"&#x{ord(each):04X};" for each in secret),
    "entities without an end": lambda secret: html.escape(secret).replace("n", "&#110"),
    "named entities": lambda secret: html.escape(secret).replace(".", "&period;").replace("_", "&lowbar;"),
    "markdown escapes": lambda secret: re.sub(r"([^\w\s])", r"\\\1", secret).replace("_", r"\_"),
    "percent": lambda secret: "".join(f"%{ord(each):02x}" for each in secret),
    "JSON": lambda secret: "".join(f"\\u{ord(each):04x}" for each in secret),
    "tags": _between("<i></i>"),
    "a tag": lambda secret: f"{html.escape(secret[:4])}<b>{html.escape(secret[4:])}</b>",
    "emphasis": lambda secret: f"{secret[:3]}**{secret[3:6]}**{secret[6:]}",
    "colours": lambda secret: "".join(f"\x1b[31m{each}\x1b[0m" for each in secret),
    "no width": _between("\u200b"),
    "two bytes for each character": _between("\0"),
    "soft hyphens": _between("&shy;"),
    "drawing": lambda secret: _drawing(f"<text>{html.escape(secret)}</text>"),
}


def _drawing(svg: str) -> str:
    return "![](data:image/svg+xml;base64," + base64.b64encode(f"<svg>{svg}</svg>".encode()).decode() + ")"


@pytest.mark.parametrize("secret", SECRETS, ids=["odd", "long", "short"])
@pytest.mark.parametrize("way", WAYS)
def test_secret_is_redacted_however_it_is_written(way: str, secret: str) -> None:
    clean = Redaction(SECRETS).of_text(f"<p>it is {WAYS[way](secret)} and so on</p>")

    # Codes and tags around it may stay.
    assert re.sub(r"\x1b\[\d+m|</?[bi]>", "", clean) == (
        f"<p>it is {_drawing('<text>[secret]</text>') if way == 'drawing' else '[secret]'} and so on</p>"
    )


@pytest.mark.parametrize("way", [way for way in WAYS if way != "drawing"] + ["plain"])
def test_no_part_of_a_secret_is_left_where_a_text_is_cut(way: str) -> None:
    redaction = Redaction(SECRETS)
    written = WAYS[way](SECRET) if way != "plain" else SECRET
    for before in range(0, len(written) + 5, max(1, len(written) // 30)):
        for after in ("", "e" * 100_000):
            clean = redaction.beginning("z" * (20_000 - before) + written + after, 20_000)
            assert clean.startswith("z" * min(20_000 - before, 20_000 - redaction.margin))
            assert len(clean) <= 20_000
            left = re.sub(r"\x1b(\[\d*m?)?|<(/?[bi]?>?)", "", clean.strip("z")).rstrip("e")
            assert "[secret]".startswith(left), left


def test_no_part_of_a_token_is_left_where_its_signature_is_a_secret_of_its_own(deployed: Deployed) -> None:
    settings = deployed.settings(FLOWAPI_TOKEN=LONG_TOKEN)
    for way in ("colours", "no width", "emphasis", "a tag", "markdown escapes"):
        clean = Redaction(settings.secrets).of_text(f"it is {WAYS[way](LONG_TOKEN)} and so on")
        assert re.sub(r"\x1b\[\d+m|</?[bi]>", "", clean) == "it is [secret] and so on"


def test_a_secret_in_several_lines_of_a_list_is_redacted_and_other_lines_stay(deployed: Deployed) -> None:
    redaction = Redaction(deployed.settings(FLOWAPI_TOKEN=LONG_TOKEN).secrets)
    lines = ["first\n", f"T = {LONG_TOKEN[:100]}", f"{LONG_TOKEN[100:]}\n", "last"]
    assert redaction.of_value(lines) == ["first\n", "T = [secret]\n", "last"]
    assert redaction.of_value(["a", LONG_TOKEN, "b"]) == ["a", "[secret]", "b"]
    assert redaction.of_value(["a", 1, [LONG_TOKEN], ""]) == ["a", 1, ["[secret]"], ""]
    assert redaction.of_value([]) == []


def test_a_secret_that_another_stream_interrupts_is_redacted(run: Runner) -> None:
    pause = "sys.{}.flush(); time.sleep(0.5)"
    ran = run(
        f"import sys, time; T = {LONG_TOKEN!r}; sys.stdout.write('it is ' + T[:200]); {pause.format('stdout')}",
        f"""
            import sys, time; sys.stdout.write('it is ' + T[:200]); {pause.format("stdout")}
            sys.stderr.write('50 %'); {pause.format("stderr")}
            sys.stdout.write(T[200:] + ' and so on'); {pause.format("stdout")}
            sys.stderr.write('100 %'); {pause.format("stderr")}
            print('the end')
        """,
        secrets=[LONG_TOKEN],
    )
    outputs = nbformat.read(ran.executed, as_version=4).cells[-1].outputs
    assert [(each.name, each.text) for each in outputs] == [
        ("stdout", "it is [secret] and so on"),
        ("stderr", "50 %"),
        ("stdout", "the end\n"),
        ("stderr", "100 %"),
        ("stdout", ""),
    ]


def test_text_without_secrets_stays_as_it_is() -> None:
    text = "\x1b[31m<b>hunter</b> 22 &amp; 100 % \\_ **bold** \u200b\n"

    assert Redaction(SECRETS).of_text(text) == text
    assert Redaction(["short"]).beginning(text, 20) == text[:20]


def test_error_that_is_cut_within_a_secret_has_no_part_of_it(run: Runner) -> None:
    token = LONG_TOKEN
    ran = run(
        f"T = {token!r}",
        f"raise ValueError('z' * ({LONGEST_ERROR} - len(T) + 6) + T)",
        secrets=[token],
    )
    text = ran.executed.read_text()

    assert "[cut after" in text
    assert "p_-" not in text
    assert "h" * 20 not in text


@pytest.mark.parametrize("pieces", [1, 2, 7, 1000])
def test_printed_text_that_is_cut_within_a_secret_has_no_part_of_it(pieces: int, run: Runner) -> None:
    """Print up to the limit, then the token in so many pieces."""
    ran = run(
        f"""
        import sys
        T = {LONG_TOKEN!r}
        print('z' * {OUTPUT_LIMIT // 2 - 200}, end='', flush=True)
        size = -(-len(T) // {pieces})
        for start in range(0, len(T), size):
            print(T[start:start + size], end='', flush=True)
        print('e' * 100_000)
        """,
        secrets=[LONG_TOKEN],
    )
    printed = ran.printed()

    assert "AutoFlow left out" in printed
    assert printed.startswith("z" * 1_000_000)
    assert "hhh" not in printed.partition("[AutoFlow")[0]
    assert "p_-" not in printed
