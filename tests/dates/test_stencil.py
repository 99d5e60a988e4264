import datetime as dt
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoflow.dates.intervals import DateInterval, IntervalEnds
from autoflow.dates.periods import Every
from autoflow.dates.stencil import DateStencil, UnresolvableStencilError

DATES = st.dates(dt.date(2010, 1, 1), dt.date(2012, 12, 31))
OFFSETS = st.integers(-40, 40)
PAIRS = st.tuples(DATES | OFFSETS, DATES | OFFSETS)


def day(text: str) -> dt.date:
    return dt.date.fromisoformat(text)


def days(first: str, last: str) -> frozenset[dt.date]:
    return frozenset(DateInterval(day(first), day(last)).dates())


def is_stencil_element(element: object, ends: IntervalEnds) -> bool:
    try:
        DateStencil([element], ends)
    except ValueError:
        return False
    return True


def stencils(ends: IntervalEnds) -> st.SearchStrategy[DateStencil]:
    elements = (DATES | OFFSETS | PAIRS).filter(lambda element: is_stencil_element(element, ends))
    return st.lists(elements, min_size=1, max_size=4).map(lambda elements: DateStencil(elements, ends))


STENCILS = st.sampled_from(IntervalEnds).flatmap(stencils)


def with_last_days(stencil: DateStencil) -> DateStencil:
    """Return the stencil with included ends that has the days of a stencil with excluded ends."""
    one = dt.timedelta(days=1)
    return DateStencil(
        [
            (each[0], each[1] - 1 if isinstance(each[1], int) else each[1] - one) if isinstance(each, tuple) else each
            for each in stencil.elements
        ]
    )


def ranges(stencil: DateStencil, reference_date: str) -> list[list[str]]:
    return [interval.as_strings() for interval in stencil.resolve(day(reference_date))]


def test_stencil_resolves_to_the_ranges_of_the_specification() -> None:
    stencil = DateStencil([[day("2016-01-01"), day("2016-01-03")], -3, [-2, 0]])
    assert [interval.as_strings() for interval in stencil.resolve(day("2016-01-07"))] == [
        ["2016-01-01", "2016-01-03"],
        ["2016-01-04", "2016-01-04"],
        ["2016-01-05", "2016-01-07"],
    ]


def test_iso_strings_are_dates() -> None:
    assert DateStencil(["2016-01-01", ["2016-01-02", -1]]) == DateStencil(
        [day("2016-01-01"), (day("2016-01-02"), -1)],
    )


def test_equal_stencils_hash_alike_and_survive_pickling() -> None:
    stencil = DateStencil([[-2, 0], "2016-01-01"])
    assert hash(stencil) == hash(DateStencil([(-2, 0), day("2016-01-01")]))
    assert pickle.loads(pickle.dumps(stencil)) == stencil


def test_stencil_cannot_be_changed_through_the_list_it_was_made_of() -> None:
    elements: list[object] = [[-2, 0]]
    stencil = DateStencil(elements)
    elements.append(5)
    assert stencil == DateStencil([[-2, 0]])


def test_stencil_is_written_as_in_yaml() -> None:
    assert str(DateStencil([["2016-01-01", -3], 0])) == "[[2016-01-01, -3], 0]"


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        ([], "a date stencil needs at least one element"),
        ("2016-01-01", "expected a list of dates, offsets and pairs, not '2016-01-01'"),
        (None, "expected a list of dates, offsets and pairs, not null"),
        (
            [True],
            "expected a date (YYYY-MM-DD), an offset in days, {period: N} or a pair of these, not true",
        ),
        ([1.5], "expected a date (YYYY-MM-DD), an offset in days, {period: N} or a pair of these, not 1.5"),
        (
            [None],
            "expected a date (YYYY-MM-DD), an offset in days, {period: N} or a pair of these, not null",
        ),
        (
            [dt.datetime(2016, 1, 1)],
            "expected a date (YYYY-MM-DD), an offset in days, {period: N} or a pair of these, not 2016-01-01 00:00:00",
        ),
        (["yesterday"], "'yesterday' is not a valid date; expected YYYY-MM-DD"),
        (["20160101"], "'20160101' is not a valid date; expected YYYY-MM-DD"),
        (["2016-02-30"], "'2016-02-30' is not a valid date"),
        ([[0]], "[0] is not a pair; expected a start and an end"),
        ([[-2, -1, 0]], "[-2, -1, 0] is not a pair; expected a start and an end"),
        (
            [[[-2, -1], 0]],
            "expected a date (YYYY-MM-DD), an offset in days, {period: N} or a pair of these, not [-2, -1]",
        ),
        ([[0, -2]], "[0, -2] starts after its end"),
        ([["2016-01-03", "2016-01-01"]], "[2016-01-03, 2016-01-01] starts after its end"),
        ([-40_000], "an offset can be at most 36525 days, not -40000"),
    ],
)
def test_stencil_that_can_never_make_sense_is_refused(elements: object, message: str) -> None:
    with pytest.raises(ValueError, match=r".") as raised:
        DateStencil(elements)  # type: ignore[arg-type]
    assert str(raised.value) == message


