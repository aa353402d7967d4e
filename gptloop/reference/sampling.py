"""Sampling in PyTorch, by the same rule, in the same order and with the same numbers as the graph's.

The graph's modules processors.py, sampling.py and stop.py are the other half of the parity; what is off costs no work
here, either.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from gptloop.runtime.loop import Outputs
from gptloop.runtime.request import Request
from gptloop.runtime.threefry import uniforms


class Sampler:
    """One call's draws: a token per row and step, until all rows have ended.

    Args:
        request: The call.
        device: Where the logits are.
    """

    def __init__(self, request: Request, device: torch.device):
        R = request.num_return_sequences

        def per_row(x: torch.Tensor) -> torch.Tensor:
            return x.to(device).repeat_interleave(R, 0)

        numbers = torch.from_numpy(uniforms(request.seed, R, request.max_new_tokens))  # [B, R, N]
        self._uniforms = numbers.reshape(-1, request.max_new_tokens, 1).to(device)
        temperature, top_k, top_p = (
            per_row(torch.from_numpy(x)).unsqueeze(1) for x in (request.temperature, request.top_k, request.top_p)
        )
        self._greedy = temperature == 0  # [S, 1]; top-1 at temperature 1
        self._temperature = torch.where(self._greedy, 1.0, temperature)
        self._top_k = torch.where(self._greedy, 1, top_k)
        self._top_p = torch.where(top_p < 1, top_p, 2.0)
        self._k_max = max(1, int(self._top_k.max()))
        self._any_whole = bool((self._top_k == 0).any())
        self._any_top_p = bool((request.top_p < 1).any())
        self._request = request
        self._eos = torch.tensor(request.eos_token_ids, dtype=torch.int64, device=device)
        self._ended = torch.zeros(len(self._uniforms), dtype=torch.bool, device=device)
        self._tokens: list[torch.Tensor] = []
        self._logprobs: list[tuple[torch.Tensor, torch.Tensor]] = []
        ids, mask = torch.from_numpy(request.input_ids), torch.from_numpy(request.attention_mask)
        self._prompt = per_row(torch.where(mask == 0, ids[:, -1:], ids))  # [S, P]; padding is no text

    def draw(self, logits: torch.Tensor, step: int) -> torch.Tensor:
        """Logits [S, V] -> token ids [S]."""
        raw = logits.float()
        processed = self.processed(raw, step)
        ids, weights = self.kept(processed)
        cdf = weights.cumsum(-1)
        total = cdf[:, -1:]
        passed = (cdf <= self._uniforms[:, step] * total) & (cdf < total)
        index = passed.sum(-1, keepdim=True)
        token = index if ids is None else ids.gather(1, index)
        if self._request.return_logprobs:
            self._score(raw, processed, token, weights.gather(1, index) / total)
        self._tokens.append(self._stop(token.squeeze(1)))
        return self._tokens[-1]

    def all_ended(self) -> bool:
        """Whether no row goes on; asks the device only where there is an end of text."""
        return len(self._eos) > 0 and bool(self._ended.all())

    def outputs(self) -> Outputs:
        """What has been drawn."""
        tokens = torch.stack(self._tokens, 1)
        if self._request.return_logprobs:
            logprobs, raw_logprobs = (torch.stack(x, 1) for x in zip(*self._logprobs, strict=True))
        else:
            logprobs = raw_logprobs = torch.zeros_like(tokens, dtype=torch.float32)
        return Outputs(*(x.cpu().numpy() for x in (tokens, logprobs, raw_logprobs)))

    def processed(self, logits: torch.Tensor, step: int) -> torch.Tensor:
        """Repetition penalty and min_new_tokens: logits [S, V] -> logits [S, V]."""
        penalty = self._request.repetition_penalty
        if penalty != 1:
            seen = torch.cat([self._prompt, *(token[:, None] for token in self._tokens)], 1)
            scores = logits.gather(1, seen)
            logits = logits.scatter(1, seen, torch.where(scores < 0, scores * penalty, scores / penalty))
        if len(self._eos) and step < self._request.min_new_tokens:
            logits = logits.index_fill(1, self._eos, -torch.inf)
        return logits

    def kept(self, logits: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor]:
        """What is drawn from: token ids in ascending order (None: all of them) and their weights, 0 where cut off."""
        values, ids = self._top(logits)
        beyond = torch.arange(self._k_max, device=logits.device) >= self._top_k
        values = values.masked_fill(beyond, -torch.inf)
        if self._any_whole:
            cut = torch.full_like(logits, -torch.inf).scatter_(1, ids, values)
            whole = torch.where(self._top_k == 0, logits, cut)
            probs = (whole / self._temperature).softmax(-1)
            return None, self._cut(probs, probs.sort(-1, descending=True).values if self._any_top_p else None)
        probs = (values / self._temperature).softmax(-1)
        ids, order = ids.sort(-1)
        return ids, self._cut(probs, probs if self._any_top_p else None).gather(1, order)

    def _top(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The k_max largest logits in descending order and their ids; of equal ones, the lower ids.

        topk promises nothing about equal logits. So one more is asked for, and where the last kept one equals the first
        left out, a stable sort decides. On a GPU that look would cost a synchronisation, and is not taken.
        """
        vocab_size = logits.shape[-1]
        values, ids = logits.topk(min(self._k_max + 1, vocab_size))
        if logits.device.type == "cpu" and self._k_max < vocab_size:
            last = values.gather(1, (self._top_k - 1).clamp(min=0))
            left_out = values.gather(1, self._top_k)
            if bool((last == left_out)[self._top_k > 0].any()):
                values, ids = logits.sort(stable=True, dim=-1, descending=True)
        return values[:, : self._k_max], ids[:, : self._k_max]

    def _cut(self, probs: torch.Tensor, descending: torch.Tensor | None) -> torch.Tensor:
        """Probabilities, 0 where top_p (given them in descending order) or min_p cuts them off."""
        if descending is not None:
            before = F.pad(descending.cumsum(-1)[:, :-1], (1, 0))
            threshold = torch.where(before < self._top_p, descending, 2.0).amin(-1, keepdim=True)
            probs = probs.masked_fill(probs < threshold, 0)
        if self._request.min_p > 0:
            probs = probs.masked_fill(probs < probs.amax(-1, keepdim=True) * self._request.min_p, 0)
        return probs

    def _score(self, raw: torch.Tensor, processed: torch.Tensor, token: torch.Tensor, prob: torch.Tensor) -> None:
        own = processed.log_softmax(-1).gather(1, token)
        logprob = torch.where(self._greedy, own, prob.log())
        scores = (logprob, raw.log_softmax(-1).gather(1, token))
        first, second = (x.squeeze(1).masked_fill(self._ended, 0) for x in scores)
        self._logprobs.append((first, second))

    def _stop(self, token: torch.Tensor) -> torch.Tensor:
        """Pad the rows that have ended, and note which end now."""
        if not len(self._eos):
            return token
        token = token.masked_fill(self._ended, self._request.pad_token_id)
        self._ended = self._ended | torch.isin(token, self._eos)
        return token
