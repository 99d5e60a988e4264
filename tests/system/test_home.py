"""AutoFlow runs without a home, for users without a name, and keeps warnings of libraries about it out of the log."""

import json
import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoflow.errors import AutoflowError
from autoflow.system.home import is_substitute, prepare_home
from examples.flowapi import ExampleFlowApi
from tests.conftest import Deployed, write_notebook

ROOT = Path(__file__).resolve().parents[2]
NO_HOME: dict[str, str] = {}
NOBODY = 4242
LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ (DEBUG|INFO|WARNING|ERROR|CRITICAL) +\S.*")

can_be_nobody = os.getuid() == 0 and shutil.which("setpriv") is not None
# Python may be installed where only root can read.
AS_NOBODY = [
    *("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"),
    *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
]


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return the folder for temporary files, for a user without a name."""
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))

    def unknown(uid: int) -> pwd.struct_passwd:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    return place


@pytest.mark.parametrize("home", [None, "", " ", "/nonexistent", "/dev/null", "/dev/null/x", "no/such/folder"])
def test_user_without_a_home_gets_one_of_their_own(place: Path, home: str | None) -> None:
    environ = {} if home is None else {"HOME": home}
    prepare_home(environ)
    made = Path(environ["HOME"])
    assert made.parent == place
    assert made.stat().st_mode & 0o777 == 0o700
    assert is_substitute(made)
    assert environ["USER"] == "autoflow"
    # The next start uses the same one, and caches in it.
    again = dict(NO_HOME)
    prepare_home(again)
    assert again["HOME"] == environ["HOME"]
    assert len(list(place.iterdir())) == 1


def test_home_that_can_be_used_changes_nothing(place: Path, tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "USER": "somebody"}
    prepare_home(environ)
    assert environ == {"HOME": str(tmp_path), "USER": "somebody"}
    assert list(place.iterdir()) == []
    assert not is_substitute(tmp_path)


def test_home_of_the_user_database_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = pwd.struct_passwd(("me", "x", os.getuid(), 0, "", str(tmp_path), ""))
    monkeypatch.setattr(pwd, "getpwuid", lambda _: entry)
    environ = dict(NO_HOME)
    prepare_home(environ)
    assert environ == {"HOME": str(tmp_path)}


@pytest.mark.skipif(not can_be_nobody, reason="only root can become a user who cannot write to a home")
def test_home_that_is_read_only_stays_and_libraries_write_elsewhere(open_deployed: Deployed) -> None:
    given = {"HOME": "/", "MPLCONFIGDIR": "/m"}
    code = f"import autoflow.system.home as h, json; e = {given}; h.prepare_home(e); print(json.dumps(e))"
    command = [*AS_NOBODY, sys.executable, "-c", code]
    printed = subprocess.run(command, env=open_deployed.environ, cwd=ROOT, capture_output=True, check=True).stdout
    substitute = f"{open_deployed.environ['TMPDIR']}/autoflow-home-{NOBODY}"
    assert json.loads(printed) == {
        "HOME": "/",
        "IPYTHONDIR": f"{substitute}/.ipython",
        "JUPYTER_RUNTIME_DIR": f"{substitute}/.local/share/jupyter/runtime",
        "MPLCONFIGDIR": "/m",
        "XDG_CACHE_HOME": f"{substitute}/.cache",
        "USER": "autoflow",
    }


def test_folder_that_another_user_could_have_prepared_is_refused(place: Path) -> None:
    folder = place / f"autoflow-home-{os.getuid()}"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    with pytest.raises(AutoflowError, match="is not a folder of this user alone: set HOME to a folder that user"):
        prepare_home(dict(NO_HOME))
    folder.rmdir()
    folder.symlink_to(place)
    with pytest.raises(AutoflowError, match="set HOME to"):
        prepare_home(dict(NO_HOME))
    folder.unlink()
    folder.write_text("a file")
    with pytest.raises(AutoflowError, match="set HOME to"):
        prepare_home(dict(NO_HOME))


@pytest.fixture
def open_deployed(deployed: Deployed, prefect_database: Path) -> Iterator[Deployed]:
    """Return folders that every user can reach and write to, unlike those of pytest."""
    folder = Path(tempfile.mkdtemp(prefix="autoflow-tests-home-"))
    outputs, home = folder / "outputs", folder / "outputs" / "prefect"
    home.mkdir(parents=True)
    (folder / "tmp").mkdir()
    shutil.copy(prefect_database, home)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o777)
    for path in (deployed.inputs, *deployed.inputs.parents[:2]):
        path.chmod(0o755)
    environ = {name: value for name, value in deployed.environ.items() if name != "HOME"}
    environ |= {"AUTOFLOW_OUTPUTS_DIR": str(outputs), "TMPDIR": str(folder / "tmp"), "PYTHONWARNINGS": "default"}
    # What is preloaded needs a home, too.
    environ["AUTOFLOW_PRELOAD"] = ""
    yield Deployed(deployed.inputs, outputs, environ)
    shutil.rmtree(folder)


def started(deployed: Deployed, *arguments: str, prefix: list[str], **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*prefix, sys.executable, "-m", "autoflow", *arguments],
        env={**deployed.environ, **environ},
        cwd=ROOT,
        capture_output=True,
        check=False,
        text=True,
    )


@pytest.mark.parametrize(("home", "forked"), [(None, "true"), ("/", "false")])
def test_daemon_runs_without_a_home_and_a_name_and_each_line_is_one_of_the_log(
    open_deployed: Deployed,
    example_flowapi: ExampleFlowApi,
    prefect_url: str,
    home: str | None,
    forked: str,
) -> None:
    # The first one starts a Prefect server of its own, too.
    prefect = {"HOME": home, "PREFECT_API_URL": prefect_url} if home else {}
    imports = "import getpass, pathlib, matplotlib.pyplot\nassert pathlib.Path.home() and getpass.getuser()"
    write_notebook(open_deployed.inputs / "n.ipynb", imports, "import warnings; warnings.warn('in a notebook')")
    open_deployed.write_workflows("""
        workflows: [{name: w, notebooks: {n: {filename: n.ipynb}}}]
        available_dates_sensor:
          schedule: null
          workflows:
            - {workflow_name: w, earliest_date: 2016-01-12}
            - {workflow_name: w, every: week, date_stencil: [[0, 36525]], enough: 1, wait: 0}
    """)
    ended = started(
        open_deployed,
        *("start", "--once"),
        prefix=AS_NOBODY if can_be_nobody else [],
        FLOWAPI_URL=example_flowapi.url,
        FLOWAPI_TOKEN=example_flowapi.token(),
        AUTOFLOW_FORKED_KERNELS=forked,
        **prefect,
    )
    assert ended.returncode == 0, ended.stderr
    assert "done: 1 succeeded, 0 failed" in ended.stderr
    assert "2 dates still wait for the rest of the data; the next start looks again" in ended.stderr
    assert [line for line in ended.stderr.splitlines() if not LINE.fullmatch(line)] == []
    assert not re.search("writable|IPython|temp", ended.stderr.replace(str(open_deployed.outputs), ""))
    assert len(open_deployed.executed()) == 1


def test_path_in_a_home_that_is_not_there_is_refused(open_deployed: Deployed) -> None:
    ended = started(
        open_deployed,
        "validate",
        prefix=AS_NOBODY if can_be_nobody else [],
        AUTOFLOW_OUTPUTS_DIR="~/outputs",
        HOME="/nonexistent",
    )
    assert ended.returncode == 1
    assert "AUTOFLOW_OUTPUTS_DIR: there is no home folder for '~'" in ended.stderr + ended.stdout
    assert "bug" not in ended.stderr


@pytest.mark.skipif(not can_be_nobody, reason="only root can become a user without a name")
def test_without_a_place_for_a_home_the_message_says_what_to_set(open_deployed: Deployed) -> None:
    taken = Path(open_deployed.environ["TMPDIR"]) / f"autoflow-home-{NOBODY}"
    taken.mkdir()
    ended = started(open_deployed, "validate", prefix=AS_NOBODY)
    assert ended.returncode == 1
    assert ended.stderr == (
        f"Error: libraries need a home folder, and {taken} is not a folder of this user alone: set HOME to a folder "
        f"that user {NOBODY} can write to\n"
    )
