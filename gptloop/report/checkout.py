"""Whether the project's own checkout is clean, as git tells it.

git is asked of no other folder: its configuration may name programs to run.
"""

import os
import subprocess
from pathlib import Path

from gptloop.report.errors import ReportError

ROOT = Path(__file__).resolve().parents[2]

# Nothing that a configuration or a hook names is run, and nothing waits for a reader.
_GIT = ("git", "--no-pager", "--no-optional-locks", "-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}")

_REDIRECTIONS = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_PREFIX")


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
    if not (ROOT / ".git").exists():
        raise ReportError(f"{ROOT}: no git checkout, so nobody can tell whether it is clean")
    others = [":/", f":(exclude,top,literal){within.as_posix()}"] if within.parts else [":/"]
    command = [*_GIT, "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no", "--", *others]
    # Or a hook that calls this would have another repository asked.
    environment = {name: value for name, value in os.environ.items() if name not in _REDIRECTIONS}
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    except OSError as error:
        raise ReportError(f"{ROOT}: git, which tells whether the checkout is clean: {error.strerror}") from error
    if done.returncode != 0:
        why = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
        raise ReportError(f"{ROOT}: git does not tell whether the checkout is clean: {why}")
    if changed := [line[3:] for line in done.stdout.splitlines()]:
        raise ReportError(f"the checkout is dirty ({changed[0]}); commit first, then update the baseline")
