"""Generation: OnnxLoop, TorchLoop, Hugging Face and onnx's ReferenceEvaluator give the same tokens.

Where two of our own loops are compared while sampling, a difference is judged as gptloop.reference.parity rules.
Elsewhere tokens are compared for equality: over these few thousand draws with fixed seeds no near-tie stands in the
way.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from gptloop import OnnxLoop, TorchLoop
from gptloop.graph.transformer import ACTIVATIONS
from gptloop.model_file import graphs
from gptloop.reference.parity import Judge
from gptloop.runtime.onnx_loop import feeds
from gptloop.runtime.request import check_request

pytestmark = pytest.mark.usefixtures("one_torch_thread")

VARIANTS = {
    "as it comes": {},
    "one layer": {"n_layer": 1},
    "untied head": {"tie_word_embeddings": False},
    "n_inner": {"n_inner": 40},
    "one head": {"n_head": 1},
    "head_dim 12": {"n_embd": 36, "n_head": 3},  # whose root is no power of two
    "scores not scaled": {"scale_attn_weights": False},
    "scores scaled by layer": {"scale_attn_by_inverse_layer_idx": True, "n_layer": 3},
    "large epsilon": {"layer_norm_epsilon": 0.1},
    **{name: {"activation_function": name} for name in sorted(ACTIVATIONS)},
}
variant = pytest.mark.parametrize("changes", VARIANTS.values(), ids=list(VARIANTS))
PROMPTS = np.array([[5, 96, 0, 17, 42], [8, 8, 1, 60, 3], [90, 2, 77, 31, 31]])


def hugging_face_greedy(model, prompts: np.ndarray, max_new_tokens: int) -> np.ndarray:
    ids = torch.from_numpy(prompts)
    tokens = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=0
    )
    return tokens[:, prompts.shape[1] :].numpy()


def assert_same_tokens(tiny, prompts: np.ndarray, **call) -> None:
    """OnnxLoop and TorchLoop give the same tokens, near-ties excepted."""
    call = {"num_return_sequences": 1, "temperature": 1.0, "top_k": 50, "seed": 0, **call}
    request = check_request(tiny.model.config, prompts, **call)
    expected, found = tiny.torch.generate(prompts, **call), tiny.onnx.generate(prompts, **call)
    Judge(tiny.model).check(request, expected, found)


# Against Hugging Face


@variant
def test_greedy_tokens_equal_hugging_face_generate(open_tiny, changes):
    tiny = open_tiny(**changes)
    expected = hugging_face_greedy(tiny.model, PROMPTS, 20)
    assert len(np.unique(expected)) > 3, "a constant text would prove little"
    np.testing.assert_array_equal(tiny.onnx.generate(PROMPTS, max_new_tokens=20, temperature=0), expected)
    np.testing.assert_array_equal(tiny.torch.generate(PROMPTS, max_new_tokens=20, temperature=0), expected)


@variant
@torch.inference_mode()
def test_the_torch_loop_computes_hugging_faces_logits(tiny_model, changes):
    """With and without the KV cache. In float64, where only another formula could differ by more than rounding."""
    model = tiny_model(**changes)
    loop = TorchLoop(model, device="cpu", dtype=torch.float64)
    ids = torch.from_numpy(PROMPTS)
    # gelu_fast alone stands out: transformers writes the root of 2 / pi with ten digits, 4e-12 off.
    close = {"rtol": 0, "atol": 1e-9}
    logits = model.double()(ids).logits
    found, cache = loop.prefill(ids[:, :2], new_tokens=4)
    torch.testing.assert_close(found, logits[:, 1], **close)
    for position in range(2, 5):
        found = loop.decode_one_token(ids[:, position], cache, past_len=position)
        torch.testing.assert_close(found, logits[:, position], **close)


@torch.inference_mode()
def test_the_torch_loop_computes_in_float32_unless_told_otherwise(tiny):
    ids = torch.from_numpy(PROMPTS)
    found, _ = tiny.torch.prefill(ids, new_tokens=1)
    logits = tiny.model(ids).logits[:, -1]
    assert found.dtype == torch.float32
    # Logits of up to about 10, each the sum of some 100 rounded products: 10 * 100 * 2^-24 = 6e-5.
    torch.testing.assert_close(found, logits, rtol=0, atol=6e-5)


# OnnxLoop against TorchLoop


@variant
def test_sampled_tokens_equal_the_torch_loops(open_tiny, changes):
    assert_same_tokens(
        open_tiny(**changes),
        PROMPTS,
        max_new_tokens=20,
        num_return_sequences=4,
        temperature=[1.0, 0.7, 1.5],
        top_k=[50, 5, 97],
        seed=[0, 2**63 - 1, 2**40],
    )


@given(
    prompts=st.integers(1, 3),
    prompt_len=st.integers(1, 63),
    max_new_tokens=st.integers(1, 63),
    num_return_sequences=st.integers(1, 4),
    temperature=st.one_of(st.just(0.0), st.floats(0.0625, 3)),
    top_k=st.integers(0, 97),
    seed=st.integers(0, 2**63 - 4),
)
@example(prompts=1, prompt_len=1, max_new_tokens=1, num_return_sequences=1, temperature=1, top_k=50, seed=0)
@example(prompts=1, prompt_len=1, max_new_tokens=63, num_return_sequences=1, temperature=1, top_k=0, seed=1)
@example(prompts=2, prompt_len=63, max_new_tokens=1, num_return_sequences=3, temperature=1, top_k=1, seed=2)
@example(prompts=3, prompt_len=32, max_new_tokens=32, num_return_sequences=3, temperature=1, top_k=97, seed=3)
@example(prompts=1, prompt_len=7, max_new_tokens=2, num_return_sequences=1, temperature=0, top_k=0, seed=4)
def test_calls_of_any_shape_give_the_torch_loops_tokens(tiny, prompts, prompt_len, max_new_tokens, **call):
    max_new_tokens = min(max_new_tokens, 64 - prompt_len)
    ids = np.random.default_rng(prompt_len).integers(0, 97, (prompts, prompt_len))
    assert_same_tokens(tiny, ids, max_new_tokens=max_new_tokens, **call)


def test_a_model_of_equal_logits_gives_the_same_tokens_in_both_loops(tiny_model, tmp_path):
    """Where every logit ties with every other, the rule on ties decides every token: lower ids first."""
    from gptloop import export  # noqa: PLC0415

    model = tiny_model(n_layer=1)
    with torch.no_grad():
        model.transformer.ln_f.weight.zero_()
        model.transformer.ln_f.bias.zero_()
    onnx_loop = OnnxLoop(export(model, tmp_path / "flat.onnx"), device="cpu")
    call = {"max_new_tokens": 6, "num_return_sequences": 8, "top_k": 3}
    found = onnx_loop.generate([[1, 2]], **call)
    assert set(found.ravel()) == {0, 1, 2}
    np.testing.assert_array_equal(found, TorchLoop(model, device="cpu").generate([[1, 2]], **call))


# The file in another runtime, and what it is made of


@pytest.mark.parametrize("top_k", [[50, 5, 60], [50, 0, 97]], ids=["top-k", "one whole vocabulary"])
def test_the_reference_evaluator_gives_the_same_tokens(tiny, top_k):
    """Greedy and sampled, several candidates, prefill and a few decode steps: someone else's reading of the graph.

    Its GatherElements ends short of 64 columns (numpy.choose), hence no larger top_k.
    """
    call = {"temperature": [0, 1, 0.7], "top_k": top_k, "seed": [3, 2**63 - 1, 0]}
    inputs = feeds(check_request(tiny.model.config, PROMPTS, max_new_tokens=5, num_return_sequences=2, **call))
    expected, _, _ = ReferenceEvaluator(str(tiny.path)).run(None, inputs)
    found, _, _ = tiny.onnx.session.run(None, inputs)
    np.testing.assert_array_equal(found, expected, strict=True)
    assert found.shape == (3, 2, 5)
    call = {"max_new_tokens": 5, "num_return_sequences": 2, "temperature": [0, 1, 0.7], "top_k": top_k}
    np.testing.assert_array_equal(tiny.onnx.generate(PROMPTS, **call, seed=[3, 2**63 - 1, 0]), found.reshape(6, 5))


def test_the_reference_evaluator_follows_the_other_settings_too(open_tiny):
    """Padding, end of text, cuts, penalty and log-probabilities, each of which has branches of its own in the graph.

    They gather from the whole vocabulary, which therefore has fewer than 64 ids here.
    """
    tiny = open_tiny(n_layer=1, vocab_size=61)
    request = check_request(
        tiny.model.config,
        PROMPTS % 61,
        attention_mask=[[1, 1, 1, 1, 1], [0, 0, 1, 1, 1], [0, 0, 0, 0, 1]],
        max_new_tokens=8,
        min_new_tokens=2,
        num_return_sequences=2,
        top_k=30,
        top_p=[0.8, 1, 0.5],
        min_p=0.05,
        repetition_penalty=1.5,
        eos_token_id=range(40, 60),
        pad_token_id=9,
        return_logprobs=True,
        seed=4,
    )
    expected = ReferenceEvaluator(str(tiny.path)).run(None, feeds(request))
    found = tiny.onnx.session.run(None, feeds(request))
    np.testing.assert_array_equal(found[0], expected[0], strict=True)
    assert (found[0][..., -1] == 9).any(), "no row ended before the others"
    for ours, theirs in zip(found[1:], expected[1:], strict=True):
        # Logarithms of float32 sums, near 10 in magnitude: the last bit is 1e-6, and some tens of them add up.
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)


def test_settings_of_one_value_hold_for_every_prompt(tiny):
    """The graph itself broadcasts temperature and top_k of shape [1], which Python never sends for several prompts."""
    call = {"max_new_tokens": 6, "num_return_sequences": 2, "temperature": 0.8, "top_k": 7, "top_p": 0.8, "seed": 4}
    every = feeds(check_request(tiny.model.config, PROMPTS, **call))
    one = {name: every[name][:1] for name in ("temperature", "top_k", "top_p")}
    found, _, _ = tiny.onnx.session.run(None, every | one)
    expected = tiny.onnx.generate(PROMPTS, **call)
    np.testing.assert_array_equal(found.reshape(6, 6), expected)


@pytest.mark.parametrize("changes", [{}, {"tie_word_embeddings": False}, {"n_layer": 1}], ids=str)
def test_the_file_passes_onnxs_full_check(open_tiny, changes):
    onnx.checker.check_model(str(open_tiny(**changes).path), full_check=True)


def test_the_file_uses_nothing_but_standard_operators_of_opset_21(tiny):
    model = onnx.load(tiny.path, load_external_data=False)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 21)]
    assert {node.domain for graph in graphs(model.graph) for node in graph.node} == {""}
    assert not model.functions


def test_without_packed_weights_the_tokens_are_the_same(tiny):
    unpacked = OnnxLoop(tiny.path, device="cpu", prepack=False)
    assert unpacked.session.get_session_options().get_session_config_entry("session.disable_prepacking") == "1"
    prompts = np.arange(12).reshape(3, 4)
    np.testing.assert_array_equal(
        unpacked.generate(prompts, max_new_tokens=9, seed=2), tiny.onnx.generate(prompts, max_new_tokens=9, seed=2)
    )


def external_place(tensor) -> tuple[str, int] | bytes:
    """Where a tensor's bytes are; a tiny one's are in the .onnx file itself."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    return (entries["location"], int(entries["offset"])) if entries else tensor.raw_data


