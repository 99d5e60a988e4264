"""What needs attention: decided here for `autoflow health`, the page and the messages."""

import datetime
import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from autoflow.runs.records import RunKey
from autoflow.runs.stuck import StuckRun
from autoflow.runs.workers import ClusterState

MOST_DETAILS = 20
"""The highest number of mistakes or dates that are listed for a condition."""

FAILED_TICKS = 2
"""How many ticks in a row, not counting failures of FlowAPI or workflows.yml, fail before they need attention."""

PREFECT_PATIENCE = datetime.timedelta(minutes=10)
"""How long the Prefect API may be silent: the daemon restarts its own server meanwhile, and waits for another one."""


CLUSTER_PATIENCE = datetime.timedelta(minutes=1)
"""How long a cluster may lack its scheduler or workers: that long, restarts and upgrades may take."""

EXPIRY_NOTICE = datetime.timedelta(days=14)
"""How long before a certificate expires somebody has to renew it."""

SQLITE_PATIENCE = datetime.timedelta(minutes=2)
"""How long a SQLite file may fail: it may be locked, but unlike a server it does not come back on its own."""


class Need(enum.Enum):
    """A kind of condition: its subject, its headline, and the headline once it is over."""

    WORKFLOWS_FILE = ("workflows.yml", "workflows.yml is invalid", "workflows.yml is valid again")
    TOKEN = ("token", "FLOWAPI_TOKEN is not accepted", "FLOWAPI_TOKEN is accepted again")
    FLOWAPI = ("FlowAPI", "FlowAPI is failing", "FlowAPI works again")
    TICKS = ("ticks", "the check for new dates fails", "the check for new dates works again")
    PREFECT = ("Prefect API", "the Prefect API does not answer", "the Prefect API answers again")
    STUCK = ("stuck runs", "a run seems stuck", "no longer stuck")
    DISK = ("disk", "a disk is full or nearly full", "the disks have room again")
    DATABASE = ("database", "the database of runs cannot be used", "the database of runs can be used again")
    CLUSTER = ("cluster", "the cluster executes no notebooks", "the cluster executes notebooks again")
    WORKERS = ("cluster", "workers are left out", "all workers of the cluster get notebooks again")
    CERTIFICATES = ("cluster", "a certificate expires", "the certificates of the cluster are renewed")
    START = ("daemon", "the daemon cannot start", "the daemon has started")
    GIVEN_UP = ("given up", "dates were given up", "no date is given up")

    @property
    def subject(self) -> str:
        """The subject, in one or two words."""
        return self.value[0]

    @property
    def headline(self) -> str:
        """What is wrong, in a few words."""
        return self.value[1]

    @property
    def over(self) -> str:
        """What is right again, in a few words."""
        return self.value[2]


@dataclass(frozen=True, kw_only=True)
class Condition:
    """Something that needs attention.

    `since` is in UTC; None if unknown. `what_to_do` is empty where the `reason` says it. `details` has a line for
    each mistake or date. `run_id` is the run that the condition is about, if any. A warning is for people to
    know, but it does not make AutoFlow unhealthy.
    """

    need: Need
    reason: str
    what_to_do: str = ""
    since: datetime.datetime | None = None
    details: tuple[str, ...] = ()
    run_id: int | None = None
    is_warning: bool = False

    @property
    def key(self) -> str:
        """The key that identifies the condition for as long as it lasts."""
        return self.need.name.lower() if self.run_id is None else f"{self.need.name.lower()} {self.run_id}"

    @property
    def text(self) -> str:
        """The condition in one line: why, since when, and what to do."""
        since = f" (since {as_text(self.since)})" if self.since else ""
        return "; ".join(part for part in (self.reason + since, self.what_to_do) if part)


@dataclass(frozen=True)
class Standing:
    """Since when something has been working or failing, in UTC.

    `error` is the newest one, with a line for each mistake; None while it works. It has failed `failures` times in a
    row. `about` identifies what failed, such as a token.
    """

    since: datetime.datetime
    error: str | None = None
    failures: int = 0
    about: str = ""

    @property
    def is_good(self) -> bool:
        """Whether it works."""
        return self.error is None

    def then(self, error: str | None, now: datetime.datetime, about: str = "") -> "Standing":
        """Return the standing after one more success or failure.

        A start in the future was recorded while a clock was ahead.
        """
        is_same = self.is_good == (error is None) and self.about == about
        since = min(self.since, now) if is_same else now
        return Standing(since, error, 0 if error is None else (self.failures if is_same else 0) + 1, about)


