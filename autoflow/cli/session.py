"""The settings and the run store, as verbs use them."""

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any, TypeVar

import click

from autoflow.cli.invocation import Invocation
from autoflow.errors import AutoflowError
from autoflow.model.opening import open_run_store
from autoflow.model.store import RunStore
from autoflow.notebooks.redaction import Redaction
from autoflow.parser import read_workflows
from autoflow.runs.naming import run_name
from autoflow.runs.records import RunKey
from autoflow.settings import SchedulerSettings, Settings, TrialSettings
from autoflow.specs import TriggerSpec
from autoflow.system.log import set_up_logging

R = TypeVar("R")
S = TypeVar("S", bound=SchedulerSettings)


class Session:
    """The settings and the run store of one call of the command line."""

    def __init__(self, invocation: Invocation) -> None:
        self.invocation = invocation

    @cached_property
    def settings(self) -> Settings:
        """The settings. They are read on first use: from then on, secrets are known, and warnings go to stderr."""
        return self._read(Settings)

    @cached_property
    def scheduler_settings(self) -> SchedulerSettings:
        """The few settings of a scheduler, which has no token and no database."""
        return self._read(SchedulerSettings)

    def trial_settings(self, changes: Mapping[str, str], defaults: Mapping[str, str]) -> TrialSettings:
        """Return the settings for trying a notebook; see `TrialSettings.read_changed`."""
        environ = self.invocation.environ
        given = {} if environ is None else {"environ": environ}
        return self._known(TrialSettings.read_changed(changes, defaults, **given))

    def _read(self, kind: type[S]) -> S:
        environ = self.invocation.environ
        return self._known(kind.read() if environ is None else kind.read(environ))

    def _known(self, settings: S) -> S:
        """Return the settings, whose secrets are not shown from now on."""
        self.invocation.secrets = settings.secrets
        set_up_logging("WARNING", lambda: settings.secrets)
        return settings

    def log_as_set(self, settings: Settings | SchedulerSettings) -> None:
        """Log from now on with the level and in the format of the settings, for a process that is a service."""
        self.invocation.logs_json = settings.log_format == "json"
        set_up_logging(settings.log_level, lambda: settings.secrets, as_json=self.invocation.logs_json)

    @cached_property
    def triggers(self) -> tuple[TriggerSpec, ...]:
        """The entries in workflows.yml, for the names of runs; none if the file is invalid."""
        try:
            return read_workflows(self.settings).sensor.triggers
        except AutoflowError:
            return ()

    def without_secrets(self, key: RunKey) -> RunKey:
        """Return the key of a run for people: runs of old versions may have secrets in their parameters."""
        parameters = Redaction(self.settings.secrets).of_parameters(json.loads(key.parameters))
        return RunKey.of(key.workflow, parameters, key.reference_date, key.every)

    def run_name(self, key: RunKey, *, label: str | None = None) -> str:
        """Return the name of a run for people; `label` is the one that it had when it started."""
        return run_name(self.without_secrets(key), self.triggers, label=label)

    @contextmanager
    def store(self, *, create: bool = False) -> Iterator[RunStore]:
        """Yield the run store; without `create`, no database is made where there is none yet."""
        with open_run_store(self.settings, create=create) as store:
            yield store


def pass_session(verb: Callable[..., R]) -> Callable[..., R]:
    """Call `verb` with a session as its first argument, after click's context if it takes that."""

    @functools.wraps(verb)
    def with_session(*context: click.Context, **options: Any) -> R:
        return verb(*context, Session(click.get_current_context().find_object(Invocation) or Invocation()), **options)

    return with_session
