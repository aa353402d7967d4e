"""Which run is the newest: its number and its date say the same, or nobody judges."""

import datetime

import pytest
from report_runs import benchmark, run, save

from gptloop.report import newest
from gptloop.report.errors import ReportError
from gptloop.report.newest import newest_run
from gptloop.report.runs import read_runs

NOW = datetime.datetime(2026, 11, 23, 12, tzinfo=datetime.UTC)


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    monkeypatch.setattr(newest, "now", lambda: NOW)


def newest_of(folder, **dates: str) -> str:
    """The newest of runs by name (`m_0001`) and date."""
    for name, at in dates.items():
        save(folder, run(benchmark(), at=f"{at}:00+00:00"), f"{name.replace('_', '/')}_run.json")
    return newest_run(read_runs(folder))["run"].unique().tolist()[0][:6]


def test_the_run_with_the_last_date_is_the_newest_of_all_folders(tmp_path):
    dates = {"m_0001": "2026-11-20T00:00", "m_0002": "2026-11-21T00:00", "n_0001": "2026-11-23T00:00"}
    assert newest_of(tmp_path, **dates) == "n/0001"


@pytest.mark.parametrize("at", ["2099-01-01T00:00", "2026-11-23T12:30"])
def test_a_run_of_the_future_is_refused(tmp_path, at):
    with pytest.raises(ReportError, match=rf"m/0009_run\.json: is dated in the future \({at[:10]}"):
        newest_of(tmp_path, m_0001="2026-11-20T00:00", m_0009=at)


def test_clocks_that_differ_by_minutes_are_no_future(tmp_path):
    assert newest_of(tmp_path, m_0001="2026-11-23T12:05") == "m/0001"


@pytest.mark.parametrize("other", ["2026-11-22T00:00", "2026-11-20T00:00"])
def test_a_number_that_contradicts_the_date_is_refused(tmp_path, other):
    """Somebody put a run in, or a clock went back: whichever was judged, it might be the wrong one."""
    with pytest.raises(ReportError, match=r"m/0001_run\.json: has the last date .* m/0003_run\.json has"):
        newest_of(tmp_path, m_0003=other, m_0001="2026-11-23T00:00")


def test_two_runs_with_one_number_are_refused(tmp_path):
    save(tmp_path, run(benchmark(), at="2026-11-21T00:00:00+00:00"), "m/0001_other.json")
    with pytest.raises(ReportError, match=r"nobody knows which run is newest"):
        newest_of(tmp_path, m_0001="2026-11-22T00:00")


def test_older_runs_may_stand_in_any_order(tmp_path):
    dates = {"m_0001": "2026-11-21T00:00", "m_0002": "2026-11-20T00:00", "m_0003": "2026-11-22T00:00"}
    assert newest_of(tmp_path, **dates) == "m/0003"
