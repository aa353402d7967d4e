"""fp16 and bf16: what is stored, where float32 begins, and how close the loops of one precision are.

ONNX Runtime's CPU provider computes most operators of fp16 in float32, between casts; torch rounds after every one. So
the two loops are compared in the log-probabilities of the tokens they share, and their tokens where few roundings meet.
"""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
import torch
from loop_bodies import step_body
from onnx.reference import ReferenceEvaluator
from transformers import GPT2LMHeadModel

from gptloop import OnnxLoop, TorchLoop, export, names
from gptloop.checkpoint.checkpoint import TORCH_TYPES
from gptloop.reference.bounds import BOUNDS, ParityError, check_closeness, check_quality
from gptloop.reference.evaluate import Evaluation, evaluate
from gptloop.runtime.feeds import feeds
from gptloop.runtime.loop import Generation
from gptloop.runtime.request import check_request

pytestmark = pytest.mark.usefixtures("one_torch_thread")

IDS = np.random.default_rng(0).integers(0, 97, (3, 8))
MASK = np.array([[1] * 8, [0, 0, 0, 1, 1, 1, 1, 1], [0] * 7 + [1]])
ONNX_TYPES = {"fp16": onnx.TensorProto.FLOAT16, "bf16": onnx.TensorProto.BFLOAT16}
HALF = sorted(ONNX_TYPES)
# Inputs with a default that no precision changes; the other ones are K and V.
OTHERS = {names.PAST_SIZES, names.PAST_SEQUENCES, names.PAST_ENDED, names.RETURN_STATE, names.UNIFORMS}


