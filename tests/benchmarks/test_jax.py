"""The loop in JAX: its random numbers, its draw, and what ends it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import contenders
from benchmarks.workloads import Workload
from gptloop.reference.parity import Judge
from gptloop.runtime.request import check_request
from gptloop.runtime.threefry import uniforms

# Not imported here: a process that has imported JAX may not fork.
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason="jax is not installed; the extra peers brings it"
)

DRAW = """
import sys
import numpy as np
from benchmarks.contenders.jax_loop import keys
from benchmarks.contenders.jax_program import uniforms
print(*(x.hex() for x in np.asarray(uniforms(keys(np.array(sys.argv[1:], np.uint64)), 3, 7)).ravel().tolist()))
"""

ROWS = Workload("3x2", "6 rows", prompts=3, num_return_sequences=2, prompt_len=9, max_new_tokens=16, top_k=5)


def test_its_uniform_numbers_are_ours_bit_for_bit():
    seeds = np.array([0, 1, 2**33 + 5, 2**63 - 1])
    expected = uniforms(seeds, candidates=3, steps=7).reshape(12, 7)
    command = [sys.executable, "-c", DRAW, *map(str, seeds)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.stdout.split() == [x.hex() for x in expected.ravel().tolist()]


@pytest.fixture(scope="module")
def jax_loop(files):
    contenders.prepare("jax", files)
    loop = contenders.load("jax", files, device="cpu", threads=1)
    yield loop
    loop.close()


@pytest.mark.parametrize("greedy", [False, True])
@pytest.mark.parametrize(
    "workload",
    [
        replace(ROWS, shortest_prompt=2),
        replace(ROWS, eos_token_ids=tuple(range(0, 97, 9))),
        replace(ROWS, top_k=0, temperature=0.7, seed=2**33 + 5),
    ],
    ids=["padded", "ending", "whole vocabulary"],
)
def test_its_tokens_are_the_pytorch_loops(tiny, jax_loop, workload, greedy):
    ids, call = contenders.prompt_ids(workload, 97), contenders.arguments(workload, 16, greedy)
    expected = tiny.torch.generate(ids, **call)
    found = jax_loop.generate(ids, workload, max_new_tokens=16, greedy=greedy)
    assert found.shape == expected.shape
    Judge(tiny.model).check(check_request(tiny.model.config, ids, **call), expected, found)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted by Linux's own list of them")
@pytest.mark.parametrize("threads", [1, 3])
def test_it_has_as_many_threads_for_a_product_as_it_is_told(files, threads):
    contenders.prepare("jax", files)
    loop = contenders.load("jax", files, device="cpu", threads=threads)
    names = [path.read_text() for path in Path(f"/proc/{loop.pid}/task").glob("*/comm")]
    loop.close()
    assert sum("XLAEigen" in name for name in names) == threads
