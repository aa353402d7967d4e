"""Bench in a moment: a small buffer and few rounds."""

import pytest

from gptloop.bench import measure, memory


@pytest.fixture(autouse=True)
def small_buffer_and_few_rounds(monkeypatch):
    monkeypatch.setattr(memory, "BUFFER_BYTES", 1 << 22)
    monkeypatch.setattr(measure, "MOST_ROUNDS", 3)
