"""Clocks: one timed call, interleaved rounds, and a process that is timed when its turn comes. Knows no contender."""
