"""Noise floors of a machine, from A/A processes that were measured on it.

Reads the raw pairs that `python -m benchmarks.prove` saves; does not know what is judged with them. Only the pairs that
the proof held apart for calibration are used: these are the floors whose false alarms it counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from gptloop.report.budgets import Budgets
from gptloop.report.errors import ReportError
from gptloop.report.machine import Machine, read_machine
from gptloop.report.memory import memory_effects
from gptloop.report.records import COUNT, FLAG, RECORDS, ROUNDS, Record, named, read_record
from gptloop.report.statistics import CONFIDENCE, paired_noise_floor, process_effect, unpaired_noise_floor
from gptloop.report.verdicts import FEWEST_PROCESSES, MOST_PROCESSES, Floor

PROOF = "proof"
CONTROL = "control"  # the PyTorch loop, beside the cases

SEEN = 19 / 20  # of suite runs with a slowdown of the resolution

Pair = Mapping[str, Any]


@dataclass(frozen=True)
class Calibration:
    """A/A pairs of processes of one machine.

    Attributes:
        name: The file, for the reader.
        machine: Where they were measured.
        pairs: As `benchmarks.gate.pair` records them.
        peaks: Peak memory in bytes by case and side, as `benchmarks.gate.memory` records it; may be empty.
    """

    name: str
    machine: Machine
    pairs: Sequence[Pair]
    peaks: Sequence[Pair] = ()

    def paired_floor(self, case: str, *, processes: int, cases: int, assumed: float) -> Floor:
        """Of change against base, in so many pairs of processes; the assumed one (a fraction) for an unknown case."""
        effects = self._effects(case)
        if len(effects) < 2:
            return assumed_floor(assumed, processes)
        return Floor(paired_noise_floor(effects, processes=processes, cases=cases), True, processes)

    def memory_floor(self, case: str, *, processes: int, cases: int, assumed: float) -> Floor:
        """The same of peak memory."""
        sides = [of_case for one in self.peaks if (of_case := one.get(case))]
        if len(sides) < 2:
            return assumed_floor(assumed, processes)
        effects = memory_effects([one["base"] for one in sides], [one["change"] for one in sides])
        return Floor(paired_noise_floor(effects, processes=processes, cases=cases), True, processes)

    def processes_needed(self, budgets: Budgets) -> int:
        """The fewest pairs that see a slowdown of the resolution in 19 of 20 runs of each case.

        They expect a spread that is larger than the calibration's by its own standard error. Where not even
        `MOST_PROCESSES` do, these.
        """
        for processes in range(FEWEST_PROCESSES, MOST_PROCESSES):
            if all(self._sees(case, processes, budgets) for case in budgets.cases):
                return processes
        return MOST_PROCESSES

    def _sees(self, case: str, processes: int, budgets: Budgets) -> bool:
        effects = self._effects(case)
        if len(effects) < 2:
            return True  # nobody knows more of it than the assumed floor
        floor = paired_noise_floor(effects, processes=processes, cases=len(budgets.cases))
        spread = float(np.sqrt(np.mean(np.square(effects)))) * (1 + 1 / np.sqrt(2 * len(effects)))
        error = spread / np.sqrt(processes)
        half_interval = stats.t.ppf((1 + CONFIDENCE) / 2, processes - 1) * error
        seen = np.log1p(budgets.resolution) - stats.norm.ppf(SEEN) * error
        return bool(seen >= max(floor, np.log1p(budgets.cases[case]) + half_interval))

    def stored_floors(self, cases: Sequence[str]) -> dict[str, float]:
        """Of single processes measured apart, as log-ratios, by case; `CONTROL` is the PyTorch loop's."""
        medians = {case: [float(np.median(arms["base"])) for arms in self._arms(case)] for case in cases}
        medians[CONTROL] = [float(np.median(pair["control_s"])) for pair in self.pairs]
        return {
            case: unpaired_noise_floor(of_case, cases=len(cases))
            for case, of_case in medians.items()
            if len(of_case) >= 2
        }

    def _effects(self, case: str) -> list[float]:
        return [process_effect(arms["base"], arms["change"]) for arms in self._arms(case)]

    def _arms(self, case: str) -> list[Mapping[str, Any]]:
        return [pair["cases"][case] for pair in self.pairs if case in pair["cases"]]


def assumed_floor(fraction: float, processes: int = 1) -> Floor:
    """A floor that nobody measured."""
    return Floor(float(np.log1p(fraction)), False, processes)


def find_calibration(folder: Path, machine: Machine) -> Calibration | None:
    """The calibration of a machine, `proof*.json` directly in a folder; the last by name where there are several.

    Raises:
        ReportError: If a file of this kind is damaged.
    """
    found = None
    for path in sorted(folder.glob("proof*.json")):
        record = read_record(path)
        if record.values.get("gptloop_kind") == PROOF and read_machine(record.record("machine")) == machine:
            found = _calibration(path, record, machine) or found
    return found


def check_pair(place: str, pair: Any) -> None:
    """Refuse what is no pair of processes as `benchmarks.gate.pair` records it.

    Raises:
        ReportError: If a field is missing, or arms of a case differ in their number of rounds.
    """
    record = Record(place, pair)
    record.field("control_s", ROUNDS)
    cases = record.record("cases")
    for case in cases.values:
        arms = cases.record(case)
        rounds = {arm: len(arms.field(arm, ROUNDS)) for arm in ("base", "change", *arms.values)}
        if len(set(rounds.values())) != 1:
            raise ReportError(f"{place}: arms of {named(case)} differ in their number of rounds: {named(rounds)}")


def _calibration(path: Path, record: Record, machine: Machine) -> Calibration | None:
    """None where too few pairs are in the file yet, or its models were tiny ones."""
    settings = record.record("settings")
    count, smoke = settings.field("calibration_pairs", COUNT), settings.field("smoke", FLAG)
    pairs = record.field("pairs", RECORDS)[:count]
    if smoke or len(pairs) < count:
        return None
    for index, pair in enumerate(pairs, 1):
        check_pair(f"{path}: pair {index}", pair)
    peaks = record.field_or("peaks", RECORDS, [])
    for index, one in enumerate(peaks, 1):
        cases = Record(f"{path}: peaks {index}", one)
        for case in cases.values:
            for side in ("base", "change"):
                cases.record(case).field(side, COUNT)
    return Calibration(path.name, machine, pairs, peaks)
