"""One decode step at a time, driven from Python with IO binding: shows what the Loop inside the graph is worth.

Two graphs (gptloop.graph.variants.step), in a session each: prefill with the first token, and a decode step, sampling
included. K and V stay in ONNX Runtime's own memory: a step's outputs are bound as the next one's inputs, and no array
is made or copied in Python but the tokens at the end. Both files share the data file of the exported model.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort

from benchmarks.contenders import Files, OfLoop, onnx_loop
from gptloop import names
from gptloop.model_file import read_model
from gptloop.runtime.feeds import feeds
from gptloop.runtime.loop import Loop, Outputs
from gptloop.runtime.request import Request
from gptloop.runtime.session import open_session, session_options


def prepare(name: str, files: Files) -> None:
    """Author both graphs beside the exported model."""
    onnx_loop.prepare(name, files)
    exported = files.exported(files.precision)
    if not _path(exported, "decode").exists():
        export_step(exported)


def load(name: str, files: Files, *, device: str, threads: int) -> OfLoop:
    """From the two files."""
    return OfLoop(StepLoop(files.exported(files.precision), device=device, threads=threads))


def export_step(path: Path) -> None:
    """Write the two graphs of an exported model beside it; their weights are the model's own data file."""
    import onnx_ir as ir  # noqa: PLC0415  (who runs the graphs needs nothing that authors them)

    from gptloop.exporter.exported import read_exported  # noqa: PLC0415
    from gptloop.graph.variants.step import build_step  # noqa: PLC0415

    for part, model in build_step(*read_exported(path))._asdict().items():
        ir.save(model, _path(path, part))


def _path(exported: Path, part: str) -> Path:
    return exported.with_name(f"{exported.stem}.{part}.onnx")


def on_host(output: ort.NodeArg) -> bool:
    """Whether an output stays on the CPU, on a GPU, too: a number, a condition or a shape.

    A step may read those there (TopK's K, an If's condition, a Reshape's shape), and would have to wait for the GPU.
    One that it reads on the GPU is a copy of a few bytes.
    """
    is_single = output.type in ("tensor(bool)", "tensor(int64)") and output.shape in ([], [1])
    return is_single or output.name.startswith(f"{names.HANDED}.shapes.")


class StepLoop(Loop):
    """What an exported file generates, one step at a time; not to be shared by threads.

    Args:
        path: The exported file, with what `export_step` wrote beside it.
        device: "cpu" or "cuda".
        threads: Threads of one product.
    """

    def __init__(self, path: Path, *, device: str, threads: int):
        super().__init__(SimpleNamespace(**json.loads(read_model(path).metadata[names.META_CONFIG])))
        options = session_options(threads)
        self._device = device
        self._prefill, self._decode = (
            open_session(_path(path, part), device=device, options=options) for part in ("prefill", "decode")
        )

    def _run(self, request: Request) -> Outputs:
        binding = self._prefill.io_binding()
        for name, array in feeds(request).items():
            binding.bind_cpu_input(name, array)
        values = self._outputs(self._prefill, binding)
        scored = [values]

        binding = self._decode.io_binding()
        for name, value in values.items():
            if name.startswith(names.HANDED):
                binding.bind_ortvalue_input(name, value)
        carried = {name: value for name, value in values.items() if name.startswith(names.CARRIED)}
        for step in range(1, request.max_new_tokens):
            if request.may_end and not values[names.GO_ON].numpy():
                break
            binding.bind_cpu_input(names.STEP, np.array(step))
            for name, value in carried.items():
                binding.bind_ortvalue_input(name, value)
            values = self._outputs(self._decode, binding)
            carried = {name: values[names.NEXT + name] for name in carried}
            scored.append(values)
        logprobs = (np.stack([values[name].numpy() for values in scored], axis=1) for name in names.STEP_LOGPROBS)
        return Outputs(carried[names.CARRIED_TOKENS].numpy(), *logprobs)

    def _outputs(self, session: ort.InferenceSession, binding: Any) -> dict[str, Any]:
        """Run, with outputs in new memory of ONNX Runtime, since the last ones are inputs."""
        outputs = session.get_outputs()
        binding.clear_binding_outputs()
        for output in outputs:
            binding.bind_output(output.name, "cpu" if on_host(output) else self._device)
        session.run_with_iobinding(binding)
        return dict(zip((output.name for output in outputs), binding.get_outputs(), strict=True))
