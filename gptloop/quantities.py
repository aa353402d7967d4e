"""Numbers with a unit as a person reads them: durations, bytes, rates.

Knows numbers; not what was measured, nor where it is shown.
"""

from __future__ import annotations

import math


def duration_text(seconds: float) -> str:
    """Seconds in the unit that suits them, to three digits: `1.23 s`, `45.6 ms`, `789 us`."""
    factor, unit = _duration_unit(seconds)
    return f"{_three_digits(seconds * factor)} {unit}"


def milliseconds_text(seconds: float) -> str:
    """Seconds as a bare number of milliseconds, for an axis that names the unit."""
    return _three_digits(seconds * 1e3)


def duration_spread_text(middle: float, low: float, high: float) -> str:
    """A median duration with its spread in the same unit: `963 ms [920-998]`."""
    factor, unit = _duration_unit(middle)
    return f"{_three_digits(middle * factor)} {unit} [{_three_digits(low * factor)}-{_three_digits(high * factor)}]"


def bytes_text(count: float) -> str:
    """Bytes in decimal units, to three digits: `1.23 GB`, `456 MB`."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= 0.9995 * factor:
            return f"{_three_digits(count / factor)} {unit}"
    return f"{count:.0f} B"


def rate_text(per_second: float) -> str:
    """Tokens per second as a bare number, to three digits and whole from there: `45.6`, `1,234`."""
    return _three_digits(per_second)


def _three_digits(value: float) -> str:
    if value == 0:
        return "0"
    decimals = 2 - math.floor(math.log10(float(f"{abs(value):.2e}")))
    return f"{value:,.{max(0, decimals)}f}"


def _duration_unit(seconds: float) -> tuple[float, str]:
    for factor, unit in ((1.0, "s"), (1e3, "ms")):
        if abs(seconds) * factor >= 0.9995:
            return factor, unit
    return 1e6, "us"
