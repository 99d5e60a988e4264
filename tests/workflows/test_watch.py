"""What needs attention, as health, `health --live`, the page's banner and messages report it, fault by fault."""

import datetime
import json
import math
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path

import jwt
import pytest

from autoflow.cli import main
from autoflow.errors import AutoflowError, FlowApiError, TokenError, WorkflowsFileError
from autoflow.flowapi import FlowApi
from autoflow.messages.notifier import Notifier
from autoflow.model.opening import PAGE_NAME
from autoflow.model.store import RunStore
from autoflow.orchestration.daemon_files import DaemonFiles
from autoflow.page.writer import PageWriter
from autoflow.parser import read_workflows
from autoflow.runs.attention import Attention, Condition, Need
from autoflow.runs.records import RunKey, RunState, utc_now
from autoflow.settings import Settings
from autoflow.specs import WorkflowsFile
from autoflow.system.log import logger
from autoflow.system.stop_signal import PeriodicThread
from autoflow.workflows.stuck_watch import StuckWatch
from autoflow.workflows.watch import Clocks, Watch
from tests.cli.test_health import ACTIVE, WORKFLOWS, prefect
from tests.conftest import TOKEN_OF_NO_USE, Deployed, write_notebook
from tests.disks import resize, small_disk
from tests.receiver import Receiver
from tests.waiting import LONG, wait_for

pytestmark = [
    pytest.mark.usefixtures("log_as_before"),
    pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning"),
]

HOUR = datetime.timedelta(hours=1)


@dataclass
class Daemon:
    """The parts of a daemon that watch for what needs attention, with a test's clock; health shows what they find."""

    deployed: Deployed
    settings: Settings
    environ: dict[str, str]
    store: RunStore
    capsys: pytest.CaptureFixture[str]
    receiver: Receiver
    accepted: list[WorkflowsFile] = field(default_factory=list)
    now: datetime.datetime = field(default_factory=utc_now)
    seconds: float = 0.0
    marks: int = 0

    def start(self, stack: ExitStack, *, edit: Callable[[], None] = lambda: None) -> None:
        """Start, and have `edit` called before the first look."""
        self.notifier = stack.enter_context(
            Notifier(self.settings, self.store, clock=lambda: self.now, timer=lambda: math.inf)
        )
        self.page = PageWriter(self.settings, self.store)
        workflows = read_workflows(self.settings)
        self.page.follow(workflows.sensor.triggers)
        self.watch = Watch(
            self.settings,
            self.store,
            workflows,
            notifier=self.notifier,
            page=self.page,
            clocks=Clocks(now=lambda: self.now, seconds=lambda: self.seconds),
        )
        self.stuck_watch = StuckWatch(self.store, followers=[self.notifier.runs_are_stuck])
        edit()
        self.look()

    def look(self, *, later: datetime.timedelta = datetime.timedelta()) -> None:
        """Let the daemon check after `later`, for long enough to notice everything."""
        self.now += later
        for _ in range(20):
            self.seconds += 1
            self.watch.look()
        self.stuck_watch.look()
        self.page.finish()

    def tick(self, error: AutoflowError | None = None) -> None:
        self.watch.tick_ended(error)
        self.look()

    def messages(self) -> list[dict[str, str]]:
        """Return the messages that were sent since the last call: all those before one more that is made for this."""
        self.marks += 1
        mark = Condition(need=Need.START, reason=f"mark {self.marks}", run_id=self.marks)
        self.notifier.attend(Attention(conditions=(mark,)))
        found = []
        while f"mark {self.marks}." not in (message := self.receiver.messages.get(timeout=LONG))["message"]:
            found.append(message)
        return [each for each in found if "mark" not in each["message"]]

    def health(self, *options: str) -> tuple[int, str]:
        """Return the exit code of `autoflow health`, and what it prints without the lines that are good."""
        self.capsys.readouterr()
        code = main(["health", *options], self.environ)
        lines = self.capsys.readouterr().out.splitlines(keepends=True)
        return code, "".join(line for line in lines if not line.startswith("ok"))

    def validate(self) -> str:
        """Return what `autoflow validate --json` prints."""
        self.capsys.readouterr()
        main(["validate", "--json"], self.environ)
        return self.capsys.readouterr().out

    def banner(self) -> str:
        """Return the text of the page's banner; empty without one."""
        html = (self.settings.outputs_dir / PAGE_NAME).read_text()
        found = unescape(html.partition('<section class="banner')[2].partition("</section>")[0])
        return found.replace("</strong>", "").replace('<span class="quiet">', "")


