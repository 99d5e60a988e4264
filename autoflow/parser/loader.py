"""PyYAML's safe loader, with a limit."""

import yaml

MAX_DEPTH = 50
"""How deeply values may be nested, also once aliases are expanded."""


class TooDeepError(yaml.MarkedYAMLError):
    """Values are nested too deeply."""


class BoundedLoader(yaml.SafeLoader):
    """The loader, which stops at values nested so deeply that they might overflow Python's stack."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Return the next value of the file."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call] # untyped in types-PyYAML
            raise TooDeepError(None, None, f"values are nested more than {MAX_DEPTH} levels deep", mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node
