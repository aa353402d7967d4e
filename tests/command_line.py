"""What `gptloop generate` printed, in the forms that tests ask for."""

from __future__ import annotations

import json

Printed = tuple[str, str, int]  # standard output, standard error, the exit code


def text_of(printed: Printed) -> str:
    """The output of a command that had nothing to say beside it."""
    out, err, code = printed
    assert (err, code) == ("", 0)
    return out


def json_of(printed: Printed) -> list[dict]:
    """Its lines, each of them JSON as the standard has it."""
    return [json.loads(line, parse_constant=_refuse) for line in text_of(printed).splitlines()]


def error_of(printed: Printed) -> str:
    """The one line that an error prints, and nothing beside it."""
    out, err, code = printed
    assert (out, code) == ("", 2)
    assert err.startswith("gptloop: error: ")
    assert err.count("\n") == 1
    return err


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")