@pytest.fixture(scope="module")
def half_paths(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("half")
    return {precision: export(tiny.model, folder / f"{precision}.onnx", precision=precision) for precision in HALF}


@pytest.fixture(scope="module")
def fp16(half_paths):
    return OnnxLoop(half_paths["fp16"], device="cpu", threads=1)


def generation(loop, **arguments):
    call = {"max_new_tokens": 12, "num_return_sequences": 4, "attention_mask": MASK, **arguments}
    return loop.generate(IDS, **call, return_logprobs=True)


@pytest.mark.parametrize("precision", HALF)
def test_every_weight_is_stored_in_half_precision_and_rounded_once(tiny, half_paths, precision):
    model = onnx.load(half_paths[precision])
    tensors = {tensor.name: tensor for tensor in model.graph.initializer if not tensor.name.startswith("const_")}
    stored = {name: tensor for name, tensor in tensors.items() if name not in OTHERS}
    assert {tensor.data_type for tensor in stored.values()} == {ONNX_TYPES[precision]}
    source = tiny.model.transformer.state_dict()
    for name in ("wte.weight", "h.1.mlp.c_fc.weight", "ln_f.bias"):
        expected = source[name].to(TORCH_TYPES[precision]).float().numpy()
        np.testing.assert_array_equal(onnx.numpy_helper.to_array(stored[name]).astype(np.float32), expected)


@pytest.mark.parametrize("precision", HALF)
def test_the_cache_is_half_precision_and_the_logits_are_float32(half_paths, precision):
    """Checked by shape inference: nothing that samples may see a half-precision number."""
    onnx.checker.check_model(str(half_paths[precision]), full_check=True)
    model = onnx.shape_inference.infer_shapes(onnx.load(half_paths[precision]), strict_mode=True)
    half = ONNX_TYPES[precision]
    body = step_body(model.graph)
    carried = [value.type.tensor_type.elem_type for value in body.input[6:]]
    assert carried == [half] * 4
    types = {value.name: value.type.tensor_type.elem_type for value in [*body.value_info, *body.output]}
    sampled = {out for node in body.node if "/h." not in node.name for out in node.output}
    in_half = {name for name in sampled if types.get(name) == half}
    # The embedding's two rows and their sum, the last layer norm, the product with the head, before it is cast.
    assert len(in_half) == 5
    assert {types[value.name] for value in body.output if "logprob" in value.name} == {onnx.TensorProto.FLOAT}
    outputs = {value.name: value.type.tensor_type.elem_type for value in model.graph.output}
    assert outputs[names.LOGPROBS] == outputs[names.RAW_LOGPROBS] == onnx.TensorProto.FLOAT
    assert {dtype for name, dtype in outputs.items() if name.startswith("present_")} == {half}


@pytest.mark.parametrize("call", [{}, {"temperature": 0}, {"top_k": 0, "top_p": 0.9}, {"num_return_sequences": 1}])
def test_fp16_is_close_to_torch_in_fp16(tiny, fp16, call):
    """Logits of this model are up to about 10, where float16 numbers lie 0.008 apart; 0.004 was seen."""
    expected = generation(TorchLoop(tiny.model, device="cpu", dtype=torch.float16), **call)
    closeness = check_closeness(expected, generation(fp16, **call), "fp16")
    assert closeness.logprob_error < 2 * 0.008
    assert closeness.shared_tokens > 0.7


def test_fp16_agrees_with_the_fp32_source(tiny, half_paths):
    text = np.random.default_rng(1).integers(0, 97, 400)
    quality = evaluate(half_paths["fp16"], tiny.model, text, window=32)
    assert "most likely token the same" in check_quality(quality, "fp16")


def test_fp16_costs_a_trained_model_nothing(trained, tmp_path):
    path = export(trained.directory, tmp_path / "fp16.onnx", precision="fp16")
    quality = evaluate(path, trained.directory, np.array(trained.ids), window=32)
    check_quality(quality, "fp16")
    assert quality.agreement >= 0.99


def test_padding_is_not_seen_in_fp16(fp16):
    """The row of one token after seven of padding continues as it does alone: no mask overflowed."""
    found = generation(fp16)
    alone = fp16.generate(IDS[2:, 7:], max_new_tokens=12, num_return_sequences=4, seed=2, return_logprobs=True)
    np.testing.assert_array_equal(found.tokens[8:], alone.tokens)
    np.testing.assert_allclose(found.raw_logprobs[8:], alone.raw_logprobs, atol=0.008)
    assert np.isfinite(found.raw_logprobs).all()


@pytest.mark.parametrize("precision", HALF)
def test_the_reference_evaluator_runs_half_precision(tiny, half_paths, precision):
    """Operator by operator in half precision, as torch does: so bf16, too, is known to be right without a GPU.

    It rounds inside an operator where torch accumulates in float32: errors of a few units in the last place.
    """
    config = tiny.model.config
    inputs = feeds(check_request(config, IDS, max_new_tokens=3, temperature=0, return_logprobs=True))
    outputs = [names.SEQUENCES, names.RAW_LOGPROBS]
    tokens, raw = ReferenceEvaluator(str(half_paths[precision])).run(outputs, inputs)
    seed = np.arange(3)
    found = Generation(tokens[:, 0], raw[:, 0], raw[:, 0], seed)
    loop = TorchLoop(tiny.model, device="cpu", dtype=TORCH_TYPES[precision])
    expected = loop.generate(IDS, max_new_tokens=3, temperature=0, return_logprobs=True)
    closeness = check_closeness(expected, found, precision)
    assert closeness.logprob_error < {"fp16": 0.03, "bf16": 0.3}[precision]


def test_bf16_on_the_cpu_is_refused_in_words(half_paths):
    with pytest.raises(ValueError, match=r"bf16.onnx is in bf16, for which this device has no kernels"):
        OnnxLoop(half_paths["bf16"], device="cpu")


def test_a_weight_beyond_float16_is_refused_by_name(tiny_model, tmp_path):
    model = tiny_model()
    with torch.no_grad():
        model.transformer.h[1].mlp.c_fc.weight[3, 5] = -70000
    with pytest.raises(ValueError, match=r"h\.1\.mlp\.c_fc\.weight goes up to 70000, .*float16.* 65504"):
        export(model, tmp_path / "big.onnx", precision="fp16")
    assert list(tmp_path.iterdir()) == []
    export(model, tmp_path / "big.onnx", precision="bf16")


@pytest.mark.parametrize("precision", HALF)
def test_the_torch_loop_keeps_weights_and_cache_in_its_precision_and_samples_in_float32(tiny, precision, monkeypatch):
    dtype = TORCH_TYPES[precision]
    loop = TorchLoop(tiny.model, device="cpu", dtype=dtype)
    logits, cache = loop.prefill(torch.from_numpy(IDS), new_tokens=2)
    assert {kv.dtype for kv in cache} == {weight.dtype for weight in loop._w.values()} == {dtype}
    sampled = []
    monkeypatch.setattr(torch.Tensor, "softmax", lambda x, dim: sampled.append(x.dtype) or torch.softmax(x, dim))
    loop.generate(IDS, max_new_tokens=2)
    assert sampled == [torch.float32] * 2
    assert logits.dtype == dtype


def test_the_torch_loop_in_half_precision_is_close_to_hugging_face(tiny):
    """Its logits after each prompt: another order of the same operations, so a few units in the last place."""
    model = GPT2LMHeadModel(tiny.model.config).eval()
    model.load_state_dict(tiny.model.state_dict())
    model.to(torch.float16)
    with torch.inference_mode():
        expected = model(torch.from_numpy(IDS)).logits[:, -1].float()
    found, _ = TorchLoop(tiny.model, device="cpu", dtype=torch.float16).prefill(torch.from_numpy(IDS), new_tokens=1)
    torch.testing.assert_close(found.float(), expected, rtol=0, atol=0.03)


QUALITY = {"tokens": 100, "perplexity": 20.0, "source_perplexity": 20.0, "agreement": 1.0}


@pytest.mark.parametrize(
    ("precision", "change", "words"),
    [
        ("fp16", {"perplexity": 20.03}, r"\+0.15%.*at most 0.1%"),
        ("fp16", {"perplexity": 19.97}, "at most 0.1%"),
        ("fp16", {"perplexity": math.nan}, "at most 0.1%"),
        ("fp16", {"agreement": 0.94}, "94.0% of 100; at least 95%"),
        ("bf16", {"perplexity": 20.21}, "at most 1.0%"),
        ("bf16", {"agreement": 0.89}, "at least 90%"),
        ("int8", {"perplexity": 20.21}, "at most 1.0%"),
    ],
)
def test_a_quality_beyond_the_bounds_is_refused(precision, change, words):
    with pytest.raises(ParityError, match=words):
        check_quality(Evaluation(**{**QUALITY, **change}), precision)


@pytest.mark.parametrize("precision", list(BOUNDS))
def test_a_quality_within_the_bounds_is_said_in_words(precision):
    assert check_quality(Evaluation(**QUALITY), precision).startswith("perplexity +0.00% from fp32")


def made_generation(tokens, logprobs):
    logprobs = np.array(logprobs, np.float32)
    return Generation(np.array(tokens), logprobs, logprobs, np.zeros(2, np.int64))


def test_closeness_looks_at_each_rows_tokens_before_its_first_difference():
    expected = made_generation([[1, 2, 3], [4, 5, 6]], [[-1, -1, -1], [-1, -1, -1]])
    found = made_generation([[1, 2, 3], [4, 9, 6]], [[-1, -1.1, -1], [-1.05, -7, -9]])
    closeness = check_closeness(expected, found, "fp16")
    assert (closeness.rows, closeness.equal_rows, closeness.shared_tokens) == (2, 1, 4 / 6)
    assert closeness.logprob_error == pytest.approx(0.1, abs=1e-6)
    assert str(closeness).startswith("1 of 2 rows equal, 66.7% of the tokens")


@pytest.mark.parametrize(
    ("tokens", "logprobs", "words"),
    [
        ([[1, 2], [3, 4]], [[-1, -1.2], [-1, -1]], "within 0.2.*at most 0.125 is allowed in fp16"),
        ([[1, 2], [3, 4]], [[-1, math.nan], [-1, -1]], "at most 0.125"),
        ([[9, 2], [9, 4]], [[-1, -1], [-1, -1]], "none of 2 rows"),
        ([[1], [3]], [[-1], [-1]], r"shape \(2, 1\) instead of \(2, 2\)"),
    ],
)
def test_loops_that_are_not_close_are_refused(tokens, logprobs, words):
    expected = made_generation([[1, 2], [3, 4]], [[-1, -1], [-1, -1]])
    with pytest.raises(ParityError, match=words):
        check_closeness(expected, made_generation(tokens, logprobs), "fp16")