def test_weights_stand_in_the_outer_graph_and_are_named_again_by_the_outer_loops_body(tiny):
    model = onnx.load(tiny.path, load_external_data=False)
    outer, *inner = graphs(model.graph)
    stored = [tensor.name for tensor in outer.initializer]
    assert len(stored) == len(set(stored))
    assert {name.removeprefix("transformer.") for name, _ in tiny.model.named_parameters()} <= set(stored)
    assert "lm_head.weight" not in stored, "it is the token embedding"
    assert len(inner) >= 4, "the Loops' bodies and two branches"
    block, *others = sorted(inner, key=lambda graph: -len(graph.initializer))
    places = {tensor.name: external_place(tensor) for tensor in [*outer.initializer, *block.initializer]}
    assert {name.removeprefix("transformer.") for name, _ in tiny.model.named_parameters()} == {
        tensor.name.removeprefix("steps/") for tensor in block.initializer
    }
    for tensor in block.initializer:
        assert places[tensor.name] == places[tensor.name.removeprefix("steps/")], "of the same bytes of the file"
    for graph in [block, *others]:
        assert graph is block or not graph.initializer
        constants = [node for node in graph.node if node.op_type == "Constant"]
        assert all(node.ByteSize() < 1024 for node in constants)


def test_the_graph_has_the_inputs_and_the_output_that_were_agreed(tiny):
    def described(values):
        dims = ((value, value.type.tensor_type) for value in values)
        return {
            value.name: (
                onnx.TensorProto.DataType.Name(kind.elem_type),
                [dim.dim_param or dim.dim_value for dim in kind.shape.dim],
            )
            for value, kind in dims
        }

    graph = onnx.load(tiny.path, load_external_data=False).graph
    assert described(graph.input) == {
        "input_ids": ("INT64", ["B", "P"]),
        "attention_mask": ("INT64", ["B", "P"]),
        "max_new_tokens": ("INT64", [1]),
        "min_new_tokens": ("INT64", [1]),
        "num_return_sequences": ("INT64", [1]),
        "temperature": ("FLOAT", ["B_temperature"]),
        "top_k": ("INT64", ["B_top_k"]),
        "top_p": ("FLOAT", ["B_top_p"]),
        "min_p": ("FLOAT", [1]),
        "repetition_penalty": ("FLOAT", [1]),
        "eos_token_ids": ("INT64", ["E"]),
        "pad_token_id": ("INT64", [1]),
        "return_logprobs": ("BOOL", [1]),
        "seed": ("INT64", ["B"]),
    }
    assert described(graph.output) == {
        "sequences": ("INT64", ["B", "R", "N"]),
        "logprobs": ("FLOAT", ["B", "R", "N"]),
        "raw_logprobs": ("FLOAT", ["B", "R", "N"]),
    }


