"""Forked kernels: like ordinary ones, apart from each other, and ordinary ones where that is not possible."""

import asyncio
import contextlib
import gzip
import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from autoflow.kernels import fork_server
from autoflow.kernels.connection import KernelConnection
from autoflow.kernels.fork_server import ForkedProcess, ForkServer, warm_fork_server
from autoflow.kernels.kernel import SHUTDOWN_GRACE, Kernel, new_kernel
from tests.conftest import Deployed
from tests.environment import steady_environ
from tests.waiting import LONG, wait_for


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    with ForkServer(idle_seconds=600) as server:
        server.warm_up(steady_environ())
        assert server.wait_until_warm(LONG)
        yield server


async def say(connection: KernelConnection, code: str) -> str:
    """Return what `code` prints and raises."""
    request = connection.execute(textwrap.dedent(code))
    said = ""
    while True:
        message = await connection.get_iopub_msg(timeout=LONG)
        if message["parent_header"].get("msg_id") == request:
            content = message["content"]
            said += str(content.get("text", "")) + str(content.get("ename", "")) + str(content.get("evalue", ""))
            if content.get("execution_state") == "idle":
                return said


class Kernels:
    """Runs code in kernels, in the folder `cwd` and the environment of the tests."""

    def __init__(self, server: ForkServer | None, cwd: Path) -> None:
        self.server = server
        self.cwd = cwd

    def say(self, *codes: str, environment: Mapping[str, str] | None = None, cwd: Path | None = None) -> list[str]:
        """Return what each of `codes` prints; they run side by side, each in its own kernel."""

        async def one(code: str) -> str:
            with new_kernel("python3", self.server) as kernel:
                connection = await kernel.connect(
                    steady_environ() if environment is None else environment, cwd or self.cwd, start_timeout=LONG
                )
                try:
                    return await say(connection, code)
                finally:
                    await kernel.end(grace=SHUTDOWN_GRACE)
                    # Nothing else keeps its output open, such as a request that a server has not answered.
                    assert kernel.ended.is_set()

        async def all_of_them() -> list[str]:
            return await asyncio.gather(*map(one, codes))

        with asyncio.Runner() as runner:
            return runner.run(all_of_them())

    def is_forked(self, environment: Mapping[str, str] | None = None, cwd: Path | None = None) -> bool:
        code = "import os; print(open(f'/proc/{os.getppid()}/cmdline').read())"
        [guard] = self.say(code, environment=environment, cwd=cwd)
        return "warm_process" in guard


@pytest.fixture(scope="module", autouse=True)
def _changes_are_seen_at_once_and_forks_may_take_long() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(fork_server, "CHECK_SECONDS", 0)
        monkeypatch.setattr(fork_server, "FORK_TIMEOUT", LONG)
        yield


@pytest.fixture
def kernels(server: ForkServer, tmp_path: Path) -> Kernels:
    return Kernels(server, tmp_path)


STATE = """
import json, os, signal, sys, threading
print(json.dumps({
    "path": sys.path,
    "argv": sys.argv[0],
    "flags": str(sys.flags),
    "signals": {str(each): str(signal.getsignal(each)) for each in signal.valid_signals()
                if each not in {signal.SIGKILL, signal.SIGSTOP}},
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    "environ": {name: value for name, value in os.environ.items() if name != "JPY_PARENT_PID"},
    "cwd": os.getcwd(),
    "leader": os.getpid() == os.getpgid(0) == os.getsid(0),
    "threads": sorted(thread.name.rstrip("0123456789").split("-")[0] for thread in threading.enumerate()),
    "stdin": os.readlink("/proc/self/fd/0"),
    "autoflow": [name for name in sys.modules if "autoflow" in name],
    "sockets": sum(os.readlink(f"/proc/self/fd/{each}").startswith("socket") for each in os.listdir("/proc/self/fd")
                   if os.path.lexists(f"/proc/self/fd/{each}")),
    "main": sorted(name for name in vars(sys.modules["__main__"]) if not name.startswith("_")),
    "recursion": sys.getrecursionlimit(),
    "hooks": [str(type(hook)) for hook in (sys.excepthook, sys.displayhook, sys.stdout, sys.stderr)],
}))
"""


def test_forked_kernel_is_what_an_ordinary_one_is(kernels: Kernels, tmp_path: Path) -> None:
    [forked] = kernels.say(STATE)
    [ordinary] = Kernels(None, tmp_path).say(STATE)
    assert json.loads(forked) == json.loads(ordinary)


LOOKS = """
import json, logging, threading, time, warnings
import matplotlib, matplotlib.pyplot, pandas
warnings.simplefilter("ignore")
print(json.dumps({
    "options": {name: str(pandas.get_option(name)) for name in pandas._config.config._registered_options},
    "parameters": {name: str(value) for name, value in matplotlib.rcParams.items()},
    "table": pandas.DataFrame([[number * 111111 for number in range(30)]]).to_html(),
    "wide": repr(pandas.DataFrame([[number * 111111 for number in range(12)]])),
    "loggers": sorted(name for name in logging.root.manager.loggerDict if "Kernel" in name),
    "thread": threading.main_thread().native_id == threading.get_native_id(),
    "log": time.time() - logging._startTime < 30,
}))
"""


