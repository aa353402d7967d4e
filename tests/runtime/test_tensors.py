"""Tensors of PyTorch's as what a call is given: those that numpy can read are taken, others refused in one line."""

import re

import numpy as np
import pytest
import torch

pytestmark = pytest.mark.usefixtures("one_torch_thread")
ONE = [[1, 2, 3]]

REFUSED = {
    "in bfloat16": (torch.ones(1, 3, dtype=torch.bfloat16), "BFloat16"),
    "on no device": (torch.ones(1, 3, dtype=torch.int64, device="meta"), "meta"),
    "sparse": (torch.ones(1, 3, dtype=torch.int64).to_sparse(), "Sparse"),
    "with a gradient": (torch.ones(1, 3, requires_grad=True), "grad"),
}


@pytest.mark.parametrize(("tensor", "why"), REFUSED.values(), ids=list(REFUSED))
def test_what_numpy_cannot_read_is_refused(idle_loop, tensor, why):
    for name, call in {"input_ids": {"input_ids": tensor}, "attention_mask": {"attention_mask": tensor}}.items():
        message = rf"^{name} must be a rectangular array in memory: .*{re.escape(why)}"
        with pytest.raises(ValueError, match=message) as error:
            idle_loop.generate(**{"input_ids": ONE, "max_new_tokens": 4} | call)
        assert "\n" not in str(error.value)


def test_a_number_that_is_nowhere_is_none(idle_loop):
    with pytest.raises(ValueError, match=r"^temperature must be a number, got tensor\(\.\.\., device='meta'"):
        idle_loop.generate(ONE, max_new_tokens=4, temperature=torch.ones(1, device="meta"))


@pytest.mark.parametrize(
    "call",
    [
        {"input_ids": torch.tensor(ONE, dtype=torch.int32)},
        {"attention_mask": torch.tensor([[False, True, True]])},
        {"top_k": torch.tensor([5])},
        {"seed": torch.tensor(7)},
        {"eos_token_id": torch.tensor([5, 6])},
        {"suppress_tokens": torch.tensor([5, 6])},
        {"bad_words_ids": torch.tensor([[5, 6], [7, 8]])},
        {"stop_sequences": torch.tensor([5, 6])},
        {"temperature": torch.tensor(0.5)},
        {"top_p": torch.tensor([0.5])},
    ],
    ids=lambda call: next(iter(call)),
)
def test_one_is_what_the_same_lists_are(tiny, call):
    same = {name: tensor.tolist() for name, tensor in call.items()}
    given, lists = ({"input_ids": ONE, "max_new_tokens": 20, **x} for x in (call, same))
    np.testing.assert_array_equal(tiny.onnx.generate(**given), tiny.onnx.generate(**lists))


def test_a_bias_of_minus_infinity_forbids_as_a_tensor_too(tiny):
    given = tiny.onnx.generate(ONE, max_new_tokens=20, sequence_bias={(5,): torch.tensor(-torch.inf)})
    np.testing.assert_array_equal(given, tiny.onnx.generate(ONE, max_new_tokens=20, suppress_tokens=[5]))