# What a prompt's tokens depend on


@pytest.fixture(params=["onnx", "torch"])
def loop(tiny, request):
    return getattr(tiny, request.param)


@pytest.mark.parametrize("neighbour_top_k", [50, 1, 0], ids=lambda k: f"neighbour's top_k {k}")
def test_a_prompts_tokens_do_not_depend_on_its_neighbours(loop, neighbour_top_k):
    call = {"max_new_tokens": 15, "num_return_sequences": 3}
    alone = loop.generate(PROMPTS[1:2], seed=7, temperature=0.9, top_k=20, **call)
    together = loop.generate(
        PROMPTS,
        seed=[1, 7, 2],
        temperature=[2.0, 0.9, 0],
        top_k=[neighbour_top_k, 20, 3],
        **call,
    )
    np.testing.assert_array_equal(together[3:6], alone)


def test_a_whole_vocabulary_prompt_does_not_depend_on_its_neighbours(loop):
    alone = loop.generate(PROMPTS[:1], max_new_tokens=15, top_k=0, seed=3)
    together = loop.generate(PROMPTS, max_new_tokens=15, top_k=[0, 2, 50], seed=3)
    np.testing.assert_array_equal(together[:1], alone)


def test_a_candidates_tokens_do_not_depend_on_how_many_are_asked_for(loop):
    few = loop.generate(PROMPTS, max_new_tokens=12, num_return_sequences=2).reshape(3, 2, 12)
    many = loop.generate(PROMPTS, max_new_tokens=12, num_return_sequences=5).reshape(3, 5, 12)
    np.testing.assert_array_equal(few, many[:, :2])


