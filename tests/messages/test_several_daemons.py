"""Several daemons on one database: people are notified of the same thing once."""

import datetime
import json
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from autoflow.errors import NotebookError
from autoflow.messages.notices_file import NOTICES_FILE, OLD_NOTICES_FILE
from autoflow.messages.notifier import Notifier
from autoflow.model.store import RunStore
from autoflow.runs.attention import Attention, Condition, Need
from autoflow.runs.changes import Change
from autoflow.runs.records import RunError, RunKey, RunState
from autoflow.settings import Settings
from autoflow.specs import NotifySpec, TriggerSpec
from tests.conftest import Deployed
from tests.messages.test_notifier import SPEC, ended
from tests.model.conftest import Clock
from tests.receiver import Receiver

# Apprise's own, as its plugins are imported.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

KEY = RunKey.of("flows", {}, datetime.date(2016, 1, 5))
FAILING = Attention(conditions=(Condition(need=Need.FLOWAPI, reason="it is gone"),))
WORKING = Attention(fine=frozenset({Need.FLOWAPI}))
UNKNOWN = Attention()


@dataclass
class Daemons:
    """Two daemons with a folder for outputs each."""

    settings: list[Settings]
    stores: list[RunStore]
    clock: Clock
    receiver: Receiver

    def notify(self, number: int, *calls: tuple[str, object], later: datetime.timedelta = datetime.timedelta()) -> None:
        """Start a daemon, call methods of its notifier, and end it."""
        self.clock.now += later
        with Notifier(self.settings[number], self.stores[number], clock=self.clock) as notifier:
            notifier.follow([TriggerSpec(workflow=SPEC)])
            for name, argument in calls:
                getattr(notifier, name)(argument)

    def titles(self) -> list[str]:
        return [title.removeprefix("AutoFlow: ") for title in self.receiver.titles()]


@pytest.fixture
def daemons(
    deployed: Deployed, receiver: Receiver, store: RunStore, uri: str, clock: Clock, tmp_path: Path
) -> Iterator[Daemons]:
    folders = [tmp_path / name for name in ("first", "second")]
    settings = [
        deployed.settings(AUTOFLOW_NOTIFY_URLS=receiver.url, AUTOFLOW_OUTPUTS_DIR=str(folder)) for folder in folders
    ]
    for each in settings:
        each.outputs_dir.mkdir()
    with closing(RunStore(uri, clock=clock)) as other:
        yield Daemons(settings, [store, other], clock, receiver)


def test_changed_days_are_one_message(daemons: Daemons) -> None:
    change = Change(KEY, [datetime.date(2016, 1, 5)], daemons.clock.now)
    for number in (0, 1, 0):
        daemons.notify(number, ("days_changed", [change]))
    assert daemons.titles() == ["the data of flows 2016-01-05 has changed"]


def test_a_date_that_is_given_up_is_one_message_whichever_daemon_notices_it_first(daemons: Daemons) -> None:
    failed = ended(RunState.FAILED, daemons.settings[0], failures=1, error=NotebookError("n", 3, "ValueError", "no"))
    for again in (False, True):
        claim = daemons.stores[0].claim(KEY)
        assert claim
        daemons.stores[0].finish(claim, RunState.FAILED, error=RunError("ValueError", "no", "n", 3))
        minute = datetime.timedelta(minutes=1)
        if not again:
            # A tick of the other daemon is quicker.
            daemons.notify(1, ("given_up", [KEY]), later=minute)
        daemons.notify(0, ("run_ended", failed), later=minute)
        daemons.notify(1, ("given_up", [KEY]), later=minute)
        assert daemons.titles() == ["flows 2016-01-05 was given up"]
    daemons.notify(1, ("run_ended", ended(RunState.SUCCEEDED, daemons.settings[1])))
    daemons.notify(0, ("run_ended", ended(RunState.SUCCEEDED, daemons.settings[0])))
    assert daemons.titles() == ["flows 2016-01-05 succeeded"]


