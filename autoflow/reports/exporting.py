"""Fill an asciidoc template, AutoFlow's own or an operator's, with a notebook through nbconvert."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import BaseLoader, Environment, FileSystemLoader, TemplateError, TemplateNotFound, TemplateSyntaxError
from nbconvert.exporters import ASCIIDocExporter
from nbformat import NotebookNode
from traitlets.config import Config

from autoflow.errors import ReportError
from autoflow.reports.markup import Asciidoc, replaced_in_verbatim
from autoflow.reports.shown import PRIORITY

_REQUESTED = "the report's template"
_OWN = "asciidoc_extended.tpl"
_BASES = frozenset({"asciidoc.tpl", "asciidoc.j2", "asciidoc/index.asciidoc.j2", "index.asciidoc.j2", _OWN})


def fill(
    template: Path,
    notebook: NotebookNode,
    *,
    config_dir: Path,
    filters: Mapping[str, Callable[..., Asciidoc]],
    variables: Mapping[str, Any],
) -> str:
    """Return the asciidoc that `template` makes of `notebook`.

    `filters` are the template's filters, `variables` its values in ``resources.report``.

    Raises
    ------
    ReportError
        If the template has a mistake; with its file and line.

    """
    exporter = _Exporter(template, config_dir, filters)
    try:
        document, _ = exporter.from_notebook_node(notebook, {"report": dict(variables)})
    except TemplateSyntaxError as error:
        raise ReportError(f"{error.filename or template}:{error.lineno}: {error.message}") from error
    except (TemplateError, TypeError, KeyError, AttributeError, ValueError, OSError) as error:
        raise ReportError(f"{_place(error, template)}: {type(error).__name__}: {error}") from error
    return replaced_in_verbatim(document)


class _Exporter(ASCIIDocExporter):
    """nbconvert's exporter, with every value that a template prints escaped."""

    def __init__(self, template: Path, config_dir: Path, filters: Mapping[str, Callable[..., Asciidoc]]) -> None:
        self._template_path = template
        self._config_dir = config_dir
        self._own_filters = filters
        super().__init__(template_file=_REQUESTED)  # type: ignore[no-untyped-call]
        self.exclude_input_prompt = self.exclude_output_prompt = True

    @property
    def default_config(self) -> Config:
        config: Config = super().default_config
        config.NbConvertBase.display_data_priority = list(PRIORITY)
        config.ExtractOutputPreprocessor.enabled = False
        config.HighlightMagicsPreprocessor.enabled = False
        return config

    def _create_environment(self) -> Environment:
        environment: Environment = super()._create_environment()  # type: ignore[no-untyped-call]
        environment.autoescape = True
        environment.finalize = _finalized
        environment.filters.update(self._own_filters)
        if environment.loader is not None:
            environment.loader = _Loader(self._template_path, self._config_dir, environment.loader)
        return environment


class _Loader(BaseLoader):
    """Finds the operator's template, those beside it, AutoFlow's (by any of nbconvert's names), and nbconvert's."""

    def __init__(self, template: Path, config_dir: Path, others: BaseLoader) -> None:
        self._template = template
        self._config_dir = config_dir
        self._others = others

    def get_source(self, environment: Environment, template: str) -> tuple[str, str | None, Callable[[], bool] | None]:
        if template == _REQUESTED:
            return _source(self._template)
        if template in _BASES:
            return _source(self._config_dir / _OWN)
        try:
            return FileSystemLoader(self._template.parent).get_source(environment, template)
        except TemplateNotFound:
            return self._others.get_source(environment, template)


def _source(path: Path) -> tuple[str, str, Callable[[], bool]]:
    return path.read_text(encoding="utf-8"), str(path), lambda: True


def _finalized(value: object) -> Asciidoc:
    return Asciidoc.escape("" if value is None else value)


def _place(error: Exception, template: Path) -> str:
    """Return the file and line of the innermost template that raised `error`."""
    place, traceback = str(template), error.__traceback__
    while traceback is not None:
        name = traceback.tb_frame.f_code.co_filename
        if name.endswith((".tpl", ".j2")):
            place = f"{name}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    return place
