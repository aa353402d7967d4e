"""Verdicts as JUnit XML, which CI systems show beside the tests: a regression is a failure, no judgement an error.

The format has no schema of its own; this keeps to the elements and attributes that the one of Jenkins' xUnit plugin
has (junit-10.xsd).
"""

import contextlib
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from gptloop.report.disk import write_files
from gptloop.report.mark import MARK, check_replaceable
from gptloop.report.verdicts import Value, Verdict

_OUTCOMES = {Value.REGRESSION: "failure", Value.MISSING: "error", Value.UNSTABLE: "error"}


@contextlib.contextmanager
def junit_file(path: Path | None) -> Iterator[Callable[[Sequence[Verdict]], None]]:
    """Gives what writes verdicts into a file, if there is one; where the block raises, the file holds that as an error.

    So that a file of an earlier run never passes for this one's.

    Raises:
        ReportError: If something that is not the gate's stands there.
    """
    if path is None:
        yield lambda _: None
        return
    check_replaceable(path)
    try:
        yield lambda verdicts: write_files(path.parent, {path.name: junit_xml(verdicts)})
    except BaseException as error:
        write_files(path.parent, {path.name: junit_error(f"{type(error).__name__}: {error}")})
        raise


def junit_xml(verdicts: Sequence[Verdict]) -> bytes:
    """A test case for each verdict; what the verdict rests on stands in its text.

    Args:
        verdicts: At least one: a file without a case would pass for a success.
    """
    assert verdicts
    outcomes = [_OUTCOMES.get(one.value) for one in verdicts]
    counts = {"tests": len(verdicts), "failures": outcomes.count("failure"), "errors": outcomes.count("error")}
    root, suite = _suite(counts)
    for one, outcome in zip(verdicts, outcomes, strict=True):
        case = ET.SubElement(suite, "testcase", classname=f"gate.{one.quantity.replace(' ', '_')}", name=one.case)
        if outcome:
            message = f"{one.value}: {one.reason}"
            ET.SubElement(case, outcome, type=one.value.value, message=message).text = message
        else:
            ET.SubElement(case, "system-out").text = f"{one.value}: {one.reason}"
    return _bytes(root)


def junit_error(message: str) -> bytes:
    """The file of a gate that ended before it judged anything."""
    root, suite = _suite({"tests": 1, "failures": 0, "errors": 1})
    case = ET.SubElement(suite, "testcase", classname="gate", name="the gate itself")
    ET.SubElement(case, "error", type="not judged", message=message).text = message
    return _bytes(root)


def _suite(counts: dict[str, int]) -> tuple[ET.Element, ET.Element]:
    attributes = {"name": MARK} | {name: str(count) for name, count in counts.items()}
    root = ET.Element("testsuites", attributes)
    return root, ET.SubElement(root, "testsuite", attributes)


def _bytes(root: ET.Element) -> bytes:
    ET.indent(root)
    content: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return content + b"\n"
