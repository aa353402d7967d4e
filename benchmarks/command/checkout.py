"""The project's own checkout, as git tells: which commit, whether it was changed since, and another revision of it.

The report's `checkout` calls git: nothing runs that a repository's configuration names.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.command.scratch import PREFIX, remove_if_abandoned, scratch
from gptloop.report.checkout import changed_files, check_own, git

ROOT = Path(__file__).resolve().parents[2]

PROJECT = "gptloop"


def commit_info(tree: Path, *besides: str) -> dict[str, Any]:
    """Which revision a tree is at, and whether it was changed since.

    Args:
        tree: The root of a checkout.
        *besides: Folders in it whose changes do not count.

    Raises:
        RuntimeError: If git does not tell, or tells of another tree.
    """
    changed = changed_files(tree, *besides)
    return {"id": git(tree, "rev-parse", "HEAD"), "dirty": bool(changed)}


def saved_commit_info(tree: Path) -> dict[str, Any]:
    """`commit_info` with what pytest-benchmark saves besides.

    A tree of which git tells nothing counts as changed: nobody knows what was measured.
    """
    known: dict[str, Any] = {"id": "unknown", "time": None, "author_time": None, "dirty": True, "branch": "(unknown)"}
    known["project"] = PROJECT
    try:
        known |= commit_info(tree)
        times = git(tree, "log", "-1", "--no-show-signature", "--format=%cI%n%aI").split()
        known["time"], known["author_time"] = times
        branch = git(tree, "rev-parse", "--abbrev-ref", "HEAD")
        known["branch"] = "(detached head)" if branch == "HEAD" else branch
    except RuntimeError as error:
        known["error"] = str(error)
    return known


@contextlib.contextmanager
def worktree(revision: str) -> Iterator[Path]:
    """A checkout of a revision in a temporary folder; those that a killed process left are removed.

    Raises:
        RuntimeError: If there is no such revision, or it is older than the package's names for what is measured.
    """
    check_own(ROOT)
    try:
        commit = git(ROOT, "rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}")
    except RuntimeError as error:
        raise RuntimeError(f"no revision {revision!r} here (a shallow clone, perhaps?): {error}") from error
    _forget_abandoned()
    with scratch("base") as folder:
        tree = folder / "base"
        try:
            git(ROOT, "worktree", "add", "--detach", str(tree), commit)
            if not (tree / "gptloop" / "__init__.py").exists():
                raise RuntimeError(f"the base {revision!r} has no package gptloop, so there is nothing to compare with")
            yield tree
        finally:
            with contextlib.suppress(RuntimeError):  # there is none if adding it failed
                _remove(tree)


def _forget_abandoned() -> None:
    """Take `worktree`'s folders whose process was killed out of the repository; nobody else's, even if missing."""
    for line in git(ROOT, "worktree", "list", "--porcelain").splitlines():
        tree = Path(line.removeprefix("worktree "))
        if line.startswith("worktree ") and tree.parent.name.startswith(f"{PREFIX}base-"):
            remove_if_abandoned(tree.parent)
            if not tree.exists():
                _remove(tree)


def _remove(tree: Path) -> None:
    git(ROOT, "worktree", "remove", "--force", "--force", str(tree))  # twice: one cut off while it was added is locked
