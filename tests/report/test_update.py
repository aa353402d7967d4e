"""`--update-baseline`: what becomes a baseline, and which file it may replace."""

import json
import os
import shutil
import subprocess

import numpy as np
import pytest
from gated import CASES, GATE, calibrate, suite
from report_runs import save

from gptloop.report import checkout

UPDATE = "--update-baseline"


@pytest.fixture(autouse=True)
def source(tmp_path, monkeypatch):
    """The project's own checkout, which is clean: the report's folder and one file of source."""
    monkeypatch.setattr(checkout, "ROOT", tmp_path)
    (tmp_path / "source.py").write_text("1")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e@example.org"]
    for command in (["init", "-q"], ["add", "source.py"], ["commit", "-qm", "all"]):
        subprocess.run([*git, *command], check=True)
    return tmp_path / "source.py"


def test_an_updated_baseline_holds_the_floors_of_its_machine_and_is_a_baseline(report, stored):
    calibrate(report.folder, 0.002)
    assert report(suite(), UPDATE, against=stored) == 0
    content = json.loads(stored.read_text())
    assert content["gptloop_kind"] == "baseline"
    assert set(content["noise_floors"]) == {"gpt2 8x1 onnx", "gpt2 1x1 onnx", "control"}
    (report.folder / "proof-m.json").unlink()
    later = suite(1.05, at="2026-11-24T00:00:00+00:00")
    assert report(later, GATE, against=stored) == 1  # below the assumed floor, above the calibrated one
    assert report(later, GATE) == 0  # the plain run knows no floor, and 5 % is within the assumed one


def _refused(report, stored, capsys) -> str:
    capsys.readouterr()
    assert report(None, UPDATE, against=stored) == 2
    assert not stored.exists()
    assert not (report.folder / "summary.md").exists()
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("newer", "words"),
    [
        (suite(commit={"dirty": True}), "dirty checkout"),
        (suite(spread=np.array([1.0, 1.6, 0.6, 1.5, 0.7])), "unstable run: the time of 'gpt2 8x1 onnx' is known to"),
        (suite(cases=CASES[:1]), "no baseline without the gated case 'gpt2 1x1 onnx'"),
        (suite(spread=np.array([1.0])), "has 1 round, at least 2"),
    ],
)
def test_a_dirty_or_unstable_run_is_no_baseline(report, stored, capsys, newer, words):
    save(report.folder, newer, "m/0002_new.json")
    assert words in _refused(report, stored, capsys)


def test_a_dirty_checkout_makes_no_baseline(report, stored, capsys, source):
    """The report's own folder may be changed: the report writes into it."""
    subprocess.run(["git", "-C", str(source.parent), "add", "reports"], check=True)
    source.write_text("2")
    assert "the checkout is dirty (source.py)" in _refused(report, stored, capsys)
    source.write_text("1")
    assert report(None, UPDATE, against=stored) == 0


def test_a_page_without_its_marks_leaves_the_baseline_as_it_was(report, stored, capsys, tmp_path):
    (tmp_path / "page.md").write_text("# No marks\n")
    assert report(None, UPDATE, "--readme", str(tmp_path / "page.md"), against=stored) == 2
    assert "page.md: has 0 places for the results" in capsys.readouterr().err
    assert not stored.exists()


# Where nobody can tell


def test_without_git_no_baseline_is_made(report, stored, monkeypatch, capsys):
    def no_git(*_, **__):
        raise FileNotFoundError(2, "No such file or directory", "git")

    monkeypatch.setattr(subprocess, "run", no_git)
    refused = _refused(report, stored, capsys)
    assert "nobody can tell whether the checkout is clean: git cannot be started: No such file" in refused


def test_without_a_checkout_no_baseline_is_made(report, stored, capsys, source):
    (source.parent / ".git").rename(source.parent / "git")
    refused = _refused(report, stored, capsys)
    assert "nobody can tell whether the checkout is clean: git rev-parse" in refused
    assert "not a git repository" in refused


def test_a_checkout_of_another_project_around_this_one_tells_nothing(report, stored, capsys, source):
    around = (source.parent / ".git").rename(source.parent.parent / ".git")
    try:
        refused = _refused(report, stored, capsys)
    finally:
        shutil.rmtree(around)  # it is around the other tests' folders, too
    assert f"is no git checkout of its own: git tells of {source.parent.parent}" in refused


