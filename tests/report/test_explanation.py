"""What changed between two profiles: by operator and shape, what appeared or is no longer packed, and in what words."""

import pytest

from gptloop.report.explanation import explain
from gptloop.report.explanation_text import explanations_markdown
from gptloop.report.gate_page import gate_html

PLACE = "decode/h.*"


def group(operator: str, *inputs: str, nodes: int = 6, ms: float = 1.0, place: str = PLACE):
    return {
        "place": place,
        "operator": operator,
        "inputs": list(inputs),
        "nodes": nodes,
        "runs": 30 * nodes,
        "seconds": ms / 1e3,
    }


def profile(*groups, ms: float = 10.0, peak: int | None = 2_000_000):
    return {"seconds": ms / 1e3, "arena_bytes": 1_000_000, "peak_memory_bytes": peak, "groups": list(groups)}


PACKED = group("Gemm", "float[8,64]", "float[96]")
UNPACKED = group("Gemm", "float[8,64]", "float[64,96]", "float[96]", ms=5.0)


def culprits(base, change) -> list[str]:
    return explain("a case", base, change)["culprits"]


def test_products_that_read_their_weights_again_are_named_with_the_weights():
    (said,) = culprits(profile(PACKED), profile(UNPACKED, ms=14.0))
    assert said == (
        "Unpacked products: 6 Gemm in decode/h.* (float[64,96]) now read weights that ONNX Runtime had packed for the "
        "base, +4 ms a call."
    )
    assert explain("a case", profile(UNPACKED), profile(PACKED))["packed"][0]["weights"] == ["float[64,96]"]


def test_an_operator_that_is_no_product_may_read_more_without_being_unpacked():
    before, after = group("Concat", "float[8]"), group("Concat", "float[8]", "float[8]")
    assert explain("a case", profile(before), profile(after))["unpacked"] == []


def test_more_products_are_nodes_that_appeared_and_not_unpacked_ones():
    found = explain("a case", profile(PACKED), profile(PACKED | {"nodes": 12}))
    assert (found["unpacked"], [row["operator"] for row in found["appeared"]]) == ([], ["Gemm"])


def test_nodes_that_appeared_or_vanished_are_counted_by_place():
    base = profile(group("Concat", "float[8]"), group("Unsqueeze", "float[8]", place="decode"))
    change = profile(group("Concat", "float[8]", nodes=12, ms=2.5), group("Split", "float[8]"), ms=12.5)
    appeared, vanished = culprits(base, change)
    assert appeared == "6 Concat and 6 Split appeared in decode/h.*, +2.5 ms a call."
    assert vanished == "6 Unsqueeze vanished in decode, -1 ms a call."


def test_an_operator_that_takes_longer_as_it_stands_is_named_where_it_counts():
    base = profile(group("Softmax", "float[8]"), group("Add", "float[8]"))
    change = profile(group("Softmax", "float[8]", ms=4.0), group("Add", "float[8]", ms=1.1), ms=13.1)
    assert culprits(base, change) == ["Softmax takes longer as it stands, +3 ms a call."]


def test_where_nothing_is_found_that_is_said():
    assert culprits(profile(PACKED), profile(PACKED)) == [
        "No node appeared, vanished or takes notably longer under the profiler."
    ]


def test_times_are_compared_by_operator_and_by_what_it_reads_the_largest_change_first():
    base = profile(
        group("Gemm", "float[8,64]"), group("Gemm", "float[16,64]", place="prefill"), group("Add", "float[8]")
    )
    change = profile(group("Gemm", "float[8,64]", ms=3.0), group("Gemm", "float[16,64]", place="prefill"))
    found = explain("a case", base, change)
    assert [(row["operator"], row["slower_s"]) for row in found["operators"]] == [
        ("Gemm", pytest.approx(0.002)),
        ("Add", pytest.approx(-0.001)),
    ]
    assert found["operators"][0]["base"] == {"nodes": 12, "runs": 360, "seconds": 0.002}
    assert [row["inputs"] for row in found["shapes"]] == ["float[8,64]", "float[8]", "float[16,64]"]
    assert found["memory"]["arena_bytes"] == {"base": 1_000_000, "change": 1_000_000}


def test_markdown_and_page_hold_causes_tables_and_memory():
    found = explain("a case", profile(PACKED), profile(UNPACKED, ms=14.0, peak=None))
    text = explanations_markdown([found])
    page = gate_html("A title", ["A fact"], [], [found])
    for words in ("### a case", "Unpacked products: 6 Gemm", "| Gemm ", "+4.000 ms", "2.00 MB"):
        assert words in text
    for words in ("<h3>a case</h3>", "Unpacked products: 6 Gemm", "float[64,96]", "+4.000 ms", "2.00 MB"):
        assert words in page
    assert explanations_markdown([]) == ""


def test_names_from_a_profile_stay_text_in_the_page():
    odd = group("<script>alert(1)</script>", "float[8]")
    page = gate_html("A title", [], [], [explain("<b>", profile(), profile(odd))])
    assert "<script>" not in page
    assert "<b>" not in page
