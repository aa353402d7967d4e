"""Counting a CUDA trace, on a small one written by hand; and what a step really does, where there is a GPU."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
import torch

from benchmarks.machine.cuda_trace import Counts, count, kernel_summary, per_step, record, trace_steps
from gptloop import OnnxLoop, export
from gptloop.runtime.session import CUDA

# As torch 2.11 writes them, other fields left out.
EVENTS = [
    {"ph": "M", "name": "process_name", "args": {"name": "python"}},
    {"ph": "X", "cat": "kernel", "name": "ampere_sgemm_128x64_nn", "ts": 1, "dur": 30},
    {"ph": "X", "cat": "kernel", "name": "ampere_sgemm_128x64_nn", "ts": 5, "dur": 20},
    {"ph": "X", "cat": "kernel", "name": "softmax_warp_forward", "ts": 2, "dur": 10},
    {"ph": "X", "cat": "gpu_memcpy", "name": "Memcpy HtoD (Pageable -> Device)", "dur": 2},
    {"ph": "X", "cat": "gpu_memcpy", "name": "Memcpy HtoD (Pinned -> Device)", "dur": 2},
    {"ph": "X", "cat": "gpu_memcpy", "name": "Memcpy DtoH (Device -> Pinned)", "dur": 2},
    {"ph": "X", "cat": "gpu_memcpy", "name": "Memcpy DtoD (Device -> Device)", "dur": 2},
    {"ph": "X", "cat": "gpu_memset", "name": "Memset (Device)", "dur": 1},
    {"ph": "X", "cat": "cuda_runtime", "name": "cudaStreamSynchronize", "dur": 5},
    {"ph": "X", "cat": "cuda_runtime", "name": "cudaMemcpy", "dur": 5},
    {"ph": "X", "cat": "cuda_driver", "name": "cuCtxSynchronize", "dur": 5},
    {"ph": "X", "cat": "cuda_runtime", "name": "cudaMemcpyAsync", "dur": 5},
    {"ph": "X", "cat": "cuda_runtime", "name": "cudaLaunchKernel", "dur": 5},
    {"ph": "X", "cat": "cuda_runtime", "name": "cudaHostAlloc", "dur": 5},
    {"ph": "X", "cat": "cuda_runtime", "name": "cudaMallocHost", "dur": 5},
    {"ph": "X", "cat": "cuda_runtime", "name": "cudaMalloc", "dur": 5},
    {"ph": "X", "cat": "cuda_runtime", "name": "cudaGraphLaunch", "dur": 5},
    {"ph": "X", "cat": "cpu_op", "name": "aten::mm cudaStreamSynchronize", "dur": 50},
    {"ph": "i", "cat": "kernel", "name": "no duration"},
    {"ph": "f", "cat": "ac2g", "name": "ac2g"},
]

IDS = np.random.default_rng(0).integers(0, 97, (2, 5))


def test_every_kind_of_event_is_counted_once():
    assert count(EVENTS) == Counts(
        kernels=3,
        host_to_device=2,
        device_to_host=1,
        device_to_device=1,
        memsets=1,
        synchronisations=3,
        pinned_allocations=2,
        device_allocations=1,
        graph_launches=1,
        kernel_s=60e-6,
    )


def test_a_steps_share_is_the_difference_of_two_calls_over_their_steps():
    few, many = Counts(kernels=100, host_to_device=7, kernel_s=1.0), Counts(kernels=220, host_to_device=7, kernel_s=3.0)
    assert per_step(few, many, 4) == Counts(kernels=30, host_to_device=0, kernel_s=0.5)
    with pytest.raises(ValueError, match="at least 1 step more, got 0"):
        per_step(few, many, 0)


def test_the_summary_begins_with_the_kernels_that_took_longest():
    lines = kernel_summary(EVENTS, most=2).splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["2", "50.0", "ampere_sgemm_128x64_nn"],
        ["1", "10.0", "softmax_warp_forward"],
    ]


def test_a_real_trace_has_the_form_that_is_counted():
    """Recorded on whatever this machine has: its events are found, and those of CUDA only where there is a GPU."""
    events = record(lambda: torch.ones(64, 64) @ torch.ones(64, 64))
    assert any(event.get("cat") == "cpu_op" and event["name"] == "aten::mm" and event["ph"] == "X" for event in events)
    if not torch.cuda.is_available():
        assert count(events) == Counts()


def test_both_calls_are_warm_when_they_are_traced():
    asked = []
    counts, _ = trace_steps(asked.append, 2, 5)
    assert asked == [2, 5, 2, 5]
    if not torch.cuda.is_available():
        assert counts == Counts()


@pytest.mark.skipif(
    not torch.cuda.is_available() or CUDA not in ort.get_available_providers(),
    reason="no GPU that both torch and this build of ONNX Runtime can use",
)
@pytest.mark.parametrize("flavor", ["lean", "fixed", "fused"])
def test_a_step_neither_copies_nor_waits(tiny, tmp_path, flavor):
    path = export(tiny.model, tmp_path / "model.onnx", precision="fp16", flavor=flavor)
    loop = OnnxLoop(path, device="cuda")
    counts, _ = trace_steps(lambda new_tokens: loop.generate(IDS, max_new_tokens=new_tokens), 8, 24)
    assert counts.kernels > 10  # or nothing was seen at all
    assert (counts.host_to_device, counts.device_to_host) == (0, 0)
    assert (counts.synchronisations, counts.pinned_allocations) == (0, 0)
