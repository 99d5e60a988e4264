"""Real kernels and their guards: how they start, what they may send, and that they leave nothing behind."""

import asyncio
import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

from autoflow.kernels.connection import LARGEST_FRAME, LONGEST_MESSAGE, TOO_LONG, KernelConnection
from autoflow.kernels.fork_server import ForkServer
from autoflow.kernels.guard import DEADLINE_SECONDS
from autoflow.kernels.kernel import (
    LATE,
    SHUTDOWN_GRACE,
    Kernel,
    KernelStartError,
    is_installed,
    is_own_python,
    new_kernel,
    remove_abandoned_kernel_folders,
)
from tests.disks import fill, small_disk
from tests.environment import processes_at_work, steady_environ
from tests.waiting import LONG, wait_for


@pytest.fixture(autouse=True)
def kernels_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    assert tmp_path.exists()  # made before the folder for temporary files changes
    processes = processes_at_work()
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)
        assert list(Path(folder).iterdir()) == []
    wait_for(lambda: processes_at_work() <= processes)


@pytest.fixture
def install_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    def install(*command: str, name: str = "fake", language: str = "python") -> str:
        spec = tmp_path / "kernels" / name / "kernel.json"
        spec.parent.mkdir(parents=True)
        spec.write_text(json.dumps({"argv": command, "display_name": name, "language": language}))
        return name

    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    return install


@pytest.fixture(scope="module", params=["ordinary", "forked"])
def fork_server(request: pytest.FixtureRequest) -> Iterator[ForkServer | None]:
    if request.param == "ordinary":
        yield None
        return
    with pytest.MonkeyPatch.context() as monkeypatch, ForkServer(["numpy"], idle_seconds=600) as server:
        monkeypatch.setattr("autoflow.kernels.fork_server.FORK_TIMEOUT", LONG)
        server.warm_up(steady_environ())
        assert server.wait_until_warm(LONG)
        yield server


def connect(name: str, cwd: Path, server: ForkServer | None, *, start_timeout: float = 60) -> None:
    async def start_and_end() -> None:
        with new_kernel(name, server) as kernel:
            try:
                await kernel.connect(steady_environ(), cwd, start_timeout=start_timeout)
            finally:
                await kernel.end()

    with asyncio.Runner() as runner:
        runner.run(start_and_end())


async def messages_of(connection: KernelConnection, code: str) -> list[dict[str, object]]:
    request = connection.execute(code)
    messages = []
    while True:
        message = await connection.get_iopub_msg(timeout=LONG)
        if message["parent_header"].get("msg_id") == request:
            messages.append(message)
            if message["content"].get("execution_state") == "idle":
                return messages


async def printed(connection: KernelConnection, code: str) -> str:
    messages = await messages_of(connection, code)
    contents: list[dict[str, str]] = [message["content"] for message in messages]  # type: ignore[misc]
    return "".join(content["text"] for content in contents if content.get("name") == "stdout")


def wait_until_gone(pid: int, *, seconds: float = LONG) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        if process.status() != psutil.STATUS_ZOMBIE:
            process.wait(seconds)


START_ESCAPED_CHILD = """
import os, subprocess
read, write = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    os.write(write, str(os.getpid()).encode())
    os.execve("/bin/sleep", ["sleep", "600"], {})
print(int(os.read(read, 20)))
"""


def test_kernel_runs_code_and_ends_when_asked(tmp_path: Path, fork_server: ForkServer | None) -> None:
    async def run(kernel: Kernel) -> None:
        connection = await kernel.connect({**steady_environ(), "FLOWAPI_TOKEN": "blue"}, tmp_path, start_timeout=LONG)
        assert connection.language_info["name"] == "python"
        code = "import os; print(os.environ['FLOWAPI_TOKEN'], os.getcwd())"
        assert await printed(connection, code) == f"blue {tmp_path}\n"
        guard = await printed(connection, "print(open(f'/proc/{os.getppid()}/cmdline').read())")
        assert ("warm_process" in guard) == (fork_server is not None)
        mark = tmp_path / "mark"
        await messages_of(connection, f"import atexit, pathlib; atexit.register(pathlib.Path({str(mark)!r}).touch)")
        await kernel.end(grace=SHUTDOWN_GRACE)
        assert mark.exists()

    with asyncio.Runner() as runner, new_kernel("python3", fork_server) as kernel:
        runner.run(run(kernel))


