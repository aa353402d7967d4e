"""Which files of a folder are runs, and what becomes of the others."""

import os

import pytest
from report_runs import benchmark, pair, run, save

from gptloop.report.errors import ReportError
from gptloop.report.folder import run_number
from gptloop.report.runs import read_runs


def left_out(folder) -> list[str]:
    """What the report says of files beside the one run that it reads."""
    said: list[str] = []
    assert read_runs(folder, said.append)["run"].unique().tolist() == ["m/0001_run.json"]
    return said


@pytest.fixture
def reports(tmp_path):
    save(tmp_path / "reports", run(*pair()), "m/0001_run.json")
    return tmp_path / "reports"


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(ReportError, match=r"nowhere: no such folder"):
        read_runs(tmp_path / "nowhere")


def test_a_file_is_not_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ReportError, match=r"file: not a folder"):
        read_runs(tmp_path / "file")


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(ReportError, match=r"no runs"):
        read_runs(tmp_path)


def test_files_of_gptloop_itself_are_passed_over_without_a_word(reports):
    save(reports, {"gptloop_kind": "noise floor"}, "baselines/noise.json")
    assert left_out(reports) == []


def test_other_files_and_folders_are_passed_over(tmp_path):
    save(tmp_path, run(*pair()))
    (tmp_path / "summary.md").write_text("{")
    (tmp_path / "folder.json").mkdir()
    assert len(read_runs(tmp_path)) == 2


@pytest.mark.parametrize("name", ["machine/0001_run.json", "machine/12345_run.json"])
def test_a_run_has_four_digits_or_more(tmp_path, name):
    save(tmp_path, run(*pair()), name)
    assert read_runs(tmp_path)["run"].unique().tolist() == [name]


@pytest.mark.parametrize(
    "name", ["notes.json", "0001_run.json", "m/deeper/0001_run.json", "m/001_run.json", "m/._0001_run.json"]
)
@pytest.mark.parametrize("content", [{"anything": 1}, ["gptloop_kind"], run(*pair())])
def test_a_stranger_s_file_is_left_out_with_a_line(reports, name, content):
    save(reports, content, name)
    assert left_out(reports) == [
        f"{reports / name}: left out: neither a run (MACHINE/NNNN_*.json) nor marked with gptloop_kind"
    ]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_file_of_our_own_costs_no_report(reports, content):
    (reports / "report.json").write_bytes(content)
    (line,) = left_out(reports)
    assert line.startswith(f"{reports / 'report.json'}: left out")


def test_a_run_of_another_suite_in_the_same_storage_is_left_out(reports):
    save(reports, {"machine_info": {"node": "vm"}, "benchmarks": [{"group": None, "extra_info": {}}]}, "m/0002_x.json")
    assert left_out(reports) == [f"{reports / 'm/0002_x.json'}: a run of another suite than gptloop's: left out"]


def test_a_baseline_among_the_runs_is_no_run(reports):
    save(reports, {"gptloop_kind": "baseline", **run(*pair())}, "m/0002_x.json")
    assert left_out(reports) == [f"{reports / 'm/0002_x.json'}: is no run: its gptloop_kind is 'baseline': left out"]


def _pipe(path, _) -> str:
    os.mkfifo(path)
    return "no plain file"


def _device(path, _) -> str:
    path.symlink_to("/dev/zero")
    return "no plain file"


def _link_out(path, outside) -> str:
    path.symlink_to(save(outside, run(*pair())))
    return "a link out of the folder"


def _link_to_nothing(path, outside) -> str:
    path.symlink_to(outside / "nothing")
    return "a link to nothing, or a file that cannot be reached"


def _link_to_itself(path, _) -> str:
    path.symlink_to(path)
    return "a link to nothing, or a file that cannot be reached"


@pytest.mark.parametrize("name", ["x.json", "m/0002_run.json"])
@pytest.mark.parametrize("make", [_pipe, _device, _link_out, _link_to_nothing, _link_to_itself])
def test_what_is_no_plain_file_of_the_folder_is_left_unread(reports, tmp_path, make, name):
    words = make(reports / name, tmp_path / "outside")
    assert left_out(reports) == [f"{reports / name}: left out: {words}"]


def test_a_link_within_the_folder_is_read(reports):
    (reports / "n").mkdir()
    (reports / "n" / "0001_run.json").symlink_to(reports / "m" / "0001_run.json")
    assert sorted(read_runs(reports)["run"].unique()) == ["m/0001_run.json", "n/0001_run.json"]


def test_a_link_to_a_folder_is_not_followed(reports, tmp_path):
    save(tmp_path, run(*pair()), "elsewhere/0001_run.json")
    (reports / "n").symlink_to(tmp_path / "elsewhere")
    assert left_out(reports) == [f"{reports / 'n'}: left out: a link to a folder"]


def test_of_too_many_runs_those_with_the_highest_numbers_of_each_folder_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr("gptloop.report.folder.MOST_RUNS", 3)
    for name in ("a/0001_x", "a/0002_x", "a/0010_x", "a/9999_x", "a/10000_x", "b/0001_x"):
        save(tmp_path, run(benchmark()), f"{name}.json")
    said: list[str] = []
    runs = read_runs(tmp_path, said.append)["run"].tolist()
    assert sorted(runs) == ["a/10000_x.json", "a/9999_x.json", "b/0001_x.json"]
    assert said == [f"{tmp_path}: 3 of 6 runs are left out: those with the lowest numbers"]


def test_pytest_benchmark_counts_the_runs_of_each_folder():
    assert run_number("m/0012_commit_20261122.json") == ("m", 12)
