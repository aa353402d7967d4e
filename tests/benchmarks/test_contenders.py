"""The suite's contenders, on a tiny model: their shapes, their parity, and why one is absent."""

from __future__ import annotations

import importlib.util
import math
import sys

import numpy as np
import pytest

from benchmarks import contenders
from benchmarks.cases import CONTENDERS, GPU_GRID, PEERS, Workload, grid
from benchmarks.contenders import KINDS, AbsentError, Files
from gptloop import export
from gptloop.reference.evaluate import compare, evaluate
from gptloop.reference.parity import Judge, ParityError, check_quality
from gptloop.runtime.request import check_request

pytestmark = pytest.mark.usefixtures("one_torch_thread")

ROWS = Workload("1x2", "2 candidates", prompts=1, num_return_sequences=2, prompt_len=5, max_new_tokens=6, top_k=5)
PROMPTS = Workload("3x1", "3 prompts", prompts=3, num_return_sequences=1, prompt_len=5, max_new_tokens=6, top_k=5)
PACKAGES = {"ctranslate2": "ctranslate2", "ctranslate2_int8": "ctranslate2", "openvino": "openvino"}


def loaded(name: str, files: Files):
    if name in PACKAGES and importlib.util.find_spec(PACKAGES[name]) is None:
        pytest.skip(f"{PACKAGES[name]} is not installed; the extra peers brings it")
    contenders.prepare(name, files)
    if name != "torch_compiled":  # which alone needs a C++ compiler
        return contenders.load(name, files, device="cpu", threads=1)
    try:
        return contenders.load(name, files, device="cpu", threads=1)
    except AbsentError as error:
        pytest.skip(str(error))


def test_every_contender_of_the_grids_is_known():
    on_gpus = {name for case in GPU_GRID for name in case.contenders}
    assert {*CONTENDERS, *PEERS, *on_gpus} == set(KINDS)


@pytest.mark.parametrize("workload", [ROWS, PROMPTS], ids=lambda workload: workload.id)
@pytest.mark.parametrize("name", KINDS)
def test_a_contender_generates_the_shape_asked_for_and_its_parity_holds(tiny, files, name, workload):
    contender = loaded(name, files)
    ids = contenders.prompt_ids(workload, 97)
    tokens = contender.generate(ids, workload, max_new_tokens=6)
    assert tokens.shape == (workload.prompts * workload.num_return_sequences, 6)
    assert contender.generate(ids, workload, max_new_tokens=1).shape == (len(tokens), 1)
    assert ((tokens >= 0) & (tokens < 97)).all()
    if KINDS[name].parity == "quality":
        return  # of which a test of its own is below
    greedy = KINDS[name].parity == "greedy"
    if greedy:
        tokens = contender.generate(ids, workload, max_new_tokens=6, greedy=True)
    call = contenders.arguments(workload, 6, greedy) | ({"num_return_sequences": 1} if greedy else {})
    expected = tiny.torch.generate(ids, **call)
    Judge(tiny.model).check(check_request(tiny.model.config, ids, **call), expected, tokens)


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.precision == "int8"])
def test_an_int8_contenders_quality_is_within_the_bound_on_a_trained_model(trained, tmp_path, name):
    files = Files.of("trained", tmp_path, trained.directory, "trained")
    export(files.checkpoint, files.onnx_int8, precision="int8")
    contender = loaded(name, files)
    ids = np.array(trained.ids)
    score = getattr(contender, "score", None)
    found = compare(score, files.checkpoint, ids, 32) if score else evaluate(files.onnx_int8, files.checkpoint, ids, 32)
    assert found.tokens == len(ids) - 1
    assert found.source_perplexity < 2
    assert found.agreement >= 0.99
    assert check_quality(found, "int8")


def test_a_scorer_that_is_far_off_is_refused(tiny):
    """Compared with the source's own opinion, an even one is worse."""
    ids = np.arange(20)
    even = np.full(19, -math.log(97)), np.zeros(19, np.int64)
    with pytest.raises(ParityError, match=r"at most 1\.0%"):
        check_quality(compare(lambda piece: even, tiny.model, ids), "int8")


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_without_its_package_is_absent_with_a_reason(files, name, monkeypatch):
    monkeypatch.setitem(sys.modules, PACKAGES[name], None)  # as if it could not be imported
    make = contenders.load if name == "openvino" else lambda *job, **_: contenders.prepare(*job)
    with pytest.raises(AbsentError, match=f"{PACKAGES[name]} is not installed; the extra `peers` brings it"):
        make(name, files, device="cpu", threads=1)


def test_compilation_that_fails_makes_the_contender_absent(files, monkeypatch):
    def compile_(_):
        raise RuntimeError("No C++ compiler\nand more")

    monkeypatch.setattr("torch.compile", compile_)
    with pytest.raises(AbsentError, match=r"does not work here: No C\+\+ compiler$"):
        contenders.load("torch_compiled", files, device="cpu", threads=1)


@pytest.mark.parametrize("name", ["cpu", "full", "long"])
def test_peers_join_where_more_than_the_loops_run(name):
    plain, with_peers = (grid(name, has_gpu=False, xl=False, peers=peers) for peers in (False, True))
    assert [case.group for case in plain] == [case.group for case in with_peers]
    assert len({case.group for case in plain}) == len(plain)
    for case, more in zip(plain, with_peers, strict=True):
        added = () if case.contenders == ("torch", "onnx", "onnx_int8") else PEERS
        assert more.contenders == case.contenders + added
