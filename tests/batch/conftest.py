"""A run of `gptloop batch` over 30 prompts of all lengths, and what one undisturbed run makes of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

SETTINGS = ("--max-new-tokens", "5", "--temperature", "1.5", "-n", "3", "--window", "8", "--seed", "7", "--no-eos")
BROKEN = {3: b"{broken", 12: b'{"ids": []}', 20: b'{"ids": [1, 2], "prompt": "both"}', 21: b"", 29: b'{"ids": [1.5]}'}


class Undisturbed(NamedTuple):
    """The file of prompts, and the bytes of its results."""

    model: Path
    source: Path
    results: bytes


Batch = Callable[..., tuple[int, str]]


@pytest.fixture
def batch(capsys: pytest.CaptureFixture[str]) -> Batch:
    """Runs `gptloop batch`: its exit code and its standard error."""
    from gptloop.cli import main  # noqa: PLC0415

    def batch_(*arguments: object) -> tuple[int, str]:
        code = main(["batch", *map(str, arguments)])
        out, err = capsys.readouterr()
        assert not out
        return code, err

    return batch_


@pytest.fixture(scope="session")
def undisturbed(trained, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """Texts and token ids by turns, and some lines that are no prompts."""
    from gptloop.cli import main  # noqa: PLC0415

    folder = tmp_path_factory.mktemp("undisturbed")
    random = np.random.default_rng(0)
    lines = []
    for number, length in enumerate(random.integers(1, 59, 30)):
        start = int(random.integers(0, 60))
        ids = trained.ids[start : start + int(length)]
        prompt = {"prompt": trained.tokenizer.decode(ids)} if number % 2 else {"ids": ids}
        lines.append(BROKEN.get(number, json.dumps(prompt).encode()))
    source, output = folder / "prompts.jsonl", folder / "results.jsonl"
    source.write_bytes(b"\n".join(lines) + b"\n")
    assert main(["batch", str(trained.path), str(source), "-o", str(output), *SETTINGS]) == 0
    return Undisturbed(trained.path, source, output.read_bytes())
