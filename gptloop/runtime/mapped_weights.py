"""The weights of a model file, mapped into memory once for a session on the CPU, and resident while it reads them.

Left to itself, ONNX Runtime (1.32) maps every initializer on its own, those of a Loop's body beside the outer graph's
of the same bytes, and keeps the body's when it has packed them: gpt2 then takes 2.7 times its weights while it loads.
Here it is handed the initializers in one mapping, whose pages are dropped while it packs them.

Knows the data file and ONNX Runtime's shared initializers; nothing of what a graph computes.
"""

from __future__ import annotations

import contextlib
import mmap
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from gptloop.model_file import ExternalTensor, ModelFile, external_tensors

DROPPED_EVERY_S = 0.01  # in which about 10 MB are packed
CAN_DROP = hasattr(mmap, "MADV_DONTNEED") and hasattr(mmap.mmap, "madvise")  # not so on Windows


class MappedWeights:
    """All external tensors of a model file; to be kept for as long as a session that uses them.

    Args:
        file: The model. One whose weights stand in the .onnx file itself has none to map.
    """

    def __init__(self, file: ModelFile):
        self._maps = {name: _mapped(real) for name, real in file.data_places.items()}
        self._lengths = {name: mapped.size() for name, mapped in self._maps.items()}
        self._places = file.data_places
        tensors = external_tensors(file.path, file.proto)
        self._values = {tensor.proto.name: self._value(tensor) for tensor in tensors}

    def add_to(self, options: ort.SessionOptions) -> None:
        """Have a session with these options use the mapped tensors in the place of what the file refers to."""
        for name, value in self._values.items():
            options.add_initializer(name, value)

    def check(self) -> None:
        """Check that no data file was cut short while it is mapped: to read what is gone ends the process (SIGBUS).

        Costs a microsecond. A file that is cut while a call reads it goes unnoticed.

        Raises:
            OSError: If one was; it is named.
        """
        for name, mapped in self._maps.items():
            if (size := mapped.size()) < self._lengths[name]:
                raise OSError(
                    f"{self._places[name]} was cut short while it is in use: {size} bytes of {self._lengths[name]}; "
                    "write another file and rename it to replace one"
                )

    @contextlib.contextmanager
    def dropping_pages(self) -> Iterator[None]:
        """While a session loads that packs its weights: pages that have been read are soon no longer resident.

        Nothing is lost, since nobody writes to them: who reads a page again gets it from the file or the system's cache
        of it. So it goes with what is read later, the rows of embeddings.
        """
        if not CAN_DROP or not self._maps:
            yield
            return
        done = threading.Event()
        dropper = threading.Thread(target=self._drop_until, args=(done,), name="dropping-pages")
        dropper.start()
        try:
            yield
        finally:
            done.set()
            dropper.join()

    def _drop_until(self, done: threading.Event) -> None:
        last = False
        while not last:
            last = done.wait(DROPPED_EVERY_S)
            for mapped in self._maps.values():
                mapped.madvise(mmap.MADV_DONTNEED)

    def _value(self, tensor: ExternalTensor) -> ort.OrtValue:
        content = np.frombuffer(self._maps[tensor.location], np.uint8, tensor.length, tensor.offset)
        dtype = tensor.proto.data_type
        same_size = f"u{onnx.helper.tensor_dtype_to_np_dtype(dtype).itemsize}"  # numpy has no bfloat16
        array = content.view(same_size).reshape(tuple(tensor.proto.dims))
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, dtype)


def _mapped(file: Path) -> mmap.mmap:
    with file.open("rb") as opened:
        return mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
