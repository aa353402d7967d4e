"""What changes logits before the draw, in PyTorch: gptloop.graph.processors' other half, for any floating-point type.

What is off costs no work here, either.
"""

from __future__ import annotations

import torch

from gptloop.runtime.request import Request

NONE = -1  # no token: padding


class Processors:
    """A call's rules.

    Args:
        request: The call.
        device: Where the logits are.
        rows: int64 [rows], the prompt of each row.
    """

    def __init__(self, request: Request, device: torch.device, rows: torch.Tensor):
        def per_row(x: torch.Tensor) -> torch.Tensor:
            return x[rows].to(device)

        ids, mask = (torch.from_numpy(x.copy()) for x in (request.input_ids, request.attention_mask))
        self._prompt = per_row(torch.where(mask == 0, NONE, ids))  # [S, P]
        self._penalty = per_row(torch.from_numpy(request.repetition_penalty))[:, None]
        self._penalized = bool((request.repetition_penalty != 1).any())
        self._ngram_size = per_row(torch.from_numpy(request.no_repeat_ngram_size))
        self._ngram_sizes = sorted({*request.no_repeat_ngram_size.tolist()} - {0})
        sequences = torch.from_numpy(request.biased_sequences).to(device)
        self._begun, self._last = sequences[:, :-1], sequences[:, -1]  # [Q, W - 1], [Q]
        self._biases = torch.from_numpy(request.biases).to(device)
        self._biased = bool((request.biased_sequences >= 0).any())
        self._eos = torch.tensor(request.eos_token_ids, dtype=torch.int64, device=device)
        self._min_new_tokens = request.min_new_tokens if request.eos_token_ids else 0

    def apply(self, logits: torch.Tensor, generated: list[torch.Tensor]) -> torch.Tensor:
        """Logits [S, V] after the rows' generated tokens, [S] each -> logits [S, V]."""
        if self._biased or self._penalized or self._ngram_sizes:
            text = torch.cat([self._prompt, *(token[:, None] for token in generated)], 1)
            logits = self._with_biases(logits, text)
            logits = self._with_penalty(logits, text)
            for size in self._ngram_sizes:
                logits = self._without_ngrams(logits, text, size)
        if len(generated) < self._min_new_tokens:
            logits = logits.index_fill(1, self._eos, -torch.inf)
        return logits

    def _with_biases(self, logits: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        if not self._biased:
            return logits
        begun = ending_with(text, self._begun)  # [S, Q]
        biases = torch.where(begun, self._biases, 0).to(logits.dtype)
        return logits + torch.zeros_like(logits).index_add_(1, self._last, biases)

    def _with_penalty(self, logits: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        if not self._penalized:
            return logits
        seen = torch.where(text == NONE, self._prompt[:, -1:], text)  # a prompt's last token is never padding
        scores = logits.gather(1, seen)
        penalty = self._penalty.to(logits.dtype)
        return logits.scatter(1, seen, torch.where(scores < 0, scores * penalty, scores / penalty))

    def _without_ngrams(self, logits: torch.Tensor, text: torch.Tensor, size: int) -> torch.Tensor:
        if size > text.shape[1]:
            return logits
        ngrams = text.unfold(1, size, 1)  # [S, number, size]
        now = text[:, text.shape[1] - size + 1 :]
        again = (ngrams[..., :-1] == now[:, None]).all(-1) & (ngrams != NONE).all(-1)
        again &= (self._ngram_size == size)[:, None]
        completing = torch.where(again, ngrams[..., -1], logits.shape[1])  # the others fall off the vocabulary
        forbidden = torch.zeros(len(logits), logits.shape[1] + 1, dtype=torch.bool, device=logits.device)
        return logits.masked_fill(forbidden.scatter_(1, completing, True)[:, :-1], -torch.inf)


def ending_with(tokens: torch.Tensor, sequences: torch.Tensor) -> torch.Tensor:
    """Which rows' tokens [S, T] end with which sequences [Q, W], -1 for any token: bool [S, Q]."""
    width = sequences.shape[1]
    missing = max(width - tokens.shape[1], 0)
    last = torch.nn.functional.pad(tokens, (missing, 0), value=NONE)[:, missing + tokens.shape[1] - width :]
    return ((last[:, None] == sequences) | (sequences < 0)).all(-1)
