"""Errors of scrapbook: what they mean, and which scraps there are."""

import json
from pathlib import Path

import pytest

from autoflow.notebooks.scraps import scrap_hint
from tests.notebooks.running import Runner

TOKEN = "a.token.of.no.use"
IMPORTS = "import datetime, json\nimport numpy as np, pandas as pd, scrapbook as sb"

GLUED = {
    "np.int64(3)": "numpy.int64 as JSON; glue int(value) or value.item()",
    "np.uint8(3)": "numpy.uint8 as JSON; glue int(value) or value.item()",
    "np.float32(3)": "numpy.float32 as JSON; glue float(value) or value.item()",
    "np.bool_(True)": "as JSON; glue bool(value) or value.item()",
    "np.array([1])": "numpy.ndarray as JSON; glue value.tolist()",
    "np.datetime64('2016-01-01')": "numpy.datetime64 as JSON; glue str(value)",
    "pd.Timestamp('2016-01-01')": "as JSON; glue value.isoformat()",
    "pd.NA": "as JSON; glue a text such as",
    "pd.Series([1])": "as JSON; glue value.tolist()",
    "pd.Period('2016-01')": "as JSON; glue str(value)",
    "datetime.date(2016, 1, 1)": "datetime.date as JSON; glue value.isoformat()",
    "{1, 2}": "set as JSON; glue sorted(value)",
    "(1, 2)": "tuple as JSON; glue list(value)",
    "b'x'": "bytes as JSON; glue value.decode()",
    "None": "NoneType as JSON; glue a text such as",
    "print": "as JSON; glue str(value)",
    "pd.DataFrame({'a': [1]}), 'json'": "scrapbook cannot store 'n' as JSON",
    "1, 'csv'": "scrapbook's encoders are 'json', 'text', 'pandas' and 'display'",
    "np.array([1]), 'pandas'": "stores only a DataFrame, not numpy.ndarray",
}
"""Arguments of `glue` that scrapbook does not accept, and what the hint says."""

READ = {
    'nb.scraps["totl"]': "upstream has no scrap 'totl'; did you mean 'total'? it has the scraps 'total', 'rows', 'f'",
    'nb.scraps["rwos"].data': "did you mean 'rows'? it has the scraps 'rows', 'total', 'f'",
    "nb.scraps[name].data": "upstream has no scrap 'zzz'; it has the scraps",
    "nb.scraps.totl": "did you mean 'total'?",
    'nb.reglue("totl")': "did you mean 'total'?",
    'data["totl"]': "did you mean 'total'?",
    'nb.scraps.get("x").data': "upstream has the scraps 'total', 'rows', 'f'",
    'nb["total"]': 'notebook.scraps["name"].data',
    'nb.scraps["total"] + 1': "the value of a scrap is its .data",
    'nb.scraps["total"].value': "the value of a scrap is its .data",
    'frame["column"]': "",
    'nb.scraps["total"].data + "x"': "",
    "frame.nothing": "",
}
"""Code that reads scraps in a wrong way, or fails for another reason, and what the hint says."""

COLLECT = """
def reason(code):
    try:
        exec(code)
    except Exception as error:
        return type(error).__name__, str(error)
print(json.dumps([reason(code) for code in {codes!r}]))
"""


@pytest.fixture
def upstream(run: Runner, tmp_path: Path) -> Path:
    """Return an executed notebook with scraps."""
    ran = run(IMPORTS, 'sb.glue("total", 5); sb.glue("rows", [1]); sb.glue("f", pd.DataFrame({"a": [1]}))')
    assert ran.error is None
    return ran.executed.rename(tmp_path / "upstream.ipynb")


def test_errors_of_scrapbook_say_what_to_do(run: Runner, upstream: Path) -> None:
    expected = {f'sb.glue("n", {value})': hint for value, hint in GLUED.items()} | READ
    setting = f"nb = sb.read_notebook({str(upstream)!r}); data = nb.scraps; name = 'zzz'; frame = pd.DataFrame()"
    ran = run(IMPORTS, setting, COLLECT.format(codes=list(expected)))
    parameters = {"upstream": str(upstream), "region": "north", "gone": "/nowhere/x.ipynb"}
    for (code, hint), (error_class, message) in zip(expected.items(), json.loads(ran.printed(2)), strict=True):
        found = scrap_hint(error_class, message, code, parameters)
        assert hint in found, code
        assert bool(hint) == bool(found), code


def test_error_of_a_run_has_the_hint_on_its_first_line_without_secrets(run: Runner, upstream: Path) -> None:
    glued = run(IMPORTS, 'sb.glue("n", np.int64(3))').failure()
    assert glued[2].endswith("(scrapbook cannot store numpy.int64 as JSON; glue int(value) or value.item())")
    upstream.write_text(upstream.read_text().replace('"total"', f'"total {TOKEN}"'))
    ran = run(
        "import scrapbook as sb",
        'sb.read_notebook(upstream).scraps["totl"].data',
        parameters="upstream = None",
        values={"upstream": str(upstream)},
        secrets=[TOKEN],
    )
    cell, error_class, message = ran.failure()
    assert (cell, error_class) == (3, "KeyError")
    assert message.startswith("'totl' (upstream has no scrap 'totl'; ")
    assert "it has the scraps 'total [secret]', 'rows', 'f'" in message


def test_scrap_that_was_glued_as_nan_says_so(run: Runner, tmp_path: Path) -> None:
    path = run(IMPORTS, 'sb.glue("share", float("nan"))').executed.rename(tmp_path / "upstream.ipynb")
    ran = run(IMPORTS, f'sb.read_notebook({str(path)!r}).scraps["x"]')
    assert "'share' was glued as None or NaN" in ran.failure()[2].splitlines()[0]
