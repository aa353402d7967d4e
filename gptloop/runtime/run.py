"""One run of a session: inputs and outputs bound, ended early by a signal or when its time is up.

Knows ONNX Runtime; nothing of what a model computes.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from gptloop.runtime.interrupt import interruptible
from gptloop.values import number

LOG_FATAL = 4  # an error is raised as well, and a run that was ended is none
# What holds where nothing is said; but then ONNX Runtime's Python asks for it in vain in each run, which takes 0.1 ms.
DEFAULT_GRAPH_ID = ("gpu_graph_id", "0")
Input: TypeAlias = "npt.NDArray[Any] | ort.OrtValue"


def as_ortvalue(value: Input) -> ort.OrtValue:
    """An array where it lies, in the CPU's memory."""
    return value if isinstance(value, ort.OrtValue) else ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(value))


def run_bound(
    session: ort.InferenceSession,
    inputs: Mapping[str, Input],
    outputs: Sequence[str],
    *,
    stay: Sequence[str] = (),
    device: str = "cpu",
    timeout_s: float | None = None,
) -> list[ort.OrtValue]:
    """Run with inputs and outputs bound, so that of what is computed on a device nothing else leaves it.

    Args:
        session: Stays usable, however the run ends.
        inputs: By name.
        outputs: Names of those that are wanted on the CPU.
        stay: Names of those that are wanted where they are.
        device: Where that is.
        timeout_s: Seconds after which the run is ended; None for never.

    Returns:
        The outputs in this order: `outputs`, `stay`.

    Raises:
        TimeoutError: If the time was up.
        BaseException: What a signal's handler raised meanwhile: Ctrl-C.
    """
    binding = session.io_binding()
    for name, value in inputs.items():
        binding.bind_ortvalue_input(name, as_ortvalue(value))  # an array's bind_cpu_input takes none that has a default
    for names, where in ((outputs, "cpu"), (stay, device)):
        for name in names:
            binding.bind_output(name, where)
    options = ort.RunOptions()
    options.log_severity_level = LOG_FATAL
    options.add_run_config_entry(*DEFAULT_GRAPH_ID)

    up = threading.Event()

    def end(wanted: bool) -> None:
        options.terminate = wanted
        if up.is_set():  # which the thread of a signal does not change
            options.terminate = True

    with _ended_after(timeout_s, up, end):
        interruptible(lambda: session.run_with_iobinding(binding, options), stop=end)
    results: list[ort.OrtValue] = binding.get_outputs()
    return results


@contextlib.contextmanager
def _ended_after(timeout_s: float | None, up: threading.Event, end: Callable[[bool], None]) -> Iterator[None]:
    """Make the work in this block end when its time is up, and `up` say so."""
    if timeout_s is None:
        yield
        return

    def time_is_up() -> None:
        up.set()
        end(True)

    timer = threading.Timer(timeout_s, time_is_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    except Exception as error:
        if up.is_set():
            raise TimeoutError(time_was_up(timeout_s)) from error
        raise
    finally:
        timer.cancel()


class Deadline:
    """A time that several calls have together, from the first on.

    Args:
        timeout_s: Seconds; None for ever.

    Raises:
        ValueError: If it is no number above 0 that a timer can wait.
    """

    def __init__(self, timeout_s: float | None):
        bound = f"above 0 and at most {threading.TIMEOUT_MAX:g} seconds"
        self._timeout_s = None if timeout_s is None else number("timeout_s", timeout_s, bound, _can_be_waited)
        self._end_s: float | None = None

    def left_s(self) -> float | None:
        """The seconds that the next call has.

        Raises:
            TimeoutError: If there are none.
        """
        if self._timeout_s is None:
            return None
        now_s = time.monotonic()
        if self._end_s is None:
            self._end_s = now_s + self._timeout_s
        if self._end_s <= now_s:
            raise TimeoutError(time_was_up(self._timeout_s))
        return self._end_s - now_s


def time_was_up(timeout_s: float) -> str:
    """What a TimeoutError says."""
    return f"the call was ended after timeout_s {timeout_s:g}"


def _can_be_waited(seconds: float) -> bool:
    return 0 < seconds <= threading.TIMEOUT_MAX
