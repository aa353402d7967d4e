"""The suite's contenders, its ceiling and one whole measurement, on a tiny model."""

from __future__ import annotations

import importlib.util
import itertools
import json
import math
import os
import statistics
import sys
from types import SimpleNamespace

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from counts import Counts
from onnxscript import GraphBuilder

from benchmarks import ceiling, contenders
from benchmarks.cases import CONTENDERS, GPU_GRID, PEERS, Case, Workload, grid
from benchmarks.contenders import KINDS, AbsentError, Files
from benchmarks.contenders.apart import Apart
from benchmarks.measure import Measurement, _time, measure
from benchmarks.test_speed import extra_info
from gptloop import export
from gptloop.graph import loop
from gptloop.graph.model import IR_VERSION, OPSET
from gptloop.graph.variants.products import build_attention_products
from gptloop.reference.evaluate import compare, evaluate
from gptloop.reference.parity import Judge, ParityError, check_quality
from gptloop.report.runs import BOUNDS
from gptloop.runtime.request import check_request

pytestmark = pytest.mark.usefixtures("one_torch_thread")

ROWS = Workload("1x2", "2 candidates", prompts=1, num_return_sequences=2, prompt_len=5, max_new_tokens=6, top_k=5)
PROMPTS = Workload("3x1", "3 prompts", prompts=3, num_return_sequences=1, prompt_len=5, max_new_tokens=6, top_k=5)
PACKAGES = {"ctranslate2": "ctranslate2", "ctranslate2_int8": "ctranslate2", "openvino": "openvino"}


