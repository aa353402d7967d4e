"""The project's own checkout, as git tells: which commit, whether it was changed since, and another revision of it.

Git is called so that nothing runs which a repository's configuration names (a file watcher, hooks, filters, a pager, a
verifier of signatures), and is believed only about a folder that is a checkout itself, not one inside another's.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.command.scratch import PREFIX, remove_if_abandoned, scratch

ROOT = Path(__file__).resolve().parents[2]

PROJECT = "gptloop"
SAFE = {"core.fsmonitor": "false", "core.hooksPath": os.devnull}
# Set within a hook, where they name the tree of the hook, whatever folder git is called for.
_ELSEWHERE = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX")


def git(tree: Path, *arguments: str) -> str:
    """Run git in a tree.

    Raises:
        RuntimeError: If git is missing, or fails, with what it said.
    """
    done = _call(tree, *arguments, settings=_no_filters(tree))
    if done.returncode:
        raise RuntimeError(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


def settings_in_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Variables that give every git of this process these settings (from git 2.31 on), beside those given already."""
    count = int(os.environ.get("GIT_CONFIG_COUNT") or 0)
    variables = {"GIT_CONFIG_COUNT": str(count + len(settings))}
    for number, (name, value) in enumerate(settings.items(), start=count):
        variables |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    return variables


def commit_info(tree: Path, *besides: str) -> dict[str, Any]:
    """Which revision a tree is at, and whether it was changed since.

    Args:
        tree: The root of a checkout.
        *besides: Folders in it whose changes do not count.

    Raises:
        RuntimeError: If git does not tell, or tells of another tree.
    """
    _check_own(tree)
    paths = [".", *(f":(exclude){folder}" for folder in besides)]
    changed = git(tree, "status", "--porcelain", "--untracked-files=no", "--", *paths)
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
    _check_own(ROOT)
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


def _check_own(tree: Path) -> None:
    top = Path(git(tree, "rev-parse", "--show-toplevel"))
    if top.resolve() != tree.resolve():
        raise RuntimeError(f"{tree} is no git checkout of its own: git tells of {top}")


def _no_filters(tree: Path) -> dict[str, str]:
    """Settings under which no clean or smudge filter runs that a configuration defines; the project has none."""
    found = _call(tree, "config", "-z", "--name-only", "--get-regexp", r"^filter\.").stdout.split("\0")
    off = {"clean": "", "smudge": "", "process": "", "required": "false"}
    filters = sorted({name.rpartition(".")[0] for name in found if name})
    return {f"{name}.{key}": value for name in filters for key, value in off.items()}


def _call(tree: Path, *arguments: str, settings: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    options = [word for name, value in SAFE.items() for word in ("-c", f"{name}={value}")]
    command = ["git", *options, "--no-pager", "--no-optional-locks", "-C", str(tree), *arguments]
    environment = {name: value for name, value in os.environ.items() if name not in _ELSEWHERE}
    environment |= settings_in_environment(settings or {}) | {"LC_ALL": "C"}
    try:
        return subprocess.run(command, check=False, capture_output=True, text=True, errors="replace", env=environment)
    except OSError as error:
        raise RuntimeError(f"git cannot be started: {error.strerror}") from error
