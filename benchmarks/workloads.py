"""The generate calls that are measured: how many prompts and candidates, how long, and how they end.

Knows names and numbers only.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Workload:
    """One kind of generate call, the same for every size and contender.

    Attributes:
        id: For file names and options: prompts x candidates, then what is not as usual.
        title: For people.
        prompts: B.
        num_return_sequences: R.
        prompt_len: Tokens of each prompt; of the longest one where `shortest_prompt` is given.
        max_new_tokens: N at most.
        temperature: Of the draws.
        top_k: Likewise.
        seed: Of the first prompt; the others have those that follow.
        shortest_prompt: Tokens of the shortest prompt of a ragged batch, which is padded on the left; 0 where all
            prompts are equally long.
        row_ends: After how many new tokens rows end, one number for each, in any order; none where all go on to
            max_new_tokens.
        eos_token_ids: The ids that end a row, which `benchmarks.measuring.ends` finds for each contender.
    """

    id: str
    title: str
    prompts: int
    num_return_sequences: int
    prompt_len: int = 36
    max_new_tokens: int = 36
    temperature: float = 1.0
    top_k: int = 50
    seed: int = 0
    shortest_prompt: int = 0
    row_ends: tuple[int, ...] = ()
    eos_token_ids: tuple[int, ...] = ()

    @property
    def rows(self) -> int:
        """S."""
        return self.prompts * self.num_return_sequences

    @property
    def steps(self) -> int:
        """Tokens of the row that goes on longest."""
        return max(self.row_ends, default=self.max_new_tokens)

    @property
    def tokens_per_row(self) -> float:
        """New tokens of a row on average, padding behind its end not among them."""
        return sum(self.row_ends) / self.rows if self.row_ends else self.max_new_tokens


# 36 + 36 tokens and 64 candidates are the workload of the published figures of 2022.
ONE_ROW = Workload("1x1", "one prompt, one candidate", prompts=1, num_return_sequences=1)
PROMPTS = Workload("8x1", "8 prompts", prompts=8, num_return_sequences=1)
MANY_PROMPTS = Workload("64x1", "64 prompts", prompts=64, num_return_sequences=1)
CANDIDATES = Workload("1x64", "64 candidates of one prompt", prompts=1, num_return_sequences=64)
SMOKE = Workload(
    "1x8", "8 candidates of one prompt", prompts=1, num_return_sequences=8, prompt_len=16, max_new_tokens=16
)

LONG_PROMPT = Workload("1x1x900x32", "one long prompt", 1, 1, prompt_len=900, max_new_tokens=32)
LONG_PROMPTS = Workload("8x1x500x32", "8 long prompts", 8, 1, prompt_len=500, max_new_tokens=32)
LONG_CANDIDATES = Workload("1x64x500", "64 candidates of a long prompt", 1, 64, prompt_len=500)
RAGGED = Workload(
    "16x1x8-500", "16 prompts of 8 to 500 tokens", 16, 1, prompt_len=500, max_new_tokens=32, shortest_prompt=8
)
# The last row ends where those of `PROMPTS` do: the two differ in what ends them, and in rows that wait.
ENDING = Workload(
    "8x1-ends",
    "8 prompts, rows end after 8 to 36 tokens",
    prompts=8,
    num_return_sequences=1,
    max_new_tokens=128,
    row_ends=(8, 12, 16, 20, 24, 28, 32, 36),
)

# Where the copying of K and V shows.
LONG_TEXT = Workload("1x1x900", "one prompt, 900 new tokens", 1, 1, prompt_len=16, max_new_tokens=900)
LONG_TEXTS = Workload("8x1x512", "8 prompts, 512 new tokens", 8, 1, prompt_len=64, max_new_tokens=512)

GPU_LONG = Workload("1x1x512x128", "one prompt, 512 + 128 tokens", 1, 1, prompt_len=512, max_new_tokens=128)
