"""How a call samples and when it stops, as every step of it reads that."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import NamedTuple

import onnx_ir as ir
from onnxscript import OpBuilder

from gptloop import names
from gptloop.graph import sampling
from gptloop.graph.call import Call, per_row, uniforms
from gptloop.graph.logits import Logits
from gptloop.graph.processors import Processors
from gptloop.graph.scope import scope
from gptloop.graph.stop import Stop, Stopped, stop


class Rules(NamedTuple):
    """How a call samples, and when it stops."""

    uniforms_NS1: ir.Value  # float32
    settings: sampling.Settings
    stop: Stop
    prompt_SP: ir.Value  # int64, the prompt's tokens, padding replaced by one of them
    repetition_penalty: ir.Value  # float32 [1]
    penalized: ir.Value  # bool []
    min_new_tokens: ir.Value  # int64 [], from this call's first step on; 0 without an end of text

    @classmethod
    def read(cls, op: OpBuilder, inputs: Mapping[str, ir.Value], call: Call) -> Rules:
        """From the graph's inputs by name."""
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
            end = stop(op, inputs[names.EOS_TOKEN_IDS], inputs[names.PAD_TOKEN_ID])
            # Padding is no text: where the mask is 0, the last token stands in, which is always one of the prompt's.
            ids = inputs[names.INPUT_IDS]
            text_BP = op.Where(op.Equal(inputs[names.ATTENTION_MASK], 0), op.Slice(ids, [-1], [2**31 - 1], [1]), ids)
            penalty = inputs[names.REPETITION_PENALTY]
            min_new_tokens = op.Squeeze(op.Sub(inputs[names.MIN_NEW_TOKENS], call.steps_done(op)))
            prompt_SP = per_row(op, call, text_BP)
            penalized = op.Not(op.Equal(op.Squeeze(penalty), 1.0))
            min_new_tokens = op.Where(end.active, min_new_tokens, 0)
        with scope(op, "uniforms"):
            uniforms_NS1 = uniforms(op, inputs[names.SEED], call, inputs[names.FIRST_CANDIDATE])
        return cls(uniforms_NS1, settings, end, prompt_SP, penalty, penalized, min_new_tokens)

    def first(self, op: OpBuilder, logits_BV: Logits, call: Call) -> Stopped:
        """Draw the first token of every row from the logits after its prompt."""
        with scope(op, "first"):
            none_ended_S = op.Expand(False, op.Mul(call.B, call.R))
            logits_SV = logits_BV.map(lambda x: per_row(op, call, x))
            return self.step(op, logits_SV, op.Squeeze([0]), none_ended_S, ())

    def step(
        self, op: OpBuilder, logits_SV: Logits, step: ir.Value, ended_S: ir.Value, generated: tuple[ir.Value, ...]
    ) -> Stopped:
        """Draw the token of a step (int64 [], from 0), given what the rows have generated, int64 [S, T] if anything."""
        processors = Processors(
            penalty=self.repetition_penalty,
            penalized=self.penalized,
            seen=(self.prompt_SP, *generated),
            early=op.Less(step, self.min_new_tokens),
            eos_token_ids=self.stop.eos_token_ids,
        )
        uniform_S1 = op.Gather(self.uniforms_NS1, step, axis=0)
        drawn = sampling.sample(op, logits_SV, uniform_S1, self.settings, processors)
        return self.stop.apply(op, drawn, ended_S)
