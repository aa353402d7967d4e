"""The int8 precision: what is stored, what it computes, and what it costs in quality."""

from __future__ import annotations

import cut_products
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from onnx.reference import ReferenceEvaluator

from gptloop import OnnxLoop, export
from gptloop.checkpoint import open_checkpoint
from gptloop.exporter.int8 import quantize
from gptloop.exporter.tensors import stored_tensors
from gptloop.graph.variants.score import build_scorer
from gptloop.reference.evaluate import evaluate
from gptloop.runtime.feeds import feeds
from gptloop.runtime.request import check_request

pytestmark = pytest.mark.usefixtures("one_torch_thread")

IDS = np.random.default_rng(0).integers(0, 97, (3, 12))


@pytest.fixture(scope="module")
def int8_path(tiny, tmp_path_factory):
    with cut_products.as_here():
        return export(tiny.model, tmp_path_factory.mktemp("int8") / "int8.onnx", precision="int8")


@pytest.mark.parametrize("per_row", [False, True])
def test_a_quantized_matrix_is_within_half_a_step_of_the_original(per_row):
    matrix = torch.randn(13, 7)
    matrix[:, 2] = 0
    matrix[5] = 0
    values, scale = quantize(matrix, per_row)
    steps = scale[:, None] if per_row else scale[None, :]
    assert values.dtype == torch.int8
    assert scale.shape == (13 if per_row else 7,)
    assert values.abs().max() == 127
    assert ((values * steps - matrix).abs() <= steps * (0.5 + 1e-6)).all()


def test_the_file_is_at_most_27_hundredths_of_the_fp32_file(tiny_model, tmp_path):
    """At a fifth of its width, where vectors, scales and the float32 product weigh more than in any published size."""
    model = tiny_model(n_embd=160, n_layer=6, vocab_size=5000, n_positions=512)
    sizes = {}
    for precision in ("fp32", "int8"):
        (tmp_path / precision).mkdir()
        export(model, tmp_path / precision / "model.onnx", precision=precision)
        sizes[precision] = next((tmp_path / precision).glob("*.data")).stat().st_size
    assert sizes["int8"] <= 0.27 * sizes["fp32"]


def test_the_graph_is_made_of_standard_operators_and_passes_the_full_check(int8_path):
    onnx.checker.check_model(str(int8_path), full_check=True)
    model = onnx.load(int8_path)
    assert {opset.domain for opset in model.opset_import} == {""}
    matrices = [tensor for tensor in model.graph.initializer if len(tensor.dims) == 2]
    assert {tensor.data_type for tensor in matrices if "h." in tensor.name} == {onnx.TensorProto.INT8}


def test_the_reference_evaluator_gives_the_same_tokens(int8_path):
    inputs = feeds(check_request(OnnxLoop(int8_path).bounds, IDS[:, :3], max_new_tokens=4, temperature=0))
    expected = ReferenceEvaluator(str(int8_path)).run(["sequences"], inputs)[0]
    np.testing.assert_array_equal(OnnxLoop(int8_path).session.run(["sequences"], inputs)[0], expected)


def test_a_tied_and_an_untied_head_are_both_quantized(open_tiny, tmp_path):
    untied = open_tiny(tie_word_embeddings=False)
    path = export(untied.model, tmp_path / "untied.onnx", precision="int8")
    found = OnnxLoop(path).generate(IDS, max_new_tokens=1, temperature=0, return_logprobs=True)
    expected = untied.onnx.generate(IDS, max_new_tokens=1, temperature=0, return_logprobs=True)
    # Measured: at most 0.1. The weights of the tiny model are large and its logits peaked.
    np.testing.assert_allclose(found.raw_logprobs, expected.raw_logprobs, atol=0.2)


@pytest.fixture
def scorer(tiny):
    checkpoint = open_checkpoint(tiny.model)
    model = build_scorer(checkpoint.config, stored_tensors(checkpoint, "fp32"), "fp32")
    return ort.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])


def test_the_scorer_gives_hugging_faces_log_probabilities(tiny, scorer):
    logprobs, likely = scorer.run(None, {"input_ids": IDS})
    with torch.inference_mode():
        logits = tiny.model(torch.from_numpy(IDS)).logits[:, :-1]
    expected = logits.log_softmax(-1).gather(2, torch.from_numpy(IDS[:, 1:, None]))[..., 0]
    np.testing.assert_allclose(logprobs, expected, atol=1e-4)
    np.testing.assert_array_equal(likely, logits.argmax(-1))


def test_an_fp32_file_is_as_good_as_its_source(tiny):
    result = evaluate(tiny.path, tiny.model, IDS.ravel(), window=10)
    assert result.tokens == IDS.size - 1
    assert abs(result.perplexity_change) < 1e-5
    assert result.agreement == 1


def test_windows_predict_every_token_but_the_first_once(tiny):
    """A window of n_positions and a short one see as many tokens; the short one knows less of what came before."""
    whole, short = (evaluate(tiny.path, tiny.model, IDS.ravel(), window=window) for window in (0, 2))
    assert whole.tokens == short.tokens == IDS.size - 1
    assert whole.source_perplexity != short.source_perplexity


@pytest.mark.parametrize(
    ("ids", "window", "words"), [([1], 0, "2 tokens, got 1"), ([1, 2], 65, "2..64"), ([1, 2], 1, "2..64")]
)
def test_a_text_or_window_that_cannot_be_scored_is_refused(tiny, ids, window, words):
    with pytest.raises(ValueError, match=words):
        evaluate(tiny.path, tiny.model, np.array(ids), window=window)


def test_int8_costs_a_trained_model_next_to_nothing(trained, tmp_path):
    """On a text it knows, perplexity rises by at most 1 % and the most likely token is the same at 99 % of positions.

    A small memorised text has fewer outliers than GPT-2's weights; a published checkpoint has to show the same numbers
    before it is believed.
    """
    path = export(trained.directory, tmp_path / "int8.onnx", precision="int8")
    result = evaluate(path, trained.directory, np.array(trained.ids), window=32)
    assert result.source_perplexity < 2
    assert result.perplexity_change <= 0.01
    assert result.agreement >= 0.99


def test_an_older_int8_file_still_generates_but_is_not_evaluated(tiny, tmp_path):
    """Its tensors were those of the checkpoint itself: here they are called otherwise."""
    path = export(tiny.model, tmp_path / "model.onnx", precision="int8", single_file=True)
    expected = OnnxLoop(path).generate(IDS, max_new_tokens=3)
    model = onnx.load(path)
    content = model.SerializeToString().replace(b".input_scale", b".input_older")
    model.ParseFromString(content)
    kept = [entry for entry in model.metadata_props if not entry.key.endswith("_sha256")]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    onnx.save(model, path)
    np.testing.assert_array_equal(OnnxLoop(path).generate(IDS, max_new_tokens=3), expected)
    with pytest.raises(ValueError, match=r"int8 file of an older version.*export it again"):
        evaluate(path, tiny.model, IDS.ravel())