def test_output_outside_of_cells_is_logged_at_debug_level(
    tmp_path: Path, fork_server: ForkServer | None, logged: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "autoflow")

    async def run(kernel: Kernel) -> None:
        connection = await kernel.connect(steady_environ(), tmp_path, start_timeout=LONG)
        await messages_of(connection, "import os; os.write(2, b'a library complains\\n')")
        await kernel.end(grace=SHUTDOWN_GRACE)

    with asyncio.Runner() as runner, new_kernel("python3", fork_server) as kernel:
        runner.run(run(kernel))
    assert logged == ["kernel output outside of cells: a library complains"]


def test_output_outside_of_cells_is_never_cut_within_a_word(
    tmp_path: Path, logged: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "autoflow")

    async def run(kernel: Kernel) -> None:
        connection = await kernel.connect(steady_environ(), tmp_path, start_timeout=LONG)
        await messages_of(connection, "import os; os.write(2, b'start ' + b'secret' * 100 + b' .' * 2000)")
        await kernel.end(grace=SHUTDOWN_GRACE)

    with asyncio.Runner() as runner, new_kernel("python3") as kernel:
        runner.run(run(kernel))
    [line] = logged
    assert line.endswith(" . .")
    assert "secret" not in line


def test_code_is_not_stored_in_a_history_that_others_can_read(tmp_path: Path, fork_server: ForkServer | None) -> None:
    async def run() -> str:
        with new_kernel("python3", fork_server) as kernel:
            connection = await kernel.connect(steady_environ(), tmp_path, start_timeout=LONG)
            await printed(connection, "secret = 'of this notebook'")
            history = await printed(connection, "%history -g")
            await kernel.end(grace=SHUTDOWN_GRACE)
            return history

    with asyncio.Runner() as runner:
        runner.run(run())
        assert runner.run(run()).count("of this notebook") == 1


def test_what_a_kernel_started_ends_with_it_even_if_it_left_its_session_and_environment(
    tmp_path: Path, fork_server: ForkServer | None
) -> None:
    async def run(kernel: Kernel) -> int:
        connection = await kernel.connect(steady_environ(), tmp_path, start_timeout=LONG)
        escaped = int(await printed(connection, START_ESCAPED_CHILD))
        assert psutil.pid_exists(escaped)
        await kernel.end()
        return escaped

    with asyncio.Runner() as runner, new_kernel("python3", fork_server) as kernel:
        assert not psutil.pid_exists(runner.run(run(kernel)))


def test_kernel_is_killed_from_another_thread(tmp_path: Path, fork_server: ForkServer | None) -> None:
    async def run(kernel: Kernel) -> None:
        await kernel.connect(steady_environ(), tmp_path, start_timeout=LONG)
        thread = threading.Thread(target=kernel.kill_group)
        thread.start()
        await kernel.ended.wait()
        thread.join()
        await kernel.end()

    with asyncio.Runner() as runner, new_kernel("python3", fork_server) as kernel:
        runner.run(run(kernel))


def test_kernel_killed_before_it_starts_does_not_start(tmp_path: Path, fork_server: ForkServer | None) -> None:
    async def run(kernel: Kernel) -> None:
        kernel.kill_group()
        with pytest.raises(KernelStartError):
            await kernel.connect(steady_environ(), tmp_path, start_timeout=LONG)
        await kernel.end()

    with asyncio.Runner() as runner, new_kernel("python3", fork_server) as kernel:
        runner.run(run(kernel))


def test_guard_kills_a_kernel_that_had_no_process_group_when_it_was_told_to(tmp_path: Path) -> None:
    code = """if True:
        import os, sys, time
        from autoflow.kernels.guard import guard
        setsid = os.setsid
        os.setsid = lambda: time.sleep(0.2) or setsid()
        print(guard(sys.argv[1], lambda: time.sleep(600)))
    """
    command = [sys.executable, "-c", code, str(tmp_path)]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=LONG, check=True)
    assert ended.stdout == b"137\n"


def test_kernel_that_kills_its_process_group_leaves_nothing(tmp_path: Path, fork_server: ForkServer | None) -> None:
    async def run(kernel: Kernel) -> int:
        connection = await kernel.connect(steady_environ(), tmp_path, start_timeout=LONG)
        escaped = int(await printed(connection, START_ESCAPED_CHILD))
        connection.execute("import os, signal; os.killpg(0, signal.SIGKILL)")
        await kernel.ended.wait()
        assert kernel.death() == "killed by SIGKILL, possibly out of memory"
        await kernel.end()
        return escaped

    with asyncio.Runner() as runner, new_kernel("python3", fork_server) as kernel:
        assert not psutil.pid_exists(runner.run(run(kernel)))


