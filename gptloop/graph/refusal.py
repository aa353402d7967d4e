"""Which prompts of a call are refused, because a value of theirs is out of its bounds, so that no other prompt suffers.

A runtime ends a whole call at one id that is not in the vocabulary, and a server has put requests of several clients
into it. So what is out of bounds is replaced, and a prompt that it stood in gets padding and the number of what was
wrong. Python's callers get an error instead, before the graph sees anything.

Knows the graph's inputs and their bounds; nothing of what is computed from them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import onnx_ir as ir
from onnxscript import OpBuilder

from gptloop import names
from gptloop.graph.call import on_host
from gptloop.graph.operators import END, all_of


class Accepted(NamedTuple):
    """The inputs that the call goes on with.

    Attributes:
        inputs: By name, within their bounds.
        accepted_B: bool, whether a prompt's were before.
        refused_B: int64, the place in `names.REFUSABLE` of the first that was not, from 1; 0 where all were.
    """

    inputs: dict[str, ir.Value]
    accepted_B: ir.Value
    refused_B: ir.Value


def accept(op: OpBuilder, config: Any, inputs: Mapping[str, ir.Value]) -> Accepted:
    """Check the inputs of `names.REFUSABLE`, and replace what is out of its bounds."""
    checks = _Checks(op, config, inputs)
    known = dict(inputs)
    B = op.Shape(inputs[names.INPUT_IDS], start=0, end=1)
    refused_B = op.Expand(0, B)
    for number, name in reversed(list(enumerate(names.REFUSABLE, 1))):
        good = checks.of(name)
        known[name] = op.Where(good, checks.given[name], _INSTEAD[name])
        good_B = checks.all_of(good) if name in _OF_SEVERAL else good
        refused_B = op.Where(good_B, refused_B, number)
    return Accepted(known, op.Equal(refused_B, 0), refused_B)


_OF_SEVERAL = (  # values of a prompt
    names.INPUT_IDS,
    names.ATTENTION_MASK,
    names.SEQUENCE_BIAS_IDS,
    names.SEQUENCE_BIAS,
    names.EOS_TOKEN_IDS,
    names.STOP_SEQUENCES,
)
_INSTEAD: dict[str, int | float] = {
    **dict.fromkeys(names.REFUSABLE, 0),
    **dict.fromkeys((names.ATTENTION_MASK, names.MAX_NEW_TOKENS, names.NUM_RETURN_SEQUENCES, names.TOP_K), 1),
    **dict.fromkeys((names.TEMPERATURE, names.TOP_P, names.REPETITION_PENALTY), 1.0),
    **dict.fromkeys((names.MIN_P, names.SEQUENCE_BIAS), 0.0),
    **dict.fromkeys((names.EOS_TOKEN_IDS, names.SEQUENCE_BIAS_IDS, names.STOP_SEQUENCES), -1),
}


class _Checks:
    def __init__(self, op: OpBuilder, config: Any, inputs: Mapping[str, ir.Value]):
        self._op = op
        ids = inputs[names.INPUT_IDS]
        B, P = op.Shape(ids, start=0, end=1), op.Shape(ids, start=1, end=2)
        self.given = {
            # Those that a runtime with a GPU reads as sizes stay on the CPU, checks included.
            name: on_host(op, B, value) if name in _SIZES else value
            for name, value in inputs.items()
        }
        last_id = config.vocab_size - 1
        self._bounds: dict[str, tuple[Any, Any]] = {
            names.INPUT_IDS: (0, last_id),
            names.MAX_NEW_TOKENS: (1, op.Sub(config.n_positions, P)),
            names.MIN_NEW_TOKENS: (0, config.n_positions),  # of a generation, of which a call may be a part
            names.NUM_RETURN_SEQUENCES: (1, names.CANDIDATES_MAX),
            names.FIRST_CANDIDATE: (0, op.Sub(names.CANDIDATES_MAX, self.given[names.NUM_RETURN_SEQUENCES])),
            names.TOP_K: (0, config.vocab_size),
            names.MIN_P: (0.0, 1.0),
            names.REPETITION_PENALTY: names.PENALTY_BOUNDS,
            names.NO_REPEAT_NGRAM_SIZE: (0, 2**31 - 1),
            names.SEQUENCE_BIAS_IDS: (-1, last_id),
            names.SEQUENCE_BIAS: (float("-inf"), names.BIAS_MAX),
            names.EOS_TOKEN_IDS: (-1, last_id),
            names.STOP_SEQUENCES: (-1, last_id),
            names.PAD_TOKEN_ID: (0, last_id),
        }

    def of(self, name: str) -> ir.Value:
        """Whether an input's values are within its bounds: bool, of the input's shape."""
        special: dict[str, Callable[[ir.Value], ir.Value]] = {
            names.ATTENTION_MASK: self._is_mask,
            names.TEMPERATURE: self._is_temperature,
            names.TOP_P: lambda x: self._op.And(self._op.Greater(x, 0.0), self._op.LessOrEqual(x, 1.0)),
        }
        if name in special:
            return special[name](self.given[name])
        return self._within(self.given[name], *self._bounds[name])

    def all_of(self, good: ir.Value) -> ir.Value:
        """[B, ...] -> [B]."""
        return all_of(self._op, self._op.Flatten(good, axis=1), [1])

    def _within(self, x: ir.Value, low: Any, high: Any) -> ir.Value:
        # NaN is within nothing.
        return self._op.And(self._op.GreaterOrEqual(x, low), self._op.LessOrEqual(x, high))

    def _is_temperature(self, x: ir.Value) -> ir.Value:
        return self._op.Or(self._op.Equal(x, 0.0), self._within(x, *names.TEMPERATURE_BOUNDS))

    def _is_mask(self, mask_BP: ir.Value) -> ir.Value:
        """0s and 1s, the last a 1; a row is good or bad as a whole."""
        last_B1 = self._op.Slice(mask_BP, [-1], [END], [1])
        good_BP = self._op.And(self._within(mask_BP, 0, 1), self._op.Equal(last_B1, 1))
        return self._op.Unsqueeze(self.all_of(good_BP), [1])


_SIZES = (names.MAX_NEW_TOKENS, names.MIN_NEW_TOKENS, names.NUM_RETURN_SEQUENCES, names.FIRST_CANDIDATE, names.TOP_K)
