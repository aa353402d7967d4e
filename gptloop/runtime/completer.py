"""Text in, text out: prompts of any lengths to rows of token ids, through the model, and back to text.

Knows the model file and its tokenizer; not the command line.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from gptloop import names
from gptloop.runtime.memory import check_results
from gptloop.runtime.onnx_loop import OnnxLoop
from gptloop.runtime.request import CANDIDATES_MAX
from gptloop.runtime.stop_text import StopTexts
from gptloop.runtime.tokenizer import open_tokenizer
from gptloop.values import whole_number

ROWS = 64  # candidates generated at once: those of a long list of prompts would fill the memory with their KV caches


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
    ended: Literal["eos", "stop", "length"]
    logprob: float
    raw_logprob: float


class _Ending(NamedTuple):
    """How a row of generated tokens becomes a candidate."""

    eos_token_ids: Sequence[int]
    tokenizer: Tokenizer | None
    stop: StopTexts | None
    decode: bool

    def candidate(
        self, tokens: list[int], logprobs: npt.NDArray[np.float32], raw_logprobs: npt.NDArray[np.float32]
    ) -> Candidate:
        """The tokens up to what ended them; after that, a row is padding, or was generated in vain."""
        end = next((index for index, token in enumerate(tokens) if token in self.eos_token_ids), None)
        ids, text, drawn = tokens[:end], None, len(tokens)
        ended: Literal["eos", "stop", "length"] = "length" if end is None else "eos"
        if cut := self.stop and self.stop.cut(ids):
            ids, text, drawn = cut
            ended = "stop"
        elif self.tokenizer and self.decode:
            text = self.tokenizer.decode(ids, skip_special_tokens=False)
        return Candidate(
            ids=ids,
            text=text if self.decode else None,
            ended=ended,
            logprob=float(logprobs[:drawn].sum()),
            raw_logprob=float(raw_logprobs[:drawn].sum()),
        )


class Completer:
    """An exported model and the tokenizer beside it.

    Args:
        loop: The model.

    Attributes:
        eos_token_ids: The model's end of text; none where the configuration's is outside the vocabulary, as the default
            is for a small one, and -1 often for none. Likewise `bos_token_ids`, what text starts from where there is
            none yet.
    """

    def __init__(self, loop: OnnxLoop):
        self.loop = loop
        config = json.loads(loop.metadata[names.META_CONFIG])
        self.eos_token_ids, self.bos_token_ids = (
            [token for token in _as_list(config.get(name)) if 0 <= token < config["vocab_size"]]
            for name in ("eos_token_id", "bos_token_id")
        )

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that was exported with the model.

        Raises:
            ValueError: If there was none, or its file is truncated.
            FileNotFoundError: If its file is gone.
        """
        path = self.loop.path
        if names.META_TOKENIZER not in self.loop.metadata:
            raise ValueError(f"{path} has no tokenizer and takes token ids instead of text: --ids 1,2,3")
        return open_tokenizer(path.with_name(self.loop.metadata[names.META_TOKENIZER]))

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Texts as token ids; an empty text is the start of text, as in Hugging Face's pipeline.

        Raises:
            ValueError: As `tokenizer`; or if a text is empty and the model has no start of text, or is no Unicode.
            FileNotFoundError: As `tokenizer`.
        """
        for number, text in enumerate(texts, 1):
            try:
                text.encode()
            except UnicodeEncodeError as error:
                lone = f"U+{ord(text[error.start]):04X}"
                raise ValueError(
                    f"prompt {number} is no text: {lone} at {error.start + 1} is half a character"
                ) from error
        prompts = [self.tokenizer.encode(text).ids or self.bos_token_ids[:1] for text in texts]
        for number, ids in enumerate(prompts, 1):
            if not ids:
                raise ValueError(f"prompt {number} is empty, and the model has no bos_token_id to start from")
        return prompts

    def complete(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        seed: int,
        num_return_sequences: int = 1,
        eos_token_ids: Sequence[int] = (),
        stop: Sequence[str] = (),
        decode: bool = True,
        **settings: Any,
    ) -> Iterator[list[Candidate]]:
        """The candidates of each prompt, in order, generated some prompts at a time while they are asked for.

        Args:
            prompts: Token ids, at least one each.
            seed: Of the first prompt; the next has seed + 1, and so on.
            num_return_sequences: Candidates of each prompt.
            eos_token_ids: What ends a candidate.
            stop: Texts that end a candidate, too.
            decode: Whether the candidates' text is wanted.
            settings: Others of `OnnxLoop.generate`, but for stop_sequences, which are those of the texts.

        Raises:
            ValueError: As `OnnxLoop.generate`, for any of the prompts, before the first is generated. What one of
                several prompts is to blame for names its number. Or if a stop text is empty, or there are any without
                a tokenizer.
        """
        stop_texts = self.stop_texts(stop)
        tokenizer = self.tokenizer if decode or stop else None
        settings |= {"num_return_sequences": num_return_sequences, "eos_token_id": eos_token_ids}
        if stop_texts and stop_texts.sequences:
            settings["stop_sequences"] = stop_texts.sequences
        for number, ids in enumerate(prompts, 1):
            try:
                self.loop.check([ids], seed=seed + number - 1, **self._turn(settings))
            except ValueError as error:
                if not self._would_run(seed, settings):
                    raise
                blamed = f"prompt {number}: " if len(prompts) > 1 else ""
                cut = self.truncate_left([ids], settings["max_new_tokens"])
                hint = " (--truncate left cuts it)" if len(cut[0]) < len(ids) else ""
                raise ValueError(f"{blamed}{error}{hint}") from error
        return self._generate(prompts, seed, settings, _Ending(eos_token_ids, tokenizer, stop_texts, decode))

    def stop_texts(self, stop: Sequence[str]) -> StopTexts | None:
        """What finds these texts; None where there are none.

        Raises:
            ValueError: If a text is empty, or there are any without a tokenizer.
        """
        if not stop:
            return None
        if names.META_TOKENIZER not in self.loop.metadata:
            raise ValueError(f"{self.loop.path} has no tokenizer, without which no stop text can be found")
        return StopTexts(stop, self.tokenizer, self.loop.bounds.vocab_size)

    def truncate_left(self, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[Sequence[int]]:
        """The prompts' last tokens, as many as leave room for so many new ones; unchanged if there is no room."""
        room = self.loop.bounds.n_positions - max_new_tokens
        return [ids[-room:] if room > 0 else ids for ids in prompts]

    def _turn(self, settings: dict[str, Any]) -> dict[str, Any]:
        """The last turn of a prompt's candidates, which has their highest numbers."""
        R = whole_number("num_return_sequences", settings["num_return_sequences"], 1, CANDIDATES_MAX)
        may_end = settings["eos_token_id"] or "stop_sequences" in settings
        check_results(R, 1 if may_end else settings["max_new_tokens"])
        first = (R - 1) // ROWS * ROWS
        return {**settings, "num_return_sequences": R - first, "first_candidate": first}

    def _would_run(self, seed: int, settings: dict[str, Any]) -> bool:
        """Whether nothing is wrong with the settings themselves."""
        try:
            self.loop.check([[0]], seed=seed, **self._turn(settings))
        except ValueError:
            return False
        return True

    def _generate(
        self, prompts: Sequence[Sequence[int]], seed: int, settings: dict[str, Any], ending: _Ending
    ) -> Iterator[list[Candidate]]:
        R = settings["num_return_sequences"]
        at_once = max(1, ROWS // R)
        for first in range(0, len(prompts), at_once):
            input_ids, attention_mask = left_padded(prompts[first : first + at_once])
            call = {"attention_mask": attention_mask, "seed": list(range(seed + first, seed + first + len(input_ids)))}
            of_each: list[list[Candidate]] = [[] for _ in input_ids]
            for first_candidate in range(0, R, ROWS):  # more than one turn where there is one prompt
                turn = {"num_return_sequences": min(ROWS, R - first_candidate), "first_candidate": first_candidate}
                generation = self.loop.generate(input_ids, return_logprobs=True, **{**settings, **call, **turn})
                rows = zip(generation.tokens.tolist(), generation.logprobs, generation.raw_logprobs, strict=True)
                for row, columns in enumerate(rows):
                    of_each[row // turn["num_return_sequences"]].append(ending.candidate(*columns))
            yield from of_each


def left_padded(prompts: Sequence[Sequence[int]]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Prompts as one array, and where in it they are: `input_ids` and `attention_mask`, int64 [B, P] each."""
    P = max(map(len, prompts))
    ids, mask = (np.zeros((len(prompts), P), dtype=np.int64) for _ in range(2))
    for row, prompt in enumerate(prompts):
        ids[row, P - len(prompt) :] = prompt
        mask[row, P - len(prompt) :] = 1
    return ids, mask


def _as_list(ids: int | list[int] | None) -> list[int]:
    return [ids] if isinstance(ids, int) else ids or []
