"""Forked kernels: like ordinary ones, apart from each other, and ordinary ones where that is not possible."""

import asyncio
import json
import logging
import os
import signal
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from autoflow import forked_kernels
from autoflow.forked_kernels import ForkServer
from autoflow.kernels import SHUTDOWN_GRACE, Kernel, KernelConnection, new_kernel


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    with ForkServer() as server:
        server.warm_up(os.environ)
        assert server.wait_until_warm(60)
        yield server


async def say(connection: KernelConnection, code: str) -> str:
    """Return what `code` prints and raises."""
    request = connection.execute(textwrap.dedent(code))
    said = ""
    while True:
        message = await connection.get_iopub_msg(timeout=30)
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
        """Return what each of `codes`, which run side by side, says in a kernel of its own."""

        async def one(code: str) -> str:
            with new_kernel("python3", self.server) as kernel:
                connection = await kernel.connect(
                    os.environ if environment is None else environment, cwd or self.cwd, start_timeout=60
                )
                try:
                    return await say(connection, code)
                finally:
                    await kernel.end(grace=SHUTDOWN_GRACE)

        async def all_of_them() -> list[str]:
            return await asyncio.gather(*map(one, codes))

        with asyncio.Runner() as runner:
            return runner.run(all_of_them())

    def is_forked(self, environment: Mapping[str, str] | None = None, cwd: Path | None = None) -> bool:
        [modules] = self.say("import sys; print('pandas' in sys.modules)", environment=environment, cwd=cwd)
        return modules == "True\n"


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


def test_each_kernel_has_its_environment_folder_and_process_group(kernels: Kernels, tmp_path: Path) -> None:
    code = "import os; print(os.getcwd(), os.environ.get('COLOUR'), os.popen('echo $COLOUR').read(), os.getpgid(0))"
    groups = set()
    for colour in ("blue", "red"):
        (tmp_path / colour).mkdir()
        [said] = kernels.say(code, environment={**os.environ, "COLOUR": colour}, cwd=tmp_path / colour)
        folder, variable, inherited, group = said.split()
        assert (folder, variable, inherited) == (str(tmp_path / colour), colour, colour)
        groups.add(group)
    assert len(groups) == 2


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
            connection = await kernel.connect(os.environ, kernels.cwd, start_timeout=60)
            request = connection.execute("import matplotlib.pyplot as plt; plt.plot([1, 2]);")
            kinds: list[str] = []
            while True:
                message = await connection.get_iopub_msg(timeout=30)
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


def test_module_beside_a_notebook_is_never_stale(kernels: Kernels, tmp_path: Path) -> None:
    # Of different lengths: Python itself takes a file of one second and one length for unchanged.
    for value in ("first", "the second"):
        (tmp_path / "my_module.py").write_text(f"value = '{value}'")
        assert kernels.say("import my_module; print(my_module.value)") == [f"{value}\n"]


def test_module_beside_a_notebook_comes_before_one_that_is_imported_ahead_of_time(
    kernels: Kernels, tmp_path: Path
) -> None:
    (tmp_path / "pandas.py").write_text("value = 'mine'")
    assert kernels.say("import pandas; print(pandas.value)") == ["mine\n"]
    (tmp_path / "pandas.py").unlink()
    (tmp_path / "tqdm").mkdir()
    (tmp_path / "tqdm" / "__init__.py").write_text("value = 'mine'")
    assert kernels.say("import tqdm; print(tqdm.value)") == ["mine\n"]


def test_module_that_is_imported_ahead_of_time_is_imported_again_when_it_changes(tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "library")}
    with ForkServer(["my_library"]) as server:
        for value in ("first", "second"):
            (tmp_path / "library" / "my_library.py").write_text(f"value = '{value}'")
            code = "import my_library; print(my_library.value)"
            assert Kernels(server, tmp_path).say(code, environment=environment) == [f"{value}\n"]
            assert server.wait_until_warm(60)
            assert Kernels(server, tmp_path).say(code, environment=environment) == [f"{value}\n"]


def test_matplotlibrc_beside_a_notebook_counts(kernels: Kernels, tmp_path: Path, logged: list[str]) -> None:
    code = "import matplotlib; print(matplotlib.rcParams['lines.linewidth'])"
    (tmp_path / "matplotlibrc").write_text("lines.linewidth: 7")
    for _ in range(2):
        assert kernels.say(code) == Kernels(None, tmp_path).say(code) == ["7.0\n"]
    assert logged == [
        f"kernels are started the ordinary, slower way: {tmp_path / 'matplotlibrc'} is read as matplotlib is imported"
    ]
    (tmp_path / "matplotlibrc").unlink()
    (tmp_path / "matplotlibrc").mkdir()
    assert kernels.is_forked()


