"""Export in surroundings that servers and containers have: no HOME, no UTF-8, no assertions."""

import json
import os
import subprocess
import sys
from pathlib import Path

from gptloop.cli import main

# An export and a generation, as the command line does them, from a folder and into a file of the names given.
COMMANDS = """
import sys
from gptloop.cli import main
folder, file = sys.argv[1:]
sys.exit(main(["export", folder, "-o", file]) or main(["generate", file, "Four score", "--seed", "1", "--json"]))
"""


def run(folder, file, *options, **environment):
    kept = {
        key: value for key, value in os.environ.items() if not key.startswith(("HOME", "XDG_", "HF_", "LC_", "LANG"))
    }
    return subprocess.run(
        [sys.executable, *options, "-c", COMMANDS, folder, file],
        check=False,
        capture_output=True,
        env={**kept, **environment},
        timeout=120,
    )


NO_TEXT = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def test_without_a_home_without_assertions_and_in_ascii_all_works(trained, tmp_path):
    done = run(trained.directory, tmp_path / "model.onnx", "-O", HOME="/proc/nowhere", **NO_TEXT)
    assert done.returncode == 0, done.stderr
    _, line = done.stdout.decode("ascii").splitlines()
    assert len(json.loads(line)["candidates"][0]["ids"]) > 0


def test_without_docstrings_one_line_says_so(trained, tmp_path):
    done = run(trained.directory, tmp_path / "model.onnx", "-OO")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == (
        b"gptloop: error: transformers cannot be imported without docstrings: run Python without -OO (-O is fine)\n"
    )


def test_a_path_that_is_no_text_in_the_locale_is_one_line(trained, tmp_path, capsys):
    """The tokenizers library and onnx take text; in the C locale, Python reads any letter beyond ASCII like this."""
    odd = Path(os.fsdecode(bytes(tmp_path) + b"/mod\xc3\xa9l\xff"))
    odd.symlink_to(trained.directory)
    for folder, file in ((odd, tmp_path / "model.onnx"), (trained.directory, odd.with_suffix(".onnx"))):
        assert main(["export", str(folder), "-o", str(file)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.isprintable()
        assert line.endswith("is no text in this locale: set PYTHONUTF8=1")
