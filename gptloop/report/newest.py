"""Which saved run is the newest: the one that a gate judges.

pytest-benchmark counts the runs of a folder and dates each one. Both must say the same, as a wrong clock or a file that
somebody put there would have the gate pass a run that is not the change's.
"""

import datetime

import pandas as pd

from gptloop.report.errors import ReportError
from gptloop.report.folder import run_number

_CLOCKS_DIFFER_BY = datetime.timedelta(minutes=10)


def newest_run(runs: pd.DataFrame) -> pd.DataFrame:
    """The rows of the newest run, of whatever machine: an older one of the right machine would pass in its place.

    Args:
        runs: The frame of `runs.read_runs`.

    Raises:
        ReportError: If the newest run is dated in the future, or where the last run of a folder by its number is not
            the last one by its date.
    """
    first_rows = runs.drop_duplicates("run")
    dates: dict[str, datetime.datetime] = dict(zip(first_rows["run"], first_rows["datetime"], strict=True))
    by_date = sorted(dates, key=lambda run: (dates[run], run))
    last = by_date[-1]
    if dates[last] > now() + _CLOCKS_DIFFER_BY:
        raise ReportError(
            f"{last}: is dated in the future ({_shown(dates[last])}), so nobody knows which run is newest"
        )
    last_of_folder = {run_number(run)[0]: run for run in by_date}
    for run in by_date:
        folder, number = run_number(run)
        later = last_of_folder[folder]
        if run != later and number >= run_number(later)[1]:
            raise ReportError(
                f"{later}: has the last date of its folder ({_shown(dates[later])}) but not the highest number, which "
                f"{run} has ({_shown(dates[run])}): nobody knows which run is newest"
            )
    return runs[runs["run"] == last]


def now() -> datetime.datetime:
    """This moment."""
    return datetime.datetime.now(datetime.UTC)


def _shown(moment: datetime.datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
