"""`python -m gptloop.report`: what it writes, prints and exits with."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from report_runs import benchmark, pair, run, save

from gptloop.report.command import main


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def reported(tmp_path) -> Path:
    """A folder with a run and the report of it."""
    save(tmp_path, run(*pair()))
    assert main([str(tmp_path)]) == 0
    return tmp_path


def test_the_summary_is_written_and_printed(tmp_path, capsys):
    save(tmp_path, run(*pair()))
    assert main([str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert printed.out == (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert "2.00x [2.00-2.00]" in printed.out
    assert printed.err == ""
    assert {path.suffix for path in (tmp_path / "charts").iterdir()} == {".png", ".svg"}


def test_the_page_and_the_json_are_written(reported):
    assert {path.name for path in reported.iterdir() if path.is_file()} == {"report.html", "report.json", "summary.md"}
    names = {path.name.split("-")[0] for path in (reported / "charts").iterdir()}
    assert names == {"speedup", "ladder", "history", "tokens_per_s", "latency"}


def test_a_jobs_summary_gets_the_summary_after_what_is_there(tmp_path, capsys, monkeypatch):
    save(tmp_path / "reports", run(*pair()))
    job = tmp_path / "step_summary.md"
    job.write_text("# Before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(job))
    assert main([str(tmp_path / "reports")]) == 0
    assert job.read_text(encoding="utf-8") == "# Before\n" + capsys.readouterr().out


def test_a_jobs_summary_that_cannot_be_written_is_one_line(tmp_path, capsys, monkeypatch):
    save(tmp_path / "reports", run(*pair()))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "nowhere" / "summary.md"))
    assert main([str(tmp_path / "reports")]) == 2
    assert capsys.readouterr().err.endswith("summary.md: cannot be written: No such file or directory\n")


def test_a_report_made_again_is_the_same(reported):
    before = contents(reported)
    assert main([str(reported)]) == 0
    assert contents(reported) == before


def _truncated(folder: Path) -> str:
    (folder / "m").mkdir()
    (folder / "m" / "0002_run.json").write_text('{"machine_info": ')
    return "0002_run.json"


def _foreign(folder: Path) -> str:
    save(folder, {"anything": 1}, "notes.json")
    return "notes.json"


def _not_ours(folder: Path) -> str:
    save(folder, {"benchmarks": [], "machine_info": {}}, "m/0003_other.json")
    return "0003_other.json"


def _unpaired(folder: Path) -> str:
    save(
        folder,
        run(benchmark("torch"), benchmark("onnx", (1.0, 1.0)), at="2027-01-01T00:00:00+00:00"),
        "m/0004_run.json",
    )
    return "0004_run.json"


def _no_runs(folder: Path) -> str:
    for path in folder.glob("*/*.json"):
        path.unlink()
    return "no runs"


@pytest.mark.parametrize("spoil", [_truncated, _foreign, _not_ours, _unpaired, _no_runs])
def test_an_error_is_one_line_and_leaves_earlier_output_alone(reported, capsys, spoil):
    capsys.readouterr()
    expected = spoil(reported)
    before = contents(reported)
    assert main([str(reported)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert expected in printed.err
    assert contents(reported) == before
    assert "summary.md" in before


def test_a_missing_folder_is_named_and_not_made(tmp_path, capsys):
    assert main([str(tmp_path / "nowhere")]) == 2
    assert "nowhere: no such folder" in capsys.readouterr().err
    assert not (tmp_path / "nowhere").exists()


def test_a_folder_that_cannot_be_written_is_one_line(reported, capsys):
    capsys.readouterr()
    save(reported, run(*pair(size="gpt2-xl")), "m/0002_run.json")
    (reported / "summary.md").unlink()
    (reported / "summary.md").mkdir()
    before = contents(reported)
    assert main([str(reported)]) == 2
    assert "summary.md: cannot be written" in capsys.readouterr().err
    assert contents(reported) == before


@pytest.mark.parametrize("arguments", [[], ["one", "two"], ["--unknown", "reports"]])
def test_a_bad_command_line_exits_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert "usage: python -m gptloop.report" in capsys.readouterr().err


def test_the_module_runs_where_the_terminal_knows_ascii_only(tmp_path):
    save(tmp_path, run(*pair(size="gpt2-naïve")))
    command = [sys.executable, "-m", "gptloop.report", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, env=os.environ | {"PYTHONIOENCODING": "ascii"}, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"gpt2-na\xefve" in done.stdout
    assert "gpt2-naïve" in (tmp_path / "summary.md").read_text(encoding="utf-8")


def test_a_reader_that_leaves_early_is_no_error(tmp_path):
    save(tmp_path, run(*pair()))
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "gptloop.report", str(tmp_path)]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "summary.md").exists()
