"""Many calls timed, interleaved. Knows nothing of what is called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from benchmarks.timing.turn_worker import rest
from gptloop.bench.clock import timed

T = TypeVar("T")


def interleave(
    arms: Mapping[str, Callable[[], Any]],
    rounds: int,
    beside: Callable[[], T],
    rest: Callable[[], object] = rest,
) -> tuple[dict[str, list[float]], dict[str, list[tuple[T, T]]]]:
    """Time every arm once a round, forwards then backwards (A B C, C B A, ...), so that drift meets all alike.

    Before each call, all threads come to rest: those of the arm before would go on spinning into it.

    Args:
        arms: Calls by name.
        rounds: How many.
        beside: Called before and after each call, outside of its time.
        rest: Waits until the threads of all arms rest; this process's unless given.

    Returns:
        Seconds by arm, and what `beside` gave before and after; entry i of every list is of round i.
    """
    times: dict[str, list[float]] = {name: [] for name in arms}
    given: dict[str, list[tuple[T, T]]] = {name: [] for name in arms}
    for round_ in range(rounds):
        rest()
        before = beside()
        for name in list(arms) if round_ % 2 == 0 else reversed(list(arms)):
            rest()
            times[name].append(timed(arms[name]))
            rest()
            after = beside()
            given[name].append((before, after))
            before = after
    return times, given
