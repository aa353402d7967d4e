"""Texts that end a candidate, wherever its tokens part: where its text is cut, and which tokens already show it.

The decoded text decides. The graph knows tokens only; so it gets sequences of them whose text holds a stop text, to end
a row early. Where it misses one, the row goes on, and is cut all the same.
"""

from __future__ import annotations

import bisect
import json
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from tokenizers import Tokenizer

from gptloop.runtime.token_ids import Ids

SEQUENCES_MAX = 512  # of all stop texts: a step compares each with each row
REPLACEMENT = "\ufffd"  # stands for what is no whole character


class Cut(NamedTuple):
    """A candidate up to a stop text.

    Attributes:
        ids: The tokens before the one that the stop text begins in.
        text: All before the stop text, also what that token has of it.
        drawn: How many tokens it took, the one that completes the stop text included.
    """

    ids: list[int]
    text: str
    drawn: int


class StopTexts:
    """Stop texts of one tokenizer.

    Args:
        texts: At least one character each.
        tokenizer: The model's.
        vocab_size: The model's; ids from there on are not drawn.

    Attributes:
        sequences: Token ids whose text holds a stop text, `SEQUENCES_MAX` at most; none where a token's text depends on
            its neighbours.

    Raises:
        ValueError: If a text is empty.
    """

    def __init__(self, texts: Sequence[str], tokenizer: Tokenizer, vocab_size: int):
        if "" in texts:
            raise ValueError("a stop text must have at least 1 character, got ''")
        self._texts, self._tokenizer = texts, tokenizer
        self.sequences: list[Ids] = []
        if texts and _joins_bytes(tokenizer):
            several = _TokenTexts(tokenizer, vocab_size)
            for text in texts:
                self.sequences += several.holding(text, SEQUENCES_MAX // len(texts))

    def cut(self, ids: list[int]) -> Cut | None:
        """The candidate up to the first stop text that is complete; None if there is none.

        Of several that one token completes, it is that whose last character comes first, and of those the longest: what
        a reader of the text, character by character, would come upon.
        """
        if self._first(self._decoded(ids)) is None:
            return None
        drawn = bisect.bisect_left(
            range(len(ids)), True, key=lambda n: self._first(self._decoded(ids[: n + 1])) is not None
        )
        text = self._decoded(ids[: drawn + 1])
        start = self._first(text) or 0
        text = text[:start]
        before = drawn
        while not text.startswith(self._decoded(ids[:before])):
            before -= 1
        return Cut(ids[:before], text, drawn + 1)

    def begun(self, text: str) -> int:
        """How many characters at the end of a text may be the beginning of a stop text."""
        longest = max(map(len, self._texts), default=1) - 1
        lengths = range(min(longest, len(text)), 0, -1)
        return next((n for n in lengths if any(stop.startswith(text[-n:]) for stop in self._texts)), 0)

    def _first(self, text: str) -> int | None:
        """Where the first one begins that is complete."""
        found = [(start + len(stop), start) for stop in self._texts if (start := text.find(stop)) >= 0]
        return min(found)[1] if found else None

    def _decoded(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=False)


class _TokenTexts:
    """The texts of single tokens, those left out that hold no whole character at an end."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int):
        number = min(vocab_size, tokenizer.get_vocab_size())
        texts = tokenizer.decode_batch([[token] for token in range(number)], skip_special_tokens=False)
        self._whole = [(token, text) for token, text in enumerate(texts) if text and REPLACEMENT not in text]
        self._by_first = defaultdict(list)
        for token, text in self._whole:
            self._by_first[text[0]].append((token, text))

    def holding(self, stop: str, at_most: int) -> list[Ids]:
        """Sequences of tokens from the one that the stop text begins in to the one that completes it, short ones first.

        As many as there are, or the first of them: for a long text, there are more the more tokens share it.
        """
        found: list[Ids] = []
        found += [(token,) for token, text in self._whole if stop in text][:at_most]
        begun: list[tuple[Ids, str]] = [  # tokens, and what is missing then
            ((token,), stop[length:])
            for token, text in self._whole
            for length in range(1, min(len(stop), len(text) + 1))
            if text.endswith(stop[:length])
        ]
        while begun and len(found) < at_most:
            longer: list[tuple[Ids, str]] = []
            for ids, missing in begun:
                for token, text in self._by_first[missing[0]]:
                    if text.startswith(missing):
                        found.append((*ids, token))
                    elif missing.startswith(text):
                        longer.append(((*ids, token), missing[len(text) :]))
                if len(found) >= at_most:
                    break
            begun = longer[:at_most]
        return found[:at_most]


def _joins_bytes(tokenizer: Tokenizer) -> bool:
    """Whether the text of several tokens is that of each, one after the other, as of GPT-2's."""
    decoder = json.loads(tokenizer.to_str())["decoder"]
    return decoder is not None and decoder["type"] == "ByteLevel"
