"""AutoFlow without the packages that only a cluster needs."""

import subprocess
import sys
from collections.abc import Mapping

from examples.flowapi import ExampleFlowApi
from tests.cluster.conftest import ROOT
from tests.conftest import Deployed
from tests.test_acceptance import environment, write_simple

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


def test_workflows_run_on_this_machine(
    deployed: Deployed, example_flowapi: ExampleFlowApi, prefect_running: Mapping[str, str]
) -> None:
    write_simple(deployed, "null", earliest_date="2016-01-12")
    environ = environment(deployed, example_flowapi, **prefect_running)
    ended = python("from autoflow.cli import main; sys.exit(main(['start']))", deployed, **environ)

    assert ended.returncode == 0, ended.stderr
    assert "1 succeeded, 0 failed" in ended.stderr


def test_scheduler_in_the_settings_without_dask_says_what_to_install(deployed: Deployed) -> None:
    verbs = ["start", "worker", "scheduler", "validate"]
    ended = python(
        "from autoflow.cli import main\nfor verb in sys.argv[1:]: print('returned', main([verb]), flush=True)",
        deployed,
        *verbs,
        AUTOFLOW_DASK_SCHEDULER="tcp://127.0.0.1:8786",
        AUTOFLOW_DB_URI="postgresql://autoflow@127.0.0.1/autoflow",
    )

    assert "Traceback" not in ended.stderr
    printed = [line for line in (ended.stdout + ended.stderr).splitlines() if line]
    assert printed.count("returned 1") == len(verbs)
    problems = [line for line in printed if line != "returned 1"]
    assert len(problems) == len(verbs)
    for line in problems:
        assert "AUTOFLOW_DASK_SCHEDULER: Dask is not installed: " in line
        assert "--build-arg CLUSTER=true" in line
        assert "pipenv sync" in line
