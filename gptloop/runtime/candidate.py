"""One continuation of a prompt, from a row of generated tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from gptloop.runtime.stop_text import StopTexts

Ended = Literal["eos", "stop", "length"]


class Candidate(NamedTuple):
    """One continuation of a prompt.

    Attributes:
        ids: The new tokens before the end of text, or before the one that a stop text begins in.
        text: The same as Hugging Face decodes it, or all before the stop text; None unless asked for.
        ended: By what: "eos", an end of text; "stop", a stop text; or "length", max_new_tokens.
        logprob: Of the new tokens, those of the end included, under the distributions they were drawn from.
        raw_logprob: The same under the model's own distributions.
    """

    ids: list[int]
    text: str | None
    ended: Ended
    logprob: float
    raw_logprob: float

    def facts(self) -> dict[str, Any]:
        """By name, as JSON has them; without what is None."""
        return {name: fact for name, fact in self._asdict().items() if fact is not None}


class Ending(NamedTuple):
    """How a row of generated tokens becomes a candidate."""

    eos_token_ids: Sequence[int]
    tokenizer: Tokenizer | None  # where text is wanted
    stop: StopTexts | None

    def candidate(
        self, tokens: list[int], logprobs: npt.NDArray[np.float32], raw_logprobs: npt.NDArray[np.float32]
    ) -> Candidate:
        """The tokens up to what ended them; after that, a row is padding, or was generated in vain."""
        end = next((index for index, token in enumerate(tokens) if token in self.eos_token_ids), None)
        ids, text, drawn = tokens[:end], None, len(tokens)
        ended: Ended = "length" if end is None else "eos"
        if cut := self.stop and self.stop.cut(ids):
            ids, text, drawn = cut
            ended = "stop"
        elif self.tokenizer:
            text = self.tokenizer.decode(ids, skip_special_tokens=False)
        return Candidate(
            ids=ids,
            text=text if self.tokenizer else None,
            ended=ended,
            logprob=float(logprobs[:drawn].sum()),
            raw_logprob=float(raw_logprobs[:drawn].sum()),
        )
