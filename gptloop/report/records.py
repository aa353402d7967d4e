"""JSON objects of which each field is checked as it is read: what is wrong is said in one line, with where it stands.

Knows kinds of values (texts, counts, rounds); which fields there are, their readers know.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gptloop.report.disk import read_json
from gptloop.report.errors import ReportError

_NOT_OURS = "not a run of gptloop's suite"


@dataclasses.dataclass(frozen=True)
class Kind:
    """What a field may hold, in words and as a test of its value."""

    words: str
    accepts: Callable[[Any], bool]


@dataclasses.dataclass(frozen=True)
class Record:
    """A JSON object, and the words that say where it stands."""

    place: str
    values: Any

    def __post_init__(self) -> None:
        if not isinstance(self.values, dict):
            raise ReportError(f"{self.place} is not a JSON object: {_NOT_OURS}")

    def field(self, name: str, kind: Kind) -> Any:
        """A field's value.

        Raises:
            ReportError: If there is no such field, or it holds something else.
        """
        if name not in self.values:
            raise ReportError(f"{self.place} has no {name!r}: {_NOT_OURS}{_hint(name)}")
        if not kind.accepts(value := self.values[name]):
            raise ReportError(f"{self.place} has {name!r} = {_shown(value)}, expected {kind.words}")
        return value

    def optional(self, name: str) -> str | None:
        """Printable text, or None where it is null or absent."""
        text: str | None = self.field_or(name, TEXT_OR_NULL, None)
        return text

    def field_or(self, name: str, kind: Kind, default: Any) -> Any:
        """A field that runs of before it was introduced lack."""
        return self.field(name, kind) if name in self.values else default

    def record(self, name: str) -> Record:
        """A field that is a JSON object itself."""
        return Record(f"{self.place}: {name}", self.field(name, RECORD))


def read_record(path: Path) -> Record:
    """A JSON object that is gptloop's own or holds a run.

    Raises:
        ReportError: If the file cannot be read, is not JSON, or holds no object.
    """
    return Record(str(path), read_json(path))


def utc(text: str) -> datetime.datetime:
    """An ISO 8601 time; without an offset it is UTC already."""
    moment = datetime.datetime.fromisoformat(text)
    return moment.replace(tzinfo=datetime.UTC) if moment.tzinfo is None else moment.astimezone(datetime.UTC)


def _hint(name: str) -> str:
    return " (raw rounds are saved with --benchmark-save-data)" if name == "data" else ""


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def is_text(value: object) -> bool:
    """Printable and not blank: unprintable characters would break a line of text, a table or an SVG."""
    return isinstance(value, str) and value.isprintable() and value.strip() != ""


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < 2**63


def is_number(value: object) -> bool:
    """A finite number, of at most 64 bits if it is whole."""
    if isinstance(value, float):
        return math.isfinite(value)
    return _is_whole(value, -(2**63))


def _is_positive(value: Any) -> bool:
    return is_number(value) and value > 0


def _is_datetime(value: Any) -> bool:
    try:
        utc(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def _are_rounds(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_positive, value))


def _are_pairs(value: object) -> bool:
    return isinstance(value, list) and all(_are_rounds(pair) and len(pair) == 2 for pair in value)


RECORD = Kind("a JSON object", lambda value: isinstance(value, dict))
RECORDS = Kind("a list", lambda value: isinstance(value, list))
TEXT = Kind("printable text", is_text)
TEXT_OR_NULL = Kind("printable text or null", lambda value: value is None or is_text(value))
FLAG = Kind("true or false", lambda value: isinstance(value, bool))
DATETIME = Kind("an ISO 8601 time", _is_datetime)
COUNT = Kind("a whole number above 0", lambda value: _is_whole(value, 1))
NATURAL = Kind("a whole number", lambda value: _is_whole(value, 0))
NATURAL_OR_NULL = Kind("a whole number or null", lambda value: value is None or _is_whole(value, 0))
NOT_NEGATIVE = Kind("a number of at least 0", lambda value: is_number(value) and value >= 0)
POSITIVE = Kind("a number above 0", _is_positive)
NUMBER = Kind("a number", is_number)
NUMBER_OR_NULL = Kind("a number or null", lambda value: value is None or is_number(value))
ROUNDS = Kind("a list of times above 0 s", lambda value: _are_rounds(value) and len(value) > 0)
ROUNDS_OR_NONE = Kind("a list, maybe empty, of times above 0 s", _are_rounds)
PAIRS_OR_NONE = Kind("a list, maybe empty, of pairs of times above 0 s", _are_pairs)
