import datetime

import pytest

from autoflow.runs.changes import DueAnew
from autoflow.sensor import EditWatch, TokenWatch

NOW = datetime.datetime(2016, 2, 1, 12)


class TestTokenWatch:
    @pytest.mark.parametrize(
        ("left", "words"),
        [
            (datetime.timedelta(days=30), []),
            (datetime.timedelta(days=3, hours=1), ["FLOWAPI_TOKEN expires in 3 days (2016-02-04 13:00 UTC)"]),
            (datetime.timedelta(hours=5), ["FLOWAPI_TOKEN expires in 5 hours (2016-02-01 17:00 UTC)"]),
            (datetime.timedelta(hours=-1), ["FLOWAPI_TOKEN has expired (2016-02-01 11:00 UTC)"]),
        ],
    )
    def test_a_token_that_expires_soon_is_warned_about_once_a_day(
        self, left: datetime.timedelta, words: list[str], logged: list[str]
    ) -> None:
        watch, expiry = TokenWatch(), NOW.replace(tzinfo=datetime.UTC) + left
        for hours in (0, 1, 23):
            watch.look(expiry, NOW + datetime.timedelta(hours=hours))
        assert [line.split(": ")[0] for line in logged] == words
        watch.look(expiry, NOW + datetime.timedelta(hours=24))
        assert len(logged) == 2 * len(words)

    @pytest.mark.parametrize("ahead", [datetime.timedelta(hours=1), datetime.timedelta(days=400)])
    def test_a_clock_that_was_ahead_does_not_keep_it_silent(self, ahead: datetime.timedelta, logged: list[str]) -> None:
        watch, expiry = TokenWatch(), NOW.replace(tzinfo=datetime.UTC)
        for now in (NOW + ahead, NOW, NOW + datetime.timedelta(hours=23)):
            watch.look(expiry, now)
        assert len(logged) == 2

    def test_a_token_that_never_expires_is_not_warned_about(self, logged: list[str]) -> None:
        TokenWatch().look(None, NOW)
        assert logged == []


class TestEditWatch:
    def test_an_edit_that_makes_many_dates_due_is_warned_about_once(self, logged: list[str]) -> None:
        watch = EditWatch()
        few, many = DueAnew({"flows:north": 30}), DueAnew({"flows:north": 20, "flows:south": 11})
        for found in (few, many, many, DueAnew({"flows:south": 31}), DueAnew()):
            watch.look(found)
        (line,) = logged
        assert line.startswith("workflows.yml: 31 dates are due that no run has done with these names and parameters")
        assert ": flows:north (20), flows:south (11); " in line
        watch.look(many)
        assert len(logged) == 2
