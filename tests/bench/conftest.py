"""Bench in a moment: a small buffer and few rounds."""

import pytest

from gptloop.bench import measure, memory


@pytest.fixture(autouse=True)
def small_buffer_and_few_rounds(monkeypatch):
    monkeypatch.setattr(memory, "BUFFER_BYTES", 1 << 22)
    memory.fastest_read.cache_clear()
    monkeypatch.setattr(measure, "MOST_ROUNDS", 3)
    yield
    memory.fastest_read.cache_clear()
