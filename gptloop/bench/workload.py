"""The calls that are timed: sizes and words. Runs nothing."""

from __future__ import annotations

from dataclasses import dataclass

TOKENS = 36  # of a prompt, and new ones: the workload of the published figures of 2022
LONG_PROMPT = 512


@dataclass(frozen=True)
class Workload:
    """One kind of generate call.

    Attributes:
        prompts: B.
        num_return_sequences: R.
        prompt_len: P.
        max_new_tokens: N.
    """

    prompts: int
    num_return_sequences: int
    prompt_len: int
    max_new_tokens: int

    @property
    def rows(self) -> int:
        """S."""
        return self.prompts * self.num_return_sequences

    @property
    def title(self) -> str:
        """In words: `8 prompts, 36 + 36 tokens`."""
        counts = [(self.prompts, "prompts"), (self.num_return_sequences, "candidates")]
        rows = " of ".join(f"{count} {what}" for count, what in reversed(counts) if count > 1) or "one row"
        return f"{rows}, {self.prompt_len} + {self.max_new_tokens} tokens"


def workloads(
    n_positions: int,
    *,
    prompts: int | None = None,
    num_return_sequences: int | None = None,
    prompt_len: int | None = None,
    max_new_tokens: int | None = None,
) -> list[Workload]:
    """What to time of a model, the cheapest first.

    Args:
        n_positions: The model's; a prompt and its new tokens take half of a small one each.
        prompts: Of the only workload; unless this or the next is given, there are several.
        num_return_sequences: Likewise.
        prompt_len: Of all workloads.
        max_new_tokens: Likewise.
    """
    most = n_positions // 2
    P, N = prompt_len or min(TOKENS, most), max_new_tokens or min(TOKENS, most)
    if prompts or num_return_sequences:
        return [Workload(prompts or 1, num_return_sequences or 1, P, N)]
    found = [Workload(1, 1, P, N), Workload(8, 1, P, N)]
    if prompt_len is None and n_positions >= LONG_PROMPT + N:
        found.append(Workload(1, 1, LONG_PROMPT, N))
    return [*found, Workload(1, 64, P, N)]
