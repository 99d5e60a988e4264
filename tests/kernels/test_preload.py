"""What can be preloaded, and what cannot because kernels must not share it."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

UNSAFE = {
    "starts threads": (
        "import threading, time; threading.Thread(target=time.sleep, args=[600], daemon=True).start()",
        "import _thread, time; _thread.start_new_thread(time.sleep, (600,))",
    ),
    "starts processes": ("import subprocess; kept = subprocess.Popen(['sleep', '1'])",),
    "opens sockets": ("import socket; kept = socket.socket()", "import select; kept = select.epoll()"),
    "opens pipes": ("import os; kept = os.pipe()",),
    "opens files": ("kept = open(__file__)", "kept = open(__file__ + '.log', 'a')"),
    "opens devices": ("import os; kept = os.open('/dev/ptmx', os.O_RDWR)",),
    "closes standard input or output": ("import os; os.close(0)",),
    "shares memory": (
        "import mmap; kept = mmap.mmap(-1, 100)",
        "import multiprocessing; kept = multiprocessing.Lock()",
    ),
    "creates a random generator": (
        "import random; kept = random.Random()",
        "import random\nclass Kept:\n    dice = random.Random()",
        "import numpy; kept = {'dice': numpy.random.default_rng()}",
        "import numpy; kept = numpy.random.RandomState()",
    ),
    "creates temporary files": (
        "import tempfile; kept = tempfile.TemporaryDirectory()",
        "import atexit, shutil, tempfile; atexit.register(shutil.rmtree, tempfile.mkdtemp())",
        "from tempfile import mkstemp\ntry: mkstemp()\nexcept: pass",
    ),
    "changes the umask": ("import os; os.umask(0o77)",),
    "changes the working folder": ("import os; os.chdir('/tmp')",),
    "handles signals": ("import signal; signal.signal(signal.SIGTERM, lambda *_: None)",),
    "keeps IPython's shell": ("from IPython import get_ipython; kept = get_ipython()", "kept = get_ipython"),
    "uses IPython's shell": ("get_ipython().events", "get_ipython().kernel.shell", "get_ipython().config.x = 1"),
    "fails with ZeroDivisionError": ("1 / 0",),
    "fails with SystemExit": ("import sys; sys.exit()",),
}

SAFE = (
    "import random; kept, seeded_anew = random.SystemRandom(), random._inst",
    "import numpy; kept = numpy.random.mtrand._rand",
    "kept = open('/dev/urandom'), open('/dev/null', 'w')",
    "import os; kept = os.memfd_create('memory')",
    "import subprocess; subprocess.run(['true'])",
    "import threading; threading.Timer(0.1, print).start()",
    "import sys; kept = sys.stdout\ndef tell(file=sys.stderr): pass",
    "import tempfile; kept = tempfile.gettempdir()",
    "kept = hasattr(get_ipython(), 'kernel') and 'IPKernelApp' in get_ipython().config and bool(get_ipython().kernel)",
    """
import importlib.util, sys
spec = importlib.util.find_spec("lazy")
spec.loader = importlib.util.LazyLoader(spec.loader)
lazy = sys.modules["lazy"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(lazy)
def __getattr__(name):
    raise SystemExit(name)
""",
)

# Each module is imported in a separate process.
PROGRAM = """
import importlib, json, os, sys
sys.path.insert(0, ROOT)
from autoflow.kernels import hazards
from autoflow.kernels.preload import OF_A_KERNEL, preload
hazards.PATIENCE = 0.2
for name in (*OF_A_KERNEL, "numpy"):
    importlib.import_module(name)
for name in sys.argv[1:]:
    heard, said = os.pipe()
    if os.fork() == 0:
        os.close(heard)
        os.write(said, json.dumps(preload([name], [said]).left_out).encode())
        sys.exit()
    os.close(said)
    print(name, os.read(heard, 1000).decode(), flush=True)
    os.wait()
    os.close(heard)
"""


@pytest.fixture(scope="module")
def judgements(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str | None]:
    """Return why each source is not preloaded; None if it is."""
    folder = tmp_path_factory.mktemp("library")
    (folder / "lazy.py").write_text("raise SystemExit")
    sources = [*SAFE, *(source for sources in UNSAFE.values() for source in sources)]
    for number, source in enumerate(sources):
        (folder / f"module_{number}.py").write_text(source)
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM.replace("ROOT", repr(str(Path(__file__).parents[2])))]
        + [f"module_{number}" for number in range(len(sources))],
        env={**os.environ, "PYTHONPATH": str(folder)},
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    found = {}
    for line in ran.stdout.splitlines():
        name, _, said = line.partition(" ")
        module, does = json.loads(said) or (name, None)
        assert module == name
        found[sources[int(name.rpartition("_")[2])]] = does
    return found


@pytest.mark.parametrize(("does", "source"), [(does, source) for does, sources in UNSAFE.items() for source in sources])
def test_module_that_creates_what_kernels_must_not_share_is_not_preloaded(
    judgements: Mapping[str, str | None], does: str, source: str
) -> None:
    assert judgements[source] == does


@pytest.mark.parametrize("source", SAFE)
def test_module_that_creates_nothing_that_kernels_must_not_share_is_preloaded(
    judgements: Mapping[str, str | None], source: str
) -> None:
    assert judgements[source] is None
