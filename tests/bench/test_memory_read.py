"""What `gptloop bench` finds out of memory: the process's peak, the bandwidth, and what a step reads."""

import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest

from gptloop import export
from gptloop.bench import memory
from gptloop.model_file import read_model


@pytest.mark.parametrize("single_file", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_step_reads_all_weights_but_the_positions(tiny, tmp_path, precision, single_file):
    """Each product's matrix with what belongs to it, layer norms, and the table of tokens, which is the LM head."""
    path = export(tiny.model, tmp_path / "model.onnx", precision=precision, single_file=single_file)
    D, V, layers = 32, 97, 2
    matrices = layers * 12 * D * D + V * D
    found = memory.step_weight_bytes(read_model(path))
    number_bytes = {"fp32": 4, "int8": 1}[precision]
    vectors = 4 * (layers * (9 + 4) * D + 2 * D)  # biases and layer norms
    scales = 0 if precision == "fp32" else 4 * (layers * 9 * D + V)
    assert found >= matrices * number_bytes + vectors + scales
    assert found < matrices * number_bytes + vectors + scales + 64 * D * 4, "constants, but not the positions"


def test_an_embedding_that_is_not_the_head_is_not_read(tiny, open_tiny):
    untied = open_tiny(tie_word_embeddings=False)
    assert memory.step_weight_bytes(read_model(untied.path)) == memory.step_weight_bytes(read_model(tiny.path))


def test_the_peak_of_memory_is_the_process_own():
    script = """
from gptloop.bench.memory import peak_memory_bytes
before = peak_memory_bytes()
held = bytearray(b"x") * 100_000_000
print(before, peak_memory_bytes() - before)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    before, more = map(int, done.stdout.split())
    assert 10e6 < before < 1e9
    assert 99e6 < more < 110e6
    assert memory.peak_memory_bytes(10**9) is None, "of no process"


def test_all_of_the_buffer_is_read_by_as_many_threads_as_asked_for(monkeypatch):
    read = []
    real = np.array_split
    monkeypatch.setattr(np, "array_split", lambda *a: read.append(real(*a)) or read[-1])
    memory.MemoryRead(3)()
    assert all(len(parts) == 3 and sum(part.nbytes for part in parts) == 1 << 22 for parts in read)


def test_the_buffer_and_its_threads_end_with_their_use(monkeypatch):
    made = []
    real = np.ones
    monkeypatch.setattr(np, "ones", lambda *a: made.append(real(*a)) or made[-1])
    read = memory.MemoryRead(2)
    read()
    buffer = weakref.ref(made.pop())
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("memory-read")]
    assert buffer() is not None
    assert threads
    del read
    for thread in threads:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads)
    assert buffer() is None
