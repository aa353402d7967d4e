"""What may be shown: on a terminal, in a line of JSON, in one line of an error."""

import json

import onnx
import pytest

from gptloop import names
from gptloop.console import LONGEST_LINE, one_line, printable, strict_json
from gptloop.exporter.inspect import structure_of
from gptloop.exporter.structure_text import render


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("naïve 🚀 中文", "naïve 🚀 中文"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("C1 \x9b2J", r"C1 \x9b2J"),
        ("over\rwritten\x08\x7f", r"over\rwritten\x08\x7f"),
        ("evil\u202egpj.exe \u2066x\u2069", r"evil\u202egpj.exe \u2066x\u2069"),
        ("half \udcff", r"half \udcff"),
        ("two\u2028lines\u2029", r"two\u2028lines\u2029"),
        ("क्‍ष 👩‍🚀", "क्‍ष 👩‍🚀"),
    ],
    ids=ascii,
)
def test_what_a_terminal_would_obey_is_escaped_and_text_is_not(text, shown):
    assert printable(text) == shown


def test_the_ends_of_lines_may_be_kept():
    assert printable("a\n\tb\x1b", keep="\n\t") == "a\n\tb\\x1b"


@pytest.mark.parametrize("message", ["short", "x" * 100_000, "\x1b" * 100_000, " a\nb " * 100_000], ids=len)
def test_a_message_is_one_line_that_somebody_may_read(message):
    line = one_line(message)
    assert line.isprintable()
    assert len(line) < LONGEST_LINE + 50


def test_the_start_and_the_end_of_a_long_message_stay():
    line = one_line("model.onnx: " + "x" * 10_000 + " is above the bound 5")
    assert line.startswith("model.onnx: x")
    assert line.endswith("x is above the bound 5")


def test_a_number_that_is_not_finite_is_null_in_json():
    value = {"a": [float("nan"), {"b": float("-inf")}, (1.5, 2)], "c": float("inf"), "d": "é\x1b"}
    line = strict_json(value)
    assert json.loads(line) == {"a": [None, {"b": None}, [1.5, 2]], "c": None, "d": "é\x1b"}
    assert "N" not in line
    assert "I" not in line


def test_what_a_file_says_of_itself_stands_on_its_line_of_inspect(tiny):
    proto = onnx.load(tiny.path, load_external_data=False)
    for entry in proto.metadata_props:
        if entry.key == names.META_SOURCE:
            entry.value = "\x1b]0;title\x07\nfiles\n  0 bytes  forged"
    text = render(structure_of(proto, {"m\x1b[2J\n.onnx": 5}))
    assert r"\x1b]0;title\x07\nfiles\n  0 bytes  forged" in text
    assert r"m\x1b[2J\n.onnx" in text
    assert all(line.isprintable() for line in text.split("\n"))
