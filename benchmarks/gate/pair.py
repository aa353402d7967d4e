"""Two trees side by side: a pair of fresh processes, one per tree, that take turns call by call.

Each process has its tree's own `gptloop`, exported file and session, and rests while another is timed; so drift of the
machine meets both sides alike, and what a fresh process does to its times is drawn anew with every pair. The PyTorch
loop of the working tree takes a turn in each round, in a third process, as the control: no change touches it.
Knows nothing of verdicts.
"""

from __future__ import annotations

import datetime
from typing import Any

from benchmarks.command.checkout import ROOT
from benchmarks.gate.prepare import send_load
from benchmarks.gate.process import Process, processes
from benchmarks.gate.work import Arms, Files, GatedCase, Work

WARM_CALLS = 1  # after the one that loading makes


def measure_pair(files: Files, work: Work, arms: Arms) -> dict[str, Any]:
    """One pair of fresh processes and the control's, in turns.

    Returns:
        For JSON: `cases`, seconds by case and arm, entry i of every arm measured in round i; `added_s`, the part of
        them that was added on purpose; `control_s`, the control's; `rest_s`, the longest spinning after a call.
    """
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    times = _Times(work, arms)
    with processes({**files.trees, "control": ROOT}) as running:
        _load(running, files, work)
        for _ in range(WARM_CALLS):
            for case in work.cases:
                for side in files.trees:
                    times.turn(running[side], case)
            times.turn(running["control"], work.control)
        for round_ in range(work.rounds):
            times.control_s.append(times.turn(running["control"], work.control)["seconds"])
            for case in work.cases:
                order = list(arms.items())
                for arm, (side, slower) in order if round_ % 2 == 0 else reversed(order):
                    times.add(case, arm, times.turn(running[side], case, slower))
    return {"started": started, **times.to_json()}


def _load(running: dict[str, Process], files: Files, work: Work) -> None:
    """All processes at the same time."""
    loads = [(side, case) for case in work.cases for side in files.trees] + [("control", work.control)]
    for side, case in loads:
        send_load(running[side], files, side, case, work)
    for side, case in loads:
        if "error" in (answer := running[side].receive()):
            raise RuntimeError(f"{case.name} of {side} cannot be loaded: {answer['error']}")


class _Times:
    """What the turns took."""

    def __init__(self, work: Work, arms: Arms):
        slowed = [arm for arm, (_, slower) in arms.items() if slower]
        self.control_s: list[float] = []
        self._seconds: dict[str, dict[str, list[float]]] = {case.name: {arm: [] for arm in arms} for case in work.cases}
        self._added_s: dict[str, dict[str, list[float]]] = {
            case.name: {arm: [] for arm in slowed} for case in work.cases
        }
        self._rests_s: list[float] = []

    def turn(self, process: Process, case: GatedCase, slower: float = 0.0) -> dict[str, float]:
        """One timed call."""
        answer = process.ask("turn", key=case.name, slower=slower)
        if "error" in answer:
            raise RuntimeError(f"{case.name} failed while it was timed: {answer['error']}")
        self._rests_s.append(answer["busy_s"])
        return answer

    def add(self, case: GatedCase, arm: str, answer: dict[str, float]) -> None:
        """Note a turn of an arm."""
        self._seconds[case.name][arm].append(answer["seconds"])
        if arm in self._added_s[case.name]:
            self._added_s[case.name][arm].append(answer["added_s"])

    def to_json(self) -> dict[str, Any]:
        rest_s = max(self._rests_s)
        return {"cases": self._seconds, "added_s": self._added_s, "control_s": self.control_s, "rest_s": rest_s}
