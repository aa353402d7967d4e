"""The facts of a machine that a saved run needs to be judged by later."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from typing import Any

import onnxruntime
import torch

from benchmarks.machine.cpu import cpu_features, cpu_name
from gptloop.runtime.huge_pages import huge_page_bytes

PACKAGES = ("gptloop", "numpy", "onnx", "torch", "transformers")


def has_gpu() -> bool:
    """Whether every contender can run on a GPU."""
    return torch.cuda.is_available() and "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def facts() -> dict[str, Any]:
    """Hardware, driver, threads and versions, in the form that `gptloop.report` reads."""
    gpu = has_gpu()
    return {
        "cpu": cpu_name(),
        "cpu_features": cpu_features(),
        "gpu": torch.cuda.get_device_name() if gpu else None,
        "driver": _driver() if gpu else None,
        "cuda": torch.version.cuda if gpu else None,
        "device": "cuda" if gpu else "cpu",
        "threads": torch.get_num_threads(),
        "huge_page_bytes": huge_page_bytes(),  # 0: the system has none for a contender
        "versions": {
            "python": platform.python_version(),
            "onnxruntime": onnxruntime.__version__,
            **{name: metadata.version(name) for name in PACKAGES},
        },
    }


def _driver() -> str:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"]
    return subprocess.run(query, check=True, capture_output=True, text=True).stdout.strip()