def next_standing(before: Standing | None, error: str | None, now: datetime.datetime, about: str = "") -> Standing:
    """Return the standing after a success, or after a failure with this `error`."""
    return (before or Standing(now, error, 0, about)).then(error, now, about)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What only the daemon can find out; each is None until it knows.

    `database` identifies the file of the run store that it uses. `cluster` is whether notebooks can run on the cluster
    in `cluster_state`; None without a cluster.
    """

    workflows_file: Standing | None = None
    token: Standing | None = None
    flowapi: Standing | None = None
    ticks: Standing | None = None
    prefect: Standing | None = None
    run_store: Standing | None = None
    disk: Standing | None = None
    database_file: Standing | None = None
    database: str | None = None
    cluster: Standing | None = None
    cluster_state: ClusterState | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the facts as plain values."""
        standings = {name: _standing_as_json(getattr(self, name)) for name in _STANDINGS}
        cluster_state = self.cluster_state.as_json() if self.cluster_state else None
        return standings | {"database": self.database, "cluster_state": cluster_state}

    @classmethod
    def of_json(cls, content: Mapping[str, Any]) -> Self:
        """Return the facts in `content`; what is missing or broken is unknown."""
        standings = {name: _standing_of_json(content.get(name)) for name in _STANDINGS}
        database = content.get("database")
        cluster_state = ClusterState.of_json(content.get("cluster_state"))
        return cls(**standings, database=database if isinstance(database, str) else None, cluster_state=cluster_state)


_STANDINGS = (
    "workflows_file",
    "token",
    "flowapi",
    "ticks",
    "prefect",
    "run_store",
    "disk",
    "database_file",
    "cluster",
)


def _standing_as_json(standing: Standing | None) -> dict[str, Any] | None:
    if standing is None:
        return None
    since = standing.since.isoformat()
    return {"since": since, "error": standing.error, "failures": standing.failures, "about": standing.about}


def _standing_of_json(found: Any) -> Standing | None:
    try:
        since = datetime.datetime.fromisoformat(found["since"]).replace(tzinfo=None)
        error = found["error"]
        return Standing(since, None if error is None else str(error), int(found["failures"]), str(found["about"]))
    except (KeyError, TypeError, ValueError):
        return None


@dataclass(frozen=True, kw_only=True)
class Sights:
    """What any process can see for itself, now.

    `token` identifies the present token, and `token_expiry` is in UTC. `token_problem` is why there is none. A
    new one has to be put into `renewed_in`. `disk` says what is wrong with a disk, and
    `database` with the file of the run store. `stuck` is None if the run store could not be read. `mistakes` are those
    of workflows.yml; None if it was not read. Its last edit was at `edited_at`, in UTC.
    """

    token: str = ""
    token_expiry: datetime.datetime | None = None
    token_problem: str | None = None
    renewed_in: str = "FLOWAPI_TOKEN"
    disk: str | None = None
    database: str | None = None
    stuck: Sequence[StuckRun] | None = ()
    mistakes: Sequence[str] | None = None
    edited_at: datetime.datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Attention:
    """What needs attention, and the keys of what is known to be right.

    A subject that is in neither is unknown at present, or has not failed for long enough.
    """

    conditions: tuple[Condition, ...] = ()
    fine: frozenset[Need] = field(default_factory=frozenset)

    def is_over(self, key: str) -> bool:
        """Return whether the condition with this `key` is known to be over."""
        if any(condition.key == key for condition in self.conditions):
            return False
        name = key.partition(" ")[0].upper()
        return name in Need.__members__ and Need[name] in self.fine


def attention(
    facts: Facts,
    sights: Sights,
    now: datetime.datetime,
    *,
    notify_after: float,
    name: Callable[[RunKey], str] = str,
) -> Attention:
    """Return what needs attention at `now` (UTC).

    FlowAPI and a database server need it after they have failed for `notify_after` seconds. `name` is what a run is
    called.
    """
    patience = datetime.timedelta(seconds=notify_after)
    file = _file_standing(facts, sights, now)
    found = [
        _workflows_file(file),
        *_token(facts, sights, now),
        _flowapi(facts.flowapi, now, patience),
        _ticks(facts.ticks, now, patience),
        _prefect(facts.prefect, now),
        *(stuck_condition(run, name) for run in sights.stuck or ()),
        _disk(sights.disk, facts.disk),
        _database(facts, sights, now, patience),
        _cluster(facts.cluster, facts.cluster_state, now),
        _workers(facts.cluster, facts.cluster_state, now),
        _certificates(facts.cluster_state, now),
    ]
    return Attention(conditions=tuple(condition for condition in found if condition), fine=_fine(facts, sights, file))


