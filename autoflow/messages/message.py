"""A message, as it is recorded and sent."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import apprise

from autoflow.specs import Json

LONGEST_TITLE = 200
"""The longest title of a message, in characters."""

MOST_ATTACHED = 7_000_000
"""The most that is attached to a message, in bytes: by mail it grows by a third, and many servers take up to 10 MB."""


@dataclass(frozen=True)
class Attachment:
    """A report to attach; services that take no files, or not one as large, get its `address` instead."""

    path: Path
    address: str


@dataclass(frozen=True, kw_only=True)
class Message:
    """A message without secrets. `fields` are what programs get as JSON, besides the texts."""

    title: str
    body: str
    kind: apprise.NotifyType
    fields: Mapping[str, Json] = field(default_factory=dict)
    attachments: Sequence[Attachment] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the message as plain values."""
        files = [{"path": str(each.path), "address": each.address} for each in self.attachments]
        return {**asdict(self), "kind": self.kind.value, "attachments": files}

    @classmethod
    def of_json(cls, content: Mapping[str, Any]) -> Self:
        """Return the message that `as_json` has made `content` of."""
        files = tuple(Attachment(Path(each["path"]), each["address"]) for each in content["attachments"])
        return cls(**{**content, "kind": apprise.NotifyType(content["kind"]), "attachments": files})
