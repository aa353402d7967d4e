"""Makes docs/example-history: 30 runs that nobody measured, with one step in one case.

`PYTHONPATH=tests python tests/report/example_history.py` writes them again, the same ones.
"""

import datetime
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from report_runs import benchmark, machine, run

FOLDER = Path(__file__).parents[2] / "docs" / "example-history"
RUNS, STEP_AT, STEP = 30, 18, 1.08
NOISE = 0.02
CASES = ("1x1", "8x1")
STEPPED = "8x1"
SECONDS = {"torch": 2.0, "onnx_int8": 0.5}


def runs() -> dict[str, dict[str, Any]]:
    """The runs by file name: from run 18 on, 8 prompts in int8 take 8 % longer."""
    rng = np.random.default_rng(21)
    first = datetime.datetime(2026, 9, 1, 6, tzinfo=datetime.UTC)
    found = {}
    for place in range(RUNS):
        entries = []
        for workload in CASES:
            for contender, seconds in SECONDS.items():
                slower = STEP if (workload, contender) == (STEPPED, "onnx_int8") and place >= STEP_AT else 1.0
                of_run = seconds * slower * np.exp(rng.normal(0, NOISE))
                rounds = tuple(round(float(x), 5) for x in of_run * np.exp(rng.normal(0, 0.01, 3)))
                precision = "int8" if contender == "onnx_int8" else "fp32"
                entries.append(benchmark(contender, rounds, "gpt2", workload, precision, group=f"gpt2 {workload}"))
        at = (first + datetime.timedelta(days=2 * place)).isoformat()
        commit = hashlib.sha1(f"synthetic {place}".encode()).hexdigest()
        facts = machine(cpu="Synthetic example, measured nowhere")
        content = run(*entries, at=at, machine=facts, commit={"id": commit})
        found[f"synthetic/{place + 1:04}_{commit[:10]}.json"] = {"synthetic": True, **content}
    return found


def text(content: dict[str, Any]) -> str:
    """A run's file."""
    return json.dumps(content, separators=(",", ":")) + "\n"


if __name__ == "__main__":
    for name, content in runs().items():
        path = FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text(content), encoding="utf-8")
