"""Fill an asciidoc template, AutoFlow's own or an operator's, with a notebook through nbconvert."""

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import jinja2
from jinja2 import BaseLoader, DictLoader, Environment, FileSystemLoader, TemplateNotFound
from jinja2.runtime import Context
from nbconvert.exporters import ASCIIDocExporter
from nbformat import NotebookNode
from traitlets.config import Config

from autoflow.errors import ReportError, RunStopped
from autoflow.reports.marks import GROUP, GROUP_END, OUTPUT
from autoflow.reports.markup import Asciidoc, unescaped
from autoflow.reports.template_environment import make_asciidoc
from autoflow.reports.template_places import explained

OWN_TEMPLATE = "asciidoc_extended.tpl"
"""AutoFlow's template, in its ``config`` folder."""

_Source: TypeAlias = tuple[str, str | None, Callable[[], bool] | None]

_REQUESTED = "the report's template"
_NBCONVERTS = "nbconvert's template"
_FULL_NAME = "nbconvert/templates/asciidoc/index.asciidoc.j2"
_NBCONVERTS_NAMES = frozenset(
    {_FULL_NAME, "asciidoc/index.asciidoc.j2", "asciidoc/index", "index.asciidoc.j2", "index"}
)
_OLD_NAMES = frozenset({"asciidoc.tpl", "asciidoc", "asciidoc.j2", "asciidoc.asciidoc.j2", OWN_TEMPLATE})
_PARENTS = {
    _NBCONVERTS: _FULL_NAME,
    "null.tpl": "base/null.j2",
    "null": "base/null.j2",
    "display_priority.tpl": "base/display_priority.j2",
    "display_priority": "base/display_priority.j2",
}
"""Other names of nbconvert's templates, such as those of nbconvert 5."""

_MARK_OF_A_COPY = "replaces("
"""Only AutoFlow's template calls this function, so a template that calls it began as a copy of AutoFlow's."""

_WITHIN_LINES = (
    "add_prompts",
    "comment_lines",
    "get_lines",
    "indent",
    "path2url",
    "posix_path",
    "prevent_list_blocks",
    "strip_ansi",
    "strip_dollars",
    "strip_files_prefix",
    "strip_trailing_newline",
    "wrap_text",
)
"""nbconvert's filters that turn asciidoc into asciidoc and text into text. Its other filters return text."""


def fill(
    template: Path,
    notebook: NotebookNode,
    *,
    config_dir: Path,
    filters: Mapping[str, Callable[..., Any]],
    resources: Mapping[str, Any],
) -> str:
    """Return the asciidoc that `template` makes of `notebook`, with marks for `laid_out`.

    `filters` are the template's filters beyond nbconvert's, `resources` its variable of that name.

    Raises
    ------
    ReportError
        If the template has a mistake; with its file and line, and what to do.

    """
    exporter = _Exporter(template, config_dir, filters)
    try:
        document, _ = exporter.from_notebook_node(notebook, dict(resources))
    except (ReportError, RunStopped, RecursionError):
        raise
    except Exception as error:  # a template can call anything
        raise ReportError(explained(error, template, exporter.files)) from error
    return str(document)


class _Exporter(ASCIIDocExporter):
    """nbconvert's exporter, with every value that a template prints escaped."""

    def __init__(self, template: Path, config_dir: Path, filters: Mapping[str, Callable[..., Any]]) -> None:
        self._template_path = template
        self._config_dir = config_dir
        self._own_filters = filters
        self.files: set[str] = set()
        super().__init__(template_file=_REQUESTED)  # type: ignore[no-untyped-call]

    @property
    def default_config(self) -> Config:
        config: Config = super().default_config
        config.ExtractOutputPreprocessor.enabled = False
        config.HighlightMagicsPreprocessor.enabled = False
        config.Exporter.optimistic_validation = True  # once, not after each preprocessor
        return config

    def _create_environment(self) -> Environment:
        environment: Environment = super()._create_environment()  # type: ignore[no-untyped-call]
        for name, plain in self.default_filters():  # type: ignore[no-untyped-call]
            if not isinstance(plain, type):
                environment.filters[name] = (_of_lines if name in _WITHIN_LINES else _of_text)(plain)
        loader = _Loader(self._template_path, self._config_dir, environment.loader or DictLoader({}))
        self.files = loader.files
        environment.loader = loader
        environment.filters["filter_data_type"] = _first_form(loader, environment.filters["filter_data_type"])
        environment.globals.update(report_group=(GROUP, GROUP_END), report_output=OUTPUT, replaces=loader.replaces)
        make_asciidoc(environment, loader.is_own)
        environment.join_path = loader.joined  # type: ignore[method-assign]
        environment.filters.update({name: _of_text(own) for name, own in self._own_filters.items()})
        return environment