Start = Callable[..., Daemon]


@pytest.fixture
def start(deployed: Deployed, receiver: Receiver, capsys: pytest.CaptureFixture[str]) -> Iterator[Start]:
    """Return what starts a daemon with some settings changed; its Prefect API has a tick scheduled for later."""
    deployed.write_workflows(WORKFLOWS)
    write_notebook(deployed.inputs / "n.ipynb", "1")
    with ExitStack() as stack:
        url = stack.enter_context(prefect(ACTIVE, datetime.datetime.now(datetime.UTC) + HOUR))

        def start(**environ: str) -> Daemon:
            environ = {**deployed.environ, "AUTOFLOW_NOTIFY_URLS": receiver.url, "TMPDIR": "/tmp", **environ}
            settings = Settings.read(environ)
            store = stack.enter_context(closing(RunStore(settings.db_uri)))
            store.migrate()
            stack.enter_context(DaemonFiles(home=settings.prefect_home).published(url))
            daemon = Daemon(deployed, settings, environ, store, capsys, receiver)
            daemon.start(stack)
            daemon.tick()
            assert daemon.health() == (0, "")
            return daemon

        yield start


def text(message: dict[str, str]) -> str:
    return f"{message['title']}\n{message['message']}"


def assert_needs_a_person(daemon: Daemon, title: str, *words: str) -> None:
    """Check health, the banner and the message; only one message is sent, and no restart is asked for."""
    code, printed = daemon.health()
    assert code == 1
    assert "WRONG" in printed
    daemon.look()
    (message,) = daemon.messages()
    assert message["title"] == f"AutoFlow: {title}"
    for word in words:
        for shown in (printed, daemon.banner(), text(message)):
            assert word.lower() in " ".join(shown.split()).lower()
    for shown in (printed, daemon.banner(), text(message)):
        assert TOKEN_OF_NO_USE not in shown
    assert daemon.health("--live") == (0, "")


def assert_is_over(daemon: Daemon, title: str) -> None:
    assert daemon.health() == (0, "")
    assert daemon.banner() == ""
    assert [message["title"] for message in daemon.messages()] == [f"AutoFlow: {title}"]


def test_a_broken_workflows_yml(start: Start) -> None:
    daemon = start()
    good = (daemon.deployed.inputs / "workflows.yml").read_text()
    daemon.deployed.write_workflows(good.replace("simple}]", "simpel}]"))
    daemon.look()
    with pytest.raises(WorkflowsFileError) as raised:
        read_workflows(daemon.settings)
    daemon.tick(raised.value)

    since = f"since {daemon.now:%Y-%m-%d %H:%M} UTC"
    daemon.look(later=HOUR)
    assert_needs_a_person(daemon, "workflows.yml is invalid", "workflows.yml is invalid", "did you mean 'simple'?")
    assert since in daemon.health()[1]
    assert since in " ".join(daemon.banner().split())

    daemon.deployed.write_workflows(good)
    daemon.look()
    assert_is_over(daemon, "workflows.yml is valid again")


def test_a_broken_file_is_seen_by_health_before_the_daemon_sees_it(start: Start) -> None:
    daemon = start()
    daemon.deployed.write_workflows("workflows: [")
    code, printed = daemon.health()
    assert code == 1
    assert "workflows.yml is invalid" in printed


