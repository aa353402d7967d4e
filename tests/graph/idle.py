"""Processors that change nothing, for graphs of the draw alone."""

from __future__ import annotations

import onnx_ir as ir
from onnxscript import OpBuilder

from gptloop import names
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
        names.SEQUENCE_BIAS_IDS: op.Unsqueeze(ids(-1), [0]),
        names.SEQUENCE_BIAS: op.Constant(value_floats=[0.0]),
        names.EOS_TOKEN_IDS: ids(-1),
    }
    has_end = op.Cast(op.Constant(value_int=0), to=ir.DataType.BOOL)
    processors = Processors.read(op, off, has_end, lambda x: op.Reshape(x, [0, -1]))
    return Processing(processors, op.Constant(value_int=0), ())
