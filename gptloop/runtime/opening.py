"""From a model file to a session that runs it: one state of the file, however often it is replaced meanwhile.

Knows the file, ONNX Runtime's options and its errors; not the graph's inputs and outputs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import onnxruntime as ort
from onnxruntime.capi.onnxruntime_pybind11_state import (
    Fail,
    InvalidArgument,
    InvalidGraph,
    InvalidProtobuf,
    NoModel,
    NoSuchFile,
    NotImplemented,
    RuntimeException,
)

from gptloop import names
from gptloop.model_file import ModelFile, read_model
from gptloop.runtime import cuda_graph
from gptloop.runtime.handed import to_open
from gptloop.runtime.interrupt import interruptible
from gptloop.runtime.mapped_weights import MappedWeights
from gptloop.runtime.session import ONLY_ERRORS, ONLY_FATAL, cpu_alone, open_session, session_options

# ONNX Runtime's own exceptions have no base in common.
REFUSED = (Fail, InvalidArgument, InvalidGraph, InvalidProtobuf, NoSuchFile, NoModel, RuntimeException, RuntimeError)
LONGEST_CAUSE = 500  # what is wrong stands at the end of ONNX Runtime's messages


def open_model(
    path: Path, *, device: str, threads: int | None, prepack: bool, huge_pages: bool, verify: bool
) -> tuple[ort.InferenceSession, dict[str, str]]:
    """A session, and the metadata of the very file that it runs.

    Where an export replaces the model while it is opened, ONNX Runtime may miss a file or find another: then what is
    there now is opened. The arguments are those of `gptloop.OnnxLoop`.

    Returns:
        The session, which holds the weights that it reads as `weights` (None but on the CPU), and the metadata.

    Raises:
        FileNotFoundError: As `gptloop.OnnxLoop`; likewise ValueError.
    """
    while True:
        file = read_model(path, verify=verify)
        try:
            session = _open(file, device=device, threads=threads, prepack=prepack, huge_pages=huge_pages)
        except Exception:
            if file.is_current():
                raise
        else:
            if file.data_places or file.is_current():  # a single file is read again
                return session, file.metadata


def _open(
    file: ModelFile, *, device: str, threads: int | None, prepack: bool, huge_pages: bool
) -> ort.InferenceSession:
    options = session_options(threads)
    if not prepack:
        options.add_session_config_entry("session.disable_prepacking", "1")
    unrolled = file.metadata.get(names.META_FLAVOR) == "unrolled"
    if unrolled:
        # Without the last level of optimizations, about layouts on the CPU: with it, gpt2 with 36 tokens written
        # out took over a minute to load, and less than half of that without.
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    weights = MappedWeights(file) if cpu_alone(device) else None
    # What is wrong is raised; on CUDA the log may say more. Warnings name every input that has a default.
    options.log_severity_level = ONLY_FATAL if weights else ONLY_ERRORS
    if weights:
        weights.add_to(options)
    cuda_options = cuda_graph.OPTIONS if unrolled else None
    with weights.dropping_pages() if weights and prepack else contextlib.nullcontext(), _naming(file):
        model = to_open(file, options)
        session = interruptible(
            lambda: open_session(
                model, device=device, options=options, cuda_options=cuda_options, huge_pages=huge_pages
            ),
            stop=options.set_load_cancellation_flag,
        )
    session.weights = weights  # whoever holds the session reads them
    return session


@contextlib.contextmanager
def _naming(file: ModelFile) -> Iterator[None]:
    """Let ONNX Runtime's errors say in one line which file they are about."""
    try:
        yield
    except NotImplemented as error:
        precision = file.metadata[names.META_PRECISION]
        raise ValueError(f"{file.path} is in {precision}, for which this device has no kernels: {error}") from None
    except REFUSED as error:
        cause = " ".join(str(error).split())[-LONGEST_CAUSE:]
        raise ValueError(f"{file.path} is damaged, or ONNX Runtime {ort.__version__} cannot run it: {cause}") from None
