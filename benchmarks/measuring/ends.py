"""Rows that end early, after the same numbers of tokens for every contender.

A model of random weights has no end of text, and in another precision it draws other tokens. So the ids that end a row
are the tokens that a contender itself draws where its rows are to end: found in a call that nothing ends. Contenders
that draw the same tokens get the same ids; for all of them rows end after as many tokens, though which row ends first
may differ. Knows no clock.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from benchmarks.contenders import Contender, Tokens
from benchmarks.workloads import Workload
from gptloop.reference.bounds import ParityError

ORDERS = 10_000  # about every second one will do: of 246 ids among 288 tokens, few come back


def ending(contender: Contender, ids: Tokens, workload: Workload) -> Workload:
    """The workload with the ids that end this contender's rows after `workload.row_ends` tokens.

    Args:
        contender: One whose tokens are the same in each call.
        ids: The prompts.
        workload: Its `row_ends` are as many as its rows.

    Raises:
        ParityError: If no ids do.
    """
    tokens = contender.generate(ids, workload, max_new_tokens=workload.steps)
    rng = np.random.default_rng(workload.seed)
    for _ in range(ORDERS):
        ends = rng.permutation(workload.row_ends)
        eos = tuple(dict.fromkeys(int(row[end - 1]) for row, end in zip(tokens, ends, strict=True)))
        if (row_lengths(tokens, eos) == ends).all():
            return dataclasses.replace(workload, eos_token_ids=eos)
    raise ParityError(f"no ids end the rows after {workload.row_ends} tokens: a row has too few tokens but once")


def check_ends(tokens: Tokens, workload: Workload) -> None:
    """Raise a ParityError unless rows end after `workload.row_ends` tokens, in any order, and the call then."""
    found = sorted(row_lengths(tokens, workload.eos_token_ids).tolist())
    if found != sorted(workload.row_ends) or tokens.shape[1] != workload.steps:
        raise ParityError(f"rows of {found} tokens in {tokens.shape[1]} steps, expected {sorted(workload.row_ends)}")


def row_lengths(tokens: Tokens, eos_token_ids: tuple[int, ...]) -> Tokens:
    """Tokens int64 [S, N] -> how many each row has up to the first id that ends it, int64 [S]; N + 1 if none does."""
    is_end = np.isin(tokens, eos_token_ids)
    return np.where(is_end.any(1), is_end.argmax(1), tokens.shape[1]) + 1
