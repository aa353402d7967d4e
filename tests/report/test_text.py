"""Numbers and facts as words."""

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptloop.report import text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (123.4, "123 s"),
        (12.34, "12.3 s"),
        (1.0, "1.00 s"),
        (0.9996, "1.00 s"),
        (0.9994, "999 ms"),
        (0.0999, "99.9 ms"),
        (0.09996, "100 ms"),
        (0.004, "4.00 ms"),
        (0.0000123, "12.3 us"),
        (-0.0123, "-12.3 ms"),
        (0.0, "0 us"),
        (12345.6, "12,346 s"),
    ],
)
def test_a_duration_has_three_digits_and_the_unit_that_suits_it(seconds, words):
    assert text.duration_text(seconds) == words


def test_a_spread_of_durations_shares_the_unit_of_its_median():
    assert text.duration_spread_text(0.95, 0.9, 1.2) == "950 ms [900-1,200]"


@pytest.mark.parametrize(
    ("ratio", "words"), [(1.333, "1.33x"), (12.0, "12.00x"), (0.0953, "0.10x"), (0.00123, "0.0012x")]
)
def test_a_ratio_is_never_rounded_to_nothing(ratio, words):
    assert text.ratio_text(ratio) == words


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 B"), (999, "999 B"), (1_230, "1.23 kB"), (999_600, "1.00 MB"), (6.5e9, "6.50 GB")]
)
def test_bytes_are_decimal(count, words):
    assert text.bytes_text(count) == words


@pytest.mark.parametrize(("rate", "words"), [(3.456, "3.46"), (45.6, "45.6"), (1234.5, "1,234"), (99.96, "100")])
def test_a_rate_has_three_digits_and_is_whole_from_there(rate, words):
    assert text.rate_text(rate) == words


@pytest.mark.parametrize(("times", "words"), [(0.0, "0"), (1.03, "1"), (0.5, "0.5"), (1234.0, "1,234"), (-0.01, "0")])
def test_how_often_is_whole_or_has_one_digit(times, words):
    assert text.times_text(times) == words


@given(st.floats(min_value=1e-9, max_value=1e6))
@settings(max_examples=60, deadline=None)
def test_a_printed_duration_is_within_half_a_percent(seconds):
    number, unit = text.duration_text(seconds).split(" ")
    printed_s = float(number.replace(",", "")) / {"s": 1.0, "ms": 1e3, "us": 1e6}[unit]
    assert printed_s == pytest.approx(seconds, rel=0.0051)


def test_precisions_are_named_from_the_most_exact_one_on():
    cases = pd.DataFrame({"precision": ["int8", "of tomorrow", "fp16", "fp32", "int8"]})
    assert text.precision_text(cases) == "fp32, fp16, int8, of tomorrow"


def test_greedy_is_said_once():
    cases = pd.DataFrame({"temperature": [0.0, 0.0, 1.0], "top_k": [0, 50, 50]})
    assert text.sampling_text(cases) == "greedy or temperature 1, top_k 50"