@pytest.fixture(scope="module")
def files(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("contenders")
    tiny.model.save_pretrained(folder / "tiny")
    files = Files.of("tiny", folder, folder / "tiny", "random, seed 0")
    export(files.checkpoint, files.onnx)
    export(files.checkpoint, files.onnx_int8, precision="int8")
    return files


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


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_ceiling_holds_each_product_of_a_pass_once(tiny, files, precision):
    path = files.exported(precision)
    products = ceiling.Products(path, ROWS, threads=1)
    products()
    graph = onnx.load(path.with_name(f"{path.stem}.products.onnx"), load_external_data=False).graph
    operator = {"fp32": "Gemm", "int8": "MatMulInteger"}[precision]
    assert sum(node.op_type == operator for node in graph.node) == 4 * 2 + 1
    D, V = 32, 97
    expected = 2 * (3 + 1 + 4 + 4) * D * D + V * D
    assert products.pass_bytes == expected * {"fp32": 4, "int8": 1}[precision]
    rows = {x.name: x.type.tensor_type.shape.dim[0].dim_param for x in graph.input}
    last = {"x.h.1.attn.c_proj", "x.h.1.mlp.c_fc", "x.h.1.mlp.c_proj", "x.lm_head"}
    assert {name for name, dim in rows.items() if dim == "last_rows"} == last, (
        "what the prefill computes of one position"
    )
    assert {dim for name, dim in rows.items() if name not in last} == {"rows"}


def test_the_products_are_those_of_the_model(tiny, files):
    """As torch computes them from the checkpoint; the query's columns are scaled at export."""
    ceiling.Products(files.onnx, ROWS, threads=1)
    session = ort.InferenceSession(files.onnx.with_name(f"{files.onnx.stem}.products.onnx"))
    rng = np.random.default_rng(0)
    feeds = {x.name: rng.standard_normal((3, x.shape[1])).astype(np.float32) for x in session.get_inputs()}
    found = dict(zip([y.name for y in session.get_outputs()], session.run(None, feeds), strict=True))
    weights = {name.removeprefix("transformer."): w.numpy() for name, w in tiny.model.state_dict().items()}
    for layer in range(2):
        for part in ("attn.c_proj", "mlp.c_fc", "mlp.c_proj"):
            name = f"h.{layer}.{part}"
            expected = feeds[f"x.{name}"] @ weights[f"{name}.weight"] + weights[f"{name}.bias"]
            np.testing.assert_allclose(found[f"y.{name}"], expected, rtol=1e-4, atol=1e-4)
    expected = feeds["x.lm_head"] @ weights["wte.weight"].T
    np.testing.assert_allclose(found["y.lm_head"], expected, rtol=1e-4, atol=1e-4)


def test_the_ceiling_holds_attentions_products_of_every_step(tiny, monkeypatch):
    """Of 2 prompts of 5 tokens, 3 candidates each and 9 new tokens, in blocks of ceil(sqrt(8)) = 3."""
    workload = Workload("2x3", "", prompts=2, num_return_sequences=3, prompt_len=5, max_new_tokens=9)
    runs = []

    class Session(ort.InferenceSession):
        def run_with_iobinding(self, binding):
            super().run_with_iobinding(binding)
            shapes = [tuple(value.shape()) for value in binding.get_outputs()]
            runs.append(dict(zip([y.name for y in self.get_outputs()], shapes, strict=True)))

    monkeypatch.setattr(ort, "InferenceSession", Session)
    attention = ceiling.AttentionProducts(tiny.model.config, workload, threads=1)
    attention()
    H, d = 4, 8
    assert runs[0] == {
        "y.prompt.query.0": (2, H, 5, 5),
        "y.prompt.probs.0": (2, H, 5, d),
        "y.prompt.query.1": (2, H, 1, 5),  # what the prefill computes of one position
        "y.prompt.probs.1": (2, H, 1, d),
    }
    lengths = [(0, 1), (0, 2), (0, 3), *((3, length) for length in range(1, 6))]
    assert len(runs) == 1 + len(lengths)
    for run, (earlier, block) in zip(runs[1:], lengths, strict=True):
        for layer in range(2):
            assert run[f"y.prompt.query.{layer}"] == (2, H, 3, 5)
            assert run[f"y.prompt.probs.{layer}"] == (2, H, 3, d)
            for part, length in (("earlier", earlier), ("block", block)):
                assert run[f"y.{part}.query.{layer}"] == (2, H, 3, 1, length)
                assert run[f"y.{part}.probs.{layer}"] == (2, H, 3, 1, d)


def test_blocks_are_as_long_in_the_ceiling_as_in_the_graph():
    builder = GraphBuilder(ir.Graph([], [], nodes=[], opset_imports={"": OPSET}, name="blocks"))
    blocks = loop.Blocks.of(builder.op, builder.input("steps", ir.DataType.INT64, ["N"]))
    for name, value in blocks._asdict().items():
        value.dtype, value.shape = ir.DataType.INT64, ir.Shape(["N"])
        builder.add_output(value, f"block_{name}")
    session = ort.InferenceSession(ir.to_proto(ir.Model(builder.graph, ir_version=IR_VERSION)).SerializeToString())
    steps = np.arange(1024)  # as far as GPT-2's positions go
    found = np.transpose(session.run(["block_number", "block_steps"], {"steps": steps}))
    for n, (count, in_block) in zip(steps, found.tolist(), strict=True):
        bounds = [block * in_block for block in range(count)] + [n]
        assert bounds == loop.block_bounds(n)
        assert all(0 < end - start <= 2 * in_block for start, end in itertools.pairwise(bounds))


def test_attentions_products_are_those_of_queries_and_keys(tiny):
    model = build_attention_products(tiny.model.config, ["block"])
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString())
    sizes = {"B": 2, "R": 3, "block_length": 7}
    rng = np.random.default_rng(0)
    feeds = {
        x.name: rng.standard_normal([sizes.get(dim, dim) for dim in x.shape], np.float32) for x in session.get_inputs()
    }
    found = dict(zip([y.name for y in session.get_outputs()], session.run(None, feeds), strict=True))
    for layer in range(2):
        scores = np.einsum("...qd,...td->...qt", feeds["block.query.rows"], feeds[f"block.key.{layer}"])
        np.testing.assert_allclose(found[f"y.block.query.{layer}"], scores, rtol=1e-4, atol=1e-5)
        context = np.einsum("...qt,...td->...qd", feeds["block.probs.rows"], feeds[f"block.value.{layer}"])
        np.testing.assert_allclose(found[f"y.block.probs.{layer}"], context, rtol=1e-4, atol=1e-5)


def test_a_case_is_measured_whole(tiny, files, monkeypatch):
    """Loading, parity, rounds, floors, the early tokens, and each contender alone in a process of its own."""
    monkeypatch.setattr(ceiling, "BUFFER_BYTES", 1 << 20)
    ceiling._fastest_read.cache_clear()
    names = ("torch", "onnx")
    case = Case("tiny", ROWS, rounds=3, alone_rounds=1, contenders=names, ceiling=True, early_tokens=3)
    said = []
    found = measure(case, names, files, tiny.model.config, device="cpu", threads=1, say=said.append)
    ceiling._fastest_read.cache_clear()
    # Next to each other, so that a machine that gets slower does not look like a text that gets longer.
    order = "torch, torch's first tokens, onnx, onnx's first tokens, onnx products, attention's products, memory"
    assert f"3 interleaved rounds of {ROWS.max_new_tokens} new tokens: {order}" in said
    info = {name: extra_info(case, name, found[name], found[name].parity) for name in names}
    assert json.loads(json.dumps(info)) == info
    for name, facts in info.items():
        assert [len(facts[key]) for key in ("ttft_rounds_s", "early_rounds_s", "alone_rounds_s")] == [3, 3, 1]
        assert facts["load_s"] == found[name].alone["load_s"] > 0
        for passes in (facts["own_passes_s"], facts["exchanged_passes_s"]):
            assert [len(pair) for pair in passes] == [2, 2, 2]
            assert all(seconds > 0 for pair in passes for seconds in pair)
        early_s = (statistics.median(facts["early_rounds_s"]) - facts["ttft_s"]) / 2
        assert facts["early_time_per_output_token_s"] == pytest.approx(early_s)
    onnx_info = info["onnx"]
    assert onnx_info["ceiling_kind"] in BOUNDS
    assert onnx_info["ceiling_rounds_s"] == onnx_info[f"{onnx_info['ceiling_kind']}_rounds_s"]
    for with_weights_s, all_s in zip(onnx_info["products_rounds_s"], onnx_info["all_products_rounds_s"], strict=True):
        assert with_weights_s < all_s
    medians = {kind: statistics.median(onnx_info[f"{kind}_rounds_s"]) for kind in BOUNDS}
    assert max(medians, key=medians.get) == onnx_info["ceiling_kind"]
    assert all(len(onnx_info[key]) == 3 for key in ("ceiling_rounds_s", "ceiling_ttft_rounds_s"))
    assert "ceiling_kind" not in info["torch"]