def test_a_token_that_has_expired(start: Start) -> None:
    tokens = [jwt.encode({"exp": time}, "x" * 32) for time in (4_000_000_000, 1_700_000_000)]
    daemon = start(FLOWAPI_TOKEN=tokens[0])
    expired = Settings.read({**daemon.environ, "FLOWAPI_TOKEN": tokens[1]})
    daemon.settings, daemon.environ = expired, {**daemon.environ, "FLOWAPI_TOKEN": tokens[1]}
    with ExitStack() as stack:
        daemon.start(stack)
        assert_needs_a_person(daemon, "FLOWAPI_TOKEN is not accepted", "FLOWAPI_TOKEN has expired", "get a new one")
        assert "since 2023-11-14" in daemon.health()[1]


def test_a_file_without_a_token(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("a.b.c")
    daemon = start(FLOWAPI_TOKEN="", FLOWAPI_TOKEN_FILE=str(file))
    file.unlink()
    problem = f"FLOWAPI_TOKEN_FILE: cannot read {file}: No such file or directory"
    with pytest.raises(TokenError, match=problem) as raised:
        FlowApi.of(daemon.settings).available_dates()
    daemon.tick(raised.value)
    since = f"since {daemon.now:%Y-%m-%d %H:%M} UTC"
    assert_needs_a_person(daemon, "FLOWAPI_TOKEN is not accepted", problem, "get a token from FlowAuth", since)
    checks = {check["subject"]: check for check in json.loads(daemon.validate())["checks"]}
    hint = "get a token from FlowAuth and put it there"
    assert checks["token"]["problems"] == checks["FlowAPI"]["problems"] == [f"{problem}; {hint}"]
    file.write_text("d.e.f")
    daemon.tick()
    assert_is_over(daemon, "FLOWAPI_TOKEN is accepted again")


@pytest.mark.parametrize("when", [datetime.timedelta(0), 5 * HOUR])
def test_a_token_that_flowapi_refuses(start: Start, when: datetime.timedelta) -> None:
    daemon = start()
    error = TokenError("FlowAPI at http://x answered 401: no; get a new token from FlowAuth")
    daemon.tick(error)
    daemon.now += when
    assert_needs_a_person(daemon, "FLOWAPI_TOKEN is not accepted", "answered 401: no", "get a new token from FlowAuth")
    daemon.tick()
    assert_is_over(daemon, "FLOWAPI_TOKEN is accepted again")


def test_flowapi_is_down(start: Start) -> None:
    daemon = start()
    daemon.now -= 3 * HOUR
    daemon.tick(FlowApiError(f"FlowAPI at http://x cannot be reached with {TOKEN_OF_NO_USE}"))
    assert daemon.messages() == []
    assert daemon.banner() == ""

    daemon.look(later=3 * HOUR)
    daemon.tick(FlowApiError(f"FlowAPI at http://x cannot be reached with {TOKEN_OF_NO_USE}"))
    assert_needs_a_person(daemon, "FlowAPI is failing", "FlowAPI at http://x cannot be reached", "catches up")
    daemon.tick()
    assert_is_over(daemon, "FlowAPI works again")


def test_flowapi_that_has_been_down_for_a_minute_needs_nobody(start: Start) -> None:
    daemon = start()
    daemon.tick(FlowApiError("FlowAPI is gone"))
    assert daemon.health() == (0, "")
    daemon.tick()
    assert daemon.messages() == []


def test_ticks_that_fail_again_and_again(start: Start) -> None:
    daemon = start()
    daemon.tick(AutoflowError("a bug"))
    assert daemon.health()[0] == 0
    daemon.tick(AutoflowError("a bug"))
    assert_needs_a_person(daemon, "the check for new dates fails", "the last 2 ticks failed: a bug")
    daemon.tick()
    assert_is_over(daemon, "the check for new dates works again")


def test_a_full_disk(start: Start, tmp_path: Path) -> None:
    disk = tmp_path / "small"
    disk.mkdir()
    with small_disk(disk, "size=30m"):
        daemon = start(TMPDIR=str(disk))
        free = os.statvfs(disk)
        (disk / "filler").write_bytes(bytes(free.f_bavail * free.f_frsize))
        daemon.look()
        assert_needs_a_person(daemon, "a disk is full or nearly full", f"the disk of {disk} is full", "make room")
        resize(disk, "size=60m")
        daemon.look()
        assert_is_over(daemon, "the disks have room again")


def test_a_full_disk_of_the_outputs(start: Start, deployed: Deployed) -> None:
    with small_disk(deployed.outputs, "size=30m"):
        daemon = start()
        free = os.statvfs(deployed.outputs)
        (deployed.outputs / "filler").write_bytes(bytes(free.f_bavail * free.f_frsize))
        since = f"since {daemon.now:%Y-%m-%d %H:%M} UTC"
        daemon.look()
        daemon.look(later=HOUR)
        # There is room for the banner in the page, and for what health reads in the files of the daemon.
        assert_needs_a_person(daemon, "a disk is full or nearly full", f"{deployed.outputs} is full", since)
        assert "</html>" in (deployed.outputs / PAGE_NAME).read_text()
        # A daemon that cannot write its files is not restarted.
        os.utime(daemon.settings.prefect_home / "daemon.json", (0, 0))
        assert daemon.health("--live")[0] == 0
        (deployed.outputs / "filler").unlink()
        daemon.look()
        assert_is_over(daemon, "the disks have room again")


def test_a_deleted_database(start: Start) -> None:
    daemon = start()
    file, kept = daemon.settings.outputs_dir / "autoflow.db", daemon.settings.outputs_dir / "kept.db"
    file.rename(kept)
    since = f"since {daemon.now:%Y-%m-%d %H:%M} UTC"
    daemon.look()
    daemon.look(later=HOUR)
    assert_needs_a_person(daemon, "the database of runs cannot be used", f"database of runs at {file} is gone", since)
    assert not file.exists()
    kept.rename(file)
    daemon.look()
    assert_is_over(daemon, "the database of runs can be used again")


def test_a_replaced_database(start: Start) -> None:
    daemon = start()
    file = daemon.settings.outputs_dir / "autoflow.db"
    file.rename(daemon.settings.outputs_dir / "kept.db")
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE other (x)")
    daemon.look()
    assert_needs_a_person(daemon, "the database of runs cannot be used", "was replaced by another file")


def test_a_database_file_that_was_emptied(start: Start) -> None:
    daemon = start()
    file = daemon.settings.outputs_dir / "autoflow.db"
    content = file.read_bytes()
    with file.open("w"):
        pass
    daemon.look()
    assert_needs_a_person(daemon, "the database of runs cannot be used", f"{file} was emptied while AutoFlow")
    assert file.stat().st_size == 0
    file.write_bytes(content)
    daemon.look()
    assert_is_over(daemon, "the database of runs can be used again")


def test_a_database_server_that_fails_needs_a_person_after_a_while(start: Start) -> None:
    daemon = start()
    with closing(sqlite3.connect(daemon.settings.outputs_dir / "autoflow.db")) as connection:
        connection.execute("ALTER TABLE runs RENAME TO hidden")
    daemon.now -= 2 * HOUR
    daemon.look()
    assert daemon.messages() == []
    daemon.look(later=2 * HOUR)
    assert [message["title"] for message in daemon.messages()] == ["AutoFlow: the database of runs cannot be used"]
    assert "no such table" in daemon.banner()


def test_a_stuck_run(start: Start) -> None:
    daemon = start()
    claim = daemon.store.claim(RunKey.of("simple", {}, datetime.date(2016, 1, 5)))
    assert claim
    with closing(sqlite3.connect(daemon.settings.outputs_dir / "autoflow.db")) as connection:
        connection.execute("UPDATE runs SET started_at = ?", (f"{utc_now() - 2 * HOUR}",))
        connection.commit()
    daemon.look()
    name = f"simple 2016-01-05 (run {claim.id}) seems stuck"
    assert_needs_a_person(daemon, name, name, "running for 2 h 0 min", f"'autoflow cancel {claim.id}' ends it")
    daemon.store.finish(claim, RunState.CANCELLED)
    daemon.look()
    assert_is_over(daemon, name.replace("seems", "is no longer"))


def test_dates_that_were_given_up_are_a_warning_until_somebody_looks(start: Start) -> None:
    daemon = start()
    for _ in range(5):
        claim = daemon.store.claim(RunKey.of("simple", {}, datetime.date(2016, 1, 5)))
        assert claim
        daemon.store.finish(claim, RunState.FAILED)
    daemon.page.finish()
    assert "1 date was given up" in daemon.banner()
    code, printed = daemon.health()
    assert code == 0
    assert "1 date was given up since the last look" in printed
    assert "simple 2016-01-05" in printed
    assert daemon.health() == (0, "")
    daemon.look()
    assert daemon.banner() == ""


def test_messages_are_sent_once_even_if_the_daemon_starts_again(start: Start) -> None:
    daemon = start()
    daemon.tick(TokenError("refused"))
    assert len(daemon.messages()) == 1
    with ExitStack() as stack:
        daemon.start(stack)
        assert daemon.messages() == []
        daemon.tick()
        assert [message["title"] for message in daemon.messages()] == ["AutoFlow: FLOWAPI_TOKEN is accepted again"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_daemon_whose_threads_are_dead_shows_no_sign_of_life(start: Start) -> None:
    daemon = start()
    record = daemon.settings.prefect_home / "daemon.json"
    with PeriodicThread("alive", lambda: None) as alive, PeriodicThread("dies", sys.exit, 0.0) as dead:
        wait_for(dead.is_dead_or_hangs)
        daemon.watch.guard(alive, dead)
        os.utime(record, (0, 0))
        daemon.look()
        code, printed = daemon.health("--live")
        assert code == 1
        assert "the daemon hangs" in printed
        daemon.watch.guard(alive)
        daemon.look()
        assert daemon.health("--live") == (0, "")


def test_an_edit_right_after_the_start_is_logged_too(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    daemon = start()
    logger.propagate = True  # `health` has set up the log for itself
    logger.setLevel("INFO")
    good = (daemon.deployed.inputs / "workflows.yml").read_text()
    for text, line in (
        (good.replace("0 * * * *", "5 * * * *"), "accepted an edit of workflows.yml"),
        ("workflows: 5", "workflows.yml is invalid"),
    ):
        daemon.deployed.write_workflows(good)
        caplog.clear()
        with ExitStack() as stack:
            daemon.start(stack, edit=lambda text=text: daemon.deployed.write_workflows(text))  # type: ignore[misc]
        assert line in caplog.text


def test_findings_are_logged_after_each_edit_and_not_in_between(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    daemon = start()
    logger.propagate = True  # `health` has set up the log for itself
    notebook, file = daemon.deployed.inputs / "n.ipynb", daemon.deployed.inputs / "workflows.yml"
    for number in range(2):
        write_notebook(notebook, str(number), parameters="reference_date = ''")
        for _ in range(3):
            daemon.look(later=HOUR)
            daemon.tick()
        assert caplog.text.count("add 'reference_date: reference_date'") == number + 1
    file.write_text(file.read_text() + "# an edit\n")
    daemon.look()
    assert caplog.text.count("add 'reference_date: reference_date'") == 3
    write_notebook(notebook, "1")
    daemon.look()
    assert caplog.text.count("add 'reference_date: reference_date'") == 3
    assert daemon.health() == (0, "")
