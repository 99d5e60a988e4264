"""How people see a cluster: `validate`, `health`, the page's banner and messages."""

import datetime
import json
from pathlib import Path
from typing import Any

import pytest

from autoflow.cli import main
from autoflow.cluster.authority import make_certificates
from autoflow.cluster.versions import code_version
from autoflow.messages.notifier import Notifier
from autoflow.model.opening import PAGE_NAME
from autoflow.orchestration.daemon_files import DaemonFiles
from autoflow.page.writer import PageWriter
from autoflow.parser import read_workflows
from autoflow.runs.attention import CLUSTER_PATIENCE
from autoflow.runs.records import utc_now
from autoflow.workflows.watch import ATTEND_SECONDS, Clocks, Watch
from tests.cluster.conftest import Daemon, Farm, daemon_of
from tests.conftest import write_notebook
from tests.waiting import wait_for

pytestmark = pytest.mark.usefixtures("log_as_before")

WORKFLOWS = """
workflows: [{name: simple, notebooks: {n: {filename: n.ipynb}}}]
available_dates_sensor: {schedule: "0 0 * * *", workflows: [{workflow_name: simple}]}
"""


class Watched:
    """A daemon's watch over its cluster, with a test's clock, and what the command line says meanwhile."""

    def __init__(self, farm: Farm, daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
        self.farm, self.daemon, self.capsys = farm, daemon, capsys
        self.later = datetime.timedelta()
        settings = farm.settings()
        self.files = DaemonFiles(home=settings.prefect_home)
        self.page = PageWriter(settings, daemon.store)
        notifier = Notifier(settings, daemon.store)
        clocks = Clocks(now=lambda: utc_now() + self.later, seconds=self._seconds)
        self._looks = 0
        self.watch = Watch(
            settings,
            daemon.store,
            read_workflows(settings),
            notifier=notifier,
            page=self.page,
            clocks=clocks,
        )
        self.watch.add_cluster(daemon.cluster)

    def _seconds(self) -> float:
        self._looks += 1
        return self._looks * ATTEND_SECONDS

    def cluster(self, verb: str = "health") -> dict[str, Any]:
        """Return what a verb says about the cluster, as JSON."""
        self.daemon.cluster.look()
        self.watch.look()
        self.capsys.readouterr()
        main([verb, "--json"], self.farm.environ)
        printed = json.loads(self.capsys.readouterr().out)
        (check,) = [each for each in printed["checks"] if each["subject"] == "cluster"]
        return {**check, "cluster": printed.get("cluster")}

    def let_a_minute_pass(self) -> None:
        """Have what fails now have failed for a minute already: `health` has no other clock."""
        self.later = -CLUSTER_PATIENCE
        self.watch.look()
        self.later = datetime.timedelta()

    def banner(self) -> str:
        """Return the page."""
        self.page.finish()
        return (self.farm.outputs / PAGE_NAME).read_text()


def test_views_follow_the_workers_as_they_come_are_left_out_and_go(
    own_farm: Farm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (own_farm.inputs / "workflows.yml").write_text(WORKFLOWS)
    write_notebook(own_farm.inputs / "n.ipynb", "1")
    other = tmp_path / "mounted"
    other.mkdir()
    (other / "workflows.yml").touch()
    home = own_farm.settings().prefect_home
    home.mkdir()
    files = DaemonFiles(home=home)
    with daemon_of(own_farm) as daemon, files.published("http://127.0.0.1:9/api"):
        watched = Watched(own_farm, daemon, capsys)
        found = watched.cluster()
        assert (found["good"], found["warnings"][0]) == (True, "no worker of the cluster can execute notebooks")
        watched.let_a_minute_pass()
        assert watched.cluster()["problems"][0].startswith("no worker of the cluster can execute notebooks (since ")
        assert "no worker of the cluster can execute notebooks" in watched.banner()
        assert watched.cluster("validate")["problems"] == [
            "no worker of the cluster can execute notebooks: start one with 'autoflow worker'"
        ]

        with own_farm.worker(), own_farm.worker(AUTOFLOW_INPUTS_DIR=str(other), AUTOFLOW_WORKER_SLOTS="3"):
            wait_for(
                lambda: watched.cluster()["note"].startswith(f"{own_farm.environ['AUTOFLOW_DASK_SCHEDULER']}: 2 w")
            )
            found = watched.cluster()
            assert (found["good"], found["warnings"]) == (True, [])
            assert "2 workers with 5 slots" in found["note"]
            assert code_version() in found["note"]
            assert "certificate valid until" in found["note"]
            assert sorted(each["slots"] for each in found["cluster"]["workers"]) == [2, 3]
            assert "can execute notebooks" not in watched.banner()
            assert "2 workers with 5 slots" in watched.cluster("validate")["note"]

            (other / "workflows.yml").unlink()
            wait_for(lambda: any("gets no notebooks" in line for line in watched.cluster()["warnings"]))
            found = watched.cluster()
            assert found["good"]
            assert f"there is no workflows.yml in {other}: is the inputs folder mounted?" in found["warnings"][0]
            assert "1 worker with 2 slots" in found["note"]
            assert "is the inputs folder mounted?" not in watched.banner()
            watched.later = CLUSTER_PATIENCE
            watched.watch.look()
            assert "1 of 2 workers gets no notebooks" in watched.banner()
            assert "is the inputs folder mounted?" in watched.banner()
            watched.later = datetime.timedelta()
            assert "gets no notebooks" in watched.cluster("validate")["warnings"][0]
            # A restart of the daemon would not help.
            main(["health", "--live", "--json"], own_farm.environ)
            assert "cluster" not in capsys.readouterr().out

        own_farm.members[0].kill()
        wait_for(lambda: "the scheduler of the cluster at" in watched.cluster()["warnings"][0])
        watched.let_a_minute_pass()
        line = next(each for each in watched.cluster()["problems"] if "the scheduler of the cluster" in each)
        assert line.startswith(
            f"the scheduler of the cluster at {own_farm.environ['AUTOFLOW_DASK_SCHEDULER']} does not"
        )
        assert "does not respond" in watched.banner()
        assert "does not respond" in watched.cluster("validate")["problems"][0]


def test_validate_reports_certificates(farm: Farm, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=20)
    list(make_certificates(tmp_path, long_ago, days=10))
    strange = {"AUTOFLOW_DASK_CERT": str(tmp_path / "daemon.pem")}
    assert main(["validate", "--offline"], {**farm.environ, **strange}) == 1
    assert "AUTOFLOW_DASK_CERT: the certificate expired at" in capsys.readouterr().out
