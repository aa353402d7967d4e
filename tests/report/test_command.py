"""`python -m gptloop.report`: what it writes, prints and exits with."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from report_runs import benchmark, machine, pair, run, save

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
    assert printed.err == f"gptloop.report: wrote {tmp_path}/report.html\n"
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


def _not_ours(folder: Path) -> str:
    save(folder, {"benchmarks": [], "machine_info": {"gptloop": machine()}}, "m/0003_other.json")
    return "0003_other.json"


def _impossible(folder: Path) -> str:
    facts = {"ttft_s": 0.1, "time_per_output_token_s": 0.1, "tokens_per_s": 10.0}
    save(folder, run(benchmark("torch", (1.0, 1e300), **facts)), "m/0005_run.json")
    return "from 1e-09 to 1e+06 s"


def _endless(folder: Path) -> str:
    save(folder, run(benchmark(size="x" * 100_000)), "m/0006_run.json")
    return "xxx..., expected printable text of at most 1,000 characters"


def _unprintable(folder: Path) -> str:
    save(folder, run(*pair()), "m/0007_\x1b[31mred.json")
    return r"0007_\x1b[31mred.json: cannot be shown"


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


@pytest.mark.parametrize("spoil", [_truncated, _not_ours, _impossible, _endless, _unprintable, _unpaired, _no_runs])
def test_an_error_is_one_line_and_leaves_earlier_output_alone(reported, capsys, spoil):
    capsys.readouterr()
    expected = spoil(reported)
    before = contents(reported)
    assert main([str(reported)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert len(printed.err) < 1100
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


def test_an_option_of_100000_letters_is_refused_in_a_line(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["--" + "x" * 100_000])
    assert exit_.value.code == 2
    assert len(capsys.readouterr().err.splitlines()[-1]) < 1200


def test_what_is_left_out_is_said_once_and_not_without_end(tmp_path, capsys):
    save(tmp_path, run(*pair()))
    for index in range(30):
        save(tmp_path, {"anything": 1}, f"strange-{index:02}.json")
    assert main([str(tmp_path)]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert "strange-00.json: left out" in lines[0]
    assert lines[20:] == [
        "gptloop.report: and 10 more files are left out",
        f"gptloop.report: wrote {tmp_path}/report.html",
    ]


@pytest.mark.parametrize(
    ("raised", "status", "words"),
    [
        (KeyError("offset"), 2, "error: unexpected KeyError: 'offset'"),
        (MemoryError(), 2, "error: unexpected MemoryError:"),
        (ValueError("two\nlines \x1b[31m" + "x" * 100_000), 2, r"error: unexpected ValueError: two lines \x1b[31mxxx"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_nobody_expected_is_one_line_and_no_regression(tmp_path, capsys, monkeypatch, raised, status, words):
    def fail(*_, **__):
        raise raised

    monkeypatch.setattr("gptloop.report.command.write_report", fail)
    assert main([str(tmp_path)]) == status
    printed = capsys.readouterr()
    assert printed.err.startswith(f"gptloop.report: {words}")
    assert (printed.err.count("\n"), len(printed.err) < 1100, printed.out) == (1, True, "")


# As a process of its own


def shell(folder: Path, redirections: str) -> subprocess.CompletedProcess[bytes]:
    command = f'exec "$0" -m gptloop.report "$1" {redirections}'
    return subprocess.run(["sh", "-c", command, sys.executable, str(folder)], capture_output=True, check=False)


@pytest.mark.parametrize(
    ("redirections", "status", "words"),
    [
        (">/dev/full", 2, b"standard output cannot be written: No space left on device; the report is written"),
        (">&-", 2, b"standard output cannot be written: it is closed; the report is written"),
        (">/dev/full 2>/dev/full", 2, b""),
    ],
)
def test_an_output_that_takes_nothing_is_one_line_and_no_regression(tmp_path, redirections, status, words):
    save(tmp_path, run(*pair()))
    done = shell(tmp_path, redirections)
    assert (done.returncode, done.stdout) == (status, b"")
    assert done.stderr == (b"gptloop.report: error: %b\n" % words if words else b"")
    assert (tmp_path / "summary.md").exists()


def test_the_module_runs_where_the_terminal_knows_ascii_only(tmp_path):
    save(tmp_path, run(*pair(size="gpt2-naïve")))
    command = [sys.executable, "-m", "gptloop.report", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, env=os.environ | {"PYTHONIOENCODING": "ascii"}, check=False)
    assert (done.returncode, done.stderr.count(b"\n")) == (0, 1)
    assert rb"gpt2-na\xefve" in done.stdout
    assert "gpt2-naïve" in (tmp_path / "summary.md").read_text(encoding="utf-8")


def test_a_reader_that_leaves_early_is_no_error(tmp_path):
    save(tmp_path, run(*pair()))
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "gptloop.report", str(tmp_path)]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr.decode()) == (0, f"gptloop.report: wrote {tmp_path}/report.html\n")
    assert (tmp_path / "summary.md").exists()
