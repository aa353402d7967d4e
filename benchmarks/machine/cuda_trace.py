"""What a CUDA trace shows of one decode step: kernels, copies across the bus, synchronisations, pinned allocations.

torch's profiler records all that CUDA does in the process, ONNX Runtime's work included. A step's share is the
difference of two calls that differ in nothing but the number of new tokens, so that prefill and start-up cancel.

Knows traces in Chrome's format and calls; not who is called.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

Event = Mapping[str, Any]

API = ("cuda_runtime", "cuda_driver")
# A blocking copy synchronises, too; the driver's names are the runtime's without "Memcpy" and with other prefixes.
SYNCHRONISING = ("streamsynchronize", "devicesynchronize", "ctxsynchronize", "eventsynchronize")
PINNED = ("cudahostalloc", "cudamallochost", "cudahostregister", "cumemhostalloc", "cumemallochost")


@dataclass(frozen=True)
class Counts:
    """What happened, how often: in a call, or as a share of a step.

    Attributes:
        kernels: That ran on the GPU.
        host_to_device: Copies to the GPU.
        device_to_host: Copies from it.
        device_to_device: Copies within it.
        memsets: Fills of its memory.
        synchronisations: Calls that made the CPU wait for the GPU.
        pinned_allocations: Calls that allocated or registered page-locked memory.
        device_allocations: Calls of cudaMalloc and cudaMallocAsync.
        graph_launches: Launches of whole CUDA graphs.
        kernel_s: Time of the kernels, in seconds.
    """

    kernels: float = 0
    host_to_device: float = 0
    device_to_host: float = 0
    device_to_device: float = 0
    memsets: float = 0
    synchronisations: float = 0
    pinned_allocations: float = 0
    device_allocations: float = 0
    graph_launches: float = 0
    kernel_s: float = 0.0

    def to_dict(self) -> dict[str, float]:
        """All of them, by name."""
        return asdict(self)


def count(events: Iterable[Event]) -> Counts:
    """Count what a trace's events say.

    Args:
        events: `traceEvents` of a trace that torch's profiler exported.
    """
    found: Counter[str] = Counter()
    kernel_us = 0.0
    for event in events:
        category, name = str(event.get("cat", "")).lower(), str(event.get("name", "")).lower()
        if event.get("ph") != "X":
            continue
        if category == "kernel":
            found["kernels"] += 1
            kernel_us += float(event.get("dur", 0))
        elif category == "gpu_memcpy":
            found[_direction(name)] += 1
        elif category == "gpu_memset":
            found["memsets"] += 1
        elif category in API:
            found[_api(name)] += 1
    return Counts(**{name: found[name] for name in Counts().to_dict() if name != "kernel_s"}, kernel_s=kernel_us / 1e6)


def _direction(name: str) -> str:
    for words, direction in (
        ("htod", "host_to_device"),
        ("dtoh", "device_to_host"),
        ("dtod", "device_to_device"),
        ("ptop", "device_to_device"),
    ):
        if words in name:
            return direction
    return "other"


def _api(name: str) -> str:
    if any(word in name for word in SYNCHRONISING) or name in ("cudamemcpy", "cudamemcpy2d"):
        return "synchronisations"
    if name.startswith(PINNED):
        return "pinned_allocations"
    if name.startswith("cudamalloc"):
        return "device_allocations"
    return "graph_launches" if "graphlaunch" in name else "other"


def per_step(few: Counts, many: Counts, steps: int) -> Counts:
    """One step's share of what the longer call did beyond the shorter one.

    Raises:
        ValueError: If the longer call has no more steps.
    """
    if steps < 1:
        raise ValueError(f"the longer call must have at least 1 step more, got {steps}")
    before, after = few.to_dict(), many.to_dict()
    return Counts(**{name: (after[name] - before[name]) / steps for name in before})


def kernel_summary(events: Iterable[Event], most: int = 30) -> str:
    """The kernels that took longest, as text: calls, total microseconds, name."""
    calls: Counter[str] = Counter()
    total_us: Counter[str] = Counter()
    for event in events:
        if event.get("ph") == "X" and str(event.get("cat", "")).lower() in ("kernel", "gpu_memcpy", "gpu_memset"):
            calls[event["name"]] += 1
            total_us[event["name"]] += event.get("dur", 0)
    lines = [f"{'calls':>8} {'total us':>12}  name"]
    lines += [f"{calls[name]:>8} {us:>12.1f}  {name[:160]}" for name, us in total_us.most_common(most)]
    return "\n".join(lines) + "\n"


def record(call: Callable[[], Any]) -> list[Event]:
    """The trace of one call, as torch's profiler sees it; on a machine without a GPU, without anything of CUDA."""
    import torch  # noqa: PLC0415  (the counting needs none)
    from torch.profiler import ProfilerActivity, profile  # noqa: PLC0415

    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * torch.cuda.is_available()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        with profile(activities=activities, acc_events=True) as profiler:
            call()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
        profiler.export_chrome_trace(str(path))
        events: list[Event] = json.loads(path.read_text())["traceEvents"]
    return events


def trace_steps(call: Callable[[int], Any], few: int, many: int) -> tuple[Counts, list[Event]]:
    """One decode step's counts, and the events of the longer call.

    Args:
        call: Generates so many new tokens.
        few: New tokens of the shorter call.
        many: Of the longer one.
    """
    for new_tokens in (few, many):
        call(new_tokens)  # so that nothing is allocated, compiled or tuned for the first time
    short, long = record(lambda: call(few)), record(lambda: call(many))
    return per_step(count(short), count(long), many - few), long
