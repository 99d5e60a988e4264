"""How a kernel is started and, whatever it does, ended."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
from jupyter_client.manager import AsyncKernelManager

PYTHON_KERNEL = "python3"
"""The kernel of the Python that AutoFlow itself runs in; ipykernel brings it."""


class Kernel(AsyncKernelManager):
    """A kernel in a process group of its own, which can be killed from any thread.

    It is reached through sockets in a private folder: two kernels that start at once can take the same TCP port
    (papermill#511), and other users of the machine cannot connect.
    """

    _killed = False

    @property
    def said(self) -> Path:
        """The file with what the kernel says outside of cells, such as why it does not start."""
        return Path(self.connection_file).with_name("said.txt")

    async def start_kernel(self, **kwargs: Any) -> None:  # type: ignore[override] # noqa: ANN401 - as the parent's
        """Start the kernel; what it says on its own, outside of cells, goes to a file in its folder."""
        with self.said.open("wb") as said:
            await super().start_kernel(stdin=subprocess.DEVNULL, stdout=said, stderr=said, **kwargs)
        if self._killed:
            self.kill_group()

    def kill_group(self) -> None:
        """Kill the kernel and the processes that it has started, now, from any thread; one to come as well."""
        self._killed = True
        process_group = getattr(self.provisioner, "pgid", None)
        if process_group:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process_group, signal.SIGKILL)


@contextmanager
def new_kernel(name: str) -> Iterator[Kernel]:
    """Yield a kernel called `name`, not started yet; at the end nothing of it is left.

    `name` is that of an installed kernelspec.
    """
    folder = Path(tempfile.mkdtemp(prefix="autoflow-kernel-"))
    kernel = Kernel(
        kernel_name=name,
        transport="ipc",
        ip=str(folder / "socket"),
        connection_file=str(folder / "connection.json"),
        cache_ports=False,
    )
    try:
        yield kernel
    finally:
        kernel.kill_group()
        shutil.rmtree(folder, ignore_errors=True)


def is_installed(name: str) -> bool:
    """Tell whether there is a kernelspec called `name`."""
    try:
        KernelSpecManager().get_kernel_spec(name)
    except NoSuchKernel:
        return False
    return True


def kernel_environment(environ: Mapping[str, str], *, hidden: frozenset[str], flowapi_token: str) -> dict[str, str]:
    """Return the environment of a kernel: that of AutoFlow less `hidden` names, plus the token for FlowAPI."""
    return {name: value for name, value in environ.items() if name not in hidden} | {"FLOWAPI_TOKEN": flowapi_token}
