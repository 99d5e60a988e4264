import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoflow.runs.records import WorkflowKey
from autoflow.runs.slots import EXTRA_AFTER, HeldSlot, Slots

A, B, C = (WorkflowKey.of(name, {}) for name in "abc")
NAMES = st.sampled_from([A, B, C])


def slots(number: int, *held: tuple[WorkflowKey, float], served: dict[WorkflowKey, float] | None = None) -> Slots:
    return Slots(number=number, held=[HeldSlot(*each) for each in held], served_at=served or {})


def test_entry_with_the_fewest_runs_gets_the_slot() -> None:
    given_to = slots(4, (A, 0), (A, 0), (B, 0), served={C: 9.0, B: 1.0}).next_entry
    assert given_to([A, B, C], stuck=frozenset(), now=10) == C
    assert given_to([A, B], stuck=frozenset(), now=10) == B
    assert given_to([A], stuck=frozenset(), now=10) == A
    assert given_to([], stuck=frozenset(), now=10) is None


def test_among_entries_with_as_many_runs_it_is_the_one_not_served_for_longest() -> None:
    assert slots(2, served={A: 5.0, B: 3.0}).next_entry([A, B], stuck=frozenset(), now=10) == B
    assert slots(2, served={A: 5.0, B: 3.0}).next_entry([A, B, C], stuck=frozenset(), now=10) == C
    assert slots(2).next_entry([B, A], stuck=frozenset(), now=10) == B


def test_entry_with_a_stuck_run_gets_a_slot_only_if_nobody_else_wants_it() -> None:
    free = slots(3, (A, 0), (B, 0), (B, 0))
    with_one_free = slots(4, (A, 0), (B, 0), (B, 0))
    assert free.next_entry([A, B], stuck={A}, now=1) is None
    assert with_one_free.next_entry([A, B], stuck={A}, now=1) == B
    assert with_one_free.next_entry([A], stuck={A}, now=1) == A
    assert with_one_free.next_entry([A, B], stuck={A, B}, now=1) == A


@pytest.mark.parametrize(("now", "winner"), [(99.9, None), (100, B)])
def test_another_entry_gets_one_slot_beyond_the_number_after_a_minute(now: float, winner: WorkflowKey | None) -> None:
    held = (A, 5.0), (A, 100 - EXTRA_AFTER)
    assert slots(2, *held).next_entry([A, B], stuck=frozenset(), now=now) == winner
    assert slots(2, *held).next_entry([A], stuck=frozenset(), now=now) is None
    assert slots(2, *held, (B, 100)).next_entry([A, B, C], stuck=frozenset(), now=now + 1000) is None


def test_there_is_no_slot_beyond_the_number_with_one_slot_or_if_two_entries_share_them() -> None:
    assert slots(1, (A, 0)).next_entry([B], stuck=frozenset(), now=1000) is None
    assert slots(2, (A, 0), (B, 0)).next_entry([C], stuck=frozenset(), now=1000) is None


def test_entry_that_holds_all_slots_need_not_be_stuck() -> None:
    assert slots(2, (A, 0), (A, 0)).next_entry([B], stuck={A, B}, now=EXTRA_AFTER) == B


@given(
    number=st.integers(1, 4),
    held=st.lists(st.tuples(NAMES, st.floats(0, 100)), max_size=5),
    served=st.dictionaries(NAMES, st.floats(0, 100)),
    due=st.lists(NAMES, unique=True),
    stuck=st.frozensets(NAMES),
    now=st.floats(100, 300),
)
def test_nobody_gets_a_slot_against_the_rules(
    number: int,
    held: list[tuple[WorkflowKey, float]],
    served: dict[WorkflowKey, float],
    due: list[WorkflowKey],
    stuck: frozenset[WorkflowKey],
    now: float,
) -> None:
    winner = slots(number, *held, served=served).next_entry(due, stuck=stuck, now=now)
    entries = [entry for entry, _ in held]
    if winner is None:
        assert not due or len(held) >= number
        return
    assert winner in due
    assert len(held) <= number
    assert winner not in stuck or set(due) <= stuck or len(held) == number
    if len(held) == number:
        assert number > 1
        assert len(set(entries)) == 1
        assert winner not in entries
        assert all(now - since >= EXTRA_AFTER for _, since in held)
    else:
        rivals = [entry for entry in due if entry not in stuck] or due
        assert entries.count(winner) == min(entries.count(entry) for entry in rivals)
