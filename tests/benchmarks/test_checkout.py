"""What git tells of a checkout, and that nothing runs which the checkout's configuration names."""

import os
import subprocess
import sys

import pytest

from benchmarks.command import checkout
from benchmarks.command.checkout import commit_info, saved_commit_info, worktree
from gptloop.report.checkout import git, settings_in_environment

AUTHOR = ("-c", "user.name=A", "-c", "user.email=a@b", "-c", "commit.gpgSign=false")


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A checkout of one commit, with a package, in the place of the project's own."""
    tree = tmp_path / "project"
    (tree / "gptloop").mkdir(parents=True)
    (tree / "gptloop" / "__init__.py").write_text("")
    (tree / "reports").mkdir()
    (tree / "reports" / "summary.md").write_text("old\n")
    for command in (["init", "-q"], ["add", "."], [*AUTHOR, "commit", "-q", "-m", "all"]):
        subprocess.run(["git", "-C", str(tree), *command], check=True)
    monkeypatch.setattr(checkout, "ROOT", tree)
    return tree


def touch_script(path, mark):
    path.write_text(f'#!/bin/sh\ntouch "{mark}"\ncat\n')
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("setting", ["core.fsmonitor", "core.hooksPath", "filter.x.clean", "filter.x.smudge"])
def test_what_a_configuration_names_is_not_run(repository, tmp_path, setting):
    mark, program = tmp_path / "was-run", touch_script(tmp_path / "post-checkout", tmp_path / "was-run")
    value = tmp_path if setting == "core.hooksPath" else program
    subprocess.run(["git", "-C", str(repository), "config", setting, str(value)], check=True)
    (repository / ".git" / "info" / "attributes").write_text("* filter=x\n")
    (repository / "gptloop" / "__init__.py").touch()  # so that git looks at what it holds
    assert commit_info(repository)["dirty"] is False
    assert saved_commit_info(repository)["dirty"] is False
    with worktree("HEAD") as tree:
        assert (tree / "gptloop" / "__init__.py").exists()
    assert not mark.exists()


def test_what_a_submodule_s_configuration_names_is_not_run(repository, tmp_path):
    inner, mark = repository / "inner", tmp_path / "was-run"
    subprocess.run(["git", "init", "-q", str(inner)], check=True)
    (inner / "file").write_text("x")
    for tree, name in ((inner, "file"), (repository, "inner")):
        for command in (["add", name], [*AUTHOR, "commit", "-q", "-m", name]):
            subprocess.run(["git", "-C", str(tree), "-c", "advice.addEmbeddedRepo=false", *command], check=True)
    program = touch_script(tmp_path / "program", mark)
    subprocess.run(["git", "-C", str(inner), "config", "filter.x.clean", str(program)], check=True)
    (inner / ".git" / "info" / "attributes").write_text("* filter=x\n")
    os.utime(inner / "file", (1, 1))  # so that git would look at what it holds
    assert commit_info(repository)["dirty"] is False
    assert not mark.exists()
    subprocess.run(["git", "-C", str(inner), *AUTHOR, "commit", "-q", "--allow-empty", "-m", "2"], check=True)
    assert commit_info(repository)["dirty"] is True


def test_a_tree_is_dirty_by_what_is_tracked_but_for_folders_that_do_not_count(repository):
    (repository / "untracked").write_text("")
    assert commit_info(repository) == {"id": git(repository, "rev-parse", "HEAD"), "dirty": False}
    (repository / "reports" / "summary.md").write_text("new\n")
    assert commit_info(repository)["dirty"] is True
    assert commit_info(repository, "reports")["dirty"] is False
    (repository / "gptloop" / "__init__.py").write_text("x = 1\n")
    assert commit_info(repository, "reports")["dirty"] is True


def _no_git(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    return "git cannot be started: No such file or directory"


def _foreign_owner(monkeypatch, _):
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # git's own way to test this
    return "dubious ownership"


@pytest.mark.parametrize("refusal", [_no_git, _foreign_owner])
def test_a_tree_of_which_git_does_not_tell_is_not_called_clean(repository, monkeypatch, tmp_path, refusal):
    words = refusal(monkeypatch, tmp_path)
    with pytest.raises(RuntimeError, match=words):
        commit_info(repository)
    with pytest.raises(RuntimeError, match=words), worktree("HEAD"):
        pass
    saved = saved_commit_info(repository)
    assert (saved["id"], saved["dirty"]) == ("unknown", True)
    assert words in saved["error"]


def test_a_folder_within_another_checkout_is_none_itself(repository):
    with pytest.raises(RuntimeError, match="is no git checkout of its own: git tells of"):
        commit_info(repository / "gptloop")


def test_a_hook_that_calls_does_not_change_which_tree_is_meant(repository, monkeypatch, tmp_path):
    for name in ("GIT_DIR", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"):
        monkeypatch.setenv(name, str(tmp_path / "elsewhere"))
    assert commit_info(repository)["dirty"] is False


def test_a_saved_run_has_what_pytest_benchmark_saves(repository):
    saved = saved_commit_info(repository)
    assert set(saved) == {"id", "time", "author_time", "dirty", "project", "branch"}
    assert saved["time"][:2] == "20"
    assert saved["project"] == "gptloop"
    assert saved["branch"] == git(repository, "rev-parse", "--abbrev-ref", "HEAD")


def test_settings_are_added_to_those_of_the_environment(monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    assert settings_in_environment({"a.b": "c"}) == {
        "GIT_CONFIG_COUNT": "2",
        "GIT_CONFIG_KEY_1": "a.b",
        "GIT_CONFIG_VALUE_1": "c",
    }


def test_a_base_is_a_worktree_that_goes_away(repository):
    with worktree("HEAD") as tree:
        assert (tree / "gptloop" / "__init__.py").exists()
        assert commit_info(tree) == commit_info(repository)
    assert not tree.parent.exists()
    assert str(tree) not in git(repository, "worktree", "list")


def test_an_unknown_revision_is_named(repository):
    with pytest.raises(RuntimeError, match="no revision 'no-such' here"), worktree("no-such"):
        pass


KILLED = """
import os, pathlib, signal, sys
from benchmarks.command import checkout
checkout.ROOT = pathlib.Path(sys.argv[1])
with checkout.worktree("HEAD") as tree:
    print(tree, flush=True)
    if sys.argv[2] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.read()
"""


@pytest.fixture
def left_by(repository, tmp_path, monkeypatch):
    """Starts a process that makes a worktree, and is killed or goes on."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    started = []

    def start(how: str) -> str:
        command = [sys.executable, "-c", KILLED, str(repository), how]
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return started[-1].stdout.readline().strip()

    yield start
    for process in started:
        process.communicate()


def test_the_worktree_of_a_process_that_was_killed_goes_with_the_next_one(repository, left_by):
    left = left_by("killed")
    foreign = repository.parent / "mine"
    git(repository, "worktree", "add", "--detach", str(foreign), "HEAD")
    (foreign / ".git").unlink()  # as on a disk that is not mounted
    assert left in git(repository, "worktree", "list")
    with worktree("HEAD"):
        listed = git(repository, "worktree", "list")
        assert left not in listed
        assert str(foreign) in listed
    assert not list(repository.parent.glob("gptloop-*"))


def test_the_worktree_of_a_process_that_lives_stays(repository, left_by):
    alive = left_by("alive")
    with worktree("HEAD"):
        assert alive in git(repository, "worktree", "list")
    assert alive in git(repository, "worktree", "list")
