"""Where a precision loses: the error of each product of a file, on the inputs that it really has.

Each product's output is compared with the float32 product of the same input, so that what was lost further down is not
counted again. Knows files and checkpoints; not the command line.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch

from gptloop import names
from gptloop.checkpoint import Checkpoint, Model, open_checkpoint
from gptloop.exporter.exported import Exported, read_exported
from gptloop.exporter.rotation import rotate
from gptloop.exporter.tensors import exact_tensors
from gptloop.graph.variants.products import product_names
from gptloop.graph.variants.taps import build_taps
from gptloop.graph.weights import CHANNELS, INPUT_FACTORS, SCALE
from gptloop.model_file import read_model
from gptloop.reference.bounds import BOUNDS, ParityError, check_quality
from gptloop.reference.evaluate import Evaluation
from gptloop.runtime.session import open_session

TOKENS = 256  # of a text; all inputs and outputs of a pass over them are held at once, 0.2 GB for gpt2

Read = Callable[[], torch.Tensor]


class ProductError(NamedTuple):
    """One product.

    Attributes:
        name: As published, such as `h.0.attn.c_attn`, or `lm_head`.
        error: The norm of what its output is off by, over the output's own; without the bias. Where the output should
            be 0, 0 or, of any other, 1.
    """

    name: str
    error: float


def errors_by_layer(path: str | Path, source: Model | Checkpoint, ids: npt.NDArray[np.int64]) -> list[ProductError]:
    """The error of every product of an exported file over a text.

    Args:
        path: The exported file.
        source: The checkpoint it was made from.
        ids: int64 [L]; of a longer text, the first `TOKENS`.

    Returns:
        A number for each product, in the order of a pass.

    Raises:
        ValueError: If the file cannot be read.
        FileNotFoundError: If a file does not exist.
    """
    exported = read_exported(Path(path))
    checkpoint = open_checkpoint(source)
    exact = _Exact(exact_tensors(checkpoint, exported.precision), exported)
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / "taps.onnx"
        ir.save(build_taps(*exported), graph, external_data="taps.data")
        session = open_session(graph, device="cpu")
        products = product_names(exported.config)
        tapped = [f"{letter}.{name}" for name in products for letter in "xy"]
        text = ids[None, : min(TOKENS, exported.config.n_positions)]
        values = dict(zip(tapped, session.run(tapped, {names.INPUT_IDS: text}), strict=True))
        return [ProductError(name, exact.error(name, values[f"x.{name}"], values[f"y.{name}"])) for name in products]


def missed_bound(path: str | Path, evaluation: Evaluation) -> str:
    """What a file's precision costs beyond its bound, in words; empty where it is within, or at fp32."""
    precision = read_model(Path(path)).metadata[names.META_PRECISION]
    try:
        if precision in BOUNDS:
            check_quality(evaluation, precision)
    except ParityError as error:
        return str(error)
    return ""


def render(errors: list[ProductError]) -> str:
    """For people: a line a layer, a column a product, in percent."""
    parts = list(dict.fromkeys(error.name.split(".", 2)[2] for error in errors[:-1]))
    by_name = dict(errors)
    lines = [f"{'layer':>5}" + "".join(f"{part:>14}" for part in parts)]
    for layer in range(len(errors[:-1]) // len(parts)):
        lines.append(f"{layer:>5}" + "".join(f"{by_name[f'h.{layer}.{part}']:>14.2%}" for part in parts))
    return "\n".join([*lines, f"{'head':>5}{by_name['lm_head']:>14.2%}"])


class _Exact:
    """The products in float32."""

    def __init__(self, tensors: Mapping[str, Read], exported: Exported):
        self._tensors, self._exported = tensors, exported

    def error(self, name: str, x: npt.NDArray[np.float32], y: npt.NDArray[np.float32]) -> float:
        found = torch.from_numpy(y).double().flatten(0, -2)
        bias, exact = self._product(name, torch.from_numpy(x).double())
        off, norm = (found - bias - exact).norm(), exact.norm()
        return float(off / norm) if norm else float(off > 0)

    def _product(self, name: str, x: torch.Tensor) -> tuple[Any, torch.Tensor]:
        if name != "lm_head":
            factors_in, factors_out = self._value_factors(name)
            weight = self._read(f"{name}.weight") * factors_in[:, None] / factors_out
            if name + INPUT_FACTORS in self._tensors:  # an operator's, behind the input that is seen here
                weight *= self._read(name + INPUT_FACTORS)[:, None]
            return self._read(f"{name}.bias") / factors_out, x @ weight
        if f"{CHANNELS}.weight" in self._tensors:
            weight, offset = (self._read(f"{CHANNELS}.{part}").flatten() for part in ("weight", "bias"))
            x = rotate(rotate(x) * weight + offset)
        head = self._read("lm_head.weight" if "lm_head.weight" in self._tensors else "wte.weight")
        bias = self._read("lm_head.bias") if "lm_head.bias" in self._tensors else 0.0
        return bias, x @ head.T

    def _value_factors(self, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """What a calibration has divided V's channels by beyond what the weights alone tell: for in- and outputs.

        Read off the file, where it shows as the ratio of the columns' norms.
        """
        weight = self._read(f"{name}.weight")
        none = torch.ones(weight.shape[0]).double(), torch.ones(weight.shape[1]).double()
        layer, _, part = name.rpartition(".attn.")
        attn, D = f"{layer}.attn.c_attn.weight", self._exported.config.n_embd
        if part not in ("c_attn", "c_proj") or attn + SCALE not in self._exported.tensors:
            return none
        stored = (
            self._exported.tensors[attn].numpy()[:, 2 * D :] * self._exported.tensors[attn + SCALE].numpy()[2 * D :]
        )
        norms = torch.from_numpy(stored).double().norm(dim=0)
        ratio = self._read(attn)[:, 2 * D :].norm(dim=0) / norms
        ratio[norms == 0] = 1
        if part == "c_proj":
            return ratio, none[1]
        return none[0], torch.cat([torch.ones(2 * D).double(), ratio])

    def _read(self, name: str) -> torch.Tensor:
        return self._tensors[name]().double()
