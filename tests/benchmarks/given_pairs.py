"""Pairs of processes that are given, not measured, for tests of the gate's command."""

import numpy as np

CASE = "distilgpt2 1x8 onnx"
BUDGETS = f'budget = 0.02\nresolution = 0.10\ndrift = 0.15\npaired_floor = 0.04\nstored_floor = 0.1\n[cases."{CASE}"]\n'
COMMIT = {"id": "0123456789abcdef", "dirty": False}
PROFILES = {
    side: {
        "seconds": 0.01,
        "arena_bytes": 1,
        "peak_memory_bytes": 2,
        "groups": [
            {
                "place": "h.*",
                "operator": "Concat",
                "inputs": ["float[8]"],
                "nodes": nodes,
                "runs": nodes,
                "seconds": 0.001,
            }
        ],
    }
    for side, nodes in (("base", 1), ("change", 3))
}


def pairs(slower: float, *, spread: float = 0.003, control=(2.0, 2.0, 2.0, 2.0, 2.0)):
    shifts = slower * np.exp(np.random.default_rng(0).normal(0, spread, len(control)))
    return [
        {"cases": {CASE: {"base": [1.0, 1.0], "change": [shift, shift]}}, "control_s": [torch]}
        for shift, torch in zip(shifts, control, strict=True)
    ]


PEAK = {CASE: {"base": 1_000_000, "change": 1_000_000}}
