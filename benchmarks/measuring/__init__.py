"""Measuring one case: parity, interleaved rounds, what bounds them, each contender alone in a process of its own."""
