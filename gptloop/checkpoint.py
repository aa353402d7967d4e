"""Where weights come from: a model in memory, a local directory, a hub id, or a seeded random model of a named size.

Ends with a checked configuration and tensors by their published names (`h.0.attn.c_attn.weight`), whatever layout they
were stored in. Knows neither ONNX nor generation.
"""

from __future__ import annotations

import contextlib
import json
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from gptloop.graph.transformer import ACTIVATIONS

# The published configurations, as far as they differ from GPT2Config's defaults (which are gpt2's).
SIZES: dict[str, dict[str, int]] = {
    "distilgpt2": {"n_layer": 6},
    "gpt2": {},
    "gpt2-medium": {"n_embd": 1024, "n_layer": 24, "n_head": 16},
    "gpt2-large": {"n_embd": 1280, "n_layer": 36, "n_head": 20},
    "gpt2-xl": {"n_embd": 1600, "n_layer": 48, "n_head": 25},
}

Model = GPT2LMHeadModel | str | Path


@dataclass(frozen=True)
class Checkpoint:
    """A GPT-2 language model as configuration and tensors.

    Attributes:
        config: Checked: whatever `gptloop.graph` would get wrong has been refused.
        tensors: By published name without `transformer.`; products as [in, out]; `lm_head.weight` [V, D] only where it
            is not the token embedding. Reading one may read the disk.
        source: Where it came from, for people.
        weights: "pretrained" or "random, seed S".
    """

    config: GPT2Config
    tensors: Mapping[str, torch.Tensor]
    source: str
    weights: str = "pretrained"

    def __post_init__(self) -> None:
        check_config(self.config, self.source)
        check_shapes(self)


def open_checkpoint(model: Model | Checkpoint) -> Checkpoint:
    """Find a model's configuration and weights.

    Args:
        model: A GPT2LMHeadModel, a local directory (config.json and safetensors), or a hub id.

    Raises:
        ValueError: If the configuration is one that gptloop does not build, or the weights do not fit it.
        FileNotFoundError: If the directory lacks config.json or safetensors files.
        TypeError: If `model` is something else.
    """
    if isinstance(model, Checkpoint):
        return model
    if isinstance(model, GPT2LMHeadModel):
        return _from_module(model)
    if not isinstance(model, str | Path):
        raise TypeError(f"model must be a GPT2LMHeadModel, a hub id or a directory, got {type(model).__name__}")
    if Path(model).is_dir():
        return _from_directory(Path(model), source=str(model))
    if isinstance(model, Path) or model.startswith((".", "/")) or model.count("/") > 1:
        raise FileNotFoundError(f"no such model directory: {model}")
    return _from_directory(download(model), source=model)


def random_checkpoint(size: str, seed: int = 0) -> Checkpoint:
    """A model of a published size with seeded random weights; needs no network.

    Raises:
        ValueError: If `size` is not one of `SIZES`.
    """
    model = random_model(size, seed)
    return _from_module(model, source=size, weights=f"random, seed {seed}")


