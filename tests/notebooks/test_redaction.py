import json
from pathlib import Path

import nbformat

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
    assert ran.failure() == (7, "ValueError", "[secret]")
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
