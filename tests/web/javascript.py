"""What the tests in JavaScript need: Node, and the libraries that `npm ci --prefix web` installs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

WEB = Path(__file__).parents[2] / "web"
HERE = Path(__file__).parent


def node(*libraries: str) -> str:
    """Where Node is; skips where it or a library is absent, but not in CI."""
    path = shutil.which("node")
    missing = [name for name in libraries if not (WEB / "node_modules" / name).is_dir()]
    if path is None or missing:
        reason = "node is not installed" if path is None else f"npm ci --prefix web has not installed {missing[0]}"
        pytest.fail(f"{reason}, and CI must run it") if os.environ.get("CI") else pytest.skip(reason)
    return path


def build_page(folder: Path) -> Path:
    """The page of the present sources."""
    subprocess.run([node("onnxruntime-web", "@huggingface/tokenizers"), WEB / "build.mjs", folder], check=True)
    return folder


def run_in_node(runtime: str, file: Path, calls: list[dict[str, Any]], *, script: str = "calls.mjs") -> list[Any]:
    """What a script says of each call.

    Args:
        runtime: "web" or "node", or "path": onnxruntime-node, which opens the file itself.
        file: The model.
        calls: `prompts` and `settings` each.
        script: In this folder.
    """
    command = [
        node("onnxruntime-web" if runtime == "web" else "onnxruntime-node"),
        str(HERE / script),
        runtime,
        str(file),
    ]
    done = subprocess.run(
        command, input=json.dumps(calls, default=str), capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)
