"""AutoFlow without the packages that only a cluster needs."""

import subprocess
import sys

from tests.cluster.conftest import ROOT
from tests.conftest import Deployed

WITHOUT = """
import sys
from importlib.machinery import PathFinder

EXTRAS = {"cryptography", "dask", "distributed"}

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in EXTRAS else super().find_spec(name, path, target)

sys.meta_path = [Without if finder is PathFinder else finder for finder in sys.meta_path]
"""


def python(program: str, deployed: Deployed, *arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", WITHOUT + program, *arguments],
        cwd=ROOT,
        env={**deployed.environ, **environ},
        capture_output=True,
        check=False,
        text=True,
    )


def test_only_a_cluster_needs_dask(deployed: Deployed) -> None:
    program = "import autoflow.cli.daemon, autoflow.cli.validate, autoflow.service; from autoflow.cli import main\n"
    ended = python(f"{program}sys.exit(main(['runs', '--json']) or bool(EXTRAS & sys.modules.keys()))", deployed)

    assert (ended.returncode, ended.stderr) == (0, "")


def test_scheduler_in_the_settings_without_dask_says_what_to_install(deployed: Deployed) -> None:
    ended = python(
        "from autoflow.cli import main; sys.exit(main(['start']))",
        deployed,
        AUTOFLOW_DASK_SCHEDULER="tcp://127.0.0.1:8786",
        AUTOFLOW_DB_URI="postgresql://autoflow@127.0.0.1/autoflow",
    )

    assert ended.returncode == 1
    assert ended.stderr.startswith("AutoFlow cannot start, because settings are missing or invalid: ")
    assert "AUTOFLOW_DASK_SCHEDULER: Dask is not installed: " in ended.stderr
    assert "pipenv sync" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
