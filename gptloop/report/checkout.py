"""The project's own checkout, as git tells: whether it was changed since its commit.

Git is called so that nothing runs which a repository's configuration names (a file watcher, hooks, filters, a pager, a
verifier of signatures), and is believed only about a folder that is a checkout itself, not one inside another's.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from gptloop.report.errors import ReportError

ROOT = Path(__file__).resolve().parents[2]

SAFE = {"core.fsmonitor": "false", "core.hooksPath": os.devnull}
# Set within a hook, where they name the tree of the hook, whatever folder git is called for.
_ELSEWHERE = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX")


def git(tree: Path, *arguments: str) -> str:
    """Run git in a tree.

    Returns:
        What it printed, without the line's end.

    Raises:
        RuntimeError: If git is missing, or fails, with what it said.
    """
    done = _call(tree, *arguments, settings=_no_filters(tree))
    if done.returncode:
        raise RuntimeError(f"git {' '.join(arguments)}: {done.stderr.strip() or f'exit status {done.returncode}'}")
    return done.stdout.rstrip()


def settings_in_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Variables that give every git of this process these settings (from git 2.31 on), beside those given already."""
    count = int(os.environ.get("GIT_CONFIG_COUNT") or 0)
    variables = {"GIT_CONFIG_COUNT": str(count + len(settings))}
    for number, (name, value) in enumerate(settings.items(), start=count):
        variables |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    return variables


def check_own(tree: Path) -> None:
    """Refuse a folder that is no checkout itself.

    Raises:
        RuntimeError: If it is none, or git does not tell.
    """
    top = Path(git(tree, "rev-parse", "--show-toplevel"))
    if top.resolve() != tree.resolve():
        raise RuntimeError(f"{tree} is no git checkout of its own: git tells of {top}")


def changed_files(tree: Path, *besides: str) -> list[str]:
    """The tracked files of a tree that were changed since its commit, by their paths in it.

    Args:
        tree: The root of a checkout.
        *besides: Folders in it whose files do not count.

    Raises:
        RuntimeError: If git does not tell, or tells of another tree.
    """
    check_own(tree)
    paths = [".", *(f":(exclude,literal){folder}" for folder in besides)]
    # Of a submodule's files git would ask as the submodule's configuration says; the project has none.
    options = ("--porcelain", "--untracked-files=no", "--ignore-submodules=dirty")
    return [line[3:] for line in git(tree, "status", *options, "--", *paths).splitlines()]


def refuse_dirty_checkout(folder: Path) -> None:
    """Refuse a checkout with changes in tracked files; those in the report's own folder do not count.

    Args:
        folder: The report's, which must lie in the checkout.

    Raises:
        ReportError: If there are changes, or if nobody can tell.
    """
    try:
        within = folder.resolve().relative_to(ROOT)
    except ValueError:
        raise ReportError(
            f"{folder}: lies outside the project's checkout ({ROOT}): nobody can tell whether what was measured is "
            "committed; move the runs there, then update the baseline"
        ) from None
    try:
        changed = changed_files(ROOT, *([within.as_posix()] if within.parts else []))
    except RuntimeError as error:
        raise ReportError(f"{ROOT}: nobody can tell whether the checkout is clean: {error}") from error
    if changed:
        raise ReportError(f"the checkout is dirty ({changed[0]}); commit first, then update the baseline")


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
