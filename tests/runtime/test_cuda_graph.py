"""Captured calls, on the CPU: which of them share a capture, and how many captures there are at most."""

from __future__ import annotations

import numpy as np
import pytest

from gptloop import OnnxLoop, export
from gptloop.runtime.cuda_graph import MOST_CAPTURES, CapturedCalls
from gptloop.runtime.lean_call import ON_HOST, lean_feeds
from gptloop.runtime.request import check_request

pytestmark = pytest.mark.usefixtures("one_torch_thread")

N = 6
IDS = np.random.default_rng(0).integers(0, 97, (3, 8))


@pytest.fixture(scope="module")
def unrolled(tiny, tmp_path_factory):
    path = tmp_path_factory.mktemp("unrolled") / "model.onnx"
    export(tiny.model, path, flavor="unrolled", max_new_tokens=N)
    return OnnxLoop(path, device="cpu", threads=1)


class Replaying:
    """A session that counts bindings and graphs, as a capture sees them, and fails at will."""

    def __init__(self, session):
        self._session = session
        self.graphs = []
        self.fails = False

    def io_binding(self):
        return self._session.io_binding()

    def run_with_iobinding(self, binding, options):
        self.graphs.append((id(binding), options.get_run_config_entry("gpu_graph_id")))
        if self.fails:
            raise RuntimeError("out of memory")
        self._session.run_with_iobinding(binding)


@pytest.fixture
def replaying(tiny, unrolled):
    """A session, and a call of it whose tokens are compared with torch's."""
    session = Replaying(unrolled.session)
    calls = CapturedCalls(session, ON_HOST, device="cpu")

    def generate(**call):
        call = {"input_ids": IDS, "max_new_tokens": N, **call}
        request = check_request(tiny.model.config, **call)
        shape = (len(request.input_ids), request.num_return_sequences, N)
        found = calls.run(lean_feeds(request, "unrolled", N), "sequences", np.zeros(shape, np.int64))
        np.testing.assert_array_equal(found.reshape(-1, N), tiny.torch.generate(**call))

    return session, generate


def test_calls_of_one_shape_replay_one_capture_with_their_own_numbers(replaying):
    """Another seed or prompt is new content of the same buffers; another shape or size is another capture."""
    session, generate = replaying
    for call in ({}, {"seed": 1}, {"input_ids": 96 - IDS}, {"temperature": 0.5}, {}):
        generate(**call)
    assert len(set(session.graphs)) == 1
    generate(num_return_sequences=2)
    generate(top_k=5)
    generate(input_ids=IDS[:, :4])
    generate()
    assert [number for _, number in session.graphs[5:]] == ["2", "3", "4", "1"]


def test_what_is_beyond_the_most_captures_runs_without_one(replaying):
    """No capture ends before its session, so none takes another one's place."""
    session, generate = replaying
    for top_k in (*range(1, MOST_CAPTURES + 3), 1, MOST_CAPTURES + 1):
        generate(top_k=top_k)
    captured = [str(number + 1) for number in range(MOST_CAPTURES)]
    assert [number for _, number in session.graphs] == [*captured, "-1", "-1", "1", "-1"]


def test_a_run_that_failed_leaves_no_capture_and_its_graph_is_not_used_again(replaying):
    session, generate = replaying
    session.fails = True
    with pytest.raises(RuntimeError, match="out of memory"):
        generate()
    session.fails = False
    generate()
    generate()
    assert [number for _, number in session.graphs] == ["1", "2", "2"]