def test_the_first_tokens_are_called_for_three_times_beside_each_whole_call(monkeypatch):
    """Of each round, the mean; the contender here takes a second for each token."""
    now, calls = [0.0], []

    class Clocked:
        def generate(self, ids, workload, *, max_new_tokens, greedy=False):
            calls.append(max_new_tokens)
            now[0] += max_new_tokens

    monkeypatch.setattr("benchmarks.timing.time", SimpleNamespace(perf_counter=lambda: now[0]))
    case = Case("tiny", ROWS, rounds=2, alone_rounds=0, contenders=("torch",), early_tokens=3)
    results = {"torch": Measurement("cpu", "random, seed 0")}
    _time(case, np.zeros((1, 4), np.int64), {"torch": Clocked()}, {}, None, results, lambda _: None)
    N = ROWS.max_new_tokens
    assert results["torch"].rounds_s == [N, N]
    assert results["torch"].early_rounds_s == [3, 3]
    whole = [count for count in calls if count != 1]
    assert whole[-8:] == [N, 3, 3, 3, 3, 3, 3, N]  # forwards, then backwards


def test_an_absent_contender_is_told_apart_and_the_others_are_measured(tiny, files, monkeypatch):
    def refuse(*_, **__):
        raise AbsentError("no compiler")

    monkeypatch.setattr("benchmarks.contenders.torch_compiled.load", refuse)
    names = ("torch", "torch_compiled", "onnx")
    case = Case("tiny", ROWS, rounds=1, alone_rounds=0, contenders=names)
    found = measure(case, names, files, tiny.model.config, device="cpu", threads=1, say=lambda _: None)
    assert found["torch_compiled"].absent == "no compiler"
    assert not found["torch_compiled"].rounds_s
    assert found["onnx"].rounds_s


@pytest.mark.parametrize("name", ["cpu", "full", "long"])
def test_peers_join_where_more_than_the_loops_run(name):
    plain, with_peers = (grid(name, has_gpu=False, xl=False, peers=peers) for peers in (False, True))
    assert [case.group for case in plain] == [case.group for case in with_peers]
    assert len({case.group for case in plain}) == len(plain)
    for case, more in zip(plain, with_peers, strict=True):
        added = () if case.contenders == ("torch", "onnx", "onnx_int8") else PEERS
        assert more.contenders == case.contenders + added


def test_a_contender_apart_answers_from_a_process_of_its_own_that_ends_with_it():
    apart = Apart(Counts, 3, huge_pages=False)
    ((counted, pid),) = apart.generate(np.zeros((1, 4), np.int64), ROWS, max_new_tokens=4)
    assert counted == 7
    assert apart.pid == pid != os.getpid()
    apart.rest()
    with pytest.raises(ValueError, match="nothing to generate"):
        apart.generate(np.zeros((1, 4), np.int64), ROWS, max_new_tokens=0)
    assert apart.generate(np.zeros((1, 4), np.int64), ROWS, max_new_tokens=1)[0, 1] == pid
    apart.close()
    assert apart._process.exitcode == 0


def test_a_process_that_ends_by_itself_is_named_with_its_exit_code():
    apart = Apart(Counts, 3, huge_pages=False)
    with pytest.raises(RuntimeError, match="the contender's process ended with 7"):
        apart.generate(np.zeros((1, 4), np.int64), ROWS, max_new_tokens=-1)


def test_an_error_that_cannot_cross_the_pipe_is_told_in_words():
    apart = Apart(Counts, 3, huge_pages=False)
    with pytest.raises(RuntimeError, match="pickle"):
        apart.generate(np.zeros((1, 4), np.int64), ROWS, max_new_tokens=-2)
    apart.close()


def test_what_loading_raises_apart_is_raised_here():
    with pytest.raises(AbsentError, match="-1 is below 0"):
        Apart(Counts, -1, huge_pages=False)
