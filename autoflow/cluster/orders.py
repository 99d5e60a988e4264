"""Orders to workers and their answers, as JSON: no secrets, no paths of a machine, and nothing that is code."""

import enum
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from autoflow.cluster.versions import code_version
from autoflow.cluster.work import Result, Work
from autoflow.errors import (
    AutoflowError,
    NoRoomError,
    NotebookError,
    ReportError,
    RunSkipped,
    RunStopped,
    UnexpectedError,
)
from autoflow.runs.checks import Checks
from autoflow.runs.run import NotebookOutputs
from autoflow.settings import Settings
from autoflow.specs import ReportFormat
from autoflow.system.log import current_log_fields
from autoflow.utils import file_digest


@dataclass(frozen=True, kw_only=True)
class Order:
    """A notebook for a worker to execute, under the claim with this number.

    `digests` has those of the notebook and, if there are reports, of the template, by their paths. Progress goes to the
    Dask topic `topic`, which identifies the daemon; `wants_progress` is whether anyone waits for it. Lines in the
    worker's log have `log_fields`. `version` and `heartbeat_timeout`, in seconds, are those of the daemon.
    """

    work: Work
    claim_id: int
    topic: str
    digests: Mapping[Path, str]
    heartbeat_timeout: float
    wants_progress: bool = False
    log_fields: Mapping[str, str | int] = field(default_factory=current_log_fields)
    version: str = field(default_factory=code_version)
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    @classmethod
    def of(cls, work: Work, settings: Settings, *, claim_id: int, topic: str, wants_progress: bool) -> "Order":
        """Return an order for `work` with its files as they are now; raise OSError if one cannot be read."""
        template = work.template or settings.asciidoc_template_path
        digests = {path: file_digest(path) for path in (work.notebook, *([template] if work.formats else []))}
        return cls(
            work=work,
            claim_id=claim_id,
            topic=topic,
            digests=digests,
            heartbeat_timeout=settings.heartbeat_timeout,
            wants_progress=wants_progress,
        )

    def as_text(self, settings: Settings) -> str:
        """Return the order as JSON, with paths relative to the inputs folder."""
        content = {
            "id": self.id,
            "version": self.version,
            "claim": self.claim_id,
            "topic": self.topic,
            "heartbeat_timeout": self.heartbeat_timeout,
            "progress": self.wants_progress,
            "log_fields": dict(self.log_fields),
            "digests": {_relative(path, settings): digest for path, digest in self.digests.items()},
            "work": _work_as_json(self.work, settings),
        }
        return json.dumps(content)

    @classmethod
    def of_text(cls, text: str, settings: Settings) -> "Order":
        """Return the order in a text, with paths in the inputs folder of these settings."""
        content = json.loads(text)
        return cls(
            work=_work_of_json(content["work"], settings),
            claim_id=content["claim"],
            topic=content["topic"],
            digests={_absolute(path, settings): digest for path, digest in content["digests"].items()},
            heartbeat_timeout=content["heartbeat_timeout"],
            wants_progress=content["progress"],
            log_fields=content["log_fields"],
            version=content["version"],
            id=content["id"],
        )


def _work_as_json(work: Work, settings: Settings) -> dict[str, Any]:
    # The daemon has let it pass its pool.
    values = {each.name: getattr(work, each.name) for each in fields(work) if each.name != "pool"}
    values |= {name: dict(values[name]) for name in ("sources", "values", "upstream", "folders")}
    template = _relative(work.template, settings) if work.template else None
    return values | {"notebook": _relative(work.notebook, settings), "template": template}


def _work_of_json(content: Mapping[str, Any], settings: Settings) -> Work:
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in content.items()
    }
    template = settings.inputs_dir / content["template"] if content["template"] else None
    values |= {"notebook": settings.inputs_dir / content["notebook"], "template": template}
    return Work(**values | {"formats": tuple(map(ReportFormat, content["formats"]))})


