"""README and the documentation match the code, and their links work."""

import os
import re
import subprocess
import sys
import textwrap
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest
import yaml

from autoflow.cli import autoflow
from autoflow.kernels.connection import LARGEST_FRAME, LONGEST_MESSAGE
from autoflow.notebooks import reading
from autoflow.notebooks.outputs import OUTPUT_LIMIT
from autoflow.notebooks.reading import MAX_NOTEBOOK_BYTES
from autoflow.page import bounds
from autoflow.parser import loader, parse_workflows_file
from autoflow.parser.entries import MOST_ENTRIES
from autoflow.parser.schemas import (
    DeadlineSchema,
    FileSchema,
    KeepSchema,
    NotebookSchema,
    NotifySchema,
    OutputSchema,
    SensorSchema,
    TriggerSchema,
    WorkflowSchema,
)
from autoflow.reports import limits, shown, tables
from autoflow.reports.cells import MOST_IN_A_CELL
from autoflow.runs.changes import MOST_ANEW
from autoflow.settings import CONFIG_KEYS, Settings
from examples.flowapi import EXAMPLE_SCOPES
from tests.conftest import Deployed, write_notebook

if TYPE_CHECKING:
    from marshmallow import Schema

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = {"format": ["pdf", "html"]}
"""The reports of a notebook that the examples in the documentation may attach."""
README = (ROOT / "README.md").read_text(encoding="utf-8")
MOST_WORDS = 900


