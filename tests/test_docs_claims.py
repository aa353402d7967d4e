"""What documents claim that no link or name shows: how fast it is, and what to install."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def test_nobody_is_told_to_install_by_a_name_that_is_another_projects_on_pypi():
    for path in [*DOCUMENTS, *ROOT.glob("gptloop/**/*.py"), *ROOT.glob("benchmarks/**/*.py")]:
        assert not re.search(r"pip install\b[^\n`]* [\"']?gptloop\b", path.read_text(encoding="utf-8")), path


def test_the_readmes_sentence_on_speed_is_true_of_the_results_below_it():
    """Those are rendered anew with each machine that is measured; the sentence is not."""
    results = (
        README.read_text(encoding="utf-8").partition("<!-- results -->")[2].partition("<!-- end of results -->")[0]
    )
    header, _, *rows = [line.split("|") for line in results.splitlines() if line.startswith("|")]
    column = [cell.strip() for cell in header].index("ONNX loop, int8")
    lowest = [row[column] for row in rows] + re.findall(r"[\d.]+x to [\d.]+x in int8", results)
    ratios = [float(re.findall(r"([\d.]+)x", text)[0]) for text in lowest]
    assert len(ratios) > len(rows)
    assert min(ratios) >= 2
