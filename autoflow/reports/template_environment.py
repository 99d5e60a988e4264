"""Make Jinja print asciidoc: what a template itself says is asciidoc, everything else is text and is escaped."""

import types
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

import jinja2
from jinja2.bccache import Bucket, BytecodeCache
from jinja2.compiler import CodeGenerator, Frame
from jinja2.nodes import Const
from jinja2.runtime import BlockReference, Context, Macro, TemplateReference, Undefined

from autoflow.reports.markup import Asciidoc
from autoflow.reports.shown import plain_output


def make_asciidoc(environment: jinja2.Environment, is_own: Callable[[Callable[..., Any]], bool]) -> None:
    """Make the templates of `environment` print asciidoc.

    A block that `is_own` is AutoFlow's instead of nbconvert's; a custom template sees only one of both.
    """
    environment.extend(is_own=is_own)
    environment.autoescape = True
    environment.optimized = False
    environment.finalize = _finalized
    environment.code_generator_class = _CodeGenerator
    environment.template_class = _Template
    environment.context_class = _Context
    environment.bytecode_cache = _compiled
    environment.filters.update(replace=_replaced, join=_joined, **dict.fromkeys(_HTML_FILTERS, _unchanged))


_HTML_FILTERS = ("safe", "e", "escape", "forceescape", "escape_html", "escape_html_keep_quotes")


@jinja2.pass_context
def _finalized(_context: Context, value: object) -> Asciidoc:
    """Return `value` as asciidoc: text as a terminal shows it, and nothing for None."""
    if isinstance(value, Asciidoc):
        return value
    return Asciidoc.escape("" if value is None else plain_output(str(value)))


def _unchanged(value: Any) -> Any:
    """Return `value`: nothing in a notebook is asciidoc, and escaping as HTML is not needed."""
    return value


def _replaced(text: object, old: object, new: object, count: int | None = None) -> str:
    trusted = text if isinstance(text, Asciidoc) else str(text)
    return trusted.replace(str(old), new if isinstance(new, Asciidoc) else str(new), -1 if count is None else count)


@jinja2.pass_environment
def _joined(environment: jinja2.Environment, values: Any, d: str = "", attribute: str | int | None = None) -> str:
    texts: list[Any] = list(values)
    if attribute is not None:
        getter = jinja2.filters.make_attrgetter(environment, attribute)
        texts = [getter(each) for each in texts]
    if any(isinstance(text, Asciidoc) for text in texts):
        return Asciidoc.escape(d).join(texts)
    return str(d).join(map(str, texts))


def _markup_join(values: Iterator[Any]) -> str:
    """Concatenate values, as the operator ``~`` does."""
    texts: list[Any] = list(values)
    if any(isinstance(text, Asciidoc) for text in texts):
        return Asciidoc("").join(texts)
    return "".join(map(str, texts))


class _CodeGenerator(CodeGenerator):
    """Compiles templates in such a way that strings in them are asciidoc."""

    def visit_Const(self, node: Const, frame: Frame) -> None:  # noqa: N802 - Jinja's name
        if isinstance(node.value, str):
            self.write(f"Markup({node.value!r})")
        else:
            super().visit_Const(node, frame)


class _Compiled(BytecodeCache):
    """The code of templates in this process, by their file and contents: compiling them takes longer than their use."""

    def __init__(self) -> None:
        self._codes: dict[tuple[str, str], types.CodeType | None] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        """Give `bucket` its code if it was compiled before."""
        bucket.code = self._codes.get((bucket.key, bucket.checksum))

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keep the code of `bucket`; only the newest for each file."""
        for key in [key for key in self._codes if key[0] == bucket.key]:
            self._codes.pop(key, None)
        self._codes[bucket.key, bucket.checksum] = bucket.code


_compiled = _Compiled()


class _Block(BlockReference):
    @property
    def super(self) -> BlockReference | Undefined:
        is_own = self._context.environment.is_own(self._stack[self._depth])  # type: ignore[attr-defined]
        if is_own and self._depth + 2 < len(self._stack):
            return _Block(self.name, self._context, self._stack, self._depth + 2)
        return _trusted(super().super)

    def __call__(self) -> str:
        return Asciidoc(super().__call__())


def _trusted(block: BlockReference | Undefined) -> BlockReference | Undefined:
    if isinstance(block, BlockReference):
        return _Block(block.name, block._context, block._stack, block._depth)  # noqa: SLF001
    return block


class _Context(Context):
    def super(self, name: str, current: Callable[[Context], Iterator[str]]) -> BlockReference | Undefined:
        return _trusted(super().super(name, current))


class _TemplateReference(TemplateReference):
    def __getitem__(self, name: str) -> Any:
        return _trusted(super().__getitem__(name))


class _Macro(Macro):
    def _invoke(self, arguments: list[Any], autoescape: bool) -> str:
        return Asciidoc(super()._invoke(arguments, autoescape))


class _Template(jinja2.Template):
    @classmethod
    def from_code(
        cls,
        environment: jinja2.Environment,
        code: types.CodeType,
        globals: MutableMapping[str, Any],  # noqa: A002 - Jinja's name
        uptodate: Callable[[], bool] | None = None,
    ) -> jinja2.Template:
        """Return a template whose code, made by Jinja, has our class in place of Jinja's."""
        template = super().from_code(environment, code, globals, uptodate)
        template.root_render_func.__globals__.update(
            Markup=Asciidoc,
            escape=Asciidoc.escape,
            markup_join=_markup_join,
            Macro=_Macro,
            TemplateReference=_TemplateReference,
        )
        return template
