"""Which commit made a case slower: git bisect on a real repository, told by verdicts that the tests make up."""

import subprocess

import pytest

from benchmarks.command import checkout
from benchmarks.gate import bisect as command
from benchmarks.gate.bisect import bisect
from gptloop.report.checkout import git
from gptloop.report.verdicts import Value, Verdict

AUTHOR = ("-c", "user.name=A", "-c", "user.email=a@b", "-c", "commit.gpgSign=false")
CASE = "gpt2 8x1 onnx_int8"
COMMITS = 8


@pytest.fixture
def commits(tmp_path, monkeypatch):
    """Ids of commits in the place of the project's own; the number in the package is the commit's place."""
    tree = tmp_path / "project"
    (tree / "gptloop").mkdir(parents=True)
    run(tree, "init", "-q")
    monkeypatch.setattr(checkout, "ROOT", tree)
    ids = []
    for place in range(COMMITS):
        (tree / "gptloop" / "__init__.py").write_text(f"{place}\n")
        run(tree, "add", ".")
        run(tree, *AUTHOR, "commit", "-q", "-m", f"number {place}")
        ids.append(git(tree, "rev-parse", "HEAD"))
    return ids


def run(tree, *arguments):
    subprocess.run(["git", "-C", str(tree), *arguments], check=True)


class Judge:
    """Slower from a place on; some places cannot be judged."""

    def __init__(self, first_bad: int, **others: Value):
        self.asked: list[int] = []
        self._first_bad = first_bad
        self._others = {int(name.removeprefix("at_")): value for name, value in others.items()}

    def __call__(self, tree) -> Verdict:
        place = int((tree / "gptloop" / "__init__.py").read_text())
        self.asked.append(place)
        value = Value.REGRESSION if place >= self._first_bad else Value.UNCHANGED
        return Verdict(CASE, self._others.get(place, value), "a reason", 0.02)


def search(commits, judge, good=0, bad=COMMITS - 1):
    return bisect(commits[good], commits[bad], judge, lambda _: None)


@pytest.mark.parametrize("first_bad", range(1, COMMITS))
def test_the_first_bad_commit_is_found_with_few_measurements(commits, first_bad):
    judge = Judge(first_bad)
    found, words = search(commits, judge)
    assert found == commits[first_bad]
    assert f"number {first_bad}" in words
    assert len(judge.asked) <= 1 + 3


@pytest.mark.parametrize("value", [Value.MISSING, Value.UNSTABLE])
def test_what_cannot_be_judged_is_skipped(commits, value):
    judge = Judge(6, at_3=value, at_4=value)
    assert search(commits, judge)[0] == commits[6]
    assert {3, 4} & set(judge.asked)


def test_an_improvement_is_no_regression(commits):
    assert search(commits, Judge(5, at_3=Value.IMPROVED))[0] == commits[5]


def test_where_only_skipped_commits_are_left_all_of_them_are_named(commits):
    found, words = search(commits, Judge(4, at_3=Value.UNSTABLE, at_4=Value.MISSING))
    assert found is None
    assert [f"number {place}" in words for place in range(COMMITS)] == [place in (3, 4, 5) for place in range(COMMITS)]


@pytest.mark.parametrize(
    ("value", "words"),
    [(Value.UNCHANGED, "is not slower than the good one"), (Value.UNSTABLE, "cannot be judged")],
)
def test_a_bad_revision_that_is_not_bad_is_no_search(commits, value, words):
    judge = Judge(1, at_7=value)
    found, said = search(commits, judge)
    assert found is None
    assert words in said
    assert "a reason" in said
    assert judge.asked == [7]


def test_commits_that_leave_the_package_alone_are_not_measured(commits):
    tree = checkout.ROOT
    for place in range(3):
        (tree / "README.md").write_text(f"{place}")
        run(tree, "add", ".")
        run(tree, *AUTHOR, "commit", "-q", "-m", f"words {place}")
    (tree / "gptloop" / "__init__.py").write_text("8\n")
    run(tree, *AUTHOR, "commit", "-q", "-a", "-m", "number 8")
    judge = Judge(8)
    found, _ = bisect(commits[6], "HEAD", judge, lambda _: None)
    assert found == git(tree, "rev-parse", "HEAD")
    assert judge.asked == [8, 7]


def test_nothing_is_left_behind(commits):
    search(commits, Judge(4))
    with pytest.raises(RuntimeError, match=r"no revision|unknown revision"):
        search([*commits[:-1], "no-such"], Judge(4))
    assert len(git(checkout.ROOT, "worktree", "list").splitlines()) == 1
    assert git(checkout.ROOT, "rev-parse", "HEAD") == commits[-1], "the project's own checkout stays where it is"


def test_a_case_that_is_not_gated_is_named():
    with pytest.raises(ValueError, match="--case 'gpt2 9x9 onnx' is not gated: expected one of distilgpt2 1x8 onnx"):
        command.main(["--good", "HEAD", "--bad", "HEAD", "--case", "gpt2 9x9 onnx"])