def test_fewer_new_tokens_are_the_start_of_more(loop):
    more = loop.generate(PROMPTS, max_new_tokens=20, num_return_sequences=2)
    for max_new_tokens in (1, 2, 7):
        fewer = loop.generate(PROMPTS, max_new_tokens=max_new_tokens, num_return_sequences=2)
        np.testing.assert_array_equal(fewer, more[:, :max_new_tokens])


def test_the_same_seed_gives_the_same_tokens_and_another_seed_others(loop):
    first = loop.generate(PROMPTS, max_new_tokens=12, seed=5)
    np.testing.assert_array_equal(loop.generate(PROMPTS, max_new_tokens=12, seed=5), first)
    assert (loop.generate(PROMPTS, max_new_tokens=12, seed=50) != first).any(1).all()


def test_seeds_differ_in_their_high_words_too(loop):
    first = loop.generate(PROMPTS, max_new_tokens=12, seed=5)
    assert (loop.generate(PROMPTS, max_new_tokens=12, seed=5 + 2**32) != first).any(1).all()


def test_a_single_seed_counts_up_over_the_prompts(loop):
    counted = loop.generate(PROMPTS, max_new_tokens=12, seed=2**63 - 3)
    given_ = loop.generate(PROMPTS, max_new_tokens=12, seed=[2**63 - 3, 2**63 - 2, 2**63 - 1])
    np.testing.assert_array_equal(counted, given_)


def test_one_prompt_with_two_seeds_gives_two_texts(loop):
    twice = loop.generate(PROMPTS[[0, 0]], max_new_tokens=12, seed=0)
    assert (twice[0] != twice[1]).any()


def test_candidates_of_one_prompt_are_adjacent_and_differ(loop):
    rows = loop.generate(PROMPTS, max_new_tokens=12, num_return_sequences=2, seed=[4, 5, 6])
    for prompt, seed in enumerate([4, 5, 6]):
        alone = loop.generate(PROMPTS[[prompt]], max_new_tokens=12, num_return_sequences=2, seed=seed)
        np.testing.assert_array_equal(rows[2 * prompt : 2 * prompt + 2], alone)
        assert (alone[0] != alone[1]).any()


