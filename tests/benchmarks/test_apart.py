"""A contender in a process of its own."""

import os

import numpy as np
import psutil
import pytest
from counts import Counts

from benchmarks.contenders import AbsentError
from benchmarks.contenders.apart import Apart
from benchmarks.workloads import Workload

ROWS = Workload("1x2", "2 candidates", prompts=1, num_return_sequences=2, prompt_len=5, max_new_tokens=6, top_k=5)


def test_a_contender_apart_answers_from_a_process_of_its_own_that_ends_with_it():
    apart = Apart(Counts, 3, huge_pages=False)
    ((counted, pid),) = apart.generate(np.zeros((1, 4), np.int64), ROWS, max_new_tokens=4)
    assert counted == 7
    assert apart.pid == pid != os.getpid()
    apart.rest()
    with pytest.raises(ValueError, match="nothing to generate"):
        apart.generate(np.zeros((1, 4), np.int64), ROWS, max_new_tokens=0)
    assert apart.generate(np.zeros((1, 4), np.int64), ROWS, max_new_tokens=1)[0, 1] == pid
    apart.close()
    assert apart._process.exitcode == 0


def test_a_process_that_ends_by_itself_is_named_with_its_exit_code():
    apart = Apart(Counts, 3, huge_pages=False)
    with pytest.raises(RuntimeError, match="the contender's process ended with 7"):
        apart.generate(np.zeros((1, 4), np.int64), ROWS, max_new_tokens=-1)


def test_an_error_that_cannot_cross_the_pipe_is_told_in_words():
    apart = Apart(Counts, 3, huge_pages=False)
    with pytest.raises(RuntimeError, match="pickle"):
        apart.generate(np.zeros((1, 4), np.int64), ROWS, max_new_tokens=-2)
    apart.close()


def test_what_loading_raises_apart_is_raised_here():
    with pytest.raises(AbsentError, match="-1 is below 0"):
        Apart(Counts, -1, huge_pages=False)


def left():
    """This process's children and its sockets, of which a pipe of multiprocessing is two."""
    process = psutil.Process()
    return process.children(), process.net_connections("unix")


def test_what_loading_raises_leaves_no_process_and_no_pipe():
    """Nor what cannot even be sent to a process."""
    Apart(Counts, 3, huge_pages=False).close()  # starts what multiprocessing keeps
    before = left()
    with pytest.raises(AbsentError) as refused:
        Apart(Counts, -1, huge_pages=False)
    with pytest.raises(Exception, match="pickle") as unsent:
        Apart(Counts, lambda: 3, huge_pages=False)
    assert left() == before, "while the errors are held, with the frames they came from"
    assert refused
    assert unsent