def page(name: str) -> str:
    """Return the Markdown of a page in docs/."""
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def rows(text: str, header: str) -> list[list[str]]:
    """Return the cells of the table that begins with `header`, without backticks around the first."""
    table = text.split(f"| {header} |", 1)[1].split("\n\n", maxsplit=1)[0]
    lines = [line for line in table.splitlines()[2:] if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def names(text: str, header: str) -> list[str]:
    return [name for row in rows(text, header) for name in re.findall(r"`([^`]+)`", row[0])]


class Asked(Mapping[str, str]):
    """An environment that records which names are read."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.names.add(name)
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def test_documented_settings_are_those_that_are_read(deployed: Deployed) -> None:
    environ = Asked(deployed.environ)
    Settings.read(environ)
    settings = page("reference/settings.md")
    documented = names(settings, "variable")
    overrides = [re.findall(r"`([^`]+)`", row[1])[0] for row in rows(settings, "key")]
    assert len(documented) == len(set(documented))
    # Kernels get every variable, whatever its name.
    settings_read = {name for name in environ.names if name.startswith(("AUTOFLOW_", "FLOWAPI_", "PREFECT_", "SSL_"))}
    assert settings_read == {*documented, *overrides}


def test_documented_keys_of_config_toml_are_those_that_are_read() -> None:
    documented = {row[0].strip("`"): row[2].strip("`") for row in rows(page("reference/settings.md"), "key")}
    assert documented == dict(CONFIG_KEYS)


def test_documented_keys_of_workflows_yml_are_those_of_the_schemas() -> None:
    parts: dict[str, Schema] = {
        "": FileSchema(),
        "workflows[].": WorkflowSchema(),
        "workflows[].notebooks.LABEL.": NotebookSchema(),
        "available_dates_sensor.": SensorSchema(),
        "available_dates_sensor.workflows[].": TriggerSchema(),
        "available_dates_sensor.workflows[].deadline.": DeadlineSchema(),
        "available_dates_sensor.workflows[].notify.": NotifySchema(),
    }
    known = {prefix + key for prefix, schema in parts.items() for key in schema.fields}
    table = rows(page("reference/workflows.md"), "key")
    assert {row[0].strip("`") for row in table} == known - {"available_dates_sensor"}
    (output,) = [row[1] for row in table if row[0].endswith(".output`")]
    assert all(f"{key}:" in output for key in OutputSchema().fields)
    (keep,) = [row[1] for row in table if row[0].endswith(".keep`")]
    assert all(f"{key}:" in keep for key in KeepSchema().fields)


def test_documented_scopes_are_those_of_the_examples_token() -> None:
    scopes = re.compile(r"`(get_available_dates|run|get_result|[a-z0-9]+:[a-z_]+:[a-z_]+)`")
    documented = (ROOT / "examples" / "README.md").read_text(encoding="utf-8").split("### The token's scopes")[1]
    assert set(scopes.findall(documented.split("\n### ")[0])) == EXAMPLE_SCOPES
    in_docs = scopes.findall(page("reference/notebooks.md"))
    assert "get_available_dates" in in_docs
    assert set(in_docs) <= EXAMPLE_SCOPES


LIMITS = {
    "reference/reports.md": (
        f"its first {tables.MOST_ROWS} rows and {tables.MOST_COLUMNS} columns",
        f"a table cell is cut off after {MOST_IN_A_CELL:,} characters",
        f"printed text after {limits.MOST_LINES} lines or {shown.MOST_PRINTED:,} characters",
        f"a printed line after {shown.MOST_IN_A_LINE:,} characters",
        f"a block of code after {limits.MOST_LINES} lines",
        f"a Markdown cell after {shown.MOST_MARKDOWN:,} characters",
        f"| text colours | {limits.MOST_COLOURS:,} |",
        f"| HTML elements in one output | {limits.MOST_ELEMENTS:,} |",
        f"more than {limits.MOST_DELIMITERS:,} Markdown characters",
        f"more than {limits.SHARE_IN_FULL:.0%} of `AUTOFLOW_REPORT_TIMEOUT`",
        f"{bounds.LONGEST_OUTPUT:,} characters and {bounds.MOST_TAGS:,} HTML tags in each output",
        f"and {bounds.MOST_MARKDOWN:,} characters in each Markdown cell",
    ),
    "reference/notebooks.md": (
        f"may have {MAX_NOTEBOOK_BYTES >> 20} MiB",
        f"may be nested {reading.MAX_DEPTH} levels deep",
        f"keeps at most {OUTPUT_LIMIT / 1e6:g} MB of outputs",
        f"an output of more than {LONGEST_MESSAGE / 1e6:g} MB by its size",
        f"a single output of more than {LARGEST_FRAME / 1e6:g} MB ends the kernel",
    ),
    "reference/workflows.md": (
        f"values may be nested {loader.MAX_DEPTH} levels deep",
        f"up to {MOST_ENTRIES} entries",
        f"If these are more than {MOST_ANEW},",
    ),
}


@pytest.mark.parametrize("name", LIMITS)
def test_documented_limits_are_those_of_the_code(name: str) -> None:
    text = " ".join(page(name).split())
    assert [each for each in LIMITS[name] if each not in text] == []


def test_documented_limits_of_a_report_are_those_of_the_code() -> None:
    table = rows(page("reference/reports.md"), "content")
    numbers = [int(number.replace(",", "")) for row in table for number in re.findall(r"[\d,]+", row[1])]
    documented = Counter(numbers)
    documented.subtract([limits.MOST_COLOURS, limits.MOST_ELEMENTS])
    assert +documented == Counter(limits.MOST_OF_A_REPORT.values())


def verbs(group: click.Group, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command
        yield f"{prefix}{name}", command
        if isinstance(command, click.Group):
            yield from verbs(command, f"{prefix}{name} ")


def test_documented_verbs_are_those_of_the_command_line() -> None:
    assert sorted(names(page("reference/command-line.md"), "verb")) == sorted(name for name, _ in verbs(autoflow))


@pytest.mark.parametrize("row", rows(page("reference/command-line.md"), "verb"), ids=lambda row: row[0])
def test_documented_options_and_examples_of_verbs_are_valid(row: list[str]) -> None:
    verb = row[0].strip("`")
    command = dict(verbs(autoflow))[verb]
    known = {option for parameter in command.params for option in parameter.opts}
    assert set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", row[1])) <= known
    arguments = row[2].strip("`").split()
    assert arguments[: len(verb.split()) + 1] == ["autoflow", *verb.split()]
    command.make_context(verb, arguments[len(verb.split()) + 1 :])


def test_file_map_matches_the_repository() -> None:
    package = ROOT / "autoflow"
    files = {f"autoflow/{path.name}" for path in package.glob("*.py")} - {"autoflow/__init__.py"}
    folders = {f"autoflow/{path.parent.name}/" for path in package.glob("*/__init__.py")}
    paths = names(page("architecture.md"), "path")
    documented = [name for name in paths if name.startswith("autoflow/")]
    assert len(documented) == len(set(documented))
    assert set(documented) == files | folders
    others = [name for name in paths if not name.startswith("autoflow/")]
    assert {path.name for path in ROOT.glob("docker-stack*.yml")} <= set(others)
    assert [name for name in others if not (ROOT / name).exists()] == []


def test_readme_is_short() -> None:
    assert len(README.split()) < MOST_WORDS


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    kept = (re.sub(r"[^\w\- ]", "", unicodedata.normalize("NFC", title)) for title in titles)
    return {title.lower().replace(" ", "-") for title in kept}


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "examples/README.md", "benchmarks/README.md"])
def test_links_to_files_outside_the_site_exist(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", text)
    for link in (markdown or html for markdown, html in links):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / name).parent / path if path else ROOT / name
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), link


def build(folder: Path, *, config: Path = ROOT / "mkdocs.yml") -> subprocess.CompletedProcess[str]:
    """Build a site into `folder` as `make docs` does; with --quiet, --strict would not see warnings."""
    command = ["mkdocs", "build", "--strict", "--config-file", str(config), "--site-dir", str(folder)]
    environ = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the built site."""
    folder = tmp_path_factory.mktemp("site")
    built = build(folder)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


BROKEN = {
    "nowhere.md": {"index.md": "[page](nowhere.md)"},
    "#nowhere": {"anchor.md": "[anchor](#nowhere)"},
    "/index.md": {"absolute.md": "[absolute](/index.md)"},
    "folder/": {"unrecognized.md": "[unrecognized](folder/)"},
    "forgotten.md": {"forgotten.md": ""},
}
"""Mistakes by what the complaint about them names, and the page with each."""


def test_broken_links_and_unlisted_pages_fail_the_build(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    pages = {name: text for mistake in BROKEN.values() for name, text in mistake.items()}
    for name, text in pages.items():
        (tmp_path / "docs" / name).write_text(text, encoding="utf-8")
    config, listed = tmp_path / "mkdocs.yml", ", ".join(pages.keys() - {"forgotten.md"})
    config.write_text(f"INHERIT: {ROOT / 'mkdocs.yml'}\nhooks: []\nnav: [{listed}]\n", encoding="utf-8")
    built = build(tmp_path / "site", config=config)
    assert built.returncode == 1
    for complaint in BROKEN:
        # Each is a warning of its own, and warnings fail the build.
        assert re.search(rf"WARNING[^\n]*(\n  [^\n]*)*'?{re.escape(complaint)}", built.stderr), built.stderr


PAGES = sorted(file.relative_to(ROOT).as_posix() for file in (ROOT / "docs").rglob("*.md"))


def yaml_blocks(text: str) -> list[str]:
    """Return the blocks of YAML on a page, without indentation; no block is made of another file."""
    blocks = re.findall(r"^( *)```yaml\n(.*?)^\1```", text, re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(block) for _, block in blocks if "--8<--" not in block]


@pytest.mark.parametrize("name", ["README.md", *PAGES])
def test_documented_yaml_is_valid(tmp_path: Path, name: str) -> None:
    """Where entries of the sensor stand alone, they are read with a workflow that takes their parameters."""
    for block in yaml_blocks((ROOT / name).read_text(encoding="utf-8")):
        content = yaml.safe_load(block)
        entries = content.get("workflows") if isinstance(content, dict) else None
        if not entries or "workflow_name" not in entries[0]:
            continue
        taken = {key for each in entries for part in ("parameters", "for_each") for key in each.get(part, {})}
        write_notebook(tmp_path / "n.ipynb", parameters="\n".join(f"{key} = ''" for key in sorted(taken)))
        notebook = {"filename": "n.ipynb", "parameters": {key: key for key in sorted(taken)}, "output": OUTPUT}
        workflows = [{"name": entries[0]["workflow_name"], "notebooks": {"n": notebook}}]
        # The sensor is the text of the page: YAML that was read and written would hide mistakes in it.
        sensor = "available_dates_sensor:\n  schedule: null\n" + textwrap.indent(block, "  ")
        file = tmp_path / "workflows.yml"
        file.write_text(yaml.safe_dump({"workflows": workflows}) + sensor, encoding="utf-8")
        assert parse_workflows_file(file).sensor.triggers


class Loaded(HTMLParser):
    """Collects the addresses that a page loads when it is opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        loads = given.get("src") or (given.get("href") if tag == "link" and given.get("rel") != "canonical" else None)
        if loads:
            self.addresses.add(loads)


def test_site_loads_nothing_from_outside(site: Path) -> None:
    addresses = set[str]().union(*(Loaded(file.read_text(encoding="utf-8")).addresses for file in site.rglob("*.html")))
    assert "assets/images/favicon.png" in addresses
    assert {address for address in addresses if re.match(r"\w+:|//", address)} == set()


@pytest.mark.parametrize("verb", [name for name, _ in verbs(autoflow)])
def test_site_describes_every_command_with_its_options(site: Path, verb: str) -> None:
    text = (site / "reference" / "command-line.html").read_text(encoding="utf-8")
    (described,) = re.findall(rf'<h3 id="{verb.replace(" ", "-")}">(.*?)(?=<h3|</article>)', text, re.DOTALL)
    options = {name for parameter in dict(verbs(autoflow))[verb].params for name in parameter.opts if name[0] == "-"}
    assert {option for option in options if not re.search(rf"<code[^>]*>{option}\b", described)} == set()
