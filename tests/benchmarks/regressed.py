"""A copy of the package with a regression on purpose."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from benchmarks.command.checkout import ROOT

REGRESSIONS = ROOT / "benchmarks" / "gate" / "regressions"


def regressed(tree: Path, patch: str) -> Path:
    """The folder, with the package and one of the suite's patches in it.

    It is a repository, since within one that is further up `git apply` leaves out all files, without a word.
    """
    shutil.copytree(ROOT / "gptloop", tree / "gptloop", ignore=shutil.ignore_patterns("__pycache__"))
    for command in (["init", "-q"], ["apply", str(REGRESSIONS / f"{patch}.patch")]):
        subprocess.run(["git", *command], cwd=tree, check=True)
    return tree
