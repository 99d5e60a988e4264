"""Read what follows the dates of an entry: by when they have to be done, and who gets messages."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from autoflow.dates.deadlines import Deadline
from autoflow.parser.places import Place
from autoflow.parser.reader import Reader
from autoflow.parser.schemas import DeadlineSchema, NotifySchema
from autoflow.parser.values import text
from autoflow.parser.wording import alternatives, did_you_mean, show
from autoflow.settings import UNNAMED
from autoflow.specs import NotifySpec


@dataclass(frozen=True)
class FollowUpReader:
    """Reads keys of the entry at `place`; `zone` is that of a time zone, `recipients` are as in `SensorKeys`."""

    place: Place
    reader: Reader
    zone: str
    recipients: Collection[str] | None

    def deadline(self, given: Mapping[str, object]) -> Deadline | None:
        """Return the meaning of the key `deadline`; None if it is wrong."""
        place = (*self.place, "deadline")
        keys = self.reader.keys(DeadlineSchema(), given, place)
        if self.reader.problems.is_broken_within(place):
            return None
        return Deadline(**keys, zone=ZoneInfo(self.zone))

    def notify(self, given: Mapping[str, object]) -> NotifySpec:
        """Return the meaning of the key `notify`, without what is wrong."""
        place = (*self.place, "notify")
        keys = self.reader.keys(NotifySchema(), given, place)
        names = {key: self._names(keys[key], (*place, key)) for key in ("success", "failure") if key in keys}
        if "attach" in keys and "success" not in given:
            problem = "it needs 'success', the names of those who get the reports"
            self.reader.problems.add((*place, "attach"), problem)
        return NotifySpec(**names, attach=keys.get("attach"))

    def _names(self, given: object, place: Place) -> tuple[str, ...]:
        if not isinstance(given, list):
            name = self.reader.value(self._name, given, place)
            return (name,) if name else ()
        return tuple(self.reader.distinct(self._name, given, place))

    def _name(self, value: object) -> str:
        """Accept the name of a recipient."""
        name = text(value)
        if self.recipients is None or name in self.recipients:
            return name
        known = sorted(set(self.recipients) - {UNNAMED})
        if not known:
            raise ValueError(
                f"unknown name {show(name)}; AUTOFLOW_NOTIFY_URLS has no URL with a name such as {name}=URL"
            )
        has = f"AUTOFLOW_NOTIFY_URLS has {alternatives(known).replace(' or ', ' and ')}"
        raise ValueError(f"unknown name {show(name)}; {has}{did_you_mean(name, known)}")
