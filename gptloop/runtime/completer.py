"""Text in, text out: prompts of any lengths to rows of token ids, through the model, and back to text.

Knows the model file and its tokenizer; not the command line.
"""

from __future__ import annotations

import functools
import json
import secrets
from collections.abc import Iterator, Sequence
from typing import Any

from tokenizers import Tokenizer

from gptloop import names
from gptloop.runtime import batches
from gptloop.runtime.candidate import Candidate, Ending
from gptloop.runtime.memory import check_results
from gptloop.runtime.onnx_loop import OnnxLoop
from gptloop.runtime.refusals import NoTokenizerError, PromptTooLongError
from gptloop.runtime.request import CANDIDATES_MAX
from gptloop.runtime.run import Deadline
from gptloop.runtime.stop_text import StopTexts
from gptloop.runtime.tokenizer import open_tokenizer
from gptloop.values import whole_number


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
        self._stop_texts: tuple[tuple[str, ...], StopTexts | None] = (), None  # of the calls before
        config = json.loads(loop.metadata[names.META_CONFIG])
        self.eos_token_ids, self.bos_token_ids = (
            [token for token in _as_list(config.get(name)) if 0 <= token < config["vocab_size"]]
            for name in ("eos_token_id", "bos_token_id")
        )

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that was exported with the model.

        Raises:
            NoTokenizerError: If there was none, a ValueError.
            ValueError: If its file is truncated.
            FileNotFoundError: If its file is gone.
        """
        path = self.loop.path
        if names.META_TOKENIZER not in self.loop.metadata:
            raise NoTokenizerError(f"{path} has no tokenizer and takes token ids instead of text")
        return open_tokenizer(path.with_name(self.loop.metadata[names.META_TOKENIZER]))

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Texts as token ids; an empty text is the start of text, as in Hugging Face's pipeline.

        Raises:
            ValueError: As `tokenizer`; or if a text is empty and the model has no start of text, or is no Unicode.
            FileNotFoundError: As `tokenizer`.
        """
        return [self.encode_one(f"prompt {number}", text) for number, text in enumerate(texts, 1)]

    def encode_one(self, name: str, text: str) -> list[int]:
        """As `encode`, of one text; `name` is what to call it in an error."""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            lone = f"U+{ord(text[error.start]):04X}"
            raise ValueError(f"{name} is no text: {lone} at {error.start + 1} is half a character") from error
        ids = self.tokenizer.encode(text).ids or self.bos_token_ids[:1]
        if not ids:
            raise ValueError(f"{name} is empty, and the model has no bos_token_id to start from")
        return ids

    def complete(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        seed: int,
        num_return_sequences: int = 1,
        eos_token_id: Sequence[int] = (),
        stop: Sequence[str] = (),
        decode: bool = True,
        timeout_s: float | None = None,
        **settings: Any,
    ) -> Iterator[list[Candidate]]:
        """The candidates of each prompt, in order, generated while they are asked for.

        Prompts of nearly equal length are generated together, and wait for their turn.

        Args:
            prompts: Token ids, at least one each.
            seed: Of the first prompt; the next has seed + 1, and so on.
            num_return_sequences: Candidates of each prompt.
            eos_token_id: What ends a candidate.
            stop: Texts that end a candidate, too.
            decode: Whether the candidates' text is wanted.
            timeout_s: Seconds after which the generation is ended, from its first batch on.
            settings: Others of `OnnxLoop.generate`, but for stop_sequences, which are those of the texts.

        Raises:
            TimeoutError: If the time was up, when the next candidates are asked for.
            ValueError: As `check`, for any of the prompts, before the first is generated. What one of several prompts
                is to blame for names its number. Or if a stop text is empty, or there are any without a tokenizer.
        """
        deadline = Deadline(timeout_s)
        settings |= {"num_return_sequences": num_return_sequences, "eos_token_id": eos_token_id, "stop": tuple(stop)}
        self._check_prompts(prompts, seed, settings)
        if decode:
            _ = self.tokenizer  # raises now or never

        def complete_batch(numbers: list[int]) -> list[list[Candidate]]:
            seeds = [seed + number for number in numbers]
            of_batch = [prompts[number] for number in numbers]
            return self.complete_at_once(of_batch, seeds=seeds, decode=decode, deadline=deadline, **settings)

        lengths, new_tokens = list(map(len, prompts)), settings["max_new_tokens"]
        cut = batches.length_sorted(lengths, candidates=num_return_sequences, new_tokens=new_tokens)
        return batches.in_input_order(cut, complete_batch)

    def stop_texts(self, stop: Sequence[str]) -> StopTexts | None:
        """What finds these texts, kept for the next call with the same; None where there are none.

        Raises:
            ValueError: If a text is empty, or there are any without a tokenizer.
        """
        if not stop:
            return None
        if names.META_TOKENIZER not in self.loop.metadata:
            raise ValueError(f"{self.loop.path} has no tokenizer, without which no stop text can be found")
        texts, kept = tuple(stop), self._stop_texts
        if kept[0] != texts:
            kept = self._stop_texts = texts, StopTexts(texts, self.tokenizer, self.loop.bounds.vocab_size)
        return kept[1]

    def check_settings(self, *, seed: int, stop: Sequence[str] = (), **settings: Any) -> None:
        """Refuse what `complete_at_once` would refuse for any prompt; raises as that."""
        self.stop_texts(stop)
        self.loop.check([[0]], seed=seed, **self._turn(settings))

    def check(self, ids: Sequence[int], *, seed: int, stop: Sequence[str] = (), **settings: Any) -> None:
        """Refuse a prompt that `complete_at_once` would refuse, with settings that are right in themselves.

        Raises:
            PromptTooLongError: If it is too long, and what `truncate_left` leaves of it is right; a ValueError.
            ValueError: As `OnnxLoop.generate`, of anything else.
        """
        del stop  # of which no prompt has anything wrong
        settings = {"seed": seed, **self._turn(settings)}
        try:
            self.loop.check([ids], **settings)
        except ValueError as error:
            (cut,) = self.truncate_left([ids], settings["max_new_tokens"])
            if len(cut) == len(ids):
                raise
            self.loop.check([cut], **settings)
            raise PromptTooLongError(str(error)) from error

    def complete_at_once(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        seeds: Sequence[int],
        num_return_sequences: int,
        eos_token_id: Sequence[int],
        decode: bool,
        stop: Sequence[str] = (),
        deadline: Deadline | None = None,
        padded_length: int = 0,
        **settings: Any,
    ) -> list[list[Candidate]]:
        """The candidates of each prompt; all prompts go through the model together, of many candidates some at a time.

        Args:
            prompts: Token ids, at least one each.
            seeds: Of each prompt.
            num_return_sequences: Candidates of each prompt.
            eos_token_id: What ends a candidate.
            decode: Whether the candidates' text is wanted.
            stop: Texts that end a candidate, too.
            deadline: When to end.
            padded_length: What to pad all prompts to; the longest one's length where that is more.
            settings: Others of `OnnxLoop.generate`.

        Raises:
            ValueError: As `OnnxLoop.generate`, or as `stop_texts`.
        """
        input_ids, attention_mask = batches.left_padded(prompts, padded_length)
        texts = self.stop_texts(stop)
        ending = Ending(eos_token_id, self.tokenizer if decode else None, texts)
        if texts and texts.sequences:
            settings["stop_sequences"] = texts.sequences
        of_each: list[list[Candidate]] = [[] for _ in prompts]
        for first_candidate in range(0, num_return_sequences, batches.ROWS):
            generation = self.loop.generate(
                input_ids,
                attention_mask=attention_mask,
                seed=seeds,
                num_return_sequences=(R := min(batches.ROWS, num_return_sequences - first_candidate)),
                first_candidate=first_candidate,
                eos_token_id=eos_token_id,
                return_logprobs=True,
                timeout_s=deadline.left_s() if deadline else None,
                **settings,
            )
            rows = zip(generation.tokens.tolist(), generation.logprobs, generation.raw_logprobs, strict=True)
            for row, columns in enumerate(rows):
                of_each[row // R].append(ending.candidate(*columns))
        return of_each

    def truncate_left(self, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[Sequence[int]]:
        """The prompts' last tokens, as many as leave room for so many new ones; unchanged if there is no room."""
        room = self.loop.bounds.n_positions - max_new_tokens
        return [ids[-room:] if room > 0 else ids for ids in prompts]

    def _check_prompts(self, prompts: Sequence[Sequence[int]], seed: int, settings: dict[str, Any]) -> None:
        self.check_settings(seed=seed, **settings)
        for number, ids in enumerate(prompts, 1):
            try:
                self.check(ids, seed=seed + number - 1, **settings)
            except ValueError as error:
                if len(prompts) > 1:
                    error.args = (f"prompt {number}: {error}",)
                raise

    def _turn(self, settings: dict[str, Any]) -> dict[str, Any]:
        """The last turn of a prompt's candidates, which has their highest numbers."""
        R = whole_number("num_return_sequences", settings["num_return_sequences"], 1, CANDIDATES_MAX)
        check_results(R, 1 if settings["eos_token_id"] else settings["max_new_tokens"])
        first = (R - 1) // batches.ROWS * batches.ROWS
        return {**settings, "num_return_sequences": R - first, "first_candidate": first}


def _as_list(ids: int | list[int] | None) -> list[int]:
    return [ids] if isinstance(ids, int) else ids or []


def fresh_seed() -> int:
    """A seed for a call without one: short enough to type again, and within what every runtime takes."""
    return secrets.randbelow(2**31)
