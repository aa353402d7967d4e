"""JUnit XML of verdicts: valid by the format's schema, a failure per regression, an error for what is not judged."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from lxml import etree

from gptloop.report.junit import junit_error, junit_xml
from gptloop.report.verdicts import Quantity, Value, Verdict

SCHEMA = etree.XMLSchema(etree.parse(Path(__file__).with_name("junit.xsd")))


def one(value: Value, reason: str = "a reason", quantity: Quantity = Quantity.TIME) -> Verdict:
    return Verdict("gpt2 8x1 onnx", value, reason, 0.02, quantity)


def valid(content: bytes) -> ET.Element:
    SCHEMA.assertValid(etree.fromstring(content))
    return ET.fromstring(content)


def test_each_verdict_is_a_case_and_every_one_that_is_no_pass_fails_or_errs():
    root = valid(junit_xml([*map(one, Value), one(Value.REGRESSION, quantity=Quantity.MEMORY)]))
    assert dict(root.attrib) | {"name": ""} == {"name": "", "tests": "6", "failures": "2", "errors": "2"}
    found = {
        (case.get("classname"), child.get("type")): child.tag
        for case in root.iter("testcase")
        for child in case
        if child.tag != "system-out"
    }
    assert found == {
        ("gate.time", "regression"): "failure",
        ("gate.time", "missing"): "error",
        ("gate.time", "unstable"): "error",
        ("gate.peak_memory", "regression"): "failure",
    }
    passed = [case.find("system-out").text for case in root.iter("testcase") if case.find("system-out") is not None]
    assert passed == ["improved: a reason", "unchanged: a reason"]


@pytest.mark.parametrize("reason", ["<&>\"'", "+8.3 % Zeit, größer", "x" * 10_000])
def test_a_reason_stays_text(reason):
    (failure,) = valid(junit_xml([one(Value.REGRESSION, reason)])).iter("failure")
    assert failure.text == f"regression: {reason}"


def test_a_gate_that_judged_nothing_is_an_error():
    root = valid(junit_error("RuntimeError: no revision"))
    assert (root.get("tests"), root.get("errors")) == ("1", "1")


@pytest.mark.parametrize(
    ("right", "wrong"),
    [(b"<testcase", b"<case"), (b' tests="1"', b""), (b"<failure", b"<fault"), (b' name="gpt2', b' title="gpt2')],
)
def test_the_schema_sees_what_is_wrong(right, wrong):
    content = junit_xml([one(Value.REGRESSION)])
    assert right in content
    broken = content.replace(right, wrong).replace(right.replace(b"<", b"</"), wrong.replace(b"<", b"</"))
    assert not SCHEMA.validate(etree.fromstring(broken))
