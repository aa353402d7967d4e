"""How sure one may be that a change is slower: effects of processes, their interval, and the noise of no change.

Effects are logarithms of time ratios, change over base: 0 is no difference, 0.05 about 5 % slower. Knows no case, no
file and no verdict.

What a process does to a time (memory layout, placement, caches) stays for its whole life, so rounds of one process are
no independent evidence, however many: a process gives one number, the median of its paired rounds, and the interval is
over processes.

Sources: Kalibera and Jones, "Rigorous benchmarking in reasonable time", ISMM 2013 (repeat at the level that varies,
report an effect with its interval); Efron and Tibshirani, "An introduction to the bootstrap", 1993 (percentile
interval); Davison and Hinkley, "Bootstrap methods and their application", 1997, section 3.8 (of nested data, resample
the highest level); Hesterberg, "What teachers should know about the bootstrap", 2015, section 5.3 (for few
observations, the percentile interval expanded to the width of Student's t).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES = 9999
SEED = 0  # the same rounds give the same verdict
# False alarms that the noise floors of all cases together let through in a run without a change. Half of the 2 % that
# the proof allows, as the spread of 20 processes is itself known to a sixth only.
FALSE_ALARMS = 0.01

Floats = npt.NDArray[np.float64]


class Estimate(NamedTuple):
    """An effect with its 95 % bootstrap interval; arrays where many runs were judged at once."""

    effect: Any
    low: Any
    high: Any


def process_effect(base_s: Sequence[float], change_s: Sequence[float]) -> float:
    """What one process, or pair of processes, says: the median of its paired rounds' log-ratios.

    Args:
        base_s: Rounds in seconds.
        change_s: Round i was measured next to round i of the base.
    """
    return float(np.median(np.log(np.asarray(change_s) / np.asarray(base_s))))


def paired_estimate(effects: npt.ArrayLike) -> Estimate:
    """The mean of process effects and its interval, clustered by process.

    Args:
        effects: Of `process_effect`, [..., processes], at least 2; leading axes are separate runs.
    """
    effects = np.asarray(effects, dtype=np.float64)
    result = stats.bootstrap(
        (effects,),
        np.mean,
        axis=-1,
        method="percentile",
        confidence_level=expanded_confidence(effects.shape[-1]),
        n_resamples=RESAMPLES,
        batch=500,
        rng=np.random.default_rng(SEED),
    )
    return Estimate(effects.mean(axis=-1), *result.confidence_interval)


def unpaired_estimate(base_s: Sequence[float], change_s: Sequence[float]) -> Estimate:
    """The effect between rounds that were measured apart, one process each: difference of mean logs, and its interval.

    The interval knows nothing of what differs between the processes: that is for the noise floor.

    Args:
        base_s: At least 2 rounds in seconds.
        change_s: As many or not.
    """
    base, change = np.log(base_s), np.log(change_s)
    effect = float(change.mean() - base.mean())
    result = stats.bootstrap(
        (change, base),
        lambda change, base, axis: change.mean(axis=axis) - base.mean(axis=axis),
        method="percentile",
        confidence_level=expanded_confidence(min(len(base), len(change))),
        n_resamples=RESAMPLES,
        rng=np.random.default_rng(SEED),
    )
    return Estimate(effect, *map(float, result.confidence_interval))


def expanded_confidence(count: int) -> float:
    """The level at which a percentile interval of so many observations is as wide as Student's t at 95 %."""
    t = stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)
    return float(1 - 2 * stats.norm.cdf(-np.sqrt(count / (count - 1)) * t))


def paired_noise_floor(effects: Sequence[float], *, processes: int, cases: int) -> float:
    """The mean effect that so many processes without a change stay below, as A/A processes have shown.

    Taken about 0, which is the truth of A/A, so that a bias between the sides widens it.

    Args:
        effects: Of A/A processes, at least 2.
        processes: How many the judged run has.
        cases: How many are judged together and share `FALSE_ALARMS`.
    """
    spread = float(np.sqrt(np.mean(np.square(effects))))
    return _quantile(len(effects), cases) * spread / float(np.sqrt(processes))


def unpaired_noise_floor(medians_s: Sequence[float], *, cases: int) -> float:
    """The same for two single processes measured apart.

    Args:
        medians_s: The median time of the same code in each of several processes, at least 2.
        cases: As above.
    """
    spread = float(np.std(np.log(medians_s), ddof=1))
    return _quantile(len(medians_s) - 1, cases) * spread * float(np.sqrt(2))


def _quantile(degrees: int, cases: int) -> float:
    return float(stats.t.ppf(1 - FALSE_ALARMS / cases, degrees))