def test_kernel_whose_guard_is_killed_ends(tmp_path: Path, fork_server: ForkServer | None) -> None:
    async def run(kernel: Kernel) -> None:
        connection = await kernel.connect(steady_environ(), tmp_path, start_timeout=LONG)
        pid = int(await printed(connection, "import os; print(os.getpid())"))
        os.kill(psutil.Process(pid).ppid(), signal.SIGKILL)
        await kernel.ended.wait()
        wait_until_gone(pid)
        await kernel.end()

    with asyncio.Runner() as runner, new_kernel("python3", fork_server) as kernel:
        runner.run(run(kernel))


def test_kernel_ends_at_its_deadline_although_autoflow_is_stopped(
    tmp_path: Path, fork_server: ForkServer | None
) -> None:
    async def run(kernel: Kernel) -> None:
        left = 3600.0
        keeping = asyncio.create_task(kernel.keep(lambda: left))
        connection = await kernel.connect(steady_environ(), tmp_path, start_timeout=LONG)
        pid = int(await printed(connection, START_ESCAPED_CHILD))
        left = 0.0
        await asyncio.sleep(2 * DEADLINE_SECONDS)
        # The event loop does nothing meanwhile.
        wait_until_gone(pid)
        keeping.cancel()
        await kernel.end()

    with asyncio.Runner() as runner, new_kernel("python3", fork_server) as kernel:
        runner.run(run(kernel))


def test_full_disk_does_not_end_a_kernel_whose_deadline_is_moved_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run(kernel: Kernel, disk: Path) -> None:
        keeping = asyncio.create_task(kernel.keep(lambda: 5.0))
        connection = await kernel.connect(steady_environ(), tmp_path, start_timeout=LONG)
        fill(disk, left=0)
        # By then, the guard has looked at a deadline that is not moved on.
        await asyncio.sleep(5.0 + LATE + 2 * DEADLINE_SECONDS)
        assert not kernel.ended.is_set()
        assert await printed(connection, "print('alive')") == "alive\n"
        keeping.cancel()
        await kernel.end()

    # The path of a socket is limited to about 100 characters.
    with tempfile.TemporaryDirectory(prefix="af-", dir="/tmp") as name, small_disk(Path(name), "size=1m"):
        monkeypatch.setattr(tempfile, "tempdir", name)
        with asyncio.Runner() as runner, new_kernel("python3") as kernel:
            assert kernel.folder.is_relative_to(name)
            runner.run(run(kernel, Path(name)))


ATTACKS = {
    "killed": "os.kill(os.getppid(), signal.SIGKILL)",
    "killed with its process group": "os.killpg(os.getpgid(os.getppid()), signal.SIGKILL)",
    "killed by what survives the kernel": """
if os.fork() == 0:
    os.setsid()
    os.kill(os.getppid(), signal.SIGSTOP)
    os.kill(guard, signal.SIGKILL)
    time.sleep(600)
    """,
    "killed while its kernel would outlive it": """
ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)
os.kill(guard, signal.SIGKILL)
    """,
    "stopped": "os.kill(os.getppid(), signal.SIGSTOP)",
    "stopped with the process above it": """
parent = int(open(f"/proc/{guard}/stat").read().rpartition(")")[2].split()[1])
if "guard.py" in open(f"/proc/{parent}/cmdline").read():
    os.kill(parent, signal.SIGSTOP)
os.kill(guard, signal.SIGSTOP)
    """,
    "stopped and its kernel, too": "os.kill(guard, signal.SIGSTOP); os.kill(os.getpid(), signal.SIGSTOP)",
}
"""What a notebook can do to the process above its kernel."""

SURVIVED_BY_ONE = {name: attack for name, attack in ATTACKS.items() if name != "stopped with the process above it"}
"""Those after which one of the processes above the kernel runs, so that AutoFlow is not needed to let it continue."""

ATTACK = "import ctypes, os, signal, time\nguard = os.getppid()\nprint(os.getpid(), guard)\n"


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_nothing_is_left_of_a_kernel_that_turns_against_its_guard(
    tmp_path: Path, fork_server: ForkServer | None, attack: str
) -> None:
    async def run(kernel: Kernel) -> list[int]:
        connection = await kernel.connect(steady_environ(), tmp_path, start_timeout=LONG)
        escaped = [int(await printed(connection, START_ESCAPED_CHILD)) for _ in range(2)]
        processes = [int(word) for word in (await printed(connection, ATTACK)).split()]
        connection.execute(attack)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(kernel.ended.wait(), 1)
        await kernel.end()
        return [*escaped, *processes]

    with asyncio.Runner() as runner, new_kernel("python3", fork_server) as kernel:
        processes = runner.run(run(kernel))
    for pid in processes:
        wait_until_gone(pid)


