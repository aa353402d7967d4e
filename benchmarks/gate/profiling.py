"""What a call consists of: both sides of a case once more, under ONNX Runtime's profiler, and its file as plain data.

The profile's format is ONNX Runtime's: events with start and duration in microseconds, a node's with its operator and
the types and shapes of what it read (https://onnxruntime.ai/docs/performance/tune-performance/profiling-tools.html).
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contenders import arguments
from benchmarks.gate.prepare import case_ids
from benchmarks.gate.process import processes
from benchmarks.gate.work import SIDES, Files, GatedCase, Work
from gptloop.bench.memory import peak_memory_bytes

WORKER = Path(__file__).with_name("profile_worker.py")
CALLS = 5  # profiled, after one that warms up
MICRO = 1e-6

Event = Mapping[str, Any]


def profile_case(files: Files, case: GatedCase, work: Work) -> dict[str, dict[str, Any]]:
    """The profiles of both sides, one process after the other, as `gptloop.report.explanation.explain` reads them.

    Raises:
        RuntimeError: If a side cannot be profiled, with what it said.
    """
    profiles = {}
    for side in SIDES:
        with processes({side: files.trees[side]}, WORKER) as started:
            answer = started[side].ask(
                "profile",
                path=str(files.exported(side, case)),
                prefix=str(files.folder / f"profile-{side}"),
                device=work.device,
                threads=work.threads,
                ids=case_ids(files, case).tolist(),
                arguments=arguments(case.workload, case.workload.max_new_tokens, greedy=False),
                calls=CALLS,
            )
            if "error" in answer:
                raise RuntimeError(f"{case.name} of {side} cannot be profiled: {answer['error']}")
            peak = peak_memory_bytes(started[side].pid)
        path = Path(answer["profile"])
        profiles[side] = read_profile(path, warm_calls=answer["warm_calls"]) | {"peak_memory_bytes": peak}
        path.unlink()
    return profiles


def read_profile(path: Path, *, warm_calls: int = 0) -> dict[str, Any]:
    """ONNX Runtime's file as plain data.

    Args:
        path: The file.
        warm_calls: The first calls, which are left out.

    Returns:
        `seconds` of a call (the median), `arena_bytes` (the most that ONNX Runtime's arena had in use), and `groups`:
        nodes alike by place in the graph, operator and what they read, with `nodes`, `runs` and `seconds` in a call.
        A dimension that differs from run to run, as the length of the cache does, is written `1..36`. The time of a
        node is its own: that of a Loop is without its body's.
    """
    events = json.loads(path.read_text())
    calls = sorted((one for one in events if one["name"] == "model_run"), key=lambda one: one["ts"])[warm_calls:]
    nodes = sorted((one for one in events if one["cat"] == "Node"), key=lambda one: (one["ts"], -one["dur"]))
    of_calls = [[one for one in nodes if call["ts"] <= one["ts"] < call["ts"] + call["dur"]] for call in calls]
    return {
        "seconds": float(np.median([call["dur"] for call in calls])) * MICRO,
        "arena_bytes": max((int(one["args"].get("mem_in_use_peak", 0)) for one in nodes), default=0),
        "groups": list(_groups(of_calls[0], _median_own_us(of_calls))),
    }


def _groups(nodes: Sequence[Event], own_us: Sequence[float]) -> Iterator[dict[str, Any]]:
    """One call's nodes, those alike together."""
    runs: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, one in enumerate(nodes):
        runs[_id(one)].append(index)
    alike: dict[tuple[str, str, tuple[str, ...]], list[list[int]]] = defaultdict(list)
    for (name, operator), of_node in runs.items():
        read = [nodes[index]["args"].get("input_type_shape", []) for index in of_node]
        alike[_place(name), operator, _signature(read)].append(of_node)
    for (place, operator, inputs), of_nodes in alike.items():
        indices = [index for of_node in of_nodes for index in of_node]
        yield {
            "place": place,
            "operator": operator,
            "inputs": list(inputs),
            "nodes": len(of_nodes),
            "runs": len(indices),
            "seconds": sum(own_us[index] for index in indices) * MICRO,
        }


def _median_own_us(calls: Sequence[Sequence[Event]]) -> list[float]:
    """Of each run of a node, the median over the calls, which run the same nodes in the same order.

    So that the few runs during which the system took the core away do not make their operator slow.
    """
    order = [_id(one) for one in calls[0]]
    alike = [_own_us(nodes) for nodes in calls if [_id(one) for one in nodes] == order]
    return [float(us) for us in np.median(np.array(alike), axis=0)]


def _id(node: Event) -> tuple[str, str]:
    return node["name"], node["args"]["op_name"]


def _own_us(nodes: Sequence[Event]) -> list[float]:
    """The durations without those of the nodes that ran inside, as a Loop's do."""
    own = [float(one["dur"]) for one in nodes]
    around: list[int] = []
    for index, one in enumerate(nodes):
        while around and nodes[around[-1]]["ts"] + nodes[around[-1]]["dur"] <= one["ts"]:
            around.pop()
        if around:
            own[around[-1]] -= one["dur"]
        around.append(index)
    return [max(us, 0.0) for us in own]


def _place(name: str) -> str:
    """Where a node stands, the same in every layer: `with_later/decode_block/decode_one_token/h.*`."""
    return re.sub(r"\d+", "*", name.rpartition("/")[0]) or "outside"


def _signature(runs: Sequence[Sequence[Mapping[str, Sequence[int]]]]) -> tuple[str, ...]:
    """What a node reads, over all its runs: `float[8,1..36,64]`."""
    return tuple(_merged([run[i] for run in runs]) for i in range(min(map(len, runs))))


def _merged(shapes: Sequence[Mapping[str, Sequence[int]]]) -> str:
    dtypes = sorted({dtype for shape in shapes for dtype in shape})
    dims = [list(of_shape) for shape in shapes for of_shape in shape.values()]
    if len({len(one) for one in dims}) != 1:
        return f"{'|'.join(dtypes)}[...]"
    spans = ["..".join(map(str, sorted({min(axis), max(axis)}))) for axis in zip(*dims, strict=True)]
    return f"{'|'.join(dtypes)}[{','.join(spans)}]"
