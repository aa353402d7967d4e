"""A session of ONNX Runtime on the device that was asked for, or an error that names what is missing for it.

Knows ONNX Runtime's builds, providers and the libraries they load; nothing of what a model computes.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
from pathlib import Path

import onnxruntime as ort

from gptloop.caller import warn_caller
from gptloop.runtime.huge_pages import on_huge_pages
from gptloop.values import shown

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
ONLY_ERRORS, ONLY_FATAL = 3, 4  # of the log, whose warnings name every input that has a default
DEVICES = ("auto", "cpu", "cuda")

# float32 is to mean float32: TensorFloat-32 (ONNX Runtime's default where the GPU has it) keeps 10 bits of a factor.
CUDA_OPTIONS = {"use_tf32": "0"}

# The parts of a parallel loop get smaller towards its end (ONNX Runtime's documentation names 4 as the usual value), so
# that threads end together though one was held up: 1.00x to 1.05x on two cores of a shared machine.
CONFIG = {"session.dynamic_block_base": "4"}

# ONNX Runtime starts as many as it is told to: more than a few for each core take minutes to start, or cannot.
THREADS_MAX = max(64, 4 * (os.cpu_count() or 1))

PIP_HINT = " (pip install onnxruntime-gpu[cuda,cudnn] brings CUDA's libraries)"


def session_options(threads: int | None = None) -> ort.SessionOptions:
    """The options of every session that generates.

    Args:
        threads: Threads of one product; ONNX Runtime's own choice (one per physical core) unless given.
    """
    options = ort.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
    for key, value in CONFIG.items():
        options.add_session_config_entry(key, value)
    return options


def cpu_alone(device: str) -> bool:
    """Whether a session on this device will not even try CUDA."""
    return device == "cpu" or (device == "auto" and CUDA not in ort.get_available_providers())


def open_session(
    model: Path | bytes,
    *,
    device: str,
    options: ort.SessionOptions | None = None,
    cuda_options: dict[str, str] | None = None,
    huge_pages: bool = True,
) -> ort.InferenceSession:
    """Open a model on a device.

    Args:
        model: A file or its content.
        device: "cpu"; "cuda"; or "auto" for CUDA where it really loads, else the CPU (with a warning where this is a
            build for CUDA).
        options: The session's; ONNX Runtime's own, with a log of errors only, unless given.
        cuda_options: Of the CUDA provider, beside `CUDA_OPTIONS`.
        huge_pages: Whether to move what a session on the CPU alone packs to huge pages.

    Raises:
        ValueError: If the device is unknown, or it is "cuda" and CUDA cannot be used; what is missing is named.
    """
    if device not in DEVICES:
        raise ValueError(f"device must be 'auto', 'cpu' or 'cuda', got {shown(device)}")
    if options is None:
        options = ort.SessionOptions()
        options.log_severity_level = ONLY_ERRORS
    if cpu_alone(device):
        # A plan of the memory of these shapes is of no use to the next step, which has others, but would be kept.
        options.enable_mem_pattern = False
        with on_huge_pages(wanted=huge_pages):
            return ort.InferenceSession(model, options, providers=[CPU])
    available = ort.get_available_providers()
    if CUDA not in available:
        raise ValueError(
            f"device 'cuda' was asked for, but this ONNX Runtime {ort.__version__} is a build without CUDA (it offers "
            f"{', '.join(available)}): install onnxruntime-gpu in its place"
        )
    preloaded = preload()
    session = ort.InferenceSession(model, options, providers=[(CUDA, CUDA_OPTIONS | (cuda_options or {})), CPU])
    if CUDA in session.get_providers():
        return session
    # ONNX Runtime says so in its log only, and goes on without CUDA.
    missing = "; ".join(what for what in (_what_is_missing(), preloaded) if what)
    if device == "auto":
        warn_caller(f"ONNX Runtime runs on the CPU, its CUDA provider did not load: {missing}")
        return session
    raise ValueError(f"device 'cuda' was asked for, but ONNX Runtime's CUDA provider did not load: {missing}")


def preload() -> str:
    """Load the CUDA libraries that pip installed, so that the provider finds them; what went wrong, in one line.

    They are those of the nvidia packages, which torch for CUDA depends on, too.
    """
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        ort.preload_dlls()
    return " ".join(printed.getvalue().split())


def _what_is_missing() -> str:
    """The library that does not load, in the dynamic linker's words."""
    folder = Path(ort.__file__).parent / "capi"
    for library, mode, hint in (
        ("libcuda.so.1", ctypes.DEFAULT_MODE, " (it comes with the NVIDIA driver)"),
        (str(folder / "libonnxruntime_providers_shared.so"), ctypes.RTLD_GLOBAL, ""),
        (str(folder / "libonnxruntime_providers_cuda.so"), ctypes.DEFAULT_MODE, PIP_HINT),
    ):
        try:
            ctypes.CDLL(library, mode)
        except OSError as error:
            return f"{error}{hint}"
    return "all its libraries load, so look at ONNX Runtime's log, and whether nvidia-smi lists a GPU"
