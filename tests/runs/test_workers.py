"""What is said about a cluster, decided from its state and a time."""

import dataclasses
import datetime
import json

from autoflow.runs.attention import (
    CLUSTER_PATIENCE,
    EXPIRY_NOTICE,
    Attention,
    Facts,
    Need,
    Sights,
    Standing,
    attention,
    next_standing,
)
from autoflow.runs.workers import ClusterState, WorkerState

NOW = datetime.datetime(2026, 1, 1, 12)
GOOD = WorkerState(name="one", address="tls://one:1", slots=2, used=1, version="a", refused=None, since=NOW)
REFUSED = dataclasses.replace(GOOD, name="two", slots=8, used=0, version="b", refused="a disk is full")
CLUSTER = ClusterState(scheduler="tls://scheduler:8786", is_connected=True, workers=(GOOD, REFUSED))


def found(state: ClusterState | None, standing: Standing | None = None, *, later: datetime.timedelta) -> Attention:
    if standing is None and state is not None:
        standing = next_standing(None, state.problem, NOW)
    return attention(Facts(cluster=standing, cluster_state=state), Sights(), NOW + later, notify_after=3600)


def test_summary_counts_the_workers_that_get_notebooks() -> None:
    assert CLUSTER.summary == "tls://scheduler:8786: 1 worker with 2 slots (one: 2), 1 in use, version a"
    both = dataclasses.replace(CLUSTER, workers=(GOOD, dataclasses.replace(REFUSED, refused=None)), expiry=NOW)
    assert both.summary == (
        "tls://scheduler:8786: 2 workers with 10 slots (one: 2, two: 8), 1 in use, version a and b; "
        "certificate valid until 2026-01-01"
    )
    assert dataclasses.replace(CLUSTER, workers=()).summary == "tls://scheduler:8786: no worker"


def test_worker_that_is_left_out_needs_a_person_after_a_minute() -> None:
    assert found(CLUSTER, later=CLUSTER_PATIENCE * 0.9).conditions == ()
    (condition,) = found(CLUSTER, later=CLUSTER_PATIENCE).conditions
    assert condition.need is Need.WORKERS
    assert condition.reason == "1 of 2 workers gets no notebooks"
    assert condition.details == ("worker two (tls://one:1) gets no notebooks: a disk is full",)


def test_cluster_without_workers_or_scheduler_needs_a_person_after_a_minute_and_says_which() -> None:
    for state, reason, hint in (
        (
            dataclasses.replace(CLUSTER, workers=(REFUSED,)),
            "no worker of the cluster can execute notebooks",
            "start one",
        ),
        (
            dataclasses.replace(CLUSTER, workers=(), is_connected=False),
            "the scheduler of the cluster at tls://scheduler:8786 does not respond",
            "see whether it runs",
        ),
    ):
        assert found(state, later=CLUSTER_PATIENCE * 0.9).conditions == ()
        (condition,) = found(state, later=CLUSTER_PATIENCE).conditions
        assert condition.need is Need.CLUSTER
        assert condition.reason == reason
        assert condition.what_to_do.startswith(hint)
        assert condition.details == state.lines
        assert not found(state, later=CLUSTER_PATIENCE).is_over("workers")


def test_conditions_of_a_cluster_are_over_when_it_works_or_is_not_used_any_more() -> None:
    for state in (None, dataclasses.replace(CLUSTER, workers=(GOOD,))):
        assert all(found(state, later=CLUSTER_PATIENCE).is_over(key) for key in ("cluster", "workers", "certificates"))


def test_certificate_that_expires_soon_needs_a_person() -> None:
    state = dataclasses.replace(CLUSTER, workers=(GOOD,), expiry=NOW + EXPIRY_NOTICE)
    assert found(state, later=-CLUSTER_PATIENCE).conditions == ()
    (condition,) = found(state, later=CLUSTER_PATIENCE).conditions
    assert condition.need is Need.CERTIFICATES
    assert "expires on 2026-01-15" in condition.reason


def test_state_of_a_cluster_survives_a_file() -> None:
    facts = Facts(cluster=Standing(NOW), cluster_state=dataclasses.replace(CLUSTER, expiry=NOW))
    assert Facts.of_json(json.loads(json.dumps(facts.as_json()))) == facts
    assert Facts.of_json({"cluster_state": {"scheduler": "x", "workers": [{"other": 1}]}}) == Facts()
