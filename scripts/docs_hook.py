"""MkDocs hook that writes the command line reference from the commands themselves."""

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

# `mkdocs` itself, unlike `python -m mkdocs`, does not look for modules here.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from autoflow.cli import autoflow

MARKER = "<!-- the commands -->"
"""The line of a page that is replaced with the description of every command."""


def on_page_markdown(markdown: str, **_: object) -> str:
    """Return a page with the commands in place of the marker; MkDocs calls this for each page."""
    return markdown.replace(MARKER, command_reference()) if MARKER in markdown else markdown


def on_page_content(html: str, **_: object) -> str:
    """Return a page whose options, such as `--once`, are not broken at their hyphens; MkDocs calls this, too."""
    return re.sub(r"<code>(--?[a-z][a-z-]*)</code>", r'<code class="option">\1</code>', html)


def command_reference() -> str:
    """Return the description of every command in Markdown, in alphabetical order."""
    root = click.Context(autoflow, info_name="autoflow")
    return "\n\n".join(_described(context) for context in (root, *_contexts(root)))


def _contexts(parent: click.Context) -> Iterator[click.Context]:
    """Yield a context for each command below `parent`, and for those below them."""
    group = parent.command
    if not isinstance(group, click.Group):
        return
    for name in group.list_commands(parent):
        command = group.get_command(parent, name)
        if command is not None:
            context = click.Context(command, info_name=name, parent=parent)
            yield context
            yield from _contexts(context)


def _described(context: click.Context) -> str:
    title = context.command_path.removeprefix("autoflow ")
    usage = context.get_usage().removeprefix("Usage: ")
    help_text = inspect.cleandoc(context.command.help or "")
    parts = [f"### {title}", f"```text\n{usage}\n```", *_paragraphs(help_text), "\n".join(_options(context))]
    return "\n\n".join(parts)


def _options(context: click.Context) -> Iterator[str]:
    """Yield the rows of a table of the command's options, apart from `--help`, which every command has."""
    records = [parameter.get_help_record(context) for parameter in context.command.params]
    described = [record for record in records if record and record[1]]
    if described:
        yield from ("| option | meaning |", "| --- | --- |")
    yield from (f"| `{option}` | {_escaped(meaning)} |" for option, meaning in described)


def _paragraphs(text: str) -> Iterator[str]:
    r"""Yield the paragraphs of a help text; those that click leaves unwrapped (`\b`) become blocks of code."""
    for paragraph in re.split(r"\n\s*\n", text):
        unwrapped = paragraph.removeprefix("\b").strip()
        example = re.sub(r"^Examples?: ", "", unwrapped)
        if unwrapped == paragraph:
            yield _escaped(paragraph)
        elif example == unwrapped:
            yield f"```text\n{unwrapped}\n```"
        else:
            yield "\n".join(["```bash", *(line.strip() for line in example.splitlines()), "```"])


def _escaped(text: str) -> str:
    return text.replace("<", "&lt;").replace("[", r"\[")
