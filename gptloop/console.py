"""The standard streams of a command, whatever the caller made of them, and what may be shown there.

Standard output's reader may leave early, as `head` does; a stream may be closed, full, or of an encoding that lacks
characters. Knows no command.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import sys
import unicodedata
from collections.abc import Iterator
from typing import Any

LONGEST_LINE = 1_000  # of a message, in characters: what a hostile file or argument puts into one may be longer

# Controls (ESC and those of C1 among them), invisible format characters (which turn the order of what follows), lone
# surrogates, and separators that a terminal may take for the end of a line.
UNPRINTABLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
JOINERS = "\u200c\u200d"  # format characters that scripts and emoji need, and that do nothing else


def printable(text: str, keep: str = "") -> str:
    r"""Text that a terminal shows and does not obey: what it might obey is escaped, as in `\x1b`.

    Args:
        text: Whatever a file, its name or a model said.
        keep: Characters to leave as they are, such as the end of a line.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in UNPRINTABLE and character not in keep + JOINERS
        else character
        for character in text
    )


def one_line(message: str, most: int = LONGEST_LINE) -> str:
    """A message as one printable line, its middle left out where it has more characters than `most`."""
    line = printable(" ".join(message.split()))
    if len(line) <= most:
        return line
    start, end = line[: most * 3 // 4], line[-most // 5 :]
    return f"{start} [... {len(line) - len(start) - len(end)} characters ...] {end}"


def strict_json(value: Any) -> str:
    """One line of JSON as its standard has it, in ASCII: a number that is not finite is null."""
    return json.dumps(_finite(value), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def prepare_streams() -> None:
    """Let no file that is opened later take a closed stream's place, nor a character end the command."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free: this one
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  (until the process ends)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def reader_may_leave() -> Iterator[None]:
    """End the block without a word when the reader of standard output has gone; the exit status is the caller's.

    Raises:
        OSError: If standard output is closed, before the block; or if it cannot be written to.

    Source: Python's documentation of the module `signal`, "Note on SIGPIPE".
    """
    if sys.stdout is None:
        raise OSError("standard output is closed")
    try:
        try:
            yield
        finally:
            sys.stdout.flush()  # or the interpreter would find out at its end, and complain
    except OSError as error:
        _drop_what_cannot_be_written()
        if not isinstance(error, BrokenPipeError):
            raise


def _drop_what_cannot_be_written() -> None:
    """Or the interpreter would try again at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def lines_of_stdin() -> list[str]:
    """The lines of standard input in UTF-8, whatever the locale; without a byte order mark and the ends of any system.

    Raises:
        OSError: If it is closed.
        ValueError: If a line is not UTF-8; it is named.
    """
    if sys.stdin is None:
        raise OSError("standard input is closed, and - asks for its lines")
    lines = sys.stdin.buffer.read().removeprefix(b"\xef\xbb\xbf").splitlines()  # of bytes: at \n, \r and \r\n only
    return [_decoded(f"standard input, line {number}", line) for number, line in enumerate(lines, 1)]


def text_of_argument(name: str, argument: str) -> str:
    """An argument as text, also where the locale's encoding has no such characters.

    Args:
        name: What to call it in an error.
        argument: As Python decoded it; bytes that it could not decode are surrogates.

    Raises:
        ValueError: If it is not UTF-8.
    """
    try:
        argument.encode()
    except UnicodeEncodeError:
        return _decoded(name, os.fsencode(argument))
    return argument


def _decoded(name: str, content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is not UTF-8: byte 0x{content[error.start]:02x} at {error.start + 1}") from error
