"""Sampling in PyTorch, by the same rule, in the same order and with the same numbers as the graph's.

The graph's modules sampling.py, cuts.py, inverse_cdf.py and stop.py are the other half of the parity; what is off costs
no work here, either.
"""

from __future__ import annotations

import torch

from gptloop.names import TOP_P_REACHED
from gptloop.reference.processors import Processors, ending_with
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

        N, first = request.max_new_tokens, request.first_candidate
        numbers = torch.from_numpy(uniforms(request.seed, R, N, first))  # [B, R, N]
        self._uniforms = numbers.reshape(-1, request.max_new_tokens, 1).to(device)
        temperature, top_k, top_p, min_p = (
            per_row(torch.from_numpy(x)).unsqueeze(1)
            for x in (request.temperature, request.top_k, request.top_p, request.min_p)
        )
        self._greedy = temperature == 0  # [S, 1]; top-1 at temperature 1
        self._temperature = torch.where(self._greedy, 1.0, temperature)
        self._top_k = torch.where(self._greedy, 1, top_k)
        self._top_p = top_p
        self._log_min_p = min_p.log()  # -inf where it is 0
        self._any_min_p = bool((request.min_p > 0).any())
        smallest, self._k_max = int(self._top_k.min()), max(1, int(self._top_k.max()))
        self._any_whole = smallest == 0
        self._any_top_p = bool((request.top_p < 1).any())
        self._by_rank = self._any_top_p or smallest != int(self._top_k.max())
        self._request = request
        self._processors = Processors(request, device, torch.arange(len(request.seed)).repeat_interleave(R))
        self._eos = torch.tensor(request.eos_token_ids, dtype=torch.int64, device=device)
        self._stop_sequences = torch.from_numpy(request.stop_sequences).to(device)
        self._ended = torch.zeros(len(self._uniforms), dtype=torch.bool, device=device)
        self._tokens: list[torch.Tensor] = []
        self._logprobs: list[tuple[torch.Tensor, torch.Tensor]] = []

    def draw(self, logits: torch.Tensor, step: int) -> torch.Tensor:
        """Logits [S, V] -> token ids [S]."""
        raw = logits.float()
        processed = self._processors.apply(raw, self._tokens)
        ids, weights = self.kept(processed)
        index, total = _first_beyond(weights, self._uniforms[:, step])
        token = index if ids is None else ids.gather(1, index)
        if self._request.return_logprobs:
            self._score(raw, processed, token, (weights.gather(1, index) / total).float())
        self._tokens.append(self._stop(token.squeeze(1)))
        return self._tokens[-1]

    def all_ended(self) -> bool:
        """Whether no row goes on; asks the device only where something may end one."""
        return self._request.may_end and bool(self._ended.all())

    def outputs(self) -> Outputs:
        """What has been drawn."""
        tokens = torch.stack(self._tokens, 1)
        if self._request.return_logprobs:
            logprobs, raw_logprobs = (torch.stack(x, 1) for x in zip(*self._logprobs, strict=True))
        else:
            logprobs = raw_logprobs = torch.zeros_like(tokens, dtype=torch.float32)
        return Outputs(*(x.cpu().numpy() for x in (tokens, logprobs, raw_logprobs)))

    def kept(self, logits: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor]:
        """What is drawn from: token ids in ascending order (None: all of them) and their weights, 0 where cut off."""
        if not self._any_whole:
            descending, ids = self._top(logits)
            return ids, self._weights(logits.gather(1, ids), descending)
        if self._any_top_p:
            return None, self._weights(logits, logits.sort(-1, descending=True).values)
        return None, self._weights(logits, logits.topk(self._k_max).values if self._by_rank else None)

    def _top(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The k_max first ranks: their logits in descending order, and their ids in ascending order.

        topk promises nothing about which of equal logits it leaves out. So one more is asked for, and where the last
        rank equals the first left out, the ids are found anew. On a GPU that look would cost a synchronisation, and is
        not taken.
        """
        vocab_size = logits.shape[-1]
        values, ids = logits.topk(min(self._k_max + 1, vocab_size))
        values, left_out = values[:, : self._k_max], values[:, self._k_max :]
        if logits.device.type == "cpu" and bool((values[:, -1:] == left_out).any()):
            kept = _first_ranks(logits, values[:, -1:], self._k_max)
            return values, kept.nonzero()[:, 1].view(-1, self._k_max)
        return values, ids[:, : self._k_max].sort(-1).values

    def _weights(self, logits: torch.Tensor, descending: torch.Tensor | None) -> torch.Tensor:
        """Probabilities of logits [S, C], 0 where top_k, top_p (both by rank) or min_p (by value) cut them off.

        Rank is by descending logit, given for as many ranks as any row keeps, and then by ascending id.
        """
        if self._by_rank and descending is not None:
            number = torch.where(self._top_k == 0, logits.shape[-1], self._top_k)
            if self._any_top_p:
                number = torch.minimum(number, self._reaching_top_p(descending, number))
            last = descending.gather(1, number.clamp(max=descending.shape[-1]) - 1)
            last = torch.where(number == logits.shape[-1], -torch.inf, last)
            logits = logits.masked_fill(~_first_ranks(logits, last, number), -torch.inf)
        logits = logits / self._temperature
        if self._any_min_p:
            share = logits - logits.amax(-1, keepdim=True)
            logits = logits.masked_fill(share < self._log_min_p, -torch.inf)
        return logits.softmax(-1)

    def _reaching_top_p(self, descending: torch.Tensor, top_k: torch.Tensor) -> torch.Tensor:
        """How many of the first ranks reach top_p; where a row has none, all that top_k leaves."""
        beyond = torch.arange(descending.shape[-1], device=descending.device) >= top_k
        probs = (descending.masked_fill(beyond, -torch.inf) / self._temperature).softmax(-1)
        before, _ = _first_beyond(probs, self._top_p * TOP_P_REACHED)
        return torch.where(self._top_p < 1, before + 1, top_k)

    def _score(self, raw: torch.Tensor, processed: torch.Tensor, token: torch.Tensor, prob: torch.Tensor) -> None:
        own = processed.log_softmax(-1).gather(1, token)
        logprob = torch.where(self._greedy, own, prob.log())
        scores = (logprob, raw.log_softmax(-1).gather(1, token))
        first, second = (x.squeeze(1).masked_fill(self._ended, 0) for x in scores)
        self._logprobs.append((first, second))

    def _stop(self, token: torch.Tensor) -> torch.Tensor:
        """Pad the rows that have ended, and note which end now."""
        if not self._request.may_end:
            return token
        token = token.masked_fill(self._ended, self._request.pad_token_id)
        self._ended = self._ended | torch.isin(token, self._eos)
        if self._request.has_stop_sequences:
            generated = torch.stack([*self._tokens, token], 1)
            self._ended = self._ended | ending_with(generated, self._stop_sequences).any(1)
        return token


def _first_beyond(weights: torch.Tensor, fraction: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Index of the first entry at which the running sum exceeds a fraction below 1 of the total; and the total.

    In float64: a float32 sum over a vocabulary leaves thousands of ids without a number that draws them.
    """
    cdf = weights.cumsum(-1, dtype=torch.float64)
    total = cdf[:, -1:]
    passed = (cdf <= fraction * total) & (cdf < total)
    return passed.sum(-1, keepdim=True), total


def _first_ranks(logits: torch.Tensor, last: torch.Tensor, number: torch.Tensor | int) -> torch.Tensor:
    """Which entries have one of the first ranks, given the last rank's logit: of equal ones, the lower ids."""
    above, equal = logits > last, logits == last
    return above | (equal & (equal.cumsum(-1) <= number - above.sum(-1, keepdim=True)))
