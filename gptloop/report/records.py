"""JSON objects of which each field is checked as it is read: what is wrong is said in one line, with where it stands.

Knows kinds of values (texts, counts, rounds); which fields there are, their readers know.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gptloop.report.disk import read_json
from gptloop.report.errors import ReportError

_NOT_OURS = "not a run of gptloop's suite"

# What a report can show, and compute with: times from 1 ns to 11 days, dates that a 64-bit time stamp knows, names that
# fit on a page. Whatever lies beyond is damage, and would end in infinite ratios or endless lines.
_SHORTEST_S, _LONGEST_S = 1e-9, 1e6
_LARGEST = 1e12
_LARGEST_WHOLE = 10**15
_LONGEST_TEXT = 1000
_FIRST_YEAR, _LAST_YEAR = 2000, 2199


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
            raise ReportError(f"{self.place} has no {named(name)}: {_NOT_OURS}{_hint(name)}")
        if not kind.accepts(value := self.values[name]):
            raise ReportError(f"{self.place} has {named(name)} = {_shown(value)}, expected {kind.words}")
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
        return Record(f"{self.place}: {shortened(name)}", self.field(name, RECORD))


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
    return shortened(json.dumps(value))


def named(name: object) -> str:
    """A name of a file's own for a message: quoted, in ASCII, and not in full where it has no end."""
    return shortened(ascii(name))


def shortened(text: str, most: int = 60) -> str:
    """A text of at most so many characters."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def is_text(value: object) -> bool:
    """Printable, not blank and no novel: unprintable characters would break a line of text, a table or an SVG."""
    return isinstance(value, str) and value.isprintable() and value.strip() != "" and len(value) <= _LONGEST_TEXT


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= _LARGEST_WHOLE


def is_number(value: object, least: float = -_LARGEST, most: float = _LARGEST) -> bool:
    """A number within bounds; what is no number, or not finite, is not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def is_seconds(value: object) -> bool:
    """A time that something may have taken."""
    return is_number(value, _SHORTEST_S, _LONGEST_S)


def _is_datetime(value: Any) -> bool:
    try:
        return _FIRST_YEAR <= utc(value).year <= _LAST_YEAR
    except (TypeError, ValueError, OverflowError):
        return False


def _are_rounds(value: object) -> bool:
    return isinstance(value, list) and all(map(is_seconds, value))


def _are_pairs(value: object) -> bool:
    return isinstance(value, list) and all(_are_rounds(pair) and len(pair) == 2 for pair in value)


_TIMES = f"times from {_SHORTEST_S:g} to {_LONGEST_S:g} s"
_UP_TO = f"to {_LARGEST_WHOLE:,}"

RECORD = Kind("a JSON object", lambda value: isinstance(value, dict))
RECORDS = Kind("a list", lambda value: isinstance(value, list))
TEXT = Kind(f"printable text of at most {_LONGEST_TEXT:,} characters", is_text)
TEXT_OR_NULL = Kind(f"{TEXT.words}, or null", lambda value: value is None or is_text(value))
FLAG = Kind("true or false", lambda value: isinstance(value, bool))
DATETIME = Kind(f"an ISO 8601 time in the years {_FIRST_YEAR} to {_LAST_YEAR}", _is_datetime)
COUNT = Kind(f"a whole number from 1 {_UP_TO}", lambda value: _is_whole(value, 1))
NATURAL = Kind(f"a whole number from 0 {_UP_TO}", lambda value: _is_whole(value, 0))
NATURAL_OR_NULL = Kind(f"{NATURAL.words}, or null", lambda value: value is None or _is_whole(value, 0))
NOT_NEGATIVE = Kind(f"a number from 0 to {_LARGEST:g}", lambda value: is_number(value, 0))
SECONDS = Kind(f"a time from {_SHORTEST_S:g} to {_LONGEST_S:g} s", is_seconds)
RATE = Kind(f"a number above 0 and at most {_LARGEST:g}", lambda value: is_number(value, 1 / _LARGEST))
NUMBER = Kind(f"a number from {-_LARGEST:g} to {_LARGEST:g}", is_number)
NUMBER_OR_NULL = Kind(f"{NUMBER.words}, or null", lambda value: value is None or is_number(value))
ROUNDS = Kind(f"a list of {_TIMES}", lambda value: _are_rounds(value) and len(value) > 0)
ROUNDS_OR_NONE = Kind(f"a list, maybe empty, of {_TIMES}", _are_rounds)
PAIRS_OR_NONE = Kind(f"a list, maybe empty, of pairs of {_TIMES}", _are_pairs)
