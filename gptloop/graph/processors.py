"""What changes logits before they are cut and drawn from: biases, forbidden tokens, the repetition penalty.

The order and meaning are Hugging Face's: SequenceBiasLogitsProcessor, RepetitionPenaltyLogitsProcessor, then those that
forbid tokens (NoRepeatNGram, NoBadWords, MinNewTokensLength, SuppressTokens), except that padding is no text here. A
forbidden token is one whose bias is -inf, and no penalty changes that. So all but the penalty is one sum of biases, and
comes first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import onnx_ir as ir
from onnxscript import OpBuilder

from gptloop import names
from gptloop.graph.attention import NEVER
from gptloop.graph.logits import Logits
from gptloop.graph.operators import END, any_of
from gptloop.graph.scope import GROWS, branches
from gptloop.graph.sequences import NONE, completing_again, ending_with, last_of, last_tokens, without_last

_I64, _F32 = ir.DataType.INT64, ir.DataType.FLOAT


class Processors(NamedTuple):
    """A call's rules.

    Attributes:
        prompt_SP: int64, the prompts' tokens, `NONE` for padding.
        penalty_S1: float32.
        penalized: bool [], whether some row's penalty is not 1.
        ngram_size_S1: int64, 0 for none.
        by_ngram: bool [], whether some row's size is not 0.
        sequences_SQW: int64, as gptloop.graph.sequences has them.
        biases_SQ: float32, of a sequence's last id where a row ends with those before it.
        biased: bool [], whether there are sequences at all.
        eos_SM: int64, the rows' ends of text.
        min_new_tokens_S1: int64, from this call's first step on; 0 without an end of text.
        most_min_new_tokens: int64 [].
        always: bool [], whether logits of every step are changed.
    """

    prompt_SP: ir.Value
    penalty_S1: ir.Value
    penalized: ir.Value
    ngram_size_S1: ir.Value
    by_ngram: ir.Value
    sequences_SQW: ir.Value
    biases_SQ: ir.Value
    biased: ir.Value
    eos_SM: ir.Value
    min_new_tokens_S1: ir.Value
    most_min_new_tokens: ir.Value
    always: ir.Value

    @classmethod
    def read(
        cls,
        op: OpBuilder,
        inputs: Mapping[str, ir.Value],
        eos_SM: ir.Value,
        steps_done: ir.Value | int,
        to_rows: Callable[[ir.Value], ir.Value],
    ) -> Processors:
        """Derive what every step needs, once per call.

        Args:
            op: The outer graph's operators.
            inputs: The graph's, by name.
            eos_SM: int64, the rows' ends of text; one that is -1 has no other.
            steps_done: int64 [1], tokens of each row that earlier calls have read.
            to_rows: Expands [B], [1], [B, C] or [B, Q, W] to [S, 1], [S, C] or [S, Q, W].
        """
        padding_BP = op.Equal(inputs[names.ATTENTION_MASK], 0)
        penalty, size = inputs[names.REPETITION_PENALTY], inputs[names.NO_REPEAT_NGRAM_SIZE]
        sequences_SQW = to_rows(inputs[names.SEQUENCE_BIAS_IDS])
        penalized = any_of(op, op.Not(op.Equal(penalty, 1.0)))
        min_S1 = to_rows(op.Sub(inputs[names.MIN_NEW_TOKENS], steps_done))
        min_S1 = op.Where(op.Less(op.Slice(eos_SM, [0], [1], [1]), 0), 0, min_S1)
        by_ngram = op.Greater(op.ReduceMax(size, keepdims=0), 0)
        biased = op.GreaterOrEqual(op.ReduceMax(last_of(op, sequences_SQW), keepdims=0), 0)
        return cls(
            prompt_SP=to_rows(_without_gaps(op, op.Where(padding_BP, NONE, inputs[names.INPUT_IDS]))),
            penalty_S1=to_rows(penalty),
            penalized=penalized,
            ngram_size_S1=to_rows(size),
            by_ngram=by_ngram,
            sequences_SQW=sequences_SQW,
            biases_SQ=to_rows(inputs[names.SEQUENCE_BIAS]),
            biased=biased,
            eos_SM=eos_SM,
            min_new_tokens_S1=min_S1,
            most_min_new_tokens=op.ReduceMax(min_S1, keepdims=0),
            always=op.Or(penalized, op.Or(by_ngram, biased)),
        )

    def needed(self, op: OpBuilder, step: ir.Value) -> ir.Value:
        """Whether `apply` would change anything in this step: bool []."""
        return op.Or(self.always, op.Less(step, self.most_min_new_tokens))

    def apply(self, op: OpBuilder, logits: Logits, step: ir.Value, generated: tuple[ir.Value, ...]) -> Logits:
        """A step's logits, changed.

        Args:
            op: Operators.
            logits: [S, V].
            step: int64 [], the number of the token that is drawn.
            generated: int64 [S, T], what the rows have generated, if anything.
        """
        text = (self.prompt_SP, *generated)
        biases = [self._of_sequences(op, text), self._of_ngrams(op, text), self._of_early_end(op, step)]
        ids_SC, biases_SC = (op.Concat(*parts, axis=1) for parts in zip(*biases, strict=True))
        if logits.scale is not None:  # a bias is the logits' own, before a row's scale
            biases_SC = op.Div(biases_SC, logits.scale)
        zeros_SV = op.Expand(0.0, op.Shape(logits.unscaled))
        bias_SV = op.ScatterElements(zeros_SV, ids_SC, biases_SC, axis=1, reduction="add")
        return logits._replace(unscaled=self._with_penalty(op, op.Add(logits.unscaled, bias_SV), text))

    def _of_sequences(self, op: OpBuilder, text: tuple[ir.Value, ...]) -> list[ir.Value]:
        """Ids and biases, [S, Q] each."""

        def of_those_begun(op: OpBuilder) -> list[ir.Value]:
            tokens_SW = last_tokens(op, text, op.Shape(self.sequences_SQW, start=2, end=3))
            begun_SQ = ending_with(op, tokens_SW, without_last(op, self.sequences_SQW))
            last_SQ = last_of(op, self.sequences_SQW)
            return [op.Max(last_SQ, 0), op.Where(op.And(begun_SQ, op.GreaterOrEqual(last_SQ, 0)), self.biases_SQ, 0.0)]

        return self._if(op, self.biased, of_those_begun, "Q or 1")

    def _of_ngrams(self, op: OpBuilder, text: tuple[ir.Value, ...]) -> list[ir.Value]:
        """Ids and biases, [S, P + T] each."""

        def forbidden(op: OpBuilder) -> list[ir.Value]:
            text_SL = op.Concat(*text, axis=1)
            again_SL = completing_again(op, text_SL, self.ngram_size_S1)
            return [op.Max(text_SL, 0), op.Where(again_SL, NEVER, 0.0)]

        return self._if(op, self.by_ngram, forbidden, GROWS)

    def _of_early_end(self, op: OpBuilder, step: ir.Value) -> list[ir.Value]:
        """Ids and biases, [S, M] each."""
        bias_S1 = op.Where(op.Less(step, self.min_new_tokens_S1), NEVER, 0.0)
        return [op.Max(self.eos_SM, 0), op.Expand(bias_S1, op.Shape(self.eos_SM))]

    def _if(
        self, op: OpBuilder, condition: ir.Value, biases: Callable[[OpBuilder], list[ir.Value]], size: str | None
    ) -> list[ir.Value]:
        """Ids and biases, [S, size] each, a name of its own; else one id of each row, and no bias."""

        def none(op: OpBuilder) -> list[ir.Value]:
            shape_S1 = op.Shape(self.penalty_S1)
            return [op.Expand(0, shape_S1), op.Expand(0.0, shape_S1)]

        return list(branches(op, condition, biases, none, [(_I64, ["S", size]), (_F32, ["S", size])]))

    def _with_penalty(self, op: OpBuilder, logits_SV: ir.Value, text: tuple[ir.Value, ...]) -> ir.Value:
        """Logits [S, V] of tokens that a row has had, made less likely."""

        def penalized(op: OpBuilder) -> list[ir.Value]:
            # A prompt's last token, which is never padding, stands in for that: one is penalized once.
            stand_in_S1 = op.Slice(self.prompt_SP, [-1], [END], [1])
            changed_SV = logits_SV
            for ids_SL in (op.Where(op.Less(text[0], 0), stand_in_S1, text[0]), *text[1:]):
                # Reading the original scores, an id that occurs several times is penalized once.
                scores_SL = op.GatherElements(logits_SV, ids_SL, axis=1)
                less_SL = op.Where(
                    op.Less(scores_SL, 0.0), op.Mul(scores_SL, self.penalty_S1), op.Div(scores_SL, self.penalty_S1)
                )
                changed_SV = op.ScatterElements(changed_SV, ids_SL, less_SL, axis=1)
            return [changed_SV]

        def unchanged(op: OpBuilder) -> list[ir.Value]:
            return [op.Identity(logits_SV)]

        (processed_SV,) = branches(op, self.penalized, penalized, unchanged, [(_F32, ["S", "V"])])
        return processed_SV


def _without_gaps(op: OpBuilder, ids_BP: ir.Value) -> ir.Value:
    """The same tokens with all padding on the left: behind a prefix, that of a shorter prompt stands within a text."""
    size_1 = op.Shape(ids_BP, start=1, end=2)
    places_P = op.Range(0, op.Squeeze(size_1), 1)
    keys_BP = op.Where(op.Less(ids_BP, 0), op.Sub(places_P, size_1), places_P)  # padding before all tokens
    _, order_BP = op.TopK(keys_BP, size_1, largest=0, sorted=1, _outputs=2)
    return op.GatherElements(ids_BP, order_BP, axis=1)
