"""The blocks of steps: where they begin, and what the copies cost that they save and that they make."""

from __future__ import annotations

import itertools
import math

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnxscript import GraphBuilder

from gptloop.graph.blocks import Blocks, block_bounds
from gptloop.graph.model import IR_VERSION, OPSET

STEPS = 1024  # as many positions as GPT-2 has


@pytest.fixture(scope="module")
def in_the_graph():
    """`Blocks` as a session: of so many steps before a call and in it, the block of each trip of the outer Loop."""
    builder = GraphBuilder(ir.Graph([], [], nodes=[], opset_imports={"": OPSET}, name="blocks"))
    op = builder.op
    T, steps, trip = (builder.input(name, ir.DataType.INT64, ["N"]) for name in ("T", "steps", "trip"))
    blocks = Blocks.of(op, T, steps, STEPS)
    block = blocks.at(op, trip)
    outputs = {"number": blocks.number, "before": block.before(op)} | block._asdict()
    outputs["before_call"] = blocks.before(op)
    for name, value in outputs.items():
        output = op.Identity(value)
        output.dtype, output.shape = ir.DataType.INT64, ir.Shape(["N"])
        builder.add_output(output, f"block_{name}")
    session = ort.InferenceSession(ir.to_proto(ir.Model(builder.graph, ir_version=IR_VERSION)).SerializeToString())
    return lambda **inputs: dict(zip(outputs, session.run(None, inputs), strict=True))


def test_blocks_end_with_a_multiple_of_eight_tokens_and_get_longer():
    """The first token is none of a step."""
    assert block_bounds(31) == [0, 7, 15, 23, 31]
    assert block_bounds(32) == [0, 7, 15, 23, 31, 32]
    of_whole_blocks = block_bounds(391)
    assert [(bound + 1) % 8 for bound in of_whole_blocks[1:]] == [0] * 25
    assert np.diff(of_whole_blocks).tolist() == [7, *[8] * 8, *[16] * 8, *[24] * 8]
    assert block_bounds(1) == [0, 1]
    assert block_bounds(0) == [0]


def test_blocks_begin_where_they_do_however_many_steps_there_are():
    longest = block_bounds(STEPS)
    for steps in range(1, STEPS):
        *starts, end = block_bounds(steps)
        assert end == steps
        assert starts == longest[: len(starts)]


def test_the_graphs_blocks_are_those_of_block_bounds(in_the_graph):
    """For a call of any number of steps, the first of a generation."""
    for steps in range(1, STEPS + 1):
        bounds = np.array(block_bounds(steps))
        trips = np.arange(len(bounds) - 1)
        found = in_the_graph(T=np.zeros_like(trips), steps=np.full_like(trips, steps), trip=trips)
        assert set(found["number"]) == {len(trips)}
        np.testing.assert_array_equal(found["start"], bounds[:-1])
        np.testing.assert_array_equal(found["first"], bounds[:-1])
        np.testing.assert_array_equal(found["stop"], bounds[1:])
        assert not found["before"].any()
        assert not found["before_call"].any()


def test_a_later_call_goes_on_in_the_block_in_which_the_one_before_stopped(in_the_graph):
    starts = np.array(block_bounds(STEPS))
    for done, steps in itertools.product([1, 3, 4, 5, 8, 9, 100, 511, 1000], [1, 2, 4, 5, 6, 23]):
        bounds = [done, *(start for start in starts if done < start < done + steps), done + steps]
        trips = np.arange(len(bounds) - 1)
        found = in_the_graph(T=np.full_like(trips, done), steps=np.full_like(trips, steps), trip=trips)
        assert set(found["number"]) == {len(trips)}
        np.testing.assert_array_equal(found["start"], bounds[:-1])
        np.testing.assert_array_equal(found["stop"], bounds[1:])
        np.testing.assert_array_equal(found["first"], starts[np.searchsorted(starts, bounds[:-1], "right") - 1])
        np.testing.assert_array_equal(found["before"], found["start"] - found["first"])
        assert set(found["before_call"]) == {starts[starts <= done].max()}


def copied_tokens(bounds):
    """Tokens whose K and V are copied in a call: by each step its block's, by each block but the last all before it."""
    blocks = [end - start for start, end in itertools.pairwise(bounds)]
    return sum(K * (K + 1) // 2 for K in blocks) + sum(bounds[1:-1])


def square_root_bounds(steps):
    """Blocks of one length, the square root of the number of steps; what is left is the last one's, too."""
    K = math.isqrt(steps - 1) + 1
    number = max(1, steps // K)
    return [*range(0, number * K, K), steps]


def test_growing_blocks_copy_hardly_more_than_blocks_that_know_the_number_of_steps():
    copied = {n: (copied_tokens(block_bounds(n)), copied_tokens(square_root_bounds(n))) for n in range(1, STEPS + 1)}
    assert all(growing <= 1.25 * of_one_length for n, (growing, of_one_length) in copied.items() if n > 16)
    assert all(growing <= of_one_length + 23 for n, (growing, of_one_length) in copied.items() if n <= 16)
    assert all(growing <= of_one_length + 86 for growing, of_one_length in copied.values())  # at 248 steps
    assert all(growing < of_one_length for n, (growing, of_one_length) in copied.items() if n > 424)
