"""The file that takes the place of the run store while that cannot be used; older versions had no other record."""

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from autoflow.messages.conditions import with_host
from autoflow.model.messages import MessageRecord, Topic
from autoflow.runs.attention import Need
from autoflow.settings import Settings
from autoflow.system.log import Outage
from autoflow.utils import whole_file

NOTICES_FILE = "notices.json"
"""Its name in the outputs folder."""

OLD_NOTICES_FILE = "notices.old.json"
"""Its name once the run store has everything that was in it."""


class NoticesFile:
    """Conditions that people were notified of while the run store could not record it.

    As soon as it can, it takes over what the file has. Until version 0.1, the file was the only record.
    """

    def __init__(self, settings: Settings) -> None:
        self._file = settings.outputs_dir / NOTICES_FILE
        self._unwritten: Mapping[str, str] = {}
        self._is_moved = False
        self._outage = Outage()

    @property
    def conditions(self) -> Mapping[str, str]:
        """The conditions in the file by key, with a text for the message that each is over."""
        return {**self._content()[Topic.CONDITION], **self._unwritten}

    def add(self, conditions: Mapping[str, str]) -> None:
        """Record conditions."""
        content = {"conditions": {**self.conditions, **conditions}}
        try:
            # It does not exist yet if AutoFlow has never started.
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(self._file) as unfinished:
                unfinished.write_text(json.dumps(content), encoding="utf-8")
        except OSError as error:
            # On a full disk, people are still notified only once.
            self._unwritten = {**self._unwritten, **conditions}
            self._outage.begin("could not write %s: %s", self._file, error.strerror)
        self._is_moved = False

    def move_into(self, record: MessageRecord, *, daemon: str, host: str) -> None:
        """Record in the run store what is in the file, unless it is there already.

        `daemon` on `host` is the one that has found the conditions.
        """
        content = self._content()
        content[Topic.CONDITION] = {with_host(key, host): text for key, text in self.conditions.items()}
        for topic, notices in content.items():
            known = record.known(topic)
            new = {key: text for key, text in notices.items() if key not in known}
            record.note(topic, new, daemon=daemon if topic is Topic.CONDITION else "")

    @property
    def is_there(self) -> bool:
        """Whether there is something to move into the run store."""
        return bool(self._unwritten) or (not self._is_moved and self._file.is_file())

    def put_aside(self) -> None:
        """Rename the file, which the run store has taken over."""
        self._unwritten, self._is_moved = {}, True
        try:
            self._file.replace(self._file.with_name(OLD_NOTICES_FILE))
        except FileNotFoundError:
            pass
        except OSError as error:
            self._outage.begin("could not rename %s: %s", self._file, error.strerror)

    def _content(self) -> dict[Topic, dict[str, str]]:
        """Return the valid part of the file's content."""
        found: Any = None
        # If the file is missing or broken, messages are sent again, which is better than not at all.
        with suppress(OSError, ValueError):
            found = json.loads(self._file.read_text(encoding="utf-8"))
        return _sound(found if isinstance(found, dict) and not self._is_moved else {})


def _sound(found: Mapping[str, Any]) -> dict[Topic, dict[str, str]]:
    given_up, conditions, changes = (found.get(name) for name in ("given_up", "conditions", "changes"))
    notices: dict[Topic, dict[str, str]] = {Topic.GIVEN_UP: {}, Topic.CONDITION: {}, Topic.CHANGE: {}}
    if isinstance(given_up, list):
        notices[Topic.GIVEN_UP] = {each: "" for each in given_up if isinstance(each, str)}
    if isinstance(conditions, dict):
        notices[Topic.CONDITION] = {key: str(text) for key, text in conditions.items()}
    if isinstance(changes, dict):
        notices[Topic.CHANGE] = {key: str(time) for key, time in changes.items()}
    if found.get("flowapi_told") is True:  # written by an older version
        notices[Topic.CONDITION].setdefault(Need.FLOWAPI.name.lower(), "")
    return notices