def test_options_of_pandas_are_those_of_an_ordinary_kernel(kernels: Kernels, tmp_path: Path) -> None:
    [forked] = kernels.say(LOOKS)
    [ordinary] = Kernels(None, tmp_path).say(LOOKS)
    assert json.loads(forked) == json.loads(ordinary)
    assert json.loads(forked)["options"]["display.max_columns"] == "20"


def test_widgets_are_those_of_an_ordinary_kernel(kernels: Kernels, tmp_path: Path) -> None:
    code = """
        import flowclient, tqdm.auto, ipywidgets, sys
        print(ipywidgets.widgets.IntSlider, ipywidgets.IntSlider is ipywidgets.widgets.IntSlider)
        print(tqdm.auto.tqdm.__mro__, sys.modules["flowclient.client"].tqdm is tqdm.auto.tqdm)
        print(issubclass(tqdm.notebook.HBox, ipywidgets.Widget))
        print(sorted(get_ipython().kernel.comm_manager.targets), tqdm.autonotebook)
    """
    said = kernels.say(code)
    assert said == Kernels(None, tmp_path).say(code)
    assert "Error" not in said[0]


FIRST_PLOT = """
import sys
import matplotlib.pyplot, pandas
from PIL import Image
before = set(sys.modules)
pandas.DataFrame({"a": [1, 2]}).plot()
matplotlib.pyplot.show()
late = sorted(name for name in set(sys.modules) - before if not name.startswith("matplotlib_inline"))
print(json.dumps({
    "late": late,
    "formats": Image.ID,
    "units": sorted(str(key) for key in matplotlib.units.registry),
    "backend": matplotlib.get_backend(),
}))
"""


def test_first_plot_imports_only_modules_that_use_the_shell(kernels: Kernels, tmp_path: Path) -> None:
    [forked], [ordinary] = (
        [json.loads(said.splitlines()[-1]) for said in each.say("import json\n" + FIRST_PLOT)]
        for each in (kernels, Kernels(None, tmp_path))
    )
    assert forked.pop("late") == []
    assert "pandas.plotting._matplotlib.core" in ordinary.pop("late")
    assert forked == ordinary


def test_what_a_first_plot_imports_is_not_imported_where_nothing_plots(tmp_path: Path) -> None:
    with ForkServer(["json"]) as server:
        server.warm_up(steady_environ())
        assert server.wait_until_warm(LONG)
        code = "import sys; print(sorted({'PIL', 'pandas', 'matplotlib', 'pyarrow'} & sys.modules.keys()))"
        assert Kernels(server, tmp_path).say(code) == ["[]\n"]


ASKERS = {
    "asks": "from IPython import get_ipython\nget_ipython()",
    "looks": "WHERE = 'terminal'\ntry:\n    if 'IPKernelApp' in get_ipython().config: WHERE = 'notebook'\n"
    "except NameError: pass",
    "is_told": "WHERE = globals()['__builtins__'].get('__IPYTHON__')",
    "knows_the_class": "from IPython import get_ipython\nWHERE = get_ipython().__class__.__name__",
    "keeps": "from IPython import get_ipython\nSHELL = get_ipython()\nWHERE = type(SHELL).__module__",
    "uses": "from IPython import get_ipython\nget_ipython().events.register('pre_run_cell', print)",
    "swallows": "from IPython import get_ipython\ntry: WHERE = get_ipython().user_ns['__name__']\nexcept: pass",
}


def test_module_that_asks_for_a_shell_is_what_it_is_in_an_ordinary_kernel(tmp_path: Path, logged: list[str]) -> None:
    for name, source in ASKERS.items():
        package = tmp_path / "library" / name
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(f"class Base: pass\nfrom .sub import f, Derived\n{source}\n")
        (package / "sub.py").write_text(f"from {name} import Base\nclass Derived(Base): pass\ndef f(): return 1\n")
        (package.parent / f"user_of_{name}.py").write_text(f"import {name}\nclass User({name}.Derived): pass\n")
    environment = {**steady_environ(), "PYTHONPATH": str(tmp_path / "library")}
    code = "\n".join(
        f"import {name}, user_of_{name}\nprint({name}.sub.f(), issubclass(user_of_{name}.User, {name}.sub.Base), "
        f"{name}.Base is {name}.sub.Base, {name}.sub.__name__, getattr({name}, 'WHERE', None))"
        for name in ASKERS
    )
    with ForkServer([f"user_of_{name}" for name in ASKERS]) as server:
        server.warm_up(environment)
        assert server.wait_until_warm(LONG)
        forked = Kernels(server, tmp_path)
        assert forked.is_forked(environment)
        assert forked.say(code, environment=environment) == Kernels(None, tmp_path).say(code, environment=environment)
    assert logged == [
        f"not preloading user_of_{name}: it {does} IPython's shell on import"
        for name, does in (("keeps", "keeps"), ("uses", "uses"), ("swallows", "uses"))
    ]


