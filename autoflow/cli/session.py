"""What the verbs of one call of the command line share."""

import datetime
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

import click

from autoflow.log import set_up_logging
from autoflow.settings import Settings

if TYPE_CHECKING:
    from autoflow.model.store import RunStore


class Session:
    """The settings, read from `environ` when they are first needed, so that help needs none.

    `is_daemon` tells that it is the daemon which runs in this process.
    """

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self._environ = environ
        self.secrets: tuple[str, ...] = ()
        self.is_daemon = False

    @cached_property
    def settings(self) -> Settings:
        """The settings; from here on, secrets are known, and warnings go to stderr."""
        settings = Settings.read() if self._environ is None else Settings.read(self._environ)
        self.secrets = settings.secrets
        set_up_logging("WARNING", lambda: settings.secrets)
        return settings

    @contextmanager
    def store(self) -> Iterator["RunStore"]:
        """Yield the run store, with its tables as this version needs them."""
        from autoflow.model.output_paths import OutputFolders  # noqa: PLC0415 - so that --help is quick
        from autoflow.model.store import RunStore  # noqa: PLC0415

        settings = self.settings
        if settings.db_uri.startswith("sqlite"):
            settings.outputs_dir.mkdir(parents=True, exist_ok=True)
        crashed_after = datetime.timedelta(seconds=settings.heartbeat_timeout)
        folders = OutputFolders.of(settings)
        with closing(RunStore(settings.db_uri, folders=folders, crashed_after=crashed_after)) as store:
            store.migrate()
            yield store


pass_session = click.make_pass_decorator(Session)

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
"""The option that all verbs have which tell something."""
