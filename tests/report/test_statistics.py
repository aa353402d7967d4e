"""Effects, intervals and noise floors, on data whose truth is known."""

import numpy as np
import pytest
from scipy import stats

from gptloop.report.statistics import (
    CONFIDENCE,
    FALSE_ALARMS,
    paired_estimate,
    paired_noise_floor,
    process_effect,
    unpaired_estimate,
    unpaired_noise_floor,
)

RUNS = 1000


def simulated_effects(runs: int, processes: int, *, effect=0.0, process_sd=0.01, round_sd=0.02, rounds=6, seed=0):
    """Effects [runs, processes] of paired rounds: each process has a shift of its own, each round more noise."""
    rng = np.random.default_rng(seed)
    shift = rng.normal(effect, process_sd, (runs, processes, 1))
    return np.median(shift + rng.normal(0, round_sd, (runs, processes, rounds)), axis=-1)


def test_a_process_gives_the_median_of_its_paired_rounds():
    assert process_effect([1.0, 2.0, 4.0], [1.1, 2.2, 40.0]) == pytest.approx(np.log(1.1))


def test_pairing_cancels_what_both_sides_share():
    drift = np.exp(np.random.default_rng(0).normal(0, 1.0, 9))
    assert process_effect(drift, 1.05 * drift) == pytest.approx(np.log(1.05))


def binomial_bounds(share: float) -> tuple[float, float]:
    """Counts out of RUNS that a true share gives in all but 1 of 10,000 tests."""
    return tuple(stats.binom.interval(0.9999, RUNS, share))


@pytest.mark.parametrize(
    ("processes", "share"),
    [
        (3, 0.75),  # the whole range of three holds the mean of a symmetric law 3 times in 4; no interval does better
        (5, 0.92),  # the whole range of five would do so 15 times in 16
        (8, CONFIDENCE),
        (20, CONFIDENCE),
    ],
)
def test_the_interval_holds_the_truth_as_often_as_its_data_allow(processes, share):
    estimate = paired_estimate(simulated_effects(RUNS, processes, effect=0.03))
    held = ((estimate.low <= 0.03) & (estimate.high >= 0.03)).sum()
    low, high = binomial_bounds(share)
    assert low <= held <= high, held / RUNS


def test_rounds_of_one_process_are_no_independent_evidence():
    """More rounds do not narrow an interval below what processes differ by."""
    few, many = (paired_estimate(simulated_effects(200, 5, round_sd=0.001, rounds=r)) for r in (6, 600))
    widths = [np.mean(estimate.high - estimate.low) for estimate in (few, many)]
    assert widths[1] == pytest.approx(widths[0], rel=0.1)


def test_the_same_effects_give_the_same_interval():
    effects = [0.01, -0.02, 0.005, 0.013, 0.0]
    assert paired_estimate(effects) == paired_estimate(effects)


def test_effects_without_spread_have_an_interval_without_width():
    assert paired_estimate([0.0] * 5) == (0.0, 0.0, 0.0)


def test_the_unpaired_interval_holds_the_truth_too_and_rounds_may_differ_in_number():
    rng = np.random.default_rng(0)
    held, runs = 0, 100
    for _ in range(runs):
        base, change = np.exp(rng.normal(0, 0.01, 9)), 1.2 * np.exp(rng.normal(0, 0.01, 7))
        estimate = unpaired_estimate(base, change)
        held += estimate.low <= np.log(1.2) <= estimate.high
    low, high = stats.binom.interval(0.9999, runs, CONFIDENCE)
    assert low <= held <= high


@pytest.mark.parametrize("cases", [1, 4])
def test_so_many_false_alarms_pass_the_paired_floor(cases):
    """Each simulated machine is calibrated on 20 pairs and then judged once, as in use."""
    alarms = 0
    for seed in range(RUNS):
        calibration, run = simulated_effects(1, 20, seed=2 * seed)[0], simulated_effects(1, 5, seed=2 * seed + 1)[0]
        alarms += run.mean() > paired_noise_floor(calibration, processes=5, cases=cases)
    low, high = binomial_bounds(FALSE_ALARMS / cases)
    assert low <= alarms <= high


def test_a_bias_between_the_sides_widens_the_floor():
    effects = np.random.default_rng(0).normal(0, 0.01, 20)
    biased, fair = (paired_noise_floor(x, processes=5, cases=1) for x in (effects + 0.05, effects))
    assert biased > 4 * fair  # sqrt(1 + 5^2), where 5 is the bias in standard deviations


def test_so_many_false_alarms_pass_the_unpaired_floor():
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(RUNS):
        medians = np.exp(rng.normal(0, 0.02, 22))
        alarms += np.log(medians[21] / medians[20]) > unpaired_noise_floor(medians[:20], cases=1)
    low, high = binomial_bounds(FALSE_ALARMS)
    assert low <= alarms <= high