def random_model(size: str, seed: int = 0) -> GPT2LMHeadModel:
    """The same as a transformers module, in evaluation mode."""
    if size not in SIZES:
        raise ValueError(f"unknown model size {size!r}; random weights come in {', '.join(SIZES)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GPT2LMHeadModel(GPT2Config.from_dict(SIZES[size])).eval()


def check_config(config: GPT2Config, source: str) -> None:
    """Refuse a configuration that the graph would get wrong.

    Raises:
        ValueError: Naming the field, its value and what is supported.
    """
    if getattr(config, "model_type", None) != "gpt2":
        raise ValueError(f"{source}: model_type must be 'gpt2', got {getattr(config, 'model_type', None)!r}")
    if config.activation_function not in ACTIVATIONS:
        supported = ", ".join(sorted(ACTIVATIONS))
        raise ValueError(f"{source}: activation_function {config.activation_function!r} is not one of {supported}")
    if config.add_cross_attention:
        raise ValueError(f"{source}: add_cross_attention=True is not supported, only decoder-only models")
    for field in ("n_layer", "n_head", "n_embd", "n_positions", "vocab_size"):
        if getattr(config, field) < 1:
            raise ValueError(f"{source}: {field} must be at least 1, got {getattr(config, field)}")
    if config.n_embd % config.n_head:
        raise ValueError(f"{source}: n_embd {config.n_embd} is not a multiple of n_head {config.n_head}")


def query_scale(config: GPT2Config, layer: int) -> float:
    """What a layer's query-key scores are multiplied by."""
    scale = (config.n_embd // config.n_head) ** -0.5 if config.scale_attn_weights else 1.0
    return scale / (layer + 1) if config.scale_attn_by_inverse_layer_idx else scale


def expected_shapes(config: GPT2Config) -> dict[str, tuple[int, ...]]:
    """Every tensor of a model with tied embeddings, by published name."""
    D, inner = config.n_embd, config.n_inner or 4 * config.n_embd
    shapes: dict[str, tuple[int, ...]] = {"wte.weight": (config.vocab_size, D), "wpe.weight": (config.n_positions, D)}
    for layer in range(config.n_layer):
        h = f"h.{layer}"
        for name in ("ln_1", "ln_2"):
            shapes |= {f"{h}.{name}.weight": (D,), f"{h}.{name}.bias": (D,)}
        products = {"attn.c_attn": (D, 3 * D), "attn.c_proj": (D, D), "mlp.c_fc": (D, inner), "mlp.c_proj": (inner, D)}
        for name, (rows, columns) in products.items():
            shapes |= {f"{h}.{name}.weight": (rows, columns), f"{h}.{name}.bias": (columns,)}
    return shapes | {"ln_f.weight": (D,), "ln_f.bias": (D,)}


def check_shapes(checkpoint: Checkpoint) -> None:
    """Refuse tensors that do not fit the configuration.

    Raises:
        ValueError: Naming the tensor and both shapes.
    """
    expected = expected_shapes(checkpoint.config)
    if "lm_head.weight" in checkpoint.tensors:
        expected["lm_head.weight"] = expected["wte.weight"]
    for name, shape in expected.items():
        if name not in checkpoint.tensors:
            raise ValueError(f"{checkpoint.source}: the weights lack {name}")
        if (found := tuple(checkpoint.tensors[name].shape)) != shape:
            raise ValueError(f"{checkpoint.source}: {name} is {list(found)}, the configuration wants {list(shape)}")
    for name in sorted(set(checkpoint.tensors) - set(expected)):
        if name.startswith("h."):
            raise ValueError(f"{checkpoint.source}: no layer of the configuration has a {name}")
        warnings.warn(f"{checkpoint.source}: {name} is no part of a language model and is left out", stacklevel=3)


def published_name(stored: str) -> str | None:
    """The name of a stored tensor in the published layout, or None for the causal-mask buffers of old files."""
    name = stored.removeprefix("transformer.")
    return None if re.fullmatch(r"h\.\d+\.attn\.(bias|masked_bias)", name) else name


def _from_module(model: GPT2LMHeadModel, source: str | None = None, weights: str = "pretrained") -> Checkpoint:
    tensors = {published_name(name): tensor for name, tensor in model.state_dict().items()}
    if model.lm_head.weight.data_ptr() == model.transformer.wte.weight.data_ptr():
        del tensors["lm_head.weight"]
    source = source or model.config.name_or_path or type(model).__name__
    return Checkpoint(model.config, {name: t for name, t in tensors.items() if name}, source, weights)


def _from_directory(directory: Path, source: str) -> Checkpoint:
    if not (directory / "config.json").is_file():
        raise FileNotFoundError(f"{directory / 'config.json'} is missing")
    config = GPT2Config.from_pretrained(directory)
    tensors = _SafetensorsFiles(_safetensors_files(directory))
    if config.tie_word_embeddings:
        tensors.keys_by_name.pop("lm_head.weight", None)
    elif "lm_head.weight" not in tensors:
        raise ValueError(f"{source}: tie_word_embeddings is false, but the weights lack lm_head.weight")
    return Checkpoint(config, tensors, source)


def _safetensors_files(directory: Path) -> list[Path]:
    index = directory / "model.safetensors.index.json"
    if index.is_file():
        files = sorted({directory / name for name in json.loads(index.read_text())["weight_map"].values()})
    else:
        files = [directory / "model.safetensors"]
    for file in files:
        if not file.is_file():
            hint = "; pickled weights are not read, save them again with safetensors" if _pickles(directory) else ""
            raise FileNotFoundError(f"{file} is missing{hint}")
    return files


def _pickles(directory: Path) -> list[Path]:
    return [*directory.glob("*.bin"), *directory.glob("*.pt"), *directory.glob("*.ckpt")]


def download(hub_id: str) -> Path:
    """Configuration, safetensors and tokenizer of a hub model, as a local directory; cached by huggingface_hub."""
    from huggingface_hub import snapshot_download  # noqa: PLC0415  (only a hub id needs it)

    patterns = ["config.json", "*.safetensors", "*.safetensors.index.json", "tokenizer*", "vocab.json", "merges.txt"]
    return Path(snapshot_download(hub_id, allow_patterns=patterns))


class _SafetensorsFiles(Mapping[str, torch.Tensor]):
    """Tensors of safetensors files, each read when asked for, so that a model is never whole in memory here."""

    def __init__(self, files: list[Path]):
        self._stack = contextlib.ExitStack()
        self.keys_by_name: dict[str, tuple[safetensors.safe_open, str]] = {}
        for file in files:
            try:
                handle = self._stack.enter_context(safetensors.safe_open(file, framework="pt"))
            except safetensors.SafetensorError as error:
                raise ValueError(f"{file} is not a whole safetensors file: {error}") from error
            for key in handle.keys():  # noqa: SIM118  (safe_open is no mapping)
                if name := published_name(key):
                    self.keys_by_name[name] = handle, key

    def __getitem__(self, name: str) -> torch.Tensor:
        handle, key = self.keys_by_name[name]
        return handle.get_tensor(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys_by_name)

    def __len__(self) -> int:
        return len(self.keys_by_name)
