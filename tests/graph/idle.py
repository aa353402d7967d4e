"""Processors that change nothing, for graphs of the draw alone."""

from __future__ import annotations

import functools

import onnx_ir as ir
from onnxscript import OpBuilder

from gptloop import names
from gptloop.graph.call import Call, per_row
from gptloop.graph.processors import Processors
from gptloop.graph.sampling import Processing


def idle_processing(op: OpBuilder) -> Processing:
    """Of a step 0, as a call without any setting of processors has it."""

    def ids(*values: int) -> ir.Value:
        return op.Constant(value_ints=values)

    off = {
        names.INPUT_IDS: op.Unsqueeze(ids(0), [0]),
        names.ATTENTION_MASK: op.Unsqueeze(ids(1), [0]),
        names.MIN_NEW_TOKENS: ids(0),
        names.REPETITION_PENALTY: op.Constant(value_floats=[1.0]),
        names.NO_REPEAT_NGRAM_SIZE: ids(0),
        names.SEQUENCE_BIAS_IDS: op.Unsqueeze(ids(-1), [0, 1]),
        names.SEQUENCE_BIAS: op.Unsqueeze(op.Constant(value_floats=[0.0]), [0]),
    }
    one = ids(1)
    to_rows = functools.partial(per_row, op, Call(B=one, R=one, P=one, N=one))
    processors = Processors.read(op, off, op.Unsqueeze(ids(-1), [0]), 0, to_rows)
    # A size of 0 is a window of no length. OpenVINO (2026.4) folds also the branches that never run, and its Broadcast
    # to no elements divides by 0.
    return Processing(processors._replace(ngram_size_S1=op.Unsqueeze(one, [0])), op.Constant(value_int=0), ())