def _fine(facts: Facts, sights: Sights, file: Standing | None) -> frozenset[Need]:
    """Return what is known to be right, apart from stuck runs that are conditions."""
    standings = {
        Need.WORKFLOWS_FILE: file,
        Need.FLOWAPI: facts.flowapi,
        Need.TOKEN: facts.token,
        Need.TICKS: facts.ticks,
        Need.PREFECT: facts.prefect,
        Need.DATABASE: facts.run_store,
    }
    good = {need for need, standing in standings.items() if standing and standing.is_good}
    if sights.database:
        good.discard(Need.DATABASE)
    if sights.disk is None:
        good.add(Need.DISK)
    if sights.stuck is not None:
        good.add(Need.STUCK)
    if facts.cluster is None or facts.cluster.is_good:
        good.add(Need.CLUSTER)
        if facts.cluster_state is None or not facts.cluster_state.refused:
            good.add(Need.WORKERS)
    # Whether it expires soon is a condition or not.
    good.add(Need.CERTIFICATES)
    return frozenset(good)


def failed_start(need: Need, error: str, facts: Facts, now: datetime.datetime) -> Condition:
    """Return the condition that a daemon cannot start because of `error`."""
    if need is Need.WORKFLOWS_FILE:
        standing = next_standing(facts.workflows_file, error, now)
        hint = "fix it, check it with 'autoflow validate', then start AutoFlow again"
        details = bounded(error.splitlines())
        return Condition(need=need, reason=need.headline, what_to_do=hint, since=standing.since, details=details)
    first, *others = error.splitlines()
    return Condition(need=need, reason=f"AutoFlow cannot start: {first}", details=bounded(others))


def given_up(
    dates: Iterable[tuple[RunKey, datetime.datetime]],
    looked_at: datetime.datetime | None,
    *,
    name: Callable[[RunKey], str] = str,
) -> Condition | None:
    """Return the warning about `dates` that were given up since a person looked; None if there are none.

    Each comes with the time of its last failure.
    """
    new = sorted((item for item in dates if looked_at is None or item[1] > looked_at), key=lambda item: item[1])
    if not new:
        return None
    names = [name(key) for key, _ in new]
    when = f" since the last look at {as_text(looked_at)}" if looked_at else ""
    return Condition(
        need=Need.GIVEN_UP,
        reason=f"{len(new)} {'date was' if len(new) == 1 else 'dates were'} given up{when}",
        what_to_do="'autoflow runs' shows the errors, 'autoflow retry' retries them",
        since=new[0][1],
        details=bounded(names),
        is_warning=True,
    )


def bounded(lines: Sequence[str]) -> tuple[str, ...]:
    """Return the first `MOST_DETAILS` lines, and how many more there are."""
    more = len(lines) - MOST_DETAILS
    return (*lines[:MOST_DETAILS], *([f"… and {more} more"] if more > 0 else []))


def as_text(time: datetime.datetime | None) -> str:
    """Format a time for people."""
    return f"{time:%Y-%m-%d %H:%M} UTC" if time else "never"


def _file_standing(facts: Facts, sights: Sights, now: datetime.datetime) -> Standing | None:
    """Return the standing of workflows.yml: what was read just now counts, and the daemon knows since when."""
    if sights.mistakes is None:
        return facts.workflows_file
    known = facts.workflows_file
    if sights.mistakes and (known is None or known.is_good):
        # The daemon has not checked the last edit, or does not run.
        return Standing(min(sights.edited_at or now, now), "\n".join(sights.mistakes), 1)
    return next_standing(known, "\n".join(sights.mistakes) or None, now)


def _workflows_file(standing: Standing | None) -> Condition | None:
    if standing is None or standing.error is None:
        return None
    return Condition(
        need=Need.WORKFLOWS_FILE,
        reason=Need.WORKFLOWS_FILE.headline,
        what_to_do="fix it, and check it with 'autoflow validate'; until then, AutoFlow does not look for new dates",
        since=standing.since,
        details=bounded(standing.error.splitlines()),
    )


def _token(facts: Facts, sights: Sights, now: datetime.datetime) -> list[Condition]:
    if sights.token_problem:
        standing = facts.token if facts.token and facts.token.error == sights.token_problem else None
        return [Condition(need=Need.TOKEN, reason=sights.token_problem, since=_failing_since(standing))]
    if sights.token_expiry and sights.token_expiry <= now:
        reason, hint = "FLOWAPI_TOKEN has expired", f"get a new one from FlowAuth and put it into {sights.renewed_in}"
        return [Condition(need=Need.TOKEN, reason=reason, what_to_do=hint, since=sights.token_expiry)]
    standing = facts.token
    # Whether a new token is accepted is not known before the next tick.
    if standing and standing.error and standing.about == sights.token:
        return [Condition(need=Need.TOKEN, reason=standing.error, since=standing.since)]
    return []