def test_greedy_ignores_seed_and_top_k_and_gives_equal_candidates(loop):
    greedy = loop.generate(PROMPTS, max_new_tokens=12, temperature=0, num_return_sequences=2)
    np.testing.assert_array_equal(greedy[::2], greedy[1::2])
    other = loop.generate(PROMPTS, max_new_tokens=12, temperature=0, num_return_sequences=2, seed=9, top_k=0)
    np.testing.assert_array_equal(greedy, other)


@pytest.mark.parametrize(
    ("prompts", "candidates", "new_tokens"), [(1, 1, 1), (1, 1, 4), (1, 3, 1), (3, 1, 1), (3, 2, 4)]
)
def test_the_result_is_int64_with_a_row_for_each_candidate(loop, prompts, candidates, new_tokens):
    tokens = loop.generate(PROMPTS[:prompts], max_new_tokens=new_tokens, num_return_sequences=candidates)
    assert isinstance(tokens, np.ndarray)
    assert (tokens.shape, tokens.dtype) == ((prompts * candidates, new_tokens), np.int64)
    assert tokens.min() >= 0
    assert tokens.max() < 97


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.uint64])
def test_ids_of_any_integer_type_are_taken(loop, dtype):
    expected = loop.generate(PROMPTS, max_new_tokens=3)
    np.testing.assert_array_equal(loop.generate(PROMPTS.astype(dtype), max_new_tokens=3), expected)
    np.testing.assert_array_equal(loop.generate(PROMPTS.tolist(), max_new_tokens=3), expected)
    np.testing.assert_array_equal(loop.generate(np.asfortranarray(PROMPTS), max_new_tokens=3), expected)


def test_the_defaults_sample_among_fifty_at_temperature_1(loop):
    expected = loop.generate(PROMPTS, max_new_tokens=9, num_return_sequences=1, temperature=1.0, top_k=50, seed=0)
    np.testing.assert_array_equal(loop.generate(PROMPTS, max_new_tokens=9), expected)


# Sessions, threads, devices


def test_one_loop_may_be_shared_by_threads(tiny):
    def generate(seed: int) -> np.ndarray:
        # Sizes differ from call to call, so that a buffer shared by mistake would show.
        return tiny.onnx.generate(PROMPTS[: 1 + seed % 3], max_new_tokens=10 + seed, num_return_sequences=3, seed=seed)

    expected = [generate(seed) for seed in range(32)]
    with ThreadPoolExecutor(8) as pool:
        for found, wanted in zip(pool.map(generate, range(32)), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("threads", [None, 2, 3])
def test_the_tokens_do_not_depend_on_the_number_of_threads(tiny, threads):
    call = {"max_new_tokens": 20, "num_return_sequences": 8}
    found = OnnxLoop(tiny.path, device="cpu", threads=threads).generate(PROMPTS, **call)
    np.testing.assert_array_equal(found, tiny.onnx.generate(PROMPTS, **call))


def test_a_text_path_opens_the_same_model(tiny):
    found = OnnxLoop(str(tiny.path), device="auto").generate(PROMPTS, max_new_tokens=5)
    np.testing.assert_array_equal(found, tiny.onnx.generate(PROMPTS, max_new_tokens=5))


@pytest.mark.parametrize("threads", [0, -1, 1.5, "2"])
def test_a_number_of_threads_that_cannot_be_is_refused(tiny, threads):
    with pytest.raises(ValueError, match=rf"threads must be .*{threads}"):
        OnnxLoop(tiny.path, device="cpu", threads=threads)


def test_an_unknown_device_is_refused_by_name(tiny):
    with pytest.raises(ValueError, match="device must be 'auto', 'cpu' or 'cuda', got 'tpu'"):
        OnnxLoop(tiny.path, device="tpu")
    with pytest.raises(ValueError, match="device must be 'auto', 'cpu' or 'cuda', got 'tpu'"):
        TorchLoop(tiny.model, device="tpu")


def test_cuda_is_refused_where_onnx_runtime_has_none(tiny, monkeypatch):
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(ValueError, match=r"'cuda' was asked for.*CPUExecutionProvider\): install onnxruntime-gpu"):
        OnnxLoop(tiny.path, device="cuda")


def test_cuda_is_refused_where_torch_has_none(tiny, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError, match="'cuda' was asked for"):
        TorchLoop(tiny.model, device="cuda")


def test_the_torch_loop_takes_a_directory_and_a_precision(tiny, tmp_path):
    tiny.model.save_pretrained(tmp_path)
    loop = TorchLoop(tmp_path, device="cpu", dtype=torch.bfloat16)
    assert loop.generate(PROMPTS, max_new_tokens=4).shape == (3, 4)
    assert {tensor.dtype for tensor in loop._w.values()} == {torch.bfloat16}
