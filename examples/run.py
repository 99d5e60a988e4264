"""Run the example as ``make example`` does: AutoFlow, against a FlowAPI of its own with synthetic data."""

import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from examples.flowapi import ExampleFlowApi  # noqa: E402 - it is found only now

INPUTS, OUTPUTS = ROOT / "examples" / "inputs", ROOT / "examples" / "outputs"
PAGE = OUTPUTS / "index.html"


def main() -> int:
    """Run AutoFlow until nothing is due; say what it left. Return its exit code."""
    before = set(found())
    print(f"AutoFlow runs the workflows of {relative(INPUTS / 'workflows.yml')}, which takes about a minute.")
    with ExampleFlowApi(queued_seconds=0.2, executing_seconds=0.5) as flowapi:
        command = [sys.executable, "-m", "autoflow"]
        exit_code = subprocess.run(command, cwd=ROOT, env=environment(flowapi), check=False).returncode
    new = sorted(set(found()) - before)
    for path in new:
        print(f"  {relative(path)}")
    if exit_code:
        print("The example has failed; the lines above say why.")
    elif not new:
        print(f"Nothing was run: every date is done already, see {relative(PAGE)}. `make clean` starts afresh.")
    else:
        print(f"Open {relative(PAGE)} in a browser: it has links to the reports and executed notebooks.")
    return exit_code


def environment(flowapi: ExampleFlowApi) -> Mapping[str, str]:
    """Return the environment for AutoFlow: nothing of AutoFlow's that may be set here already."""
    ours = ("AUTOFLOW_", "FLOWAPI_", "PREFECT_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return kept | {
        "AUTOFLOW_INPUTS_DIR": str(INPUTS),
        "AUTOFLOW_OUTPUTS_DIR": str(OUTPUTS),
        "FLOWAPI_URL": flowapi.url,
        "FLOWAPI_TOKEN": flowapi.token(expires_in=timedelta(days=365)),
        # Where the virtual environment is not activated, its kernels and programs are to be found all the same.
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
