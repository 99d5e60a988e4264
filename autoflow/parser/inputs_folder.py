"""The inputs folder: find its files and read what its notebooks declare."""

from collections.abc import Hashable
from pathlib import Path

from autoflow.notebooks.reading import DeclaredParameters, InvalidNotebookError, declared_parameters
from autoflow.parser.wording import did_you_mean, show

_NOTHING = DeclaredParameters(None, has_cell=False)


class InputsFolder:
    """The folder with the notebooks and templates; it reads each notebook once.

    `stamps` are those of the files that were asked for, from before they were read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.stamps: dict[Path, Hashable] = {}
        self._declared: dict[Path, DeclaredParameters] = {}

    def file(self, name: str) -> Path:
        """Return the absolute path of the file called `name`; ValueError with the reason if it cannot be used."""
        try:
            path = self._path / name
            if Path(name).is_absolute() or not path.resolve().is_relative_to(self._path.resolve()):
                raise ValueError(f"{show(name)} is outside the inputs folder")
            if path not in self.stamps:
                self.stamps[path] = stamp_of(path)
            if path.is_file():
                return path
            if path.exists():
                raise ValueError(f"{show(name)} is not a file")
            names = [entry.relative_to(self._path).as_posix() for entry in path.parent.glob("*") if entry.is_file()]
        except (OSError, RuntimeError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise ValueError(f"cannot access {show(name)}: {reason}") from error
        raise ValueError(f"no file {show(name)} in the inputs folder{did_you_mean(name, names, cutoff=0.8)}")

    def notebook(self, name: str) -> Path:
        """Return the absolute path of the notebook called `name`; ValueError with the reason if it cannot be used."""
        path = self.file(name)
        if path.suffix != ".ipynb":
            raise ValueError(f"{show(name)} is not a notebook; expected a name that ends in .ipynb")
        if path not in self._declared:
            try:
                self._declared[path] = declared_parameters(path)
            except InvalidNotebookError as error:
                raise ValueError(f"{show(name)} is not a valid notebook: {error}") from error
            except OSError as error:
                raise ValueError(f"cannot read {show(name)}: {error.strerror}") from error
        return path

    def declared(self, path: Path) -> DeclaredParameters:
        """Return the parameters that a notebook declares: none if `path` does not come from `notebook`."""
        return self._declared.get(path, _NOTHING)


def stamp_of(path: Path) -> Hashable:
    """Return what changes with every edit of the file; None if there is no such file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
