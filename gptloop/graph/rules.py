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
from gptloop.graph.scope import scope
from gptloop.graph.stop import Stop, Stopped


class Rules(NamedTuple):
    """How a call samples, and when it stops."""

    uniforms_NS1: ir.Value  # float32
    settings: sampling.Settings
    stop: Stop
    prompt_SP: ir.Value  # int64, the prompt's tokens, padding replaced by one of them
    repetition_penalty_S1: ir.Value  # float32
    penalized: ir.Value  # bool []
    min_new_tokens_S1: ir.Value  # int64, from this call's first step on; 0 without an end of text
    most_min_new_tokens: ir.Value  # int64 []

    @classmethod
    def read(
        cls, op: OpBuilder, inputs: Mapping[str, ir.Value], call: Call, accepted_B: ir.Value | None = None
    ) -> Rules:
        """From the graph's inputs by name; where not all prompts may be, from which of them are accepted as well."""
        with scope(op, "settings"):
            settings = sampling.settings(
                op,
                temperature=inputs[names.TEMPERATURE],
                top_k=inputs[names.TOP_K],
                top_p=inputs[names.TOP_P],
                min_p=inputs[names.MIN_P],
                return_logprobs=inputs[names.RETURN_LOGPROBS],
                to_rows=functools.partial(per_row, op, call),
            )
            candidates = inputs[names.NUM_RETURN_SEQUENCES]
            if accepted_B:
                candidates = op.Where(accepted_B, candidates, 0)
            limit_S = step_limit(op, call, candidates, inputs[names.MAX_NEW_TOKENS])
            eos_SE, pad_S1, min_S1 = (
                per_row(op, call, inputs[name])
                for name in (names.EOS_TOKEN_IDS, names.PAD_TOKEN_ID, names.MIN_NEW_TOKENS)
            )
            end = Stop.of(op, eos_SE, pad_S1, limit_S)
            no_end_S1 = op.Less(op.Slice(end.eos_SE, [0], [1], [1]), 0)
            min_S1 = op.Where(no_end_S1, 0, op.Sub(min_S1, call.T(op)))
            # Padding is no text: where the mask is 0, the last token stands in, which is always one of the prompt's.
            ids = inputs[names.INPUT_IDS]
            text_BP = op.Where(op.Equal(inputs[names.ATTENTION_MASK], 0), op.Slice(ids, [-1], [2**31 - 1], [1]), ids)
            penalty = inputs[names.REPETITION_PENALTY]
            prompt_SP = per_row(op, call, text_BP)
            other_than_1 = op.ReduceMax(op.Cast(op.Not(op.Equal(penalty, 1.0)), to=ir.DataType.INT32), keepdims=0)
            penalized = op.Cast(other_than_1, to=ir.DataType.BOOL)
            most_min = op.ReduceMax(min_S1, keepdims=0)
        with scope(op, "uniforms"):
            uniforms_NS1 = uniforms(op, inputs[names.SEED], call, inputs[names.FIRST_CANDIDATE])
        return cls(uniforms_NS1, settings, end, prompt_SP, per_row(op, call, penalty), penalized, min_S1, most_min)

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
        processors = Processors(
            penalty_S1=self.repetition_penalty_S1,
            penalized=self.penalized,
            seen=(self.prompt_SP, *generated),
            early_S1=op.Less(step, self.min_new_tokens_S1),
            any_early=op.Less(step, self.most_min_new_tokens),
            eos_SE=self.stop.eos_SE,
        )
        uniform_S1 = op.Gather(self.uniforms_NS1, step, axis=0)
        drawn = sampling.sample(op, logits_SV, uniform_S1, self.settings, processors)
        return self.stop.apply(op, drawn, ended_S, step)