def test_a_condition_is_one_message_and_over_once_no_daemon_finds_it(daemons: Daemons) -> None:
    hour = datetime.timedelta(hours=1, minutes=1)
    daemons.notify(0, ("attend", FAILING))
    daemons.notify(1, ("attend", FAILING))
    assert daemons.titles() == ["FlowAPI is failing"]
    daemons.notify(0, ("attend", WORKING))
    daemons.notify(0, ("attend", UNKNOWN))
    assert daemons.titles() == []
    daemons.notify(1, ("attend", WORKING))
    assert daemons.titles() == ["FlowAPI works again"]
    # One that is gone for good does not keep a condition up.
    daemons.notify(0, ("attend", FAILING))
    daemons.notify(1, ("attend", WORKING))
    assert daemons.titles() == ["FlowAPI is failing"]
    daemons.notify(1, ("attend", WORKING), later=hour)
    assert daemons.titles() == ["FlowAPI works again"]


def test_failures_at_about_the_same_time_are_one_message_for_each_recipient(
    deployed: Deployed, receiver: Receiver, store: RunStore
) -> None:
    settings = deployed.settings(AUTOFLOW_NOTIFY_URLS=f"{receiver.url} ops={receiver.url}ops")
    north, south = (
        TriggerSpec(workflow=SPEC, label=label, parameters={"region": label}, notify=NotifySpec(failure=names))
        for label, names in (("north", ("ops",)), ("south", ()))
    )
    seconds = 0.0
    with Notifier(settings, store, timer=lambda: seconds) as notifier:
        notifier.follow([north, south])
        for number in range(12):
            failed = ended(
                RunState.FAILED, settings, failures=1, error=NotebookError("n", 3, "ValueError", f"no {number}")
            )
            date = datetime.date(2016, 1, 1 + number)
            run = replace(failed.run, parameters=(north if number % 3 else south).parameters, reference_date=date)
            notifier.run_ended(replace(failed, run=run))
            notifier.look()
            seconds += 2
        assert receiver.titles() == []
    to_ops, to_all = sorted(receiver.taken(), key=lambda message: str(message["label"]))
    assert (to_ops["title"], len(to_ops["runs"])) == (
        "AutoFlow: flows:north 2016-01-02 and 7 more were given up",
        8,
    )
    assert (to_all["title"], len(to_all["runs"])) == ("AutoFlow: flows:south 2016-01-01 and 3 more were given up", 4)
    assert to_ops["message"].count("ValueError: no") == 8


def test_what_an_older_version_has_sent_is_not_sent_again(daemons: Daemons) -> None:
    file = daemons.settings[0].outputs_dir / NOTICES_FILE
    name = f"flows {KEY.parameters_hash[:16]} 2016-01-05"
    time = daemons.clock.now.isoformat()
    conditions = {"flowapi": "it is gone (since long ago)", "disk": "it is full"}
    old = {"given_up": [name], "conditions": conditions, "changes": {name: time}}
    file.write_text(json.dumps(old))
    change = Change(KEY, [datetime.date(2016, 1, 5)], daemons.clock.now)
    full = Condition(need=Need.DISK, reason="it is full")
    still = Attention(conditions=(*FAILING.conditions, full))
    same = (("attend", still), ("given_up", [KEY]), ("days_changed", [change]))
    daemons.notify(0, *same)
    daemons.notify(1, *same)
    assert daemons.titles() == []
    assert not file.exists()
    assert json.loads(file.with_name(OLD_NOTICES_FILE).read_text()) == old
    daemons.notify(1, ("attend", WORKING))
    daemons.notify(0, ("attend", WORKING))
    assert daemons.titles() == ["FlowAPI works again"]
    for number in (0, 1):
        daemons.notify(number, ("attend", Attention(fine=frozenset({Need.DISK}))))
    assert daemons.titles() == ["the disks have room again"]


def test_conditions_are_messages_although_the_database_fails_and_are_recorded_once_it_works(
    deployed: Deployed, receiver: Receiver, tmp_path: Path
) -> None:
    settings = deployed.settings(AUTOFLOW_NOTIFY_URLS=receiver.url)
    uri = f"sqlite:///{tmp_path}/late.db"
    gone = Attention(conditions=(Condition(need=Need.DATABASE, reason="it is gone"),))
    for _ in range(2):
        with closing(RunStore(uri)) as store, Notifier(settings, store) as notifier:
            notifier.attend(gone)
    assert receiver.titles() == ["AutoFlow: the database of runs cannot be used"]
    with ExitStack() as stack:
        store = stack.enter_context(closing(RunStore(uri)))
        store.migrate()
        notifier = stack.enter_context(Notifier(settings, store))
        notifier.attend(gone)
        notifier.attend(Attention(fine=frozenset({Need.DATABASE})))
    assert receiver.titles() == ["AutoFlow: the database of runs can be used again"]
