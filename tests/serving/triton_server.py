"""A real tritonserver on this machine, of the binary that the nvidia-pytriton wheel brings, and a client of it.

The server loads a model repository as it is; what stands in for its ONNX Runtime backend, which is in no registry, is
tests/serving/onnxruntime_backend/model.py.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gptloop import names
from gptloop.runtime.feeds import feeds
from gptloop.runtime.request import Request

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
INSTALL = "pip install --no-deps -r tests/serving/requirements.txt"
READY_SECONDS = 120
OUTPUTS = (names.SEQUENCES, names.LOGPROBS, names.RAW_LOGPROBS, names.REFUSED)
ENDS = 32  # requests of one shape share a call
BACKEND = Path(__file__).parent / "onnxruntime_backend"


def absent() -> str:
    """Why no server can be started here; empty where one can."""
    found = {name: importlib.util.find_spec(name) for name in ("pytriton", "tritonclient", "grpc", "geventhttpclient")}
    if missing := [name for name, spec in found.items() if spec is None]:
        return f"{', '.join(missing)} not installed: {INSTALL}"
    if not _stub().is_file():
        return f"nvidia-pytriton has no Python backend for Python {VERSION}"
    return ""


def _server() -> Path:
    spec = importlib.util.find_spec("pytriton")
    assert spec
    assert spec.origin
    return Path(spec.origin).parent / "tritonserver"


def _stub() -> Path:
    return _server() / "python_backend_stubs" / VERSION / "triton_python_backend_stub"


@dataclass(frozen=True)
class Server:
    """Addresses of a running server, and where it writes its log."""

    http: str
    grpc: str
    log: Path
    process: subprocess.Popen[bytes]


@contextlib.contextmanager
def running(repository: Path, folder: Path, *options: str) -> Iterator[Server]:
    """Start a server for a model repository, with files of its own in `folder`; it ends with the block."""
    backends = folder / "backends"
    shutil.copytree(_server() / "backends" / "python", backends / "python")
    shutil.copy(_stub(), backends / "python")
    shutil.copytree(BACKEND, backends / "onnxruntime")
    http, grpc = _free_ports(2)
    command = [
        _server() / "bin" / "tritonserver",
        f"--model-repository={repository}",
        f"--backend-directory={backends}",
        "--http-address=127.0.0.1",
        f"--http-port={http}",
        "--grpc-address=127.0.0.1",
        f"--grpc-port={grpc}",
        "--allow-metrics=false",
        *options,
    ]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log, env=_environment()) as it,
    ):
        try:
            server = Server(f"127.0.0.1:{http}", f"127.0.0.1:{grpc}", folder / "log", it)
            _wait(server)
            yield server
        finally:
            it.terminate()
            try:
                it.wait(30)
            except subprocess.TimeoutExpired:
                it.kill()


def _environment() -> dict[str, str]:
    """In which the backend's stub finds this Python's library and packages."""
    libraries = [sysconfig.get_config_var("LIBDIR"), str(_server().parents[1] / "nvidia_pytriton.libs")]
    return {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": sysconfig.get_path("purelib"),
        "LD_LIBRARY_PATH": ":".join(libraries),
        "HOME": os.environ.get("HOME", ""),
    }


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _wait(server: Server) -> None:
    import tritonclient.grpc  # noqa: PLC0415  (optional)

    end = time.monotonic() + READY_SECONDS
    with tritonclient.grpc.InferenceServerClient(server.grpc) as client:
        while time.monotonic() < end and server.process.poll() is None:
            with contextlib.suppress(tritonclient.grpc.InferenceServerException):
                if client.is_server_ready():
                    return
            time.sleep(0.1)
    raise AssertionError(f"no server within {READY_SECONDS} s:\n{server.log.read_text(errors='replace')[-4000:]}")


def tensors(request: Request) -> dict[str, np.ndarray]:
    """The inputs of one request: what the graph has as [B] is [B, 1] here, and ends of text are filled up to `ENDS`."""
    prompts = len(request.input_ids)
    found = {name: x[:, None] if x.ndim == 1 else x for name, x in feeds(request).items()}
    ends = found[names.EOS_TOKEN_IDS]
    found[names.EOS_TOKEN_IDS] = np.pad(ends, ((0, 0), (0, ENDS - ends.shape[1])), constant_values=-1)
    return {name: np.broadcast_to(x, (prompts, *x.shape[1:])).copy() for name, x in found.items()}


def infer(server: Server, protocol: str, model: str, inputs: dict[str, np.ndarray], **options: Any) -> Any:
    """Send one request over "http" or "grpc" and wait for its answer, `OUTPUTS`."""
    module = importlib.import_module(f"tritonclient.{protocol}")
    given = []
    for name, value in inputs.items():
        kind = {np.dtype(np.int64): "INT64", np.dtype(np.float32): "FP32", np.dtype(bool): "BOOL"}[value.dtype]
        given.append(module.InferInput(name, value.shape, kind))
        given[-1].set_data_from_numpy(value)
    with module.InferenceServerClient(getattr(server, protocol)) as client:
        result = client.infer(model, given, **options)
        return tuple(result.as_numpy(name) for name in OUTPUTS)


@dataclass(frozen=True)
class Statistics:
    """Of one model since the server started.

    Attributes:
        requests: Prompts of all requests that were answered.
        runs: How often the model ran for them.
        batch_sizes: How many prompts these runs had.
    """

    requests: int
    runs: int
    batch_sizes: tuple[int, ...]


def statistics(server: Server, model: str) -> Statistics:
    """As the server counts them."""
    import tritonclient.grpc  # noqa: PLC0415  (optional)

    with tritonclient.grpc.InferenceServerClient(server.grpc) as client:
        (found,) = client.get_inference_statistics(model).model_stats
    return Statistics(found.inference_count, found.execution_count, tuple(b.batch_size for b in found.batch_stats))
