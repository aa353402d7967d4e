"""A damaged run through the whole report: a report or one line, and never a traceback.

A saved run is changed at random in one place, in its JSON or in its bytes. The suite tries a few changes; for more:

    GPTLOOP_MUTATIONS=500 pytest tests/report/test_mutations.py
"""

import copy
import json
import os
import random
from typing import Any

import pytest
from gated import LATER, SPREAD, suite
from report_runs import CEILING, STEP_COUNTS, benchmark

MUTATIONS = int(os.environ.get("GPTLOOP_MUTATIONS", "8"))

NUMBERS = [0, -1, 1, 1e300, -1e300, 1e-300, 5e-324, 1e9, 1e-9, 2**63, 10**400, 0.1 + 0.2]
OTHERS = [
    None,
    True,
    float("nan"),
    float("inf"),
    "",
    " ",
    "x" * 100_000,
    "a\x1b[31mb",
    "\ud800",
    "|<b>`$",
    [],
    {},
    [[]],
]
OTHERS += [[1.0], [1e300], {"x": 1}, "2099-01-01", "0001-01-01T00:00:00+14:00"]


def whole_run() -> dict[str, Any]:
    """A run that holds whatever a run may hold."""
    content = suite(at=LATER)
    rounds = tuple(SPREAD)
    bounds = {name: [0.5] * len(rounds) if isinstance(value, list) else value for name, value in CEILING.items()}
    early = {"early_tokens": 6, "early_rounds_s": [0.3] * len(rounds), "early_time_per_output_token_s": 0.02}
    moments = {"own_passes_s": [[17e-6, 30e-6]] * len(rounds), "exchanged_passes_s": [[35e-6, 128e-6]] * len(rounds)}
    facts = bounds | early | moments | {"step_counts": STEP_COUNTS, "alone_rounds_s": [1.0, 1.1], "group": "gpt2 8x1"}
    content["benchmarks"] += [
        benchmark("onnx_int8", rounds, precision="int8", **facts),
        benchmark("hf_generate", rounds, group="gpt2 8x1"),
    ]
    return content


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value within a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [(*path, key) for key, _ in inner] + [way for key, one in inner for way in places(one, (*path, key))]


def mutated(content: dict[str, Any], chance: random.Random) -> bytes:
    """The content with one change."""
    if chance.random() < 0.15:
        raw = bytearray(json.dumps(content).encode())
        if chance.random() < 0.5:
            return bytes(raw[: chance.randrange(len(raw))])
        raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
        return bytes(raw)
    changed = copy.deepcopy(content)
    *way, key = chance.choice(places(changed))
    inner: Any = changed
    for step in way:
        inner = inner[step]
    kind = chance.random()
    if kind < 0.15:
        del inner[key]
    elif kind < 0.25:
        (inner.append if isinstance(inner, list) else lambda one: inner.update({"new": one}))(copy.deepcopy(inner[key]))
    elif kind < 0.4 and isinstance(inner[key], int | float) and not isinstance(inner[key], bool):
        inner[key] *= chance.choice([10, 0.1, 1e6, 1e-6, -1])
    else:
        inner[key] = copy.deepcopy(chance.choice(NUMBERS if chance.random() < 0.5 else OTHERS))
    return json.dumps(changed).encode()


def strict(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.fixture
def drawn(report, monkeypatch):
    """`report`, with the charts that it does without, but as SVG only."""
    from gptloop.report.charts import render  # noqa: PLC0415  (the fixture `report` has replaced what uses it)

    rendered = render._rendered
    monkeypatch.setattr(render, "_rendered", lambda figure, kind, facts: rendered(figure, "svg", {"Date": None}))
    monkeypatch.setattr("gptloop.report.files.render_charts", render.render_charts)
    monkeypatch.setattr("gptloop.report.files.render_history", render.render_history)
    return report


def test_a_mutated_run_is_reported_or_refused_in_one_line(drawn, capsys):
    content, path = whole_run(), drawn.folder / "m" / "0002_new.json"
    assert drawn(content, "--fail-on-regression") == 0
    reported = 0
    for seed in range(MUTATIONS):
        path.write_bytes(mutated(content, random.Random(seed)))
        capsys.readouterr()
        status = drawn(None, "--fail-on-regression")
        said = capsys.readouterr()
        assert status in (0, 1, 2), seed
        assert "unexpected" not in said.err, (seed, said.err)
        assert all(len(line) < 1100 and line.isprintable() for line in said.err.splitlines()), seed
        assert (said.err.count("\n") == 1) or said.out, (seed, said.err)
        for name in ("report.json", "verdicts.json"):
            strict((drawn.folder / name).read_text())
        if said.out:
            reported += 1
            verdicts = {one["verdict"] for one in strict((drawn.folder / "verdicts.json").read_text())["verdicts"]}
            assert (status == 1) == ("regression" in verdicts), seed
    assert 0 < reported < MUTATIONS


@pytest.mark.parametrize("seed", range(8))
def test_a_mutated_baseline_is_judged_against_or_refused_in_one_line(report, stored, capsys, seed):
    content = {"gptloop_kind": "baseline", "noise_floors": {"gpt2 8x1 onnx": 0.1, "control": 0.1}, **whole_run()}
    stored.write_bytes(mutated(content, random.Random(seed)))
    assert report(suite(), against=stored) in (0, 2)
    said = capsys.readouterr()
    assert "unexpected" not in said.err
    assert said.err.count("\n") <= 1
