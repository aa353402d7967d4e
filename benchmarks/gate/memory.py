"""Peak memory of the gated cases: a fresh process for each case and side, that opens the file and calls it once.

The turns' processes hold every case at once, so their peak says nothing of one.
"""

from __future__ import annotations

from benchmarks.gate.prepare import send_load
from benchmarks.gate.process import processes
from benchmarks.gate.work import SIDES, Files, GatedCase, Work
from gptloop.bench.memory import peak_memory_bytes

Peaks = dict[str, dict[str, int | None]]


def measure_peaks(files: Files, work: Work) -> Peaks:
    """Bytes by case and side, of one process each; None where the system does not tell."""
    return {case.name: _peaks_of(files, work, case) for case in work.cases}


def _peaks_of(files: Files, work: Work, case: GatedCase) -> dict[str, int | None]:
    with processes(files.trees) as started:
        for side in SIDES:
            send_load(started[side], files, side, case, work)
        for side in SIDES:
            if "error" in (answer := started[side].receive()):
                raise RuntimeError(f"{case.name} of {side} cannot be loaded: {answer['error']}")
        return {side: peak_memory_bytes(started[side].pid) for side in SIDES}