def test_message_that_is_too_long_is_replaced_by_its_size(tmp_path: Path, fork_server: ForkServer | None) -> None:
    async def run(kernel: Kernel) -> None:
        connection = await kernel.connect(steady_environ(), tmp_path, start_timeout=LONG)
        await messages_of(connection, "from IPython.display import HTML")
        messages = await messages_of(connection, f"HTML('x' * {LONGEST_MESSAGE + 1})")
        [replacement] = [message for message in messages if message["msg_type"] == TOO_LONG]
        assert replacement["content"]["size"] > LONGEST_MESSAGE  # type: ignore[index]
        messages = await messages_of(connection, f"raise ValueError('x' * {LONGEST_MESSAGE})")
        [error] = [message for message in messages if message["msg_type"] == "error"]
        assert error["content"]["ename"] == "ValueError"  # type: ignore[index]
        await kernel.end()

    with asyncio.Runner() as runner, new_kernel("python3", fork_server) as kernel:
        runner.run(run(kernel))


OF_ANOTHER_LANGUAGE = """
from ipykernel.ipkernel import IPythonKernel
from ipykernel.kernelapp import launch_new_instance
IPythonKernel.language_info = {"name": "other"}
launch_new_instance()
"""


def test_outputs_of_a_kernel_of_another_language_are_bounded(
    install_kernel: Callable[..., str], tmp_path: Path
) -> None:
    async def run(kernel: Kernel) -> list[dict[str, object]]:
        connection = await kernel.connect(steady_environ(), tmp_path, start_timeout=LONG)
        printed = f"for _ in range(12): print('x' * {LONGEST_MESSAGE - 10_000}, flush=True)"
        messages = await messages_of(connection, f"{printed}\nprint('x' * {LONGEST_MESSAGE}, flush=True)")
        connection.execute(f"print('x' * {LARGEST_FRAME + 1})")
        await asyncio.wait_for(kernel.ended.wait(), LONG)
        assert kernel.death() == "it sent an output of more than 100 MB"
        await kernel.end()
        return messages

    name = install_kernel(sys.executable, "-c", OF_ANOTHER_LANGUAGE, "-f", "{connection_file}", language="other")
    with asyncio.Runner() as runner, new_kernel(name) as kernel:
        messages = runner.run(run(kernel))
    assert [message["msg_type"] for message in messages if message["msg_type"] == TOO_LONG]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (
            ("sh", "-c", "echo first; echo 'no module named ipykernel' >&2; exit 3"),
            r"the kernel did not start: it ended with exit status 3 \(no module named ipykernel\)",
        ),
        (("no-such-program",), r"exit status 127 \(no-such-program cannot be run: No such file or directory\)"),
        (("sh", "-c", "kill -SEGV $$"), "the kernel did not start: killed by SIGSEGV"),
        (("sh", "-c", "head -c 5000000 /dev/zero | tr '\\0' x; echo; echo last; exit 1"), r"status 1 \(last\)"),
    ],
)
def test_kernel_that_ends_at_once_has_its_reason_reported(
    install_kernel: Callable[..., str],
    tmp_path: Path,
    command: tuple[str, ...],
    message: str,
    fork_server: ForkServer | None,
) -> None:
    with pytest.raises(KernelStartError, match=message):
        connect(install_kernel(*command), tmp_path, fork_server)