def _flowapi(standing: Standing | None, now: datetime.datetime, patience: datetime.timedelta) -> Condition | None:
    if standing is None or standing.error is None or now - standing.since < patience:
        return None
    return Condition(
        need=Need.FLOWAPI,
        reason=f"FlowAPI has been failing: {standing.error}",
        what_to_do="check FlowAPI; once it works, AutoFlow catches up on its own",
        since=standing.since,
    )


def _ticks(standing: Standing | None, now: datetime.datetime, patience: datetime.timedelta) -> Condition | None:
    if standing is None or standing.error is None:
        return None
    if standing.failures < FAILED_TICKS and now - standing.since < patience:
        return None
    ticks = "the last tick" if standing.failures == 1 else f"the last {standing.failures} ticks"
    reason, hint = f"{ticks} failed: {standing.error}", "see AutoFlow's log"
    return Condition(need=Need.TICKS, reason=reason, what_to_do=hint, since=standing.since)


def _prefect(standing: Standing | None, now: datetime.datetime) -> Condition | None:
    if standing is None or standing.error is None or now - standing.since < PREFECT_PATIENCE:
        return None
    return Condition(need=Need.PREFECT, reason=standing.error, since=standing.since)


def stuck_condition(run: StuckRun, name: Callable[[RunKey], str]) -> Condition:
    """Return the condition that a run is stuck; `name` returns the name of a run."""
    return Condition(
        need=Need.STUCK,
        reason=f"{name(run.record.key)} (run {run.record.id}) seems stuck: {run.why}",
        what_to_do=run.what_to_do,
        since=run.record.started_at,
        run_id=run.record.id,
    )


def _disk(problem: str | None, standing: Standing | None) -> Condition | None:
    return Condition(need=Need.DISK, reason=problem, since=_failing_since(standing)) if problem else None


def _cluster(standing: Standing | None, state: ClusterState | None, now: datetime.datetime) -> Condition | None:
    if state is None or standing is None or standing.error is None or now - standing.since < CLUSTER_PATIENCE:
        return None
    hint = (
        "start one, or see why they are left out" if state.is_connected else "see whether it runs, and AutoFlow's log"
    )
    return Condition(
        need=Need.CLUSTER,
        reason=standing.error,
        what_to_do=f"{hint}; until then, runs wait",
        since=standing.since,
        details=bounded(state.lines),
    )


def _workers(standing: Standing | None, state: ClusterState | None, now: datetime.datetime) -> Condition | None:
    refused = [worker for worker in state.refused if now - worker.since >= CLUSTER_PATIENCE] if state else []
    if state is None or not refused or (standing and not standing.is_good):
        return None
    return Condition(
        need=Need.WORKERS,
        reason=f"{len(refused)} of {len(state.workers)} workers {'gets' if len(refused) == 1 else 'get'} no notebooks",
        what_to_do="they get some again once that is put right",
        since=min(worker.since for worker in refused),
        details=bounded(state.lines),
    )


def _certificates(state: ClusterState | None, now: datetime.datetime) -> Condition | None:
    if state is None or state.expiry is None or state.expiry - now > EXPIRY_NOTICE:
        return None
    return Condition(
        need=Need.CERTIFICATES,
        reason=f"the certificate of this daemon for the cluster expires on {state.expiry:%Y-%m-%d}, then nothing runs",
        what_to_do="renew those of all services: see 'Renew certificates' in the documentation",
    )


def _failing_since(standing: Standing | None) -> datetime.datetime | None:
    """Return since when something fails; None if the daemon has not noticed yet, or could not write it down."""
    return standing.since if standing and standing.error else None


def _database(facts: Facts, sights: Sights, now: datetime.datetime, patience: datetime.timedelta) -> Condition | None:
    if sights.database:
        hint = "stop AutoFlow, put the file back or restore a backup, and start it again"
        since = _failing_since(facts.database_file)
        return Condition(need=Need.DATABASE, reason=sights.database, what_to_do=hint, since=since)
    standing = facts.run_store
    if facts.database:
        patience = min(patience, SQLITE_PATIENCE)
    if standing is None or standing.error is None or now - standing.since < patience:
        return None
    return Condition(need=Need.DATABASE, reason=standing.error, since=standing.since)
