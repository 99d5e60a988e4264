"""Whether a worker is fit to work: what it checks itself, and what its last orders have shown."""

import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from autoflow.errors import RunStoreError
from autoflow.model.claim_ages import ClaimAges
from autoflow.reports import missing_tools
from autoflow.settings import Settings
from autoflow.system.disk import full_disk

MOST_FAILURES = 3
"""After this many orders in a row that failed for reasons of its own, a worker is left out."""

FIRST_PAUSE, LONGEST_PAUSE = 15.0, 120.0
"""How long a worker is left out before it may try one more order, in seconds; it doubles each time."""

CHECK_SECONDS = 5.0
"""How often a worker checks itself."""


class Fitness:
    """Whether a worker is fit. Its own `checks` count at once, and failures of orders once there are `MOST_FAILURES`.

    `checks` returns what is wrong, None if nothing is. `clock` counts seconds. Safe to use from several threads.
    """

    def __init__(self, checks: Callable[[], str | None], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._checks = checks
        self._clock = clock
        self._lock = threading.Lock()
        self._found: str | None = None
        self._failures = 0
        self._last_failure = ""
        self._pause = FIRST_PAUSE
        self._out_until = 0.0

    def check(self) -> None:
        """Check what the worker can see for itself."""
        found = self._checks()
        with self._lock:
            self._found = found

    @property
    def problem(self) -> str | None:
        """Why the worker is not fit; None if it is."""
        with self._lock:
            if self._found:
                return self._found
            if self._failures >= MOST_FAILURES and self._clock() < self._out_until:
                return f"{self._failures} orders in a row failed, the last one because {self._last_failure}"
            return None

    def failed(self, reason: str) -> None:
        """Count an order that failed for a reason of the worker's own."""
        with self._lock:
            self._failures += 1
            self._last_failure = reason
            if self._failures >= MOST_FAILURES:
                self._out_until = self._clock() + self._pause
                self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def succeeded(self) -> None:
        """Forget earlier failures: an order did not fail for a reason of the worker's own."""
        with self._lock:
            self._failures, self._pause = 0, FIRST_PAUSE


def own_problem(settings: Settings, ages: ClaimAges) -> str | None:
    """Return why this machine cannot execute notebooks, as far as it can be seen; None if it can."""
    if not settings.workflows_file.is_file():
        return f"there is no workflows.yml in {settings.inputs_dir}: is the inputs folder mounted?"
    if not settings.outputs_dir.is_dir():
        return f"there is no outputs folder {settings.outputs_dir}: is it mounted?"
    temporary = Path(tempfile.gettempdir())
    for folder in (settings.outputs_dir, settings.notebooks_dir, settings.reports_dir, temporary):
        if (folder.exists() or folder == temporary) and not os.access(folder, os.W_OK | os.X_OK):
            return f"{folder} is missing or not writable by user {os.getuid()}"
    if problem := full_disk(settings.written_folders):
        return problem
    try:
        ages.age(0)
    except RunStoreError as error:
        return str(error)
    return next(iter(missing_tools()), None)
