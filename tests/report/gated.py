"""Runs of gated cases, their budgets and a machine's calibration, for tests of the gate."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from report_runs import benchmark, machine, run, save

CASES = ("gpt2 8x1", "gpt2 1x1")
BUDGETS = "budget = 0.02\nresolution = 0.10\ndrift = 0.15\npaired_floor = 0.04\nstored_floor = 0.10\n" + "".join(
    f'[cases."{case} onnx"]\n' for case in CASES
)
LATER = "2026-11-23T00:00:00+00:00"
SPREAD = np.array([1.0, 1.01, 0.99, 1.005, 0.995])
GATE = "--fail-on-regression"


def suite(
    slower: float = 1.0,
    *,
    torch: float = 1.0,
    cases: Any = CASES,
    spread: Any = SPREAD,
    at: str = LATER,
    **changes: Any,
) -> dict[str, Any]:
    """A run of the gated cases; the ONNX loop takes 1 s times `slower`."""
    of_case = changes.pop("of_case", {})
    entries = []
    for case in cases:
        where = {"size": case.split()[0], "workload": case.split()[1], "group": case, **of_case}
        entries.append(benchmark("torch", tuple(2.0 * torch * spread), **where))
        entries.append(benchmark("onnx", tuple(slower * spread), **where))
    return run(*entries, at=at, **changes)


def calibrate(folder: Path, spread: float) -> None:
    """Save 20 A/A pairs in which a process shifts its times by this much."""
    rng = np.random.default_rng(0)
    pairs = [
        {
            "cases": {f"{case} onnx": {"base": [shift], "change": [shift]} for case in CASES},
            "control_s": [2.0 * shift],
        }
        for shift in np.exp(rng.normal(0, spread, 20))
    ]
    settings = {"calibration_pairs": 20, "smoke": False}
    proof = {"gptloop_kind": "proof", "machine": machine(), "settings": settings, "pairs": pairs}
    save(folder, proof, "proof-m.json")


def verdicts(folder: Path) -> dict[str, str]:
    content = json.loads((folder / "verdicts.json").read_text())
    assert content["gptloop_kind"] == "verdicts"
    return {one["case"]: one["verdict"] for one in content["verdicts"]}