def test_matplotlibrc_is_no_matter_where_matplotlib_is_not_imported_ahead_of_time(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text("lines.linewidth: 7")
    with ForkServer(["pandas"]) as server:
        server.warm_up(os.environ)
        assert server.wait_until_warm(60)
        assert Kernels(server, tmp_path).is_forked()
        code = "import matplotlib; print(matplotlib.rcParams['lines.linewidth'])"
        assert Kernels(server, tmp_path).say(code) == ["7.0\n"]


def test_very_many_modules_are_imported_ahead_of_time(tmp_path: Path) -> None:
    folder = tmp_path.joinpath(*["x" * 240] * 8)
    folder.mkdir(parents=True)
    for number in range(600):
        (folder / f"part_{number}.py").touch()
    (folder / "many.py").write_text("\n".join(f"import part_{number}" for number in range(600)))
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    with ForkServer(["pandas", "many"]) as server:
        server.warm_up(environment)
        assert server.wait_until_warm(60)
        assert Kernels(server, tmp_path).is_forked(environment)


@pytest.mark.parametrize(
    "changed", [{"TZ": "Asia/Kathmandu"}, {"OMP_NUM_THREADS": "1"}, {"PYTHONHASHSEED": "7"}, {"PANDAS_COPY": "1"}]
)
def test_environment_that_python_reads_at_its_start_makes_an_ordinary_kernel(
    kernels: Kernels, changed: dict[str, str]
) -> None:
    assert kernels.is_forked()
    assert not kernels.is_forked({**os.environ, **changed})
    [said] = kernels.say("import os; print(os.environ['X'])", environment={**os.environ, **changed, "X": "1"})
    assert said == "1\n"


def test_reason_for_ordinary_kernels_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), ForkServer(["pandas"]) as server:
        server.warm_up(os.environ)
        assert server.wait_until_warm(60)
        for _ in range(2):
            assert not Kernels(server, tmp_path).is_forked({**os.environ, "TZ": "Asia/Kathmandu"})
    [record] = [record for record in caplog.records if record.name == "autoflow"]
    assert record.getMessage() == (
        "kernels are started the ordinary, slower way: TZ would have to be the same for all kernels"
    )


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import threading, time; threading.Thread(target=time.sleep, args=[600], daemon=True).start()", "threads"),
        ("import socket; kept = socket.socket()", "sockets"),
        ("kept = open(__file__ + '.log', 'a')", "files for writing"),
        ("import random; kept = random.Random()", "a random generator"),
        ("import numpy; kept = numpy.random.default_rng()", "a random generator"),
        ("import numpy; kept = numpy.random.RandomState()", "a random generator"),
        ("import os; os._exit(1)", "ended before"),
    ],
)
def test_module_that_makes_forks_unsafe_makes_ordinary_kernels(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, source: str, reason: str
) -> None:
    (tmp_path / "unsafe.py").write_text(source)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    with caplog.at_level(logging.WARNING), ForkServer(["unsafe"]) as server:
        server.warm_up(environment)
        assert not server.wait_until_warm(60)
        assert server.pid is None
        assert Kernels(server, tmp_path).say("print(1)", environment=environment) == ["1\n"]
    assert reason in caplog.text


def test_module_that_is_to_be_imported_ahead_of_time_has_random_numbers_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "my_library.py").write_text("import random; dice = random.Random()")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "library")}
    code = "import my_library; print(my_library.dice.random())"
    with ForkServer(["my_library"]) as server:
        server.warm_up(environment)
        server.wait_until_warm(60)
        one, other = Kernels(server, tmp_path).say(code, code, environment=environment)
    assert one != other


def test_module_that_makes_nothing_that_kernels_cannot_share_is_imported_ahead_of_time(tmp_path: Path) -> None:
    (tmp_path / "harmless.py").write_text(
        """
import importlib.util, os, random, sys
import numpy
secret, seeded_anew, others = random.SystemRandom(), random._inst, numpy.random.mtrand._rand
read, memory = open(__file__), os.memfd_create("memory")
spec = importlib.util.find_spec("lazy")
spec.loader = importlib.util.LazyLoader(spec.loader)
lazy = sys.modules["lazy"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(lazy)
def __getattr__(name):
    print(name, file=open("ASKED", "w"))
    raise AttributeError(name)
""".replace("ASKED", str(tmp_path / "asked"))
    )
    (tmp_path / "lazy.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w').close()")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    with ForkServer(["pandas", "harmless"]) as server:
        server.warm_up(environment)
        assert server.wait_until_warm(60)
        assert not (tmp_path / "asked").exists()
        assert not (tmp_path / "imported").exists()
        assert Kernels(server, tmp_path.parent).is_forked(environment)


