"""What bounds a call: the products that are timed are those of the model, and the lower bounds are made of them."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from benchmarks.machine import cuda
from benchmarks.measuring import gpu_ceiling, products
from benchmarks.workloads import CANDIDATES, ONE_ROW, Workload
from gptloop.graph.variants.products import build_attention_products

pytestmark = pytest.mark.usefixtures("one_torch_thread")

ROWS = Workload("1x2", "2 candidates", prompts=1, num_return_sequences=2, prompt_len=5, max_new_tokens=6, top_k=5)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_ceiling_holds_each_product_of_a_pass_once(tiny, files, precision):
    path = files.exported(precision)
    found = products.Products(path, ROWS, threads=1)
    found()
    graph = onnx.load(path.with_name(f"{path.stem}.products.onnx"), load_external_data=False).graph
    operator, tried_out = {"fp32": ("Gemm", 0), "int8": ("MatMulInteger", 1)}[precision]
    assert sum(node.op_type == operator for node in graph.node) == 4 * 2 + 1 + tried_out
    D, V = 32, 97
    expected = 2 * (3 + 1 + 4 + 4) * D * D + V * D
    assert found.pass_bytes == expected * {"fp32": 4, "int8": 1}[precision]
    rows = {x.name: x.type.tensor_type.shape.dim[0].dim_param for x in graph.input}
    last = {"x.h.1.attn.c_proj", "x.h.1.mlp.c_fc", "x.h.1.mlp.c_proj", "x.lm_head"}
    assert {name for name, dim in rows.items() if dim == "last_rows"} == last, (
        "what the prefill computes of one position"
    )
    assert {dim for name, dim in rows.items() if name not in last} == {"rows"}


def test_the_products_are_those_of_the_model(tiny, files):
    """As torch computes them from the checkpoint; the query's columns are scaled at export."""
    products.Products(files.onnx, ROWS, threads=1)
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
    """Of 2 prompts of 5 tokens, 3 candidates each and 17 new tokens, in blocks of 7 steps, 8 and 1."""
    workload = Workload("2x3", "", prompts=2, num_return_sequences=3, prompt_len=5, max_new_tokens=17)
    runs = []

    class Session(ort.InferenceSession):
        def run_with_iobinding(self, binding):
            super().run_with_iobinding(binding)
            shapes = [tuple(value.shape()) for value in binding.get_outputs()]
            runs.append(dict(zip([y.name for y in self.get_outputs()], shapes, strict=True)))

    monkeypatch.setattr(ort, "InferenceSession", Session)
    attention = products.AttentionProducts(tiny.model.config, workload, threads=1)
    attention()
    H, d = 4, 8
    assert runs[0] == {
        "y.prompt.query.0": (2, H, 5, 5),
        "y.prompt.probs.0": (2, H, 5, d),
        "y.prompt.query.1": (2, H, 1, 5),  # what the prefill computes of one position
        "y.prompt.probs.1": (2, H, 1, d),
    }
    lengths = [*((0, length) for length in range(1, 8)), *((7, length) for length in range(1, 9)), (15, 1)]
    assert len(runs) == 1 + len(lengths)
    for run, (earlier, block) in zip(runs[1:], lengths, strict=True):
        for layer in range(2):
            assert run[f"y.prompt.query.{layer}"] == (2, H, 3, 5)
            assert run[f"y.prompt.probs.{layer}"] == (2, H, 3, d)
            for part, length in (("earlier", earlier), ("block", block)):
                assert run[f"y.{part}.query.{layer}"] == (2, H, 3, 1, length)
                assert run[f"y.{part}.probs.{layer}"] == (2, H, 3, 1, d)


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


def test_the_lower_bounds_of_a_call_are_its_products_and_its_weights_way(tiny, monkeypatch):
    """By hand, for a machine of 1 GB/s and 1 GFLOP/s."""
    monkeypatch.setattr(cuda, "flops_per_s", lambda *_: 1e9)
    monkeypatch.setattr(cuda, "bandwidth_bytes_per_s", lambda *_: 1e9)
    block, head = 2 * 12 * 32 * 32, 32 * 97
    for workload, prompts, rows in ((ONE_ROW, 1, 1), (CANDIDATES, 1, 64)):
        bounds = gpu_ceiling.lower_bounds(tiny.model.config, workload, "fp16", rounds=3)
        prefill_s = 2 * (block * 36 * prompts + head * prompts) / 1e9
        assert bounds["products"].ttft_rounds_s == pytest.approx([prefill_s] * 3)
        assert bounds["products"].rounds_s == pytest.approx([prefill_s + 35 * 2 * (block + head) * rows / 1e9] * 3)
        assert bounds["bandwidth"].rounds_s == pytest.approx([36 * 2 * (block + head) / 1e9] * 3)
