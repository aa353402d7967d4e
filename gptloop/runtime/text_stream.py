"""A row's text while its tokens come: what later tokens cannot change any more.

Knows a row's tokens and what ends it; no terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from gptloop.runtime.candidate import Ended
from gptloop.runtime.completer import Completer
from gptloop.runtime.stop_text import REPLACEMENT, StopTexts


class Piece(NamedTuple):
    """What a block of tokens makes certain of a candidate's text.

    Attributes:
        candidate: Its number, from 0.
        text: What follows the pieces before; of a model without a tokenizer, token ids.
        ended: By what the candidate has ended with this piece, its last one; None while it goes on.
    """

    candidate: int
    text: str
    ended: Ended | None


def stream_text(
    completer: Completer,
    prompt: Sequence[int],
    *,
    eos_token_ids: Sequence[int] = (),
    stop: Sequence[str] = (),
    decode: bool = True,
    **settings: Any,
) -> Iterator[Piece]:
    """The candidates' text of one prompt, piece by piece, while it is generated.

    Args:
        completer: The model and its tokenizer.
        prompt: Token ids, at least one.
        eos_token_ids: What ends a candidate.
        stop: Texts that end a candidate, too.
        decode: Whether text is wanted; else the pieces are token ids.
        settings: Others of `OnnxLoop.stream`.

    Raises:
        ValueError: As `OnnxLoop.stream` and `Completer.complete`, before any work is done.
    """
    texts = completer.stop_texts(tuple(stop))
    if texts and texts.sequences:
        settings["stop_sequences"] = texts.sequences
    stream = completer.loop.stream([prompt], eos_token_id=eos_token_ids, **settings)
    as_text = _text_of(completer) if decode else _ids_as_text

    def pieces() -> Iterator[Piece]:
        rows: list[RowText] = []
        for tokens in stream:
            rows = rows or [RowText(as_text, eos_token_ids, texts) for _ in tokens]
            for candidate, (row, new) in enumerate(zip(rows, tokens.tolist(), strict=True)):
                had_ended = row.ended
                text = row.push(new)
                if not had_ended and (text or row.ended):
                    yield Piece(candidate, text, row.ended)
            if all(row.ended for row in rows):  # by a stop text that the graph could not see
                stream.close()
        for candidate, row in enumerate(rows):
            if not row.ended:
                yield Piece(candidate, row.finish(), "length")

    return pieces()


def _text_of(completer: Completer) -> Callable[[list[int]], str]:
    tokenizer = completer.tokenizer
    return lambda ids: tokenizer.decode(ids, skip_special_tokens=False)


def _ids_as_text(ids: list[int]) -> str:
    return ",".join(map(str, ids))


class RowText:
    """The text of one row.

    Args:
        decode: Token ids to text.
        eos_token_ids: What ends the row, and is no text.
        stop: Texts that end it, too.

    Attributes:
        ended: By what; None while the row goes on.
    """

    def __init__(
        self, decode: Callable[[list[int]], str], eos_token_ids: Sequence[int] = (), stop: StopTexts | None = None
    ):
        self.ended: Ended | None = None
        self._decode, self._eos_token_ids, self._stop = decode, eos_token_ids, stop
        self._ids: list[int] = []
        self._handed_over = 0  # characters

    def push(self, tokens: Sequence[int]) -> str:
        """What the next tokens make certain of the text; nothing once the row has ended."""
        if self.ended:
            return ""
        end = next((index for index, token in enumerate(tokens) if token in self._eos_token_ids), None)
        self._ids += tokens[:end]
        if cut := self._stop and self._stop.cut(self._ids):
            self.ended = "stop"
            return self._rest(cut.text)
        if end is not None:
            self.ended = "eos"
            return self._rest(self._decode(self._ids))
        # Bytes of a character that is not complete are decoded as a replacement for it.
        text = self._decode(self._ids).rstrip(REPLACEMENT)
        held_back = self._stop.begun(text) if self._stop else 0
        return self._rest(text[: len(text) - held_back])

    def finish(self) -> str:
        """What was held back, when no more tokens come."""
        if self.ended:
            return ""
        self.ended = "length"
        return self._rest(self._decode(self._ids))

    def _rest(self, text: str) -> str:
        new = text[self._handed_over :]
        self._handed_over = max(self._handed_over, len(text))
        return new