def test_interval_that_is_backwards_is_refused() -> None:
    with pytest.raises(ValueError, match="ends on 2016-01-01, before it starts on 2016-01-02"):
        DateInterval(day("2016-01-02"), day("2016-01-01"))


def test_interval_includes_both_ends() -> None:
    assert list(DateInterval(day("2016-02-28"), day("2016-03-01")).dates()) == [
        day("2016-02-28"),
        day("2016-02-29"),
        day("2016-03-01"),
    ]


def test_mixed_pair_that_is_backwards_for_a_date_cannot_be_resolved_and_counts_as_unavailable() -> None:
    stencil = DateStencil([["2016-01-01", -3]])
    available = days("2015-01-01", "2017-01-01")
    with pytest.raises(UnresolvableStencilError, match=r"\[2016-01-01, -3\] has no dates for 2016-01-02"):
        stencil.resolve(day("2016-01-02"))
    with pytest.raises(UnresolvableStencilError):
        stencil.missing_dates(day("2016-01-02"), available)
    assert not stencil.is_available(day("2016-01-02"), available)
    assert stencil.is_available(day("2016-01-04"), available)


@pytest.mark.parametrize(("offset", "reference_date"), [(-1, dt.date.min), (1, dt.date.max), ([-30, 0], dt.date.min)])
def test_dates_outside_of_the_calendar_are_unavailable(offset: object, reference_date: dt.date) -> None:
    stencil = DateStencil([offset])
    assert not stencil.is_available(reference_date, {reference_date})
    with pytest.raises(UnresolvableStencilError):
        stencil.resolve(reference_date)


def test_stencil_is_unavailable_when_one_day_is_missing() -> None:
    stencil = DateStencil([["2016-01-01", -1]])
    available = days("2016-01-01", "2016-12-31") - {day("2016-06-15")}
    assert stencil.is_available(day("2016-06-15"), available)
    assert not stencil.is_available(day("2016-06-16"), available)
    assert stencil.missing_dates(day("2016-06-20"), available) == (day("2016-06-15"),)


def test_availability_follows_a_set_that_changes() -> None:
    stencil = DateStencil([["2016-01-01", -1]])
    available = set(days("2016-01-01", "2016-12-31"))
    assert stencil.is_available(day("2016-07-01"), available)
    available.remove(day("2016-02-02"))
    available.add(day("2017-01-01"))
    assert not stencil.is_available(day("2016-07-01"), available)


@given(STENCILS, DATES, st.sets(DATES, max_size=30), st.booleans())
def test_stencil_is_available_exactly_when_no_date_is_missing(
    stencil: DateStencil,
    reference_date: dt.date,
    others: set[dt.date],
    is_whole: bool,
) -> None:
    available = frozenset(others)
    try:
        if is_whole:
            available = available.union(*(interval.dates() for interval in stencil.resolve(reference_date)))
        missing = stencil.missing_dates(reference_date, available)
    except UnresolvableStencilError:
        assert not stencil.is_available(reference_date, available)
        return
    assert list(missing) == sorted(set(missing))
    assert stencil.is_available(reference_date, available) is (not missing)


def test_notebooks_get_half_open_ranges_where_ends_are_excluded() -> None:
    elements = ["2016-01-03", ["2016-01-01", "2016-01-03"], -3, [-2, 0], ["2016-01-01", -3]]
    assert ranges(DateStencil(elements, IntervalEnds.EXCLUDED), "2016-01-07") == [
        ["2016-01-03", "2016-01-04"],
        ["2016-01-01", "2016-01-03"],
        ["2016-01-04", "2016-01-05"],
        ["2016-01-05", "2016-01-07"],
        ["2016-01-01", "2016-01-04"],
    ]


@pytest.mark.parametrize(
    ("element", "every", "ends"),
    [
        ([{"period": 0}, -7], Every.WEEK, IntervalEnds.INCLUDED),
        ([{"period": 0}, -6], Every.WEEK, IntervalEnds.EXCLUDED),
        ([0, {"period": -1}], Every.MONTH, IntervalEnds.INCLUDED),
        ([{"period": 0}, -31], Every.MONTH, IntervalEnds.INCLUDED),
        ([{"period": 0}, 0], Every.DAY, IntervalEnds.EXCLUDED),
        ([{"period": 0}, -366], Every.YEAR, IntervalEnds.INCLUDED),
    ],
)
def test_pair_of_a_period_and_an_offset_that_never_has_days_is_refused(
    element: list[object], every: Every, ends: IntervalEnds
) -> None:
    with pytest.raises(ValueError, match=r"has no days, whatever the reference date$"):
        DateStencil([element], ends, every)


