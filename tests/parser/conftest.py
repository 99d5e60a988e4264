from pathlib import Path

import pytest

from tests.parser.good_file import fill_inputs


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """Return an inputs folder with the files that the good workflows.yml names."""
    return fill_inputs(tmp_path)
