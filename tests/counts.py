"""A contender that needs nothing, for tests of those in a process of their own."""

import os

import numpy as np

from benchmarks.contenders import AbsentError


class Counts:
    """Counts tokens, says in which process it is, and fails when it is told to."""

    def __init__(self, start: int):
        if start < 0:
            raise AbsentError(f"{start} is below 0")
        self.start = start

    def generate(self, ids, workload, *, max_new_tokens, greedy=False):
        if max_new_tokens == 0:
            raise ValueError("nothing to generate")
        if max_new_tokens == -1:
            os._exit(7)
        if max_new_tokens == -2:
            raise ValueError(lambda: None)
        return np.array([[self.start + max_new_tokens, os.getpid()]])