@pytest.mark.parametrize(
    ("element", "every"),
    [
        ([{"period": 0}, -30], Every.MONTH),  # of the months with 31 days
        ([{"period": 0}, -365], Every.YEAR),  # of the leap years
        ([{"period": -36525}, 0], Every.YEAR),  # of none, because of the calendar
        (["2016-01-01", {"period": 0}], Every.WEEK),
    ],
)
def test_pair_of_a_period_and_an_offset_may_be_empty_for_some_reference_dates(
    element: list[object], every: Every
) -> None:
    assert not DateStencil([element], every=every).is_available(day("2015-06-30"), days("2015-06-01", "2015-06-30"))


def test_day_that_an_excluded_end_names_need_not_be_available() -> None:
    stencil = DateStencil([["2016-01-01", 0]], IntervalEnds.EXCLUDED)
    available = days("2016-01-01", "2016-01-06")
    assert stencil.is_available(day("2016-01-07"), available)
    assert not stencil.is_available(day("2016-01-08"), available)
    assert stencil.missing_dates(day("2016-01-08"), available) == (day("2016-01-07"),)


@pytest.mark.parametrize(
    ("element", "one_day"), [([0, 0], "0"), ([-3, -3], "-3"), (["2016-01-01", "2016-01-01"], "2016-01-01")]
)
def test_pair_without_a_day_is_refused_where_ends_are_excluded(element: list[object], one_day: str) -> None:
    with pytest.raises(ValueError, match=rf"is empty, because 'interval_ends: excluded' .* write {one_day}$"):
        DateStencil([element], IntervalEnds.EXCLUDED)
    assert len(list(DateStencil([element]).resolve(day("2016-01-01"))[0].dates())) == 1


def test_mixed_pair_without_a_day_for_a_date_cannot_be_resolved_and_counts_as_unavailable() -> None:
    stencil = DateStencil([["2016-01-04", 0]], IntervalEnds.EXCLUDED)
    available = days("2016-01-01", "2016-01-31")
    with pytest.raises(UnresolvableStencilError, match=r"starts on 2016-01-04, and ends before 2016-01-04$"):
        stencil.resolve(day("2016-01-04"))
    assert not stencil.is_available(day("2016-01-04"), available)
    assert stencil.is_available(day("2016-01-05"), available)


@pytest.mark.parametrize("element", [0, [-1, 1]])
def test_range_whose_end_would_be_outside_of_the_calendar_cannot_be_resolved(element: object) -> None:
    stencil = DateStencil([element], IntervalEnds.EXCLUDED)
    assert not stencil.is_available(dt.date.max, days("9999-12-01", "9999-12-31"))
    with pytest.raises(UnresolvableStencilError, match="no date follows 9999-12-31"):
        stencil.resolve(dt.date.max)
    assert ranges(stencil, "9999-12-30")[0][1] == "9999-12-31"


def test_stencils_differ_if_their_ends_do() -> None:
    assert DateStencil([[-2, 0]]) != DateStencil([[-2, 0]], IntervalEnds.EXCLUDED)


@given(stencils(IntervalEnds.EXCLUDED), DATES, st.sets(DATES, max_size=30), st.booleans())
def test_interval_with_an_excluded_end_has_the_days_of_one_that_ends_a_day_earlier(
    stencil: DateStencil,
    reference_date: dt.date,
    others: set[dt.date],
    is_whole: bool,
) -> None:
    same = with_last_days(stencil)
    available = frozenset(others)
    try:
        intervals = same.resolve(reference_date)
    except UnresolvableStencilError:
        with pytest.raises(UnresolvableStencilError):
            stencil.resolve(reference_date)
        assert not stencil.is_available(reference_date, available)
        return
    if is_whole:
        available = available.union(*(interval.dates() for interval in intervals))
    half_open = stencil.resolve(reference_date)
    assert [list(interval.dates()) for interval in half_open] == [list(interval.dates()) for interval in intervals]
    assert stencil.is_available(reference_date, available) == same.is_available(reference_date, available)
    assert stencil.missing_dates(reference_date, available) == same.missing_dates(reference_date, available)
    for element, interval in zip(stencil.elements, half_open, strict=True):
        start, end = map(day, interval.as_strings())
        assert list(interval.dates()) == [start + dt.timedelta(days=number) for number in range((end - start).days)]
        if isinstance(element, tuple) and not isinstance(element[1], int):
            assert end == element[1]


@given(STENCILS, DATES)
def test_each_element_gives_one_interval(stencil: DateStencil, reference_date: dt.date) -> None:
    try:
        intervals = stencil.resolve(reference_date)
    except UnresolvableStencilError:
        return
    assert len(intervals) == len(stencil.elements)
