"""How a call samples and when it stops, as every step of it reads that."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import NamedTuple

import onnx_ir as ir
from onnxscript import OpBuilder

from gptloop import names
from gptloop.graph import sampling
from gptloop.graph.call import Call, per_row, step_limit, uniforms
from gptloop.graph.logits import Logits
from gptloop.graph.processors import Processors
from gptloop.graph.scope import branches, scope
from gptloop.graph.stop import Stop, Stopped


class Rules(NamedTuple):
    """How a call samples, and when it stops."""

    uniforms_NS1: ir.Value  # float32
    settings: sampling.Settings
    processors: Processors
    stop: Stop

    @classmethod
    def read(
        cls, op: OpBuilder, inputs: Mapping[str, ir.Value], call: Call, accepted_B: ir.Value | None = None
    ) -> Rules:
        """From the graph's inputs by name; where not all prompts may be, from which of them are accepted as well."""
        to_rows = functools.partial(per_row, op, call)
        with scope(op, "settings"):
            settings = sampling.settings(
                op,
                temperature=inputs[names.TEMPERATURE],
                top_k=inputs[names.TOP_K],
                top_p=inputs[names.TOP_P],
                min_p=inputs[names.MIN_P],
                return_logprobs=inputs[names.RETURN_LOGPROBS],
                to_rows=to_rows,
            )
            candidates = inputs[names.NUM_RETURN_SEQUENCES]
            if accepted_B:
                candidates = op.Where(accepted_B, candidates, 0)
            limit_S = step_limit(op, call, candidates, inputs[names.MAX_NEW_TOKENS])
            stop = Stop.read(op, inputs, limit_S, to_rows)
            processors = Processors.read(op, inputs, stop.eos_SM, call.steps_done(op), to_rows)
        return cls(_uniforms(op, inputs, call), settings, processors, stop)

    def first(self, op: OpBuilder, logits_BV: Logits, call: Call) -> Stopped:
        """Draw the first token of every row from the logits after its prompt."""
        with scope(op, "first"):
            ended_S = op.LessOrEqual(self.stop.limit_S, 0)
            logits_SV = logits_BV.map(lambda x: per_row(op, call, x))
            return self.step(op, logits_SV, op.Squeeze([0]), ended_S, ())

    def step(
        self, op: OpBuilder, logits_SV: Logits, step: ir.Value, ended_S: ir.Value, generated: tuple[ir.Value, ...]
    ) -> Stopped:
        """Draw the token of a step (int64 [], from 0), given what the rows have generated, int64 [S, T] if anything."""
        uniform_S1 = op.Gather(self.uniforms_NS1, step, axis=0)
        processing = sampling.Processing(self.processors, step, generated)
        drawn = sampling.sample(op, logits_SV, uniform_S1, self.settings, processing)
        return self.stop.apply(op, drawn, ended_S, step, generated)


def _uniforms(op: OpBuilder, inputs: Mapping[str, ir.Value], call: Call) -> ir.Value:
    """The call's numbers, float32 [N, S, 1]: those of its seed, or where it takes a state, maybe those it is given."""
    seed, first_candidate = inputs[names.SEED], inputs[names.FIRST_CANDIDATE]
    if names.UNIFORMS not in inputs:
        with scope(op, "uniforms"):
            return uniforms(op, seed, call, first_candidate)
    given = inputs[names.UNIFORMS]

    def of_seed(op: OpBuilder) -> list[ir.Value]:
        def here(x: ir.Value | None) -> ir.Value:
            return op.BitwiseXor(x, 0)

        # An ONNX Runtime with a GPU computes there what follows values from around a branch: a copy for each bitwise
        # operator, of which it has none there. So one that changes nothing leaves what follows to the CPU.
        with scope(op, "uniforms"):
            B = op.Shape(inputs[names.INPUT_IDS], start=0, end=1)
            of_branch = Call(B=B, R=here(call.R), P=call.P, N=here(call.N), L=call.L, G=here(call.G))
            return [uniforms(op, here(seed), of_branch, here(first_candidate))]

    def as_given(op: OpBuilder) -> list[ir.Value]:
        return [op.Identity(given)]

    # No call is without tokens, as in Past.of.
    is_given = op.And(op.GreaterOrEqual(op.ReduceMin(given, keepdims=0), 0.0), op.Squeeze(op.Greater(call.P, 0)))
    return branches(op, is_given, as_given, of_seed, [(ir.DataType.FLOAT, ["draws", "S", 1])])[0]
