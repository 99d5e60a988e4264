"""Run the example as ``make example`` does: AutoFlow, with a small FlowAPI that has synthetic data."""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from examples.flowapi import ExampleFlowApi, first_dates

INPUTS, OUTPUTS = ROOT / "examples" / "inputs", ROOT / "examples" / "outputs"
PAGE = OUTPUTS / "index.html"
LOST_DAY = date(2016, 1, 8)
"""The day of the cyclone, of which the operator has sent no data."""
SILENCE = 5.0
"""The longest time without a line of output, in seconds."""


def main() -> int:
    """Run AutoFlow until nothing is due, and print what it has made. Return its exit code."""
    before = set(found())
    # Ctrl-C reaches AutoFlow as well, which then shuts down; what it prints meanwhile is passed on.
    signal.signal(signal.SIGINT, lambda _number, _frame: None)
    workflows = relative(INPUTS / "workflows.yml")
    print(f"AutoFlow runs the workflows of {workflows}, which takes about a minute.", flush=True)
    dates = [day for day in first_dates(12) if day != LOST_DAY]
    with ExampleFlowApi(dates, queued_seconds=0.2, executing_seconds=0.5) as flowapi:
        exit_code = run([sys.executable, "-m", "autoflow"], environment(flowapi))
    new = sorted(set(found()) - before)
    for path in new:
        print(f"  {relative(path)}")
    if exit_code:
        print("The example has failed; the lines above say why.")
    elif not new:
        print(f"Nothing was run: every date is done already, see {relative(PAGE)}.")
        print("To start afresh, run `make clean`, which also removes .venv.")
    else:
        print(f"Open {relative(PAGE)} in a browser: it has links to the reports and executed notebooks.")
    return exit_code


def run(command: Sequence[str], environ: Mapping[str, str], *, silence: float = SILENCE) -> int:
    """Run `command` and pass on what it prints. Return its exit code.

    Whenever it has printed nothing for `silence` seconds, say that it is still working.
    """
    began = time.monotonic()
    output, writing_end = os.pipe()
    with subprocess.Popen(command, cwd=ROOT, env=environ, stdout=writing_end, stderr=writing_end) as process:
        os.close(writing_end)
        while process.poll() is None or is_readable(output, 0):
            if not is_readable(output, silence):
                print(f"  still working after {time.monotonic() - began:.0f} s", flush=True)
            elif text := os.read(output, 65536):
                sys.stdout.buffer.write(text)
                sys.stdout.flush()
            else:
                break
    os.close(output)
    return process.returncode


def is_readable(file: int, seconds: float) -> bool:
    """Return whether `file` has something to read, or has ended, within `seconds`."""
    return bool(select.select([file], [], [], seconds)[0])


def environment(flowapi: ExampleFlowApi) -> Mapping[str, str]:
    """Return the environment for AutoFlow: nothing of AutoFlow's that may be set here already."""
    ours = ("AUTOFLOW_", "FLOWAPI_", "PREFECT_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return kept | {
        "AUTOFLOW_INPUTS_DIR": str(INPUTS),
        "AUTOFLOW_OUTPUTS_DIR": str(OUTPUTS),
        "FLOWAPI_URL": flowapi.url,
        "FLOWAPI_TOKEN": flowapi.token(expires_in=timedelta(days=365)),
        # The kernels and programs of the virtual environment have to be found even if it is not activated.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }


def found() -> list[Path]:
    """Return all notebooks and reports there are."""
    return [*OUTPUTS.glob("notebooks/*.ipynb"), *OUTPUTS.glob("reports/*.pdf")]


def relative(path: Path) -> str:
    """Return `path` as a person in the root of the checkout would type it."""
    return str(path.relative_to(ROOT))


if __name__ == "__main__":
    sys.exit(main())