def test_a_checkout_of_whose_state_git_does_not_tell_makes_no_baseline(report, stored, capsys, monkeypatch):
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    refused = _refused(report, stored, capsys)
    assert "nobody can tell whether the checkout is clean: git rev-parse" in refused
    assert "detected dubious ownership" in refused
    assert refused.count("\n") == 1


def test_runs_from_outside_the_checkout_make_no_baseline(report, stored, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(checkout, "ROOT", tmp_path / "project")
    assert "lies outside the project's checkout" in _refused(report, stored, capsys)


def test_a_hook_s_environment_redirects_nobody(report, stored, tmp_path, monkeypatch, source):
    for name in ("GIT_DIR", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"):
        monkeypatch.setenv(name, str(tmp_path / "elsewhere"))
    assert report(None, UPDATE, against=stored) == 0
    source.write_text("2")
    assert report(None, UPDATE, against=stored) == 2


@pytest.mark.parametrize("where", ["the checkout", "the reports"])
def test_git_runs_nothing_that_a_configuration_or_a_hook_names(report, stored, tmp_path, source, where):
    inner, ran = source.parent if where == "the checkout" else report.folder, tmp_path / "ran"
    subprocess.run(["git", "-C", str(inner), "init", "-q"], check=True)
    program = inner / ".git" / "hooks" / "post-index-change"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\ntouch {ran}\ncat\n")
    program.chmod(0o755)
    for name in ("core.fsmonitor", "core.pager", "pager.status", "filter.x.clean", "filter.x.process"):
        subprocess.run(["git", "-C", str(inner), "config", name, str(program)], check=True)
    (inner / ".git" / "info" / "attributes").write_text("* filter=x\n")
    os.utime(source)  # so that git would write the index anew
    assert report(None, UPDATE, against=stored) == 0
    assert not ran.exists()


# Which file may be replaced


def test_a_baseline_replaces_a_baseline(report, stored):
    assert report(None, UPDATE, against=stored) == 0
    before = stored.read_bytes()
    assert report(suite(1.01), UPDATE, against=stored) == 0
    assert stored.read_bytes() != before


def _other_files(folder) -> dict[str, str]:
    (folder / "notes.toml").write_text("[notes]\n")
    (folder / "old.md").write_text("# Old")
    (folder / "report.json").write_text(json.dumps({"gptloop_kind": "report"}))
    (folder / "proof-x.json").write_text(json.dumps({"gptloop_kind": "another", "machine": {}}))
    (folder / "damaged.json").write_text("{")
    (folder / "empty").touch()
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_nothing_but_a_baseline_is_replaced(report, capsys):
    files = _other_files(report.folder)
    assert "m/0001_base.json" in files
    for name, content in files.items():
        assert report(None, UPDATE, against=report.folder / name) == 2, name
        assert (report.folder / name).read_text() == content
        assert f"{name}: " in capsys.readouterr().err.splitlines()[-1]
    assert not (report.folder / "summary.md").exists()


@pytest.mark.parametrize("name", ["summary.md", "report.html", "report.json", "verdicts.json"])
def test_a_baseline_takes_no_place_of_the_report_s_own_files(report, capsys, name):
    assert report(None, UPDATE, against=report.folder / name) == 2
    assert f"{name}: the report writes this file itself" in capsys.readouterr().err
    assert not (report.folder / name).exists()


@pytest.mark.parametrize("kind", ["folder", "pipe", "link to a run"])
def test_what_is_no_file_is_replaced_by_none(report, stored, capsys, kind):
    if kind == "folder":
        stored.mkdir()
    elif kind == "pipe":
        os.mkfifo(stored)
    else:
        stored.symlink_to(report.baseline)
    assert report(None, UPDATE, against=stored) == 2
    assert "is there already and no baseline" in capsys.readouterr().err
    assert stored.is_symlink() or not stored.is_file()


def test_a_run_cannot_bring_its_own_floors(report, stored):
    assert report(suite() | {"noise_floors": {"gpt2 8x1 onnx": 5.0}}, UPDATE, against=stored) == 0
    assert json.loads(stored.read_text())["noise_floors"] == {}
