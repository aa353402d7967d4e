"""Work in a library that a signal ends: here a Loop of ONNX Runtime with more trips than anybody waits for."""

import copy
import itertools
import os
import signal
import threading
import time

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from signals import interrupted

from gptloop.runtime.interrupt import Watch, interruptible

pytestmark = pytest.mark.signals

ENDLESS = np.array(2**62)
PATIENCE_S = 60

COUNT = """
<ir_version: 10, opset_import: ["" : 21]>
count (int64 trips) => (int64 counted) {
    zero = Constant <value = int64 {0}> ()
    true = Constant <value = bool {1}> ()
    counted = Loop (trips, true, zero) <body = one_more (int64 trip, bool go, int64 x) => (bool go_on, int64 y) {
        one = Constant <value = int64 {1}> ()
        go_on = Identity (go)
        y = Add (x, one)
    }>
}
"""


class Counting:
    """A run that counts to `trips`, and how it is stopped."""

    def __init__(self):
        self.session = ort.InferenceSession(onnx.parser.parse_model(COUNT).SerializeToString())
        self.options = ort.RunOptions()
        self.options.log_severity_level = 4
        self.trips = [ENDLESS]
        self.waited_too_long = False

    def again(self, trips: np.ndarray) -> "Counting":
        """Another run of the same session, with options of its own; as every call of a model has."""
        other = copy.copy(self)
        other.options, other.trips = ort.RunOptions(), [trips, trips]
        other.options.log_severity_level = 4
        return other

    def run(self, after_s: float = 0.2) -> int:
        impatient = threading.Timer(PATIENCE_S, self._give_up)
        impatient.start()
        try:
            with interrupted(after_s):
                return interruptible(self._work, self.stop)
        finally:
            impatient.cancel()

    def stop(self, end: bool) -> None:
        self.options.terminate = end

    def _work(self) -> int:
        trips = self.trips.pop(0)
        return int(self.session.run(None, {"trips": trips}, self.options)[0])

    def _give_up(self) -> None:
        self.waited_too_long = True
        self.stop(True)


@pytest.fixture
def counting():
    counting = Counting()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever else has run in this process
    yield counting
    signal.signal(signal.SIGINT, before)
    assert not counting.waited_too_long


def test_ctrl_c_ends_the_work_and_is_raised(counting):
    with pytest.raises(KeyboardInterrupt):
        counting.run()
    counting.stop(False)
    assert int(counting.session.run(None, {"trips": np.array(5)}, counting.options)[0]) == 5


def test_a_signal_whose_handler_raises_nothing_changes_no_result(counting, monkeypatch):
    heard = []
    before = signal.signal(signal.SIGINT, lambda *_: heard.append("SIGINT"))
    counting.trips.append(np.array(7))
    try:
        assert counting.run() == 7
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard == ["SIGINT"]


def test_an_error_of_the_work_is_raised_as_it_is():
    with pytest.raises(ZeroDivisionError):
        interruptible(lambda: 1 // 0, stop=lambda _: pytest.fail("stopped"))


def test_another_thread_works_unwatched():
    results = []
    thread = threading.Thread(target=lambda: results.append(interruptible(lambda: 5, lambda _: None)))
    thread.start()
    thread.join()
    assert results == [5]


def test_who_hears_signals_already_hears_them_still(counting):
    """As asyncio's loops do. Their handlers raise nothing, so the work is left alone."""
    hears, written = os.pipe()
    os.set_blocking(written, False)
    before = signal.set_wakeup_fd(written)
    counting.trips = [np.array(2_000_000)]
    heard = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        assert counting.run() == 2_000_000
        assert signal.set_wakeup_fd(written) == written
    finally:
        signal.signal(signal.SIGINT, heard)
        signal.set_wakeup_fd(before)
    assert os.read(hears, 8) == bytes([signal.SIGINT])
    os.close(hears)
    os.close(written)


def test_a_signal_at_any_time_is_heard_once(counting):
    """Or what comes after it would end, or nothing."""
    end = time.monotonic() + 3
    for after_s in itertools.cycle(np.random.default_rng(0).uniform(0, 0.01, 100)):
        with pytest.raises(KeyboardInterrupt):
            counting.again(ENDLESS).run(after_s)
        short = counting.again(np.array(1000))
        assert interruptible(short._work, short.stop) == 1000
        if time.monotonic() > end:
            break


def test_a_child_of_a_fork_has_a_watch_of_its_own(monkeypatch):
    parents = Watch.of_this_process()
    assert Watch.of_this_process() is parents
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert Watch.of_this_process() is not parents
