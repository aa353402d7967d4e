"""Plain text as Markdown that no cell can break."""

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from gptloop.report.markdown import escape, table


def cells(line: str) -> list[str]:
    """The cells of a table's line, as GitHub splits it: at pipes without a backslash."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


@given(st.lists(st.text(st.characters(exclude_categories=("C", "Z"))), min_size=3, max_size=3))
@settings(max_examples=60, deadline=None)
def test_no_cell_can_break_its_table(row):
    lines = table(["a", "b", "c"], [row], "lrl").splitlines()
    assert len({len(line) for line in lines}) == 1
    assert [len(cells(line)) for line in lines] == [3, 3, 3]


def test_numbers_stand_flush_right():
    assert table(["name", "n"], [["a", "1.5"], ["long name", "12"]], "lr") == (
        "| name      |   n |\n| --------- | --: |\n| a         | 1.5 |\n| long name |  12 |"
    )


def test_markup_is_escaped_and_plain_names_are_left_alone():
    assert escape("torch_tiled [1.2-1.3] gpt2-medium") == "torch_tiled [1.2-1.3] gpt2-medium"
    assert escape("|<$`*_x_ [a](b)") == r"\|\<\$\`\*\_x\_ [a\](b)"
    assert escape("\\|>~&#") == r"\\\|\>\~\&\#"