class _Loader(BaseLoader):
    """Finds the operator's template, those beside it, AutoFlow's (by any of nbconvert's names), and nbconvert's."""

    def __init__(self, template: Path, config_dir: Path, others: BaseLoader) -> None:
        self._template = template
        self._own = config_dir / OWN_TEMPLATE
        self._beside = FileSystemLoader(template.parent)
        self._others = others
        self._operators: set[str] = set()
        self._own_names: set[str] = set()
        self.files: set[str] = set()

    def get_source(self, environment: Environment, template: str) -> _Source:
        source = self._operators_source(environment, template) or self._other_source(environment, template)
        self.files.add(str(source[1]))
        if source[1] == str(self._own):
            self._own_names.add(template)
        return source

    def _operators_source(self, environment: Environment, template: str) -> _Source | None:
        """Return the template if it is the operator's."""
        source = None
        if template == _REQUESTED:
            source = _source(self._template)
        elif template not in _NBCONVERTS_NAMES:
            with contextlib.suppress(TemplateNotFound):
                source = self._beside.get_source(environment, template)
        own = {self._own.resolve(), *([] if template == _REQUESTED else [self._template.resolve()])}
        if source is None or Path(str(source[1])).resolve() in own:
            return None
        if _MARK_OF_A_COPY not in source[0]:
            self._operators.add(str(source[1]))
        return source

    def _other_source(self, environment: Environment, template: str) -> _Source:
        if template in {_REQUESTED, *_NBCONVERTS_NAMES, *_OLD_NAMES}:
            return _source(self._own)
        return self._others.get_source(environment, _PARENTS.get(template, template))

    def joined(self, template: str, parent: str) -> str:
        """Return the name of the template that `parent` calls `template`."""
        return _NBCONVERTS if template == _FULL_NAME and parent in self._own_names else str(template)

    def is_own(self, block: Callable[..., Any]) -> bool:
        """Return whether a block is AutoFlow's."""
        return _file_of(block) == str(self._own)

    @property
    def replaces(self) -> Callable[..., bool]:
        """A function for templates: whether the operator's template replaces any of these blocks of AutoFlow's."""

        @jinja2.pass_context
        def replaces(context: Context, *names: str) -> bool:
            return any(_file_of(context.blocks[name][0]) in self._operators for name in names)

        return replaces


def _source(path: Path) -> tuple[str, str, Callable[[], bool]]:
    return path.read_text(encoding="utf-8"), str(path), lambda: True


def _file_of(block: Callable[..., Any]) -> str:
    return block.__code__.co_filename


def _of_lines(plain: Callable[..., Any]) -> Callable[..., Any]:
    def filtered(text: Any, *arguments: Any, **named: Any) -> Any:
        made = plain(text, *arguments, **named)
        return Asciidoc(made) if isinstance(text, Asciidoc) and isinstance(made, str) else made

    return filtered


def _of_text(plain: Callable[..., Any]) -> Callable[..., Any]:
    return lambda text, *arguments, **named: plain(unescaped(text), *arguments, **named)


def _first_form(loader: _Loader, plain: Callable[..., list[str]]) -> Callable[..., list[str]]:
    """Return the filter for the form of an output that a report shows: the first, or that of nbconvert."""

    @jinja2.pass_context
    def filter_data_type(context: Context, forms: Mapping[str, str]) -> list[str]:
        if any(map(loader.is_own, context.blocks.get("data_text", ()))):
            return list(forms)[:1]
        return plain({kind: text for kind, text in forms.items() if text})

    return filter_data_type
