"""The suite's contenders, on a tiny model: their shapes, their parity, and why one is absent."""

from __future__ import annotations

import importlib.util
import math
import sys
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import contenders
from benchmarks.cases import CONTENDERS, GPU_GRID, PEERS, grid
from benchmarks.contenders import KINDS, AbsentError, Files
from benchmarks.workloads import Workload
from gptloop import export
from gptloop.reference.bounds import ParityError, check_quality
from gptloop.reference.evaluate import compare, evaluate
from gptloop.reference.parity import Judge
from gptloop.report import contenders as report_contenders
from gptloop.runtime.request import check_request

pytestmark = pytest.mark.usefixtures("one_torch_thread")

ROWS = Workload("1x2", "2 candidates", prompts=1, num_return_sequences=2, prompt_len=5, max_new_tokens=6, top_k=5)
PROMPTS = Workload("3x1", "3 prompts", prompts=3, num_return_sequences=1, prompt_len=5, max_new_tokens=6, top_k=5)
RAGGED = replace(PROMPTS, id="3x1-ragged", prompt_len=9, shortest_prompt=2)
MAY_BE_ABSENT = ("torch_compiled", "torch_bf16", "openvino_default")  # without a C++ compiler, or bfloat16 arithmetic
PACKAGES = {
    **dict.fromkeys(("ctranslate2", "ctranslate2_int8"), "ctranslate2"),
    **dict.fromkeys(("openvino", "openvino_default"), "openvino"),
    "jax": "jax",
}


def loaded(name: str, files: Files):
    if name in PACKAGES and importlib.util.find_spec(PACKAGES[name]) is None:
        pytest.skip(f"{PACKAGES[name]} is not installed; the extra peers brings it")
    contenders.prepare(name, files)
    if name not in MAY_BE_ABSENT:
        return contenders.load(name, files, device="cpu", threads=1)
    try:
        return contenders.load(name, files, device="cpu", threads=1)
    except AbsentError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def opened(files):
    """A contender on the tiny model by its name, loaded once; OpenVINO takes half a minute to compile the file."""
    found = {}

    def open_(name):
        if name not in found:
            try:
                found[name] = loaded(name, files)
            except pytest.skip.Exception as absent:
                found[name] = absent
        if isinstance(found[name], pytest.skip.Exception):
            raise found[name]
        return found[name]

    return open_


def test_every_contender_of_the_grids_is_known():
    on_gpus = {name for case in GPU_GRID for name in case.contenders}
    assert {*CONTENDERS, *PEERS, *on_gpus} == set(KINDS)


def test_the_report_knows_every_contender_by_its_title_and_no_other():
    assert set(report_contenders.CONTENDERS) == set(KINDS)
    titles = [one.title for one in report_contenders.CONTENDERS.values()]
    assert len(set(titles)) == len(titles)
    assert set(PEERS) <= set(report_contenders.PEERS)


@pytest.mark.parametrize("workload", [ROWS, PROMPTS, RAGGED], ids=lambda workload: workload.id)
@pytest.mark.parametrize("name", KINDS)
def test_a_contender_generates_the_shape_asked_for_and_its_parity_holds(tiny, opened, name, workload):
    if workload.shortest_prompt and KINDS[name].module in ("onnx_flavor", "onnx_unrolled"):
        pytest.skip("the graphs for a GPU have no padding, and no case asks them for it")
    if workload.shortest_prompt and name == "torch_compiled":
        pytest.skip("it is padded as hf_generate is, and compiles for half a minute")
    contender = opened(name)
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


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.precision in ("bf16", "chosen")])
def test_a_contender_in_bf16_scores_a_text_nearly_as_its_source_does(trained, tmp_path, name):
    files = Files.of("trained", tmp_path, trained.directory, "trained")
    export(files.checkpoint, files.onnx)
    found = compare(loaded(name, files).score, files.checkpoint, np.array(trained.ids), 32)
    assert 0 < abs(found.perplexity_change) < 0.01  # not fp32's own, and not far off
    assert found.agreement >= 0.99


def test_bf16_is_absent_where_the_cpu_does_not_compute_in_it(files, monkeypatch):
    monkeypatch.setattr("benchmarks.machine.cpu.cpu_features", lambda: ["AVX512-VNNI", "AVX2"])
    monkeypatch.setattr("benchmarks.contenders.torch_bf16.cpu_features", lambda: ["AVX512-VNNI", "AVX2"])
    with pytest.raises(AbsentError, match=r"no bfloat16 arithmetic \(it has AVX512-VNNI, AVX2\)"):
        contenders.load("torch_bf16", files, device="cpu", threads=1)


def test_openvino_is_not_measured_twice_where_it_chooses_fp32_itself(files, monkeypatch):
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("openvino is not installed; the extra peers brings it")
    monkeypatch.setattr("benchmarks.contenders.openvino_loop.PRECISIONS", dict.fromkeys(("f32", "bf16", "f16"), "fp32"))
    with pytest.raises(AbsentError, match="OpenVINO's own choice is f32 here"):
        contenders.load("openvino_default", files, device="cpu", threads=1)


def test_a_ragged_batch_has_prompts_of_all_lengths_padded_on_the_left():
    workload = replace(PROMPTS, prompts=4, prompt_len=17, shortest_prompt=2)
    mask, ids = contenders.prompt_mask(workload), contenders.prompt_ids(workload, 97)
    assert sorted(mask.sum(1)) == [2, 7, 12, 17]
    assert (np.diff(mask, axis=1) >= 0).all()
    assert (ids[mask == 0] == 0).all()
    assert (contenders.prompt_ids(replace(workload, shortest_prompt=0), 97) * mask == ids).all()
    assert contenders.prompt_mask(PROMPTS) is None


def test_a_scorer_that_is_far_off_is_refused(tiny):
    """Compared with the source's own opinion, an even one is worse."""
    ids = np.arange(20)
    even = np.full(19, -math.log(97)), np.zeros(19, np.int64)
    with pytest.raises(ParityError, match=r"at most 1\.0%"):
        check_quality(compare(lambda piece: even, tiny.model, ids), "int8")


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_without_its_package_is_absent_with_a_reason(files, name, monkeypatch):
    monkeypatch.setitem(sys.modules, PACKAGES[name], None)  # as if it could not be imported
    makes_files = PACKAGES[name] != "openvino"
    make = (lambda *job, **_: contenders.prepare(*job)) if makes_files else contenders.load
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


def test_contenders_can_be_chosen_and_the_baseline_stays():
    chosen = grid("full", has_gpu=False, xl=False, peers=True, only=("onnx_int8", "jax"))
    assert {case.contenders for case in chosen} == {("torch", "onnx_int8", "jax")}
    assert len(chosen) == len(grid("full", has_gpu=False, xl=False))
    with_bf16 = grid("cpu", has_gpu=False, xl=False, only=("torch_bf16",))
    assert [(case.group, case.contenders) for case in with_bf16] == [("gpt2 1x1", ("torch", "torch_bf16"))]
