"""`gptloop generate --stream`: prints text while it is generated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from gptloop.console import printable, strict_json

if TYPE_CHECKING:
    from gptloop.runtime.text_stream import Piece


def print_as_it_comes(pieces: Iterable[Piece], *, raw: bool) -> None:
    """One candidate's text."""
    for piece in pieces:
        print(piece.text if raw else printable(piece.text, keep="\n\t"), end="", flush=True)
    print(flush=True)


def print_by_line(pieces: Iterable[Piece], prompt: int, *, raw: bool) -> None:
    """Several candidates' text, whole lines, each behind the numbers of its prompt and candidate, from 1."""
    for candidate, line in _lines(pieces):
        print(f"{prompt}.{candidate + 1}: {line if raw else printable(line, keep=chr(9))}", flush=True)


def print_json(pieces: Iterable[Piece], prompt: int) -> None:
    """One object for each piece."""
    for piece in pieces:
        print(strict_json({"prompt": prompt, **piece._asdict(), "candidate": piece.candidate + 1}), flush=True)


def _lines(pieces: Iterable[Piece]) -> Iterator[tuple[int, str]]:
    begun: dict[int, str] = {}
    for candidate, text, ended in pieces:
        *lines, begun[candidate] = (begun.get(candidate, "") + text).split("\n")
        yield from ((candidate, line) for line in lines)
        if ended and begun[candidate]:
            yield candidate, begun[candidate]