def test_kernel_whose_folder_is_gone_before_it_counts_as_started_has_its_reason_reported(
    install_kernel: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = LocalProvisioner.launch_kernel

    async def launch_slowly(self: LocalProvisioner, cmd: list[str], **kwargs: object) -> KernelConnectionInfo:
        info = await launch(self, cmd, **kwargs)
        assert self.parent
        folder = Path(self.parent.connection_file).parent
        wait_for(lambda: not folder.exists())
        return info

    monkeypatch.setattr(LocalProvisioner, "launch_kernel", launch_slowly)
    with pytest.raises(KernelStartError, match=r"exit status 3 \(no module named ipykernel\)"):
        connect(install_kernel("sh", "-c", "echo 'no module named ipykernel' >&2; exit 3"), tmp_path, None)


def test_kernel_that_never_answers_is_given_up(install_kernel: Callable[..., str], tmp_path: Path) -> None:
    name = install_kernel("sh", "-c", "echo waiting; sleep 600 & sleep 600")
    with pytest.raises(KernelStartError, match=r"the kernel did not start within 3 s \(waiting\)"):
        connect(name, tmp_path, None, start_timeout=3)


def test_folder_that_is_gone_keeps_the_kernel_from_starting(tmp_path: Path, fork_server: ForkServer | None) -> None:
    with pytest.raises(FileNotFoundError, match="gone"):
        connect("python3", tmp_path / "gone", fork_server)


def test_folders_of_kernels_whose_owner_was_killed_are_removed_at_once(kernels_folder: Path) -> None:
    folders = {name: kernels_folder / f"autoflow-kernel-{name}" for name in ("empty", "unused", "used")}
    for folder in folders.values():
        folder.mkdir()
    (folders["unused"] / "connection.json").touch()
    (folders["used"] / "socket-1").touch()
    (kernels_folder / "of-somebody-else").mkdir()
    with asyncio.Runner() as runner, new_kernel("python3") as kernel:
        remove_abandoned_kernel_folders()
        assert set(kernels_folder.iterdir()) == {kernel.folder, kernels_folder / "of-somebody-else"}
        runner.run(kernel.end())
    (kernels_folder / "of-somebody-else").rmdir()


def test_is_installed_is_true_for_installed_kernels_only(install_kernel: Callable[..., str]) -> None:
    assert is_installed("python3")
    assert not is_installed("fake")
    assert is_installed(install_kernel("sh"))
    assert not is_installed("no/such kernel")


@pytest.mark.parametrize("attack", ["", *SURVIVED_BY_ONE.values()], ids=["nothing", *SURVIVED_BY_ONE])
def test_nothing_is_left_when_the_owner_of_a_kernel_is_killed(
    tmp_path: Path, kernels_folder: Path, fork_server: ForkServer | None, attack: str
) -> None:
    script = tmp_path / "owner.py"
    script.write_text(
        textwrap.dedent(f"""
        import asyncio, os, tempfile
        from pathlib import Path
        from autoflow.kernels.fork_server import ForkServer
        from autoflow.kernels.kernel import new_kernel
        tempfile.tempdir = {str(kernels_folder)!r}
        async def main():
            server = ForkServer([]) if {fork_server is not None} else None
            if server:
                server.warm_up(os.environ)
                assert server.wait_until_warm({LONG})
            with new_kernel("python3", server) as kernel:
                connection = await kernel.connect(os.environ, Path("/"), start_timeout={LONG})
                connection.execute({START_ESCAPED_CHILD + ATTACK!r})
                text = ""
                while text.count("\\n") < 2:
                    content = (await connection.get_iopub_msg(timeout={LONG}))["content"]
                    text += content["text"] if content.get("name") == "stdout" else ""
                connection.execute({attack!r})
                await asyncio.sleep({0.5 if attack else 0})
                print(text.replace("\\n", " "), server.pid if server else "", flush=True)
                await asyncio.sleep(600)
        asyncio.run(main())
        """)
    )
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=environ) as owner:
        try:
            assert owner.stdout
            processes = [int(word) for word in owner.stdout.readline().split()]
            assert len(processes) == (4 if fork_server else 3)
            assert attack or all(psutil.pid_exists(pid) for pid in processes)
        finally:
            owner.kill()
    for pid in processes:
        wait_until_gone(pid)
    if attack:
        # A guard that was killed could not remove its folder.
        remove_abandoned_kernel_folders()
    wait_for(lambda: not any(kernels_folder.iterdir()))


def test_own_python_is_known_under_other_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def install(name: str, python: str, *arguments: str, **more: object) -> None:
        folder = tmp_path / "kernels" / name
        folder.mkdir(parents=True)
        argv = [python, *arguments, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        spec = {"argv": argv, "display_name": name, "language": "python", **more}
        (folder / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")

    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    install("autoflow", sys.executable, "-Xfrozen_modules=off")
    install("elsewhere", "/opt/other/bin/python")
    install("optimized", sys.executable, "-O")
    install("changed", sys.executable, env={"LANG": "C"})
    names = ("python3", "autoflow", "elsewhere", "optimized", "changed", "missing")
    assert [name for name in names if is_own_python(name)] == ["python3", "autoflow"]