def version_of(text: str) -> tuple[str, str]:
    """Return the id and the version of the order in a text, which may be that of another AutoFlow."""
    content = json.loads(text)
    return str(content.get("id")), str(content.get("version"))


_DEFAULT_TEMPLATE = ""
"""Stands for the template in the settings, which may have another path on each machine."""


def _absolute(path: str, settings: Settings) -> Path:
    return settings.asciidoc_template_path if path == _DEFAULT_TEMPLATE else settings.inputs_dir / path


def _relative(path: Path, settings: Settings) -> str:
    """Return a path relative to the inputs folder; as it is if it is elsewhere."""
    if path == settings.asciidoc_template_path:
        return _DEFAULT_TEMPLATE
    is_input = path.is_relative_to(settings.inputs_dir)
    return (path.relative_to(settings.inputs_dir) if is_input else path).as_posix()


class Verdict(enum.StrEnum):
    """What a worker answers to an order."""

    DONE = "done"
    """The notebook was executed, with the result in the answer."""
    REFUSED = "refused"
    """Nothing of it runs, for a reason that is not the notebook's: another worker may do it.

    It has a result if it has run, and has failed for a reason that seems to be the worker's.
    """
    LOST = "lost"
    """Its kernel was ended because its claim was no longer valid, or could not be seen to be."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer of a worker. `reason` is empty if it is done."""

    verdict: Verdict
    result: Result = field(default_factory=Result)
    reason: str = ""

    def as_text(self) -> str:
        """Return the answer as JSON, with the names of files."""
        outputs, error = self.result.outputs, self.result.error
        files = [outputs.executed.name, *(path.name for path in outputs.reports)] if outputs else None
        checks = self.result.checks.as_json()
        content = {"verdict": self.verdict.value, "reason": self.reason, "files": files, "checks": checks}
        return json.dumps(content | {"error": _error_as_json(error) if error else None})

    @classmethod
    def of_text(cls, text: str, settings: Settings) -> "Answer":
        """Return the answer in a text, with paths in the output folders of these settings."""
        content = json.loads(text)
        outputs = None
        if content["files"]:
            executed, *reports = content["files"]
            paths = tuple(settings.reports_dir / name for name in reports)
            outputs = NotebookOutputs(settings.notebooks_dir / executed, paths)
        error = _error_of_json(content["error"], settings) if content["error"] else None
        result = Result(outputs=outputs, error=error, checks=Checks.of_json(content["checks"]))
        return cls(verdict=Verdict(content["verdict"]), result=result, reason=content["reason"])


def _error_as_json(error: AutoflowError) -> dict[str, Any]:
    content: dict[str, Any] = {"class": type(error).__name__, "message": str(error), "is_death": error.is_death}
    if isinstance(error, NotebookError):
        names = ("notebook", "cell", "error_class", "error_message", "code")
        content |= {name: getattr(error, name) for name in names}
    if isinstance(error, RunSkipped):
        content |= {"notebook": error.notebook, "cell": error.cell}
    if isinstance(error, ReportError):
        content["is_timeout"] = error.is_timeout
    return content


def _error_of_json(content: Mapping[str, Any], settings: Settings) -> AutoflowError:
    message, is_death = content["message"], content["is_death"]
    match content["class"]:
        case NotebookError.__name__:
            place = (content["notebook"], content["cell"], content["error_class"], content["error_message"])
            return NotebookError(*place, code=content["code"], is_death=is_death)
        case ReportError.__name__:
            return ReportError(message, is_death=is_death, is_timeout=content["is_timeout"])
        case NoRoomError.__name__:
            return NoRoomError(message, settings.written_folders)
        case RunSkipped.__name__:
            return RunSkipped(content["notebook"], content["cell"], message)
    return _PLAIN_ERRORS.get(content["class"], AutoflowError)(message)


_PLAIN_ERRORS: Mapping[str, type[AutoflowError]] = {each.__name__: each for each in (RunStopped, UnexpectedError)}
"""The errors that have a message alone, by the names of their classes."""
