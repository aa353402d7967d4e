"""Fixtures that tests and benchmarks share: tiny seeded models, built, exported and opened once per session.

Nothing here needs a network. torch and transformers are imported by the fixtures that need them, so that tests of the
report start without them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

    from gptloop import OnnxLoop, TorchLoop

# The same examples on every run and machine, and no deadline: other programs may be at work on the cores.
settings.register_profile("gptloop", derandomize=True, deadline=None, database=None, max_examples=25)
settings.load_profile("gptloop")

TINY = {
    "n_layer": 2,
    "n_head": 4,
    "n_embd": 32,
    "vocab_size": 97,  # odd, so that no product fills its vector registers
    "n_positions": 64,
    "bos_token_id": None,
    "eos_token_id": None,
}


@dataclass(frozen=True)
class Tiny:
    """One tiny checkpoint in each form that is compared."""

    model: GPT2LMHeadModel
    path: Path
    onnx: OnnxLoop
    torch: TorchLoop


@pytest.fixture(scope="module")
def one_torch_thread() -> Iterator[None]:
    """Tiny products gain nothing from a second thread, and wait for it on a machine that has other work."""
    import torch  # noqa: PLC0415  (see the module's docstring)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny_model() -> Callable[..., GPT2LMHeadModel]:
    """Builds a seeded transformers model; keywords change the configuration."""
    import torch  # noqa: PLC0415
    from transformers import GPT2Config, GPT2LMHeadModel  # noqa: PLC0415

    def build(*, weights_seed: int = 0, **changes: Any) -> GPT2LMHeadModel:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(weights_seed)
            model = GPT2LMHeadModel(GPT2Config(**{**TINY, **changes})).eval()
            # transformers starts biases at 0 and layer norms at 1, which would hide a forgotten one; and weights of
            # this size give texts that change from token to token.
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.3)
        return model

    return build


@pytest.fixture(scope="session")
def open_tiny(
    tiny_model: Callable[..., GPT2LMHeadModel], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Tiny]:
    """Builds, exports and opens a tiny model; once for each configuration."""
    from gptloop import OnnxLoop, TorchLoop, export  # noqa: PLC0415

    opened: dict[str, Tiny] = {}

    def open_(**changes: Any) -> Tiny:
        key = json.dumps(changes, sort_keys=True)
        if key not in opened:
            model = tiny_model(**changes)
            path = export(model, tmp_path_factory.mktemp("tiny") / "tiny.onnx")
            onnx_loop = OnnxLoop(path, device="cpu", threads=1)
            opened[key] = Tiny(model, path, onnx_loop, TorchLoop(model, device="cpu"))
        return opened[key]

    return open_


@pytest.fixture(scope="session")
def tiny(open_tiny: Callable[..., Tiny]) -> Tiny:
    """The tiny model whose configuration nobody changed."""
    return open_tiny()


class SmallGraph:
    """A graph of a few operators, run by ONNX Runtime and by onnx's ReferenceEvaluator."""

    def __init__(self, trace: Callable[..., list[Any]], inputs: dict[str, tuple[str, list[Any]]], outputs: list[str]):
        import onnx_ir as ir  # noqa: PLC0415
        import onnxruntime as ort  # noqa: PLC0415
        from onnx.reference import ReferenceEvaluator  # noqa: PLC0415
        from onnxscript import GraphBuilder  # noqa: PLC0415

        from gptloop.graph.model import IR_VERSION, OPSET  # noqa: PLC0415

        graph = ir.Graph([], [], nodes=[], opset_imports={"": OPSET}, name="small")
        builder = GraphBuilder(graph)
        values = [builder.input(name, ir.DataType[dtype], shape) for name, (dtype, shape) in inputs.items()]
        for index, (value, dtype) in enumerate(zip(trace(builder.op, *values), outputs, strict=True)):
            value.dtype = ir.DataType[dtype]
            builder.add_output(value, f"output_{index}")
        proto = ir.to_proto(ir.Model(graph, ir_version=IR_VERSION))
        self._session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
        self._reference = ReferenceEvaluator(proto)

    def onnxruntime(self, **feeds: Any) -> list[Any]:
        return list(self._session.run(None, feeds))

    def reference(self, **feeds: Any) -> list[Any]:
        return list(self._reference.run(None, feeds))


@pytest.fixture(scope="session")
def small_graph() -> type[SmallGraph]:
    """Builds a graph from a function on operators, its inputs (dtype and shape by name) and its outputs' dtypes."""
    return SmallGraph
