"""What a notebook's file says of its parameters."""

import keyword
from dataclasses import dataclass

from autoflow.parser.wording import did_you_mean


@dataclass(frozen=True)
class DeclaredParameters:
    """What a notebook says of its parameters.

    `names` is None where the names cannot be told, because the notebook's language is not one that papermill reads.
    `has_cell` is whether a cell is tagged `parameters`.
    """

    names: frozenset[str] | None
    has_cell: bool

    def problem(self, parameter: str) -> str | None:
        """Tell why `parameter` cannot be passed to the notebook; None if it can, or if that cannot be told."""
        if self.names is None:
            return None
        if not parameter.isidentifier() or keyword.iskeyword(parameter):
            return "a parameter of a Python notebook has to be a valid Python name"
        if not self.has_cell or parameter in self.names:
            return None
        return (
            f"the notebook does not declare this in its cell tagged 'parameters'{did_you_mean(parameter, self.names)}"
        )
