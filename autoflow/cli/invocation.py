"""One call of the command line."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(kw_only=True)
class Invocation:
    """State that `main` and the verb share; it needs none of a verb's libraries.

    `environ` is what settings are read from, None for docker secrets and the environment of this process. After that,
    `secrets` contains the texts that no message may show. `is_daemon` is whether this process runs the daemon,
    and `logs_json` whether it logs in JSON.
    """

    environ: Mapping[str, str] | None = None
    secrets: tuple[str, ...] = ()
    is_daemon: bool = False
    logs_json: bool = False
