"""Fixtures of the report's tests: a folder that is judged, and a clock that stands still."""

import datetime

import pytest
from gated import BUDGETS, suite
from report_runs import save

from gptloop.report import newest
from gptloop.report.command import main


@pytest.fixture
def report(tmp_path, monkeypatch):
    """Runs the report on a folder whose older run is the baseline, if there is a newer one."""
    for name in ("render_charts", "render_history"):  # not what is tested, and slow
        monkeypatch.setattr(f"gptloop.report.files.{name}", lambda *_: {})
    monkeypatch.setattr(newest, "now", lambda: datetime.datetime(2026, 12, 2, tzinfo=datetime.UTC))
    folder = tmp_path / "reports"
    folder.mkdir()
    (tmp_path / "budgets.toml").write_text(BUDGETS)
    # By a thousandth: the same rounds again would be no new measurement.
    baseline = save(folder, suite(0.999, torch=0.999, at="2026-11-22T00:00:00+00:00"), "m/0001_base.json")

    def call(newer=None, *options: str, against=baseline) -> int:
        if newer is not None:
            save(folder, newer, "m/0002_new.json")
        where = ["--baseline", str(against), "--budgets", str(tmp_path / "budgets.toml")]
        return main([str(folder), *where, *options])

    call.folder, call.baseline = folder, baseline
    return call


@pytest.fixture
def stored(tmp_path):
    """Where a baseline is to be."""
    return tmp_path / "baseline.json"
