"""The inputs folder: whether a file is there, and whether it is a notebook."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from autoflow.notebooks.reading import has_parameters_cell
from autoflow.parser.declared_parameters import DeclaredParameters
from autoflow.parser.wording import did_you_mean, show

InspectNotebook: TypeAlias = Callable[[Path], frozenset[str] | None]
"""Returns the names of the parameters that a notebook declares, or None where that cannot be told."""


class InputsFolder:
    """The folder with the notebooks and templates; what a notebook declares is looked at once for each parse."""

    def __init__(self, path: Path, inspect_notebook: InspectNotebook) -> None:
        self._path = path
        self._inspect_notebook = inspect_notebook
        self._declared: dict[Path, DeclaredParameters] = {}

    def file(self, name: str) -> Path:
        """Return the absolute path of the file called `name`; ValueError says why it cannot be used."""
        try:
            path = self._path / name
            if Path(name).is_absolute() or not path.resolve().is_relative_to(self._path.resolve()):
                raise ValueError(f"{show(name)} is outside of the inputs folder")
            if path.is_file():
                return path
            if path.exists():
                raise ValueError(f"{show(name)} is not a file")
            names = [entry.relative_to(self._path).as_posix() for entry in path.parent.glob("*") if entry.is_file()]
        except (OSError, RuntimeError) as error:
            raise ValueError(f"{show(name)} cannot be looked at: {error}") from error
        raise ValueError(f"{show(name)} is not in the inputs folder{did_you_mean(name, names, cutoff=0.8)}")

    def notebook(self, name: str) -> Path:
        """Return the absolute path of the notebook called `name`; ValueError says why it cannot be used."""
        path = self.file(name)
        if path.suffix != ".ipynb":
            raise ValueError(f"{show(name)} is not a notebook: its name does not end in .ipynb")
        if path not in self._declared:
            try:
                has_cell = has_parameters_cell(path)
                self._declared[path] = DeclaredParameters(self._inspect_notebook(path), has_cell)
            except (ValueError, OSError) as error:
                raise ValueError(f"{show(name)} {error}") from error
        return path

    def declared(self, path: Path) -> DeclaredParameters:
        """Return what the notebook says of its parameters; `path` is one that `notebook` has returned."""
        return self._declared[path]
