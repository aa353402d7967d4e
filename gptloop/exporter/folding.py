"""A checkpoint rewritten so that int8 loses little of it: the same function of the tokens, without outlier channels.

A published GPT-2 has channels whose activations are tens to hundreds of times larger than the others', and an int8
scale that covers them leaves the others a few steps. What follows is exact (but for float32 rounding):

- Every layer norm's weight and bias go into the product behind it, so that its output has mean 0 and norm sqrt(D).
- The residual stream is rotated by an orthogonal Q that keeps the direction (1, ..., 1), and with it mean and variance:
  layer_norm(x Q) = layer_norm(x) Q. What writes to the stream (embeddings, both c_proj) is multiplied by Q, what reads
  it by Q's inverse. An outlier channel is then spread over all, and a layer norm's output is nearly Gaussian whatever
  the tokens are: one constant scale serves all rows.
- The channels of V are divided, and the rows of attention's c_proj multiplied, by a factor that evens them out.

Nothing can be folded through the MLP's activation function, nor is the context's range known: the inputs of both c_proj
get one scale per row when the graph runs (gptloop.graph.weights), and channels of the MLP that stand far out of their
row are first evened out by an operator. The head that shares the token embedding cannot take ln_f's weight in: the
graph turns layer_norm(x) back into its channels, multiplies, and turns it again.

Knows tensors by their published names; not how they are quantized.

Source: rotations, Ashkboos et al., "QuaRot: Outlier-Free 4-Bit Inference in Rotated LLMs", 2024 (arXiv:2404.00456);
evening out two products, Nagel et al., "Data-Free Quantization Through Weight Equalization", 2019 (arXiv:1906.04721).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from gptloop.checkpoint import Checkpoint
from gptloop.checkpoint.config import query_scale
from gptloop.exporter.calibration import Calibration
from gptloop.exporter.rotation import factors, rotate
from gptloop.graph.quantization import STEPS, STEPS_BELOW
from gptloop.graph.weights import CHANNELS, INPUT_FACTORS, INPUT_LEAST, INPUT_SCALE, LEFT, RIGHT

# How far a constant scale reaches. Of rotated rows of norm sqrt(D), nearly Gaussian, one value in two million lies
# beyond 5 and is cut there; smaller is finer: 4.5 to 5.5 made no difference to a trained model, 7 did. So what a text
# of a few tokens has not reached is not cut.
RANGE, LEAST_RANGE = 5.0, 4.5

UNEVEN = 8  # times the median: channels of the MLP below it are left alone, since evening out takes an operator there

# How far the activation functions go below 0, rounded up; of tanh, as far as above it.
LEAST = {"relu": 1e-30, "silu": 0.279, "swish": 0.279} | dict.fromkeys(
    ("gelu", "gelu_fast", "gelu_new", "gelu_pytorch_tanh"), 0.171
)

Read = Callable[[], torch.Tensor]


def folded_tensors(checkpoint: Checkpoint, calibration: Calibration | None = None) -> dict[str, Read]:
    """The rewritten tensors by name, float32, each computed when it is called for.

    Beside the checkpoint's own there are `NAME.input_scale`, float32 [], for each product behind a layer norm, and for
    a head that is the token embedding, `rotation.left` [a, a] and `rotation.right` [b, b], of which Q is made, and
    ln_f's own weight and bias, `ln_f.channels.weight` and `ln_f.channels.bias`, [a, b]; for one of its own,
    `lm_head.bias` [V].

    Args:
        checkpoint: Where the tensors are read.
        calibration: Ranges seen on a text; without it they are told from the weights alone.
    """
    fold = _Fold(checkpoint, calibration)
    tensors: dict[str, Read] = {}
    for layer in range(checkpoint.config.n_layer):
        tensors |= fold.layer(layer)
    return tensors | fold.ends()


class _Fold:
    """The rewriting of one checkpoint: each method names tensors, and how to compute them."""

    def __init__(self, checkpoint: Checkpoint, calibration: Calibration | None):
        self._checkpoint, self._config = checkpoint, checkpoint.config
        self._calibration = calibration

    def layer(self, layer: int) -> dict[str, Read]:
        h = f"h.{layer}"
        return {
            **self._layer_norm(f"{h}.ln_1"),
            **self._reading(f"{h}.ln_1", f"{h}.attn.c_attn", lambda x: self._balanced(layer, x)),
            **self._writing(f"{h}.attn.c_proj", lambda w: w * self._value_factors(layer)[:, None]),
            **self._layer_norm(f"{h}.ln_2"),
            **self._reading(f"{h}.ln_2", f"{h}.mlp.c_fc"),
            **self._behind_activation(layer),
        }

    def ends(self) -> dict[str, Read]:
        """Embeddings and head."""
        read = self._read
        tensors = {
            "wte.weight": lambda: rotate(read("wte.weight")),
            "wpe.weight": lambda: rotate(read("wpe.weight")),
            **self._layer_norm("ln_f"),
        }
        if "lm_head.weight" in self._checkpoint.tensors:
            return tensors | {
                "lm_head.weight": lambda: rotate(read("lm_head.weight") * read("ln_f.weight")),
                "lm_head.bias": lambda: read("lm_head.weight") @ read("ln_f.bias"),
                "lm_head" + INPUT_SCALE: lambda: self._input_scale("lm_head"),
            }
        left, right = factors(self._config.n_embd)
        sides = len(left), len(right)
        return tensors | {
            LEFT: lambda: left,
            RIGHT: lambda: right,
            f"{CHANNELS}.weight": lambda: read("ln_f.weight").unflatten(0, sides),
            f"{CHANNELS}.bias": lambda: read("ln_f.bias").unflatten(0, sides),
        }

    def _layer_norm(self, name: str) -> dict[str, Read]:
        D = self._config.n_embd
        return {f"{name}.weight": lambda: torch.ones(D), f"{name}.bias": lambda: torch.zeros(D)}

    def _behind_activation(self, layer: int) -> dict[str, Read]:
        """The MLP's second product; an operator evens out its input where some of the channels are outliers."""
        name = f"h.{layer}.mlp.c_proj"
        factors, least = self._inner_factors(layer), LEAST.get(self._config.activation_function)
        # What is divided by a factor above 1 lies within the same bounds.
        tensors: dict[str, Read] = {}
        if least is not None:
            step = torch.tensor(least / STEPS_BELOW)
            tensors[name + INPUT_LEAST] = lambda: step
        if factors.max() > 1:
            written = self._writing(name, lambda w: w * factors[:, None])
            return tensors | written | {name + INPUT_FACTORS: lambda: 1 / factors}
        return tensors | self._writing(name)

    def _inner_factors(self, layer: int) -> torch.Tensor:
        """What the outliers among the MLP's channels are divided by [inner]; 1 for all others."""
        h = f"h.{layer}"
        seen = self._calibration.inner[layer] if self._calibration else self._size(f"{h}.ln_2", f"{h}.mlp.c_fc")
        factors = _evened_out(seen, self._read(f"{h}.mlp.c_proj.weight"))
        middle = factors.median()
        return torch.where(factors < UNEVEN * middle, 1.0, factors / middle)

    def _reading(
        self, norm: str, name: str, then: Callable[[torch.Tensor], torch.Tensor] = lambda x: x
    ) -> dict[str, Read]:
        """A product that reads the residual stream behind a layer norm; `then` changes its outputs."""
        read = self._read
        return {
            f"{name}.weight": lambda: then(rotate(read(f"{norm}.weight")[:, None] * read(f"{name}.weight"), axis=0)),
            f"{name}.bias": lambda: then(read(f"{name}.bias") + read(f"{norm}.bias") @ read(f"{name}.weight")),
            name + INPUT_SCALE: lambda: self._input_scale(name),
        }

    def _writing(self, name: str, first: Callable[[torch.Tensor], torch.Tensor] = lambda w: w) -> dict[str, Read]:
        """A product that writes to the residual stream; `first` changes what it takes."""
        read = self._read
        return {
            f"{name}.weight": lambda: rotate(first(read(f"{name}.weight"))),
            f"{name}.bias": lambda: rotate(read(f"{name}.bias")),
        }

    def _balanced(self, layer: int, x: torch.Tensor) -> torch.Tensor:
        """c_attn's outputs, [..., 3D]: the query times the scores' factor, the value's channels evened out."""
        D = self._config.n_embd
        query, key, value = x.split(D, dim=-1)
        scaled = query * query_scale(self._config, layer)
        return torch.cat([scaled, key, value / self._value_factors(layer)], dim=-1)

    def _value_factors(self, layer: int) -> torch.Tensor:
        """What V's channels are divided by [D]: their range against that of the rows that read them."""
        h, D = f"h.{layer}", self._config.n_embd
        seen = self._calibration.context[layer] if self._calibration else self._size(f"{h}.ln_1", f"{h}.attn.c_attn")
        return _evened_out(seen[-D:], self._read(f"{h}.attn.c_proj.weight"))

    def _size(self, norm: str, name: str) -> torch.Tensor:
        """The root mean square of a product's outputs [out], for inputs of norm sqrt(D) in all directions alike."""
        weight = self._read(f"{name}.weight")
        bias = self._read(f"{name}.bias") + self._read(f"{norm}.bias") @ weight
        squares = (self._read(f"{norm}.weight")[:, None] * weight).double().square()
        return (squares.sum(0) + bias.double().square()).sqrt()

    def _input_scale(self, name: str) -> torch.Tensor:
        D = self._config.n_embd
        reach = max(self._calibration.normed[name], LEAST_RANGE) if self._calibration else RANGE
        return torch.tensor(min(reach, math.sqrt(D)) / STEPS)

    def _read(self, name: str) -> torch.Tensor:
        return self._checkpoint.tensors[name].detach().to("cpu", torch.float32)


def _evened_out(ranges: torch.Tensor, readers: torch.Tensor) -> torch.Tensor:
    """What channels [C] are divided, and the rows that read them [C, out] multiplied by, so that both are alike."""
    rows = readers.double().square().sum(1).sqrt()  # squares of float32 numbers may be beyond float32
    factors = (ranges / rows).sqrt()
    factors[(ranges == 0) | (rows == 0)] = 1  # a channel that nothing writes to, or nobody reads
    return factors.float()