def test_each_kernel_has_its_token_folder_and_process_group(kernels: Kernels, tmp_path: Path) -> None:
    code = "import os; print(os.getcwd(), os.environ['FLOWAPI_TOKEN'], os.popen('echo $FLOWAPI_TOKEN').read().strip())"
    groups = set()
    for token in ("blue", "red"):
        (tmp_path / token).mkdir()
        environment = {**steady_environ(), "FLOWAPI_TOKEN": token}
        assert kernels.is_forked(environment)
        [said] = kernels.say(f"{code}; print(os.getpgid(0))", environment=environment, cwd=tmp_path / token)
        *known, group = said.split()
        assert known == [str(tmp_path / token), token, token]
        groups.add(group)
    assert len(groups) == 2


def test_kernel_has_nothing_of_the_environment_of_its_server(tmp_path: Path) -> None:
    environment = steady_environ()
    with ForkServer([]) as server:
        server.warm_up({**environment, "FLOWAPI_TOKEN": "of the server"})
        kernels = Kernels(server, tmp_path)
        assert kernels.is_forked(environment)
        code = "import os; print(os.environ.get('FLOWAPI_TOKEN'), os.popen('echo $FLOWAPI_TOKEN').read())"
        assert kernels.say(code, environment=environment) == ["None \n\n"]


def test_random_numbers_differ_between_kernels(kernels: Kernels) -> None:
    code = """
        import multiprocessing, numpy, random, tempfile, uuid
        authkey = multiprocessing.current_process().authkey.hex()
        print(random.random(), numpy.random.random(), uuid.uuid4(), tempfile.mktemp(), authkey)
    """
    [one, other] = kernels.say(code, code)
    assert set(one.split()).isdisjoint(other.split())


def test_nothing_of_a_notebook_is_visible_in_the_next(kernels: Kernels) -> None:
    change = """
        import builtins, matplotlib, os, pandas, sys, warnings
        builtins.leak = pandas.leak = os.environ["LEAK"] = "leak"
        matplotlib.rcParams["lines.linewidth"] = 99
        pandas.set_option("display.max_rows", 3)
        sys.path.append("/leak")
        warnings.simplefilter("error")
        os.chdir("/")
    """
    look = """
        import builtins, matplotlib, os, pandas, sys
        print(hasattr(builtins, "leak"), hasattr(pandas, "leak"), "LEAK" in os.environ, "/leak" in sys.path)
        print(matplotlib.rcParams["lines.linewidth"], pandas.get_option("display.max_rows"), os.getcwd())
    """
    [before] = kernels.say(look)
    assert kernels.say(change) == [""]
    assert kernels.say(look) == [before]
    assert before.startswith("False False False False\n")


def test_figures_are_shown(kernels: Kernels) -> None:
    async def run() -> list[str]:
        with new_kernel("python3", kernels.server) as kernel:
            connection = await kernel.connect(steady_environ(), kernels.cwd, start_timeout=LONG)
            request = connection.execute("import matplotlib.pyplot as plt; plt.plot([1, 2]);")
            kinds: list[str] = []
            while True:
                message = await connection.get_iopub_msg(timeout=LONG)
                if message["parent_header"].get("msg_id") == request:
                    kinds += message["content"].get("data", ())
                    if message["content"].get("execution_state") == "idle":
                        await kernel.end()
                        return kinds

    with asyncio.Runner() as runner:
        assert "image/png" in runner.run(run())


