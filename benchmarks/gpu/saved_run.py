"""A measured case as pytest-benchmark saves it, so that gptloop.report and pytest-benchmark compare read it."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from pytest_benchmark.plugin import pytest_benchmark_generate_machine_info
from pytest_benchmark.stats import Stats

from benchmarks import machine
from benchmarks.cases import Case
from benchmarks.command.checkout import ROOT, saved_commit_info
from benchmarks.gpu.stages import write_json
from benchmarks.measuring.measurement import Measurement
from benchmarks.measuring.saved import extra_info
from gptloop.reference.parity import Parity


def save_run(device: str, case: Case, found: dict[str, Measurement], path: Path) -> None:
    """Write a case's contenders, each of which passed its parity check, as one run."""
    info = pytest_benchmark_generate_machine_info() | {"gptloop": machine_facts(device)}
    record = {
        "machine_info": info,
        "commit_info": saved_commit_info(ROOT),
        "benchmarks": [benchmark(case, name, measured) for name, measured in found.items()],
        "datetime": datetime.datetime.now(datetime.UTC).isoformat(),
        "version": "gptloop",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, record)


def machine_facts(device: str) -> dict[str, Any]:
    """As the suite's; a rehearsal is on the CPU wherever it runs."""
    found = machine.facts()
    return found if device == "cuda" else found | {"device": "cpu", "gpu": None, "driver": None, "cuda": None}


def benchmark(case: Case, name: str, measured: Measurement) -> dict[str, Any]:
    """One contender's entry."""
    assert isinstance(measured.parity, Parity)
    stats = Stats()
    for round_s in measured.rounds_s:
        stats.update(round_s)
    fullname = f"test_generate[{case.group.replace(' ', '-')}-{name}]"
    return {
        "group": case.group,
        "name": fullname,
        "fullname": f"benchmarks/test_speed.py::{fullname}",
        "params": None,
        "param": None,
        "options": {},
        "extra_info": extra_info(case, name, measured, measured.parity),
        "stats": stats.as_dict() | {"data": measured.rounds_s, "iterations": 1},
    }