def test_module_that_fails_or_is_missing_is_told_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "broken.py").write_text("1 / 0")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    with caplog.at_level(logging.WARNING), ForkServer(["broken", "missing", "pandas"]) as server:
        server.warm_up(environment)
        assert server.wait_until_warm(60)
        assert Kernels(server, tmp_path).is_forked(environment)
        [said] = Kernels(server, tmp_path).say("import broken", environment=environment)
    assert said == "ZeroDivisionErrordivision by zero"
    assert "importing broken ahead of time failed with ZeroDivisionError" in caplog.text
    assert "there is no module 'missing'" in caplog.text


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


def test_cell_is_interrupted_and_the_kernel_goes_on(kernels: Kernels) -> None:
    async def run() -> None:
        with new_kernel("python3", kernels.server) as kernel:
            connection = await kernel.connect(os.environ, kernels.cwd, start_timeout=60)
            assert "KeyboardInterrupt" in await interrupt(kernel, connection)
            assert await say(connection, "print(7)") == "7\n"
            await kernel.end(grace=SHUTDOWN_GRACE)

    with asyncio.Runner() as runner:
        runner.run(run())


def test_kernel_outlives_the_server_and_the_next_server_forks_again(tmp_path: Path) -> None:
    async def run(server: ForkServer) -> None:
        with new_kernel("python3", server) as kernel:
            connection = await kernel.connect(os.environ, tmp_path, start_timeout=60)
            os.kill(server.pid or 0, signal.SIGKILL)
            assert await say(connection, "print(7)") == "7\n"
            await kernel.end(grace=SHUTDOWN_GRACE)
            assert kernel.death() == "it ended with exit status 0"

    with ForkServer(["pandas"]) as server:
        server.warm_up(os.environ)
        assert server.wait_until_warm(60)
        with asyncio.Runner() as runner:
            runner.run(run(server))
        assert Kernels(server, tmp_path).say("print(1)") == ["1\n"]
        assert server.wait_until_warm(60)
        assert Kernels(server, tmp_path).is_forked()


def test_server_that_does_not_answer_is_replaced_and_the_kernel_an_ordinary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: list[str]
) -> None:
    monkeypatch.setattr(forked_kernels, "FORK_TIMEOUT", 0.2)
    with ForkServer(["pandas"]) as server:
        server.warm_up(os.environ)
        assert server.wait_until_warm(60)
        stopped = server.pid
        assert stopped
        os.kill(stopped, signal.SIGSTOP)
        assert not Kernels(server, tmp_path).is_forked()
        assert not psutil.pid_exists(stopped)
        assert logged == ["a kernel was not forked within 0.2 s: it is started the ordinary, slower way"]
        monkeypatch.undo()
        server.warm_up(os.environ)
        assert server.wait_until_warm(60)
        assert Kernels(server, tmp_path).is_forked()


def test_server_that_nobody_needs_ends_and_is_started_again(tmp_path: Path) -> None:
    with ForkServer(["pandas"], idle_seconds=0.2) as server:
        server.warm_up(os.environ)
        assert server.wait_until_warm(60)
        pid = server.pid
        assert pid
        psutil.Process(pid).wait(30)
        server.warm_up(os.environ)
        assert server.wait_until_warm(60)
        assert server.pid != pid
        assert Kernels(server, tmp_path).is_forked()


def test_no_process_and_no_file_is_left(server: ForkServer, tmp_path: Path) -> None:
    kernels, this = Kernels(server, tmp_path), psutil.Process()
    kernels.say("print(1)")
    before = this.num_fds(), psutil.Process(server.pid).num_fds(), this.children(recursive=True)
    for _ in range(3):
        kernels.say("print(1)", "print(2)")
    assert (this.num_fds(), psutil.Process(server.pid).num_fds(), this.children(recursive=True)) == before


def test_closed_server_is_gone_and_kernels_are_ordinary(tmp_path: Path) -> None:
    with ForkServer(["pandas"]) as server:
        server.warm_up(os.environ)
        assert server.wait_until_warm(60)
        pid = server.pid
    assert pid
    assert not psutil.pid_exists(pid)
    assert not Kernels(server, tmp_path).is_forked()
