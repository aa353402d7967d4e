"""What the library says is true of whoever calls it: an option is named by the command that has it."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "gptloop"
COMMANDS = PACKAGE / "cli"
MODULES = sorted(module for module in PACKAGE.rglob("*.py") if COMMANDS not in module.parents)


def strings(module: Path) -> list[str]:
    """Its texts, docstrings included."""
    nodes = ast.walk(ast.parse(module.read_text(encoding="utf-8")))
    return [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]


OPTIONS = {text for module in COMMANDS.glob("*.py") for text in strings(module) if re.fullmatch("--[a-z-]+", text)}


def test_the_options_are_known():
    assert {"--ids", "--ray", "--truncate", "--calibrate-ids", "--port"} <= OPTIONS


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_library_names_no_option_of_a_command(module):
    named = {word for text in strings(module) for word in re.findall(r"(?<![\w-])--[a-z-]+", text)}
    assert not named & OPTIONS