def test_files_that_are_left_open_are_written_at_the_end(kernels: Kernels, tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("kept = open('kept.txt', 'w'); kept.write('kept')")
    code = """
        import atexit, helper, threading, time
        left = open("left.txt", "w")
        left.write("left")
        cycle = [open("cycle.txt", "w")]
        cycle.append(cycle)
        cycle[0].write("cycle")
        atexit.register(open("atexit.txt", "w").write, "atexit")
        threading.Thread(target=lambda: (time.sleep(0.3), open("thread.txt", "w").write("thread"))).start()
    """
    assert kernels.say(code) == [""]
    files = {file.stem: file.read_text() for file in tmp_path.glob("*.txt")}
    assert files == {name: name for name in ("kept", "left", "cycle", "atexit", "thread")}


KEEPS_FILES_OPEN = """
import ctypes, gzip, tempfile, zipfile
import pyarrow, pyarrow.parquet
text = gzip.open("text.gz", "wt")
text.write("kept")
binary = gzip.open("binary.gz", "wb")
binary.write(b"kept")
archive = zipfile.ZipFile("archive.zip", "w")
archive.writestr("kept", "kept")
table = pyarrow.table({"kept": [1]})
parquet = pyarrow.parquet.ParquetWriter("table.parquet", table.schema)
parquet.write_table(table)
temporary = tempfile.NamedTemporaryFile(prefix="temporary", dir=".")
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
libc.fputs(b"kept", ctypes.c_void_p(libc.fopen(b"c.txt", b"w")))
class Kept:
    def __del__(self):
        with open("deleted.txt", "w") as file:
            file.write(__name__ + str(table.num_rows))
kept = Kept()
kept.itself = kept
"""


@pytest.mark.parametrize("ending", ["", "1 / 0", "import pandas; pandas.helper = helper"])
def test_files_that_a_module_beside_a_notebook_leaves_open_are_whole_at_the_end(
    kernels: Kernels, tmp_path: Path, ending: str
) -> None:
    (tmp_path / "helper.py").write_text(KEEPS_FILES_OPEN)
    kernels.say(f"import helper\n{ending}")
    assert gzip.decompress((tmp_path / "text.gz").read_bytes()) == b"kept"
    assert gzip.decompress((tmp_path / "binary.gz").read_bytes()) == b"kept"
    assert zipfile.ZipFile(tmp_path / "archive.zip").read("kept") == b"kept"
    assert (tmp_path / "table.parquet").read_bytes().endswith(b"PAR1")
    assert (tmp_path / "c.txt").read_text() == "kept"
    assert (tmp_path / "deleted.txt").read_text().startswith("helper" if "pandas" not in ending else "")
    assert not [*tmp_path.glob("temporary*")]


def test_module_beside_a_notebook_is_never_stale(kernels: Kernels, tmp_path: Path) -> None:
    # Of different lengths: Python itself takes a file of one second and one length for unchanged.
    for value in ("first", "the second"):
        (tmp_path / "my_module.py").write_text(f"value = '{value}'")
        assert kernels.say("import my_module; print(my_module.value)") == [f"{value}\n"]


def test_module_beside_a_notebook_comes_before_one_that_is_preloaded(kernels: Kernels, tmp_path: Path) -> None:
    (tmp_path / "pandas.py").write_text("value = 'mine'")
    assert kernels.say("import pandas; print(pandas.value)") == ["mine\n"]
    (tmp_path / "pandas.py").unlink()
    (tmp_path / "tqdm").mkdir()
    (tmp_path / "tqdm" / "__init__.py").write_text("value = 'mine'")
    assert kernels.say("import tqdm; print(tqdm.value)") == ["mine\n"]


def test_module_that_is_preloaded_is_imported_again_when_it_changes(tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    environment = {**steady_environ(), "PYTHONPATH": str(tmp_path / "library")}
    with ForkServer(["my_library"]) as server:
        for value in ("first", "second"):
            (tmp_path / "library" / "my_library.py").write_text(f"value = '{value}'")
            code = "import my_library; print(my_library.value)"
            assert Kernels(server, tmp_path).say(code, environment=environment) == [f"{value}\n"]
            assert server.wait_until_warm(LONG)
            assert Kernels(server, tmp_path).say(code, environment=environment) == [f"{value}\n"]


def test_process_that_is_outdated_ends_with_its_last_kernel_and_without_kernels_at_once(tmp_path: Path) -> None:
    library = tmp_path / "library" / "my_library.py"
    library.parent.mkdir()
    environment = {**steady_environ(), "PYTHONPATH": str(library.parent)}

    async def run(server: ForkServer, kernels: Kernels) -> None:
        with new_kernel("python3", server) as kernel:
            await kernel.connect(environment, tmp_path, start_timeout=LONG)
            old = server.pid
            assert old
            library.write_text("value = 'second'")
            assert await asyncio.to_thread(kernels.is_forked, environment)
            assert server.pid != old
            assert psutil.pid_exists(old)
            await kernel.end()
        wait_for(lambda: is_gone(old))

    library.write_text("value = 1")
    with ForkServer(["my_library"], idle_seconds=600) as server, asyncio.Runner() as runner:
        kernels = Kernels(server, tmp_path)
        runner.run(run(server, kernels))
        assert server.wait_until_warm(LONG)
        without_kernels = server.pid
        assert without_kernels
        library.write_text("value = 'the third'")
        assert kernels.is_forked(environment)
        assert server.pid != without_kernels
        wait_for(lambda: is_gone(without_kernels))
        # Not even a zombie stays.
        server.warm_up(environment)
        assert not psutil.pid_exists(without_kernels)


def test_matplotlibrc_beside_a_notebook_counts(kernels: Kernels, tmp_path: Path, logged: list[str]) -> None:
    code = "import matplotlib; print(matplotlib.rcParams['lines.linewidth'])"
    (tmp_path / "matplotlibrc").write_text("lines.linewidth: 7")
    for _ in range(2):
        assert kernels.say(code) == Kernels(None, tmp_path).say(code) == ["7.0\n"]
    assert logged == [f"kernels start the ordinary, slower way: matplotlib reads {tmp_path / 'matplotlibrc'} on import"]
    (tmp_path / "matplotlibrc").unlink()
    (tmp_path / "matplotlibrc").mkdir()
    assert kernels.is_forked()


def test_matplotlibrc_is_ignored_if_matplotlib_is_not_preloaded(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text("lines.linewidth: 7")
    with ForkServer(["json"]) as server:
        server.warm_up(steady_environ())
        assert server.wait_until_warm(LONG)
        assert Kernels(server, tmp_path).is_forked()
        code = "import matplotlib; print(matplotlib.rcParams['lines.linewidth'])"
        assert Kernels(server, tmp_path).say(code) == ["7.0\n"]


def test_very_many_modules_are_preloaded(tmp_path: Path) -> None:
    folder = tmp_path.joinpath(*["x" * 240] * 8)
    folder.mkdir(parents=True)
    for number in range(600):
        (folder / f"part_{number}.py").touch()
    (folder / "many.py").write_text("\n".join(f"import part_{number}" for number in range(600)))
    environment = {**steady_environ(), "PYTHONPATH": str(folder)}
    with ForkServer(["json", "many"]) as server:
        server.warm_up(environment)
        assert server.wait_until_warm(LONG)
        assert Kernels(server, tmp_path).is_forked(environment)


@pytest.mark.parametrize(
    "changed", [{"TZ": "Asia/Kathmandu"}, {"OMP_NUM_THREADS": "1"}, {"PYTHONHASHSEED": "7"}, {"TQDM_DISABLE": "1"}]
)
def test_environment_that_differs_from_that_of_the_server_makes_an_ordinary_kernel(
    kernels: Kernels, changed: dict[str, str]
) -> None:
    assert kernels.is_forked()
    assert not kernels.is_forked({**steady_environ(), **changed})
    [said] = kernels.say("import os; print(os.environ['X'])", environment={**steady_environ(), **changed, "X": "1"})
    assert said == "1\n"


def test_reason_for_ordinary_kernels_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), ForkServer(["json"]) as server:
        server.warm_up(steady_environ())
        assert server.wait_until_warm(LONG)
        for _ in range(2):
            assert not Kernels(server, tmp_path).is_forked({**steady_environ(), "TZ": "Asia/Kathmandu"})
    [record] = [record for record in caplog.records if record.name == "autoflow"]
    assert record.getMessage() == (
        "kernels start the ordinary, slower way: packages were preloaded with another environment (TZ)"
    )


def test_module_that_must_not_be_preloaded_is_imported_by_each_kernel(tmp_path: Path, logged: list[str]) -> None:
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "dice.py").write_text("import random; dice = random.Random()")
    (tmp_path / "library" / "broken.py").write_text("import harmless; 1 / 0")
    (tmp_path / "library" / "harmless.py").touch()
    environment = {**steady_environ(), "PYTHONPATH": str(tmp_path / "library")}
    with ForkServer(["dice", "broken", "missing", "harmless"]) as server:
        server.warm_up(environment)
        assert server.wait_until_warm(LONG)
        kernels = Kernels(server, tmp_path)
        assert kernels.is_forked(environment)
        code = "import sys; print('harmless' in sys.modules); import dice; print(dice.dice.random()); import broken"
        one, other = kernels.say(code, code, environment=environment)
    assert one != other
    assert one.startswith("True\n")
    assert one.endswith("ZeroDivisionErrordivision by zero")
    assert logged == [
        "not preloading dice: it creates a random generator on import",
        "not preloading broken: it fails with ZeroDivisionError on import",
        "AUTOFLOW_PRELOAD: there is no module 'missing'",
    ]


def test_module_that_fails_is_tried_again_when_something_is_installed(tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "needing.py").write_text("import needed")
    environment = {**steady_environ(), "PYTHONPATH": str(tmp_path / "library")}
    code = "import sys; print('needing' in sys.modules)"
    with ForkServer(["needing"]) as server:
        kernels = Kernels(server, tmp_path)
        assert kernels.say(code, environment=environment) == ["False\n"]
        (tmp_path / "library" / "needed.py").touch()
        assert kernels.say(code, environment=environment) == ["True\n"]


ORDINARY = "kernels start the ordinary, slower way: "
ENDED = f"{ORDINARY}the process that preloads packages ended before it was ready"


def test_server_that_ends_before_it_is_ready_is_tried_again_later(
    tmp_path: Path, logged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "ending.py").write_text("import os; os._exit(1)")
    environment = {**steady_environ(), "PYTHONPATH": str(tmp_path / "library")}
    with ForkServer(["ending"]) as server:
        server.warm_up(environment)
        assert not server.wait_until_warm(LONG)
        assert not Kernels(server, tmp_path).is_forked(environment)
        assert server.pid is None
        monkeypatch.setattr(fork_server, "RETRY_SECONDS", 0)
    with ForkServer(["ending"]) as server:
        for _ in range(2):
            server.warm_up(environment)
            assert not server.wait_until_warm(LONG)
        (tmp_path / "library" / "ending.py").write_text("")
        server.warm_up(environment)
        assert server.wait_until_warm(LONG)
        assert Kernels(server, tmp_path).is_forked(environment)
    assert logged == [ENDED, ENDED]


def test_server_that_always_ends_before_it_is_ready_is_given_up(
    tmp_path: Path, logged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fork_server, "RETRY_SECONDS", 0)
    (tmp_path / "ending.py").write_text("import os; os._exit(1)")
    environment = {**steady_environ(), "PYTHONPATH": str(tmp_path)}
    with ForkServer(["ending"]) as server:
        for _ in range(5):
            server.warm_up(environment)
            assert not server.wait_until_warm(LONG)
    assert logged == [ENDED, f"{ENDED}, 3 times in a row"]


HANGS = """
import ctypes, pathlib
pathlib.Path("STARTED").touch()
ctypes.CDLL(None).pause()
"""


def test_kernel_waits_for_a_server_that_has_been_started(tmp_path: Path) -> None:
    with ForkServer(["json"]) as server:
        kernels = Kernels(server, tmp_path)
        server.warm_up(steady_environ())
        assert kernels.is_forked()


WAITS = """
import pathlib, time
while not pathlib.Path("GO").exists():
    time.sleep(0.01)
"""


def test_first_kernel_of_a_command_does_not_wait_and_the_second_is_forked(tmp_path: Path, deployed: Deployed) -> None:
    (tmp_path / "waiting.py").write_text(WAITS.replace("GO", f"{deployed.inputs}/go"))
    environment = {**steady_environ(), "PYTHONPATH": str(tmp_path)}
    with ForkServer(["waiting"], is_first_prompt=True) as server:
        server.warm_up(environment)
        kernels = Kernels(server, deployed.inputs)
        assert not kernels.is_forked(environment)
        (deployed.inputs / "go").touch()
        assert kernels.is_forked(environment)
    with warm_fork_server(deployed.settings(), kernels=1) as nothing:
        assert nothing is None


def test_kernel_that_waits_for_a_server_can_be_stopped_and_does_not_wait_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hanging.py").write_text(HANGS.replace("STARTED", f"{tmp_path}/started"))
    environment = {**steady_environ(), "PYTHONPATH": str(tmp_path)}

    async def stop(server: ForkServer) -> None:
        with new_kernel("python3", server) as kernel:
            starting = asyncio.ensure_future(kernel.connect(environment, tmp_path, start_timeout=60))
            await asyncio.sleep(0.1)
            starting.cancel()
            before = time.monotonic()
            await asyncio.wait({starting})
            assert starting.cancelled()
            assert time.monotonic() - before < 30
            await kernel.end()

    with ForkServer(["hanging"]) as server:
        server.warm_up(environment)
        with asyncio.Runner() as runner:
            runner.run(stop(server))
        monkeypatch.setattr(fork_server, "FORK_TIMEOUT", 0.1)
        assert not Kernels(server, tmp_path).is_forked(environment)


def test_module_that_hangs_is_logged_and_makes_ordinary_kernels(
    tmp_path: Path, logged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fork_server, "WARM_UP_TIMEOUT", 1)
    (tmp_path / "hanging.py").write_text(HANGS.replace("STARTED", f"{tmp_path}/started"))
    environment = {**steady_environ(), "PYTHONPATH": str(tmp_path)}
    with ForkServer(["hanging"]) as server:
        server.warm_up(environment)
        assert not server.wait_until_warm(LONG)
        server.warm_up(environment)
        assert server.pid is None
    assert logged == [f"{ORDINARY}preloading hanging takes more than 1 s"]


def is_gone(pid: int) -> bool:
    """Wait until a process has ended, even if its parent has not collected it."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        deadline = time.monotonic() + LONG
        while process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
    return True


def test_server_ends_with_autoflow_even_during_an_import(tmp_path: Path) -> None:
    (tmp_path / "hanging.py").write_text(HANGS.replace("STARTED", f"{tmp_path}/started"))
    owner = f"""
import os, time
from autoflow.kernels.fork_server import ForkedProcess, ForkServer
server = ForkServer(["hanging"])
server.warm_up({{**os.environ, "PYTHONPATH": {str(tmp_path)!r}}})
print(server.pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", owner], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        server = int(process.stdout.readline())
        while not (tmp_path / "started").exists():
            time.sleep(0.01)
        process.kill()
    assert is_gone(server)


def test_process_that_a_module_starts_ends_with_the_server(tmp_path: Path, logged: list[str]) -> None:
    (tmp_path / "starting.py").write_text(
        f"import subprocess; print(subprocess.Popen(['sleep', '600']).pid, file=open({str(tmp_path / 'pid')!r}, 'w'))"
    )
    environment = {**steady_environ(), "PYTHONPATH": str(tmp_path)}
    with ForkServer(["starting"]) as server:
        server.warm_up(environment)
        assert server.wait_until_warm(LONG)
        assert is_gone(int((tmp_path / "pid").read_text()))
    assert logged == ["not preloading starting: it starts processes on import"]


def test_module_that_changes_while_others_are_imported_is_imported_again(
    tmp_path: Path, logged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fork_server, "RETRY_SECONDS", 0)
    changing, meanwhile = tmp_path / "changing.py", tmp_path / "meanwhile.py"
    changing.write_text("value = 'old'")
    # It is changed by the module that is imported after it, once.
    meanwhile.write_text(f"import pathlib; pathlib.Path({str(changing)!r}).write_text('value = 1')")
    environment = {**steady_environ(), "PYTHONPATH": str(tmp_path)}
    with ForkServer(["changing", "meanwhile"]) as server:
        server.warm_up(environment)
        assert not server.wait_until_warm(LONG)
        meanwhile.write_text("")
        server.warm_up(environment)
        assert server.wait_until_warm(LONG)
        kernels = Kernels(server, tmp_path / "..")
        assert kernels.is_forked(environment)
        assert kernels.say("import changing; print(changing.value)", environment=environment) == ["1\n"]
    assert logged == [f"{ORDINARY}{changing} changed during preloading"]


def test_what_is_installed_or_changed_later_counts(tmp_path: Path) -> None:
    site, mine = tmp_path / "site-packages", tmp_path / "site-packages-of-mine"
    for folder in (site / "installed", mine, tmp_path / "elsewhere"):
        folder.mkdir(parents=True)
    (site / "installed" / "__init__.py").touch()
    (site / "installed" / "part.py").write_text("value = 1")
    (mine / "mine.py").write_text("try: from option import value\nexcept ImportError: value = 2")
    with zipfile.ZipFile(tmp_path / "zipped.zip", "w") as archive:
        archive.writestr("zipped.py", "value = 3")
    environment = {
        **steady_environ(),
        "PYTHONPATH": f"{tmp_path}/elsewhere:{site}:{mine}:{tmp_path}/zipped.zip",
        "HOME": str(tmp_path),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    code = """
        import installed.part, matplotlib, mine, os, zipped
        width = matplotlib.rcParams["lines.linewidth"]
        print(installed.part.value, mine.value, zipped.value, width, os.path.basename(os.path.dirname(mine.__file__)))
    """

    def put_in_place() -> None:
        # Of the same size and time.
        part = site / "installed" / "part.py"
        new = part.with_name("new")
        new.write_text("value = 4")
        os.utime(new, ns=(part.stat().st_atime_ns, part.stat().st_mtime_ns))
        new.replace(part)

    def zip_anew() -> None:
        with zipfile.ZipFile(tmp_path / "zipped.zip", "w") as archive:
            archive.writestr("zipped.py", "value = 33")

    changes: list[Callable[[], object]] = [
        put_in_place,
        zip_anew,
        lambda: (mine / "option.py").write_text("value = 22"),
        lambda: (tmp_path / "elsewhere" / "mine.py").write_text("value = 222"),
        lambda: (tmp_path / ".config" / "matplotlib" / "matplotlibrc").write_text("lines.linewidth: 5"),
    ]
    said = []
    with ForkServer(["installed.part", "mine", "zipped", "matplotlib"]) as server:
        kernels = Kernels(server, tmp_path)
        for change in [lambda: None, *changes]:
            change()
            server.warm_up(environment)
            assert server.wait_until_warm(LONG)
            said += kernels.say(code, environment=environment)
        assert kernels.is_forked(environment)
    assert [line.strip() for line in said] == [
        "1 2 3 1.5 site-packages-of-mine",
        "4 2 3 1.5 site-packages-of-mine",
        "4 2 33 1.5 site-packages-of-mine",
        "4 22 33 1.5 site-packages-of-mine",
        "4 222 33 1.5 elsewhere",
        "4 222 33 5.0 elsewhere",
    ]


@pytest.mark.parametrize("name", ["psutil", "bottleneck"])
def test_module_beside_a_notebook_counts_where_it_would_be_imported(
    kernels: Kernels, tmp_path: Path, name: str, logged: list[str]
) -> None:
    # One is imported by a kernel, the other by pandas if it is there.
    (tmp_path / f"{name}.py").write_text("value = 'mine'; __version__ = '1.0'")
    assert not kernels.is_forked()
    [said] = kernels.say(f"import {name}; print({name}.value)")
    assert said == "mine\n"
    assert logged == [f"{ORDINARY}{tmp_path}/{name}.py has the name of a module that preloaded packages try to import"]


def test_folder_that_cannot_be_searched_makes_an_ordinary_kernel(
    kernels: Kernels, tmp_path: Path, logged: list[str]
) -> None:
    async def fork() -> ForkedProcess | None:
        server = kernels.server
        assert server
        return await server.fork([], environment=steady_environ(), cwd=tmp_path / "gone", folder=tmp_path, output=2)

    with asyncio.Runner() as runner:
        assert runner.run(fork()) is None
    assert logged == [f"{ORDINARY}cannot search {tmp_path}/gone for modules: No such file or directory"]


def test_empty_python_path_is_allowed_and_a_relative_one_is_not(tmp_path: Path) -> None:
    environment = {**steady_environ(), "PYTHONPATH": ""}
    with ForkServer([]) as server:
        server.warm_up(environment)
        assert server.wait_until_warm(LONG)
        kernels = Kernels(server, tmp_path)
        assert kernels.is_forked(environment)
        assert not kernels.is_forked({**environment, "PYTHONPATH": f"{tmp_path}:"})


async def interrupt(kernel: Kernel, connection: KernelConnection) -> str:
    running = kernel.folder / "running"
    code = f"import pathlib, time\npathlib.Path({str(running)!r}).touch()\ntime.sleep(600)"
    saying = asyncio.ensure_future(say(connection, code))
    # Before the cell runs, there is nothing to interrupt.
    while not running.exists():  # noqa: ASYNC110 - it comes from another process
        await asyncio.sleep(0.01)
    while not saying.done():
        await kernel.interrupt_kernel()
        await asyncio.wait({saying}, timeout=0.2)
    return await saying


def test_cell_is_interrupted_and_the_kernel_continues(kernels: Kernels) -> None:
    async def run() -> None:
        with new_kernel("python3", kernels.server) as kernel:
            connection = await kernel.connect(steady_environ(), kernels.cwd, start_timeout=LONG)
            assert "KeyboardInterrupt" in await interrupt(kernel, connection)
            assert await say(connection, "print(7)") == "7\n"
            await kernel.end(grace=SHUTDOWN_GRACE)

    with asyncio.Runner() as runner:
        runner.run(run())


def test_kernel_outlives_the_server_and_the_next_server_forks_again(tmp_path: Path) -> None:
    async def run(server: ForkServer) -> None:
        with new_kernel("python3", server) as kernel:
            connection = await kernel.connect(steady_environ(), tmp_path, start_timeout=LONG)
            os.kill(server.pid or 0, signal.SIGKILL)
            assert await say(connection, "print(7)") == "7\n"
            await kernel.end(grace=SHUTDOWN_GRACE)
            assert kernel.death() == "it ended with exit status 0"

    with ForkServer(["json"]) as server:
        server.warm_up(steady_environ())
        assert server.wait_until_warm(LONG)
        with asyncio.Runner() as runner:
            runner.run(run(server))
        assert Kernels(server, tmp_path).say("print(1)") == ["1\n"]
        assert server.wait_until_warm(LONG)
        assert Kernels(server, tmp_path).is_forked()


def test_server_that_does_not_answer_is_replaced_and_the_kernel_an_ordinary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: list[str]
) -> None:
    monkeypatch.setattr(fork_server, "FORK_TIMEOUT", 0.2)
    with ForkServer(["json"]) as server:
        server.warm_up(steady_environ())
        assert server.wait_until_warm(LONG)
        stopped = server.pid
        assert stopped
        os.kill(stopped, signal.SIGSTOP)
        assert not Kernels(server, tmp_path).is_forked()
        assert not psutil.pid_exists(stopped)
        assert logged == [f"{ORDINARY}a fork took longer than 0.2 s"]
        monkeypatch.undo()
        server.warm_up(steady_environ())
        assert server.wait_until_warm(LONG)
        assert Kernels(server, tmp_path).is_forked()


def test_idle_server_ends_and_is_started_again(tmp_path: Path) -> None:
    environment = steady_environ()
    with ForkServer(["json"], idle_seconds=0.2) as server:
        kernels = Kernels(server, tmp_path)
        server.warm_up(environment)
        assert server.wait_until_warm(LONG)
        pid = server.pid
        assert pid
        assert kernels.is_forked(environment)
        assert is_gone(pid)
        server.warm_up(environment)
        assert server.wait_until_warm(LONG)
        assert server.pid != pid
        assert kernels.is_forked(environment)


def test_errors_of_the_server_go_to_the_given_file(tmp_path: Path) -> None:
    (tmp_path / "talkative.py").write_text("import os; os.write(2, b'hello')")
    with (tmp_path / "said").open("wb") as said:
        with ForkServer(["talkative"], stderr=said.fileno()) as server:
            server.warm_up({**steady_environ(), "PYTHONPATH": str(tmp_path)})
            assert server.wait_until_warm(LONG)
        assert b"hello" in (tmp_path / "said").read_bytes()


def test_no_process_and_no_file_is_left(server: ForkServer, tmp_path: Path) -> None:
    kernels, this = Kernels(server, tmp_path), psutil.Process()
    kernels.say("print(1)")

    def now() -> tuple[int, int, int]:
        return this.num_fds(), psutil.Process(server.pid).num_fds(), len(this.children(recursive=True))

    # Some of the first kernel may still be there at this moment, so more than that may go.
    before = now()
    for _ in range(3):
        kernels.say("print(1)", "print(2)")
    wait_for(lambda: all(count <= limit for count, limit in zip(now(), before, strict=True)))


def test_closed_server_is_gone_and_kernels_are_ordinary(tmp_path: Path) -> None:
    with ForkServer(["json"]) as server:
        server.warm_up(steady_environ())
        assert server.wait_until_warm(LONG)
        pid = server.pid
    assert pid
    assert not psutil.pid_exists(pid)
    assert not Kernels(server, tmp_path).is_forked()
