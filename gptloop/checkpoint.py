"""Where weights come from: a model in memory, a local directory, a hub id, or a seeded random model of a named size.

Ends with a checked configuration and tensors by their published names (`h.0.attn.c_attn.weight`), whatever layout they
were stored in. Knows neither ONNX nor generation.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from huggingface_hub.errors import StrictDataclassError
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

# The floating-point precisions, by the names that gptloop has for them.
TORCH_TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

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
        directory: The files it was read from, among them maybe a tokenizer's; None for a model in memory.
    """

    config: GPT2Config
    tensors: Mapping[str, torch.Tensor]
    source: str
    weights: str = "pretrained"
    directory: Path | None = None

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
    if config.n_inner is not None and config.n_inner < 1:
        raise ValueError(f"{source}: n_inner must be at least 1, got {config.n_inner}")
    if config.n_embd % config.n_head:
        raise ValueError(f"{source}: n_embd {config.n_embd} is not a multiple of n_head {config.n_head}")


def query_scale(config: GPT2Config, layer: int) -> float:
    """What a layer's query-key scores are multiplied by."""
    scale = (config.n_embd // config.n_head) ** -0.5 if config.scale_attn_weights else 1.0
    return scale / (layer + 1) if config.scale_attn_by_inverse_layer_idx else scale


def expected_shapes(config: GPT2Config) -> dict[str, tuple[int, ...]]:
    """Every tensor of a model with tied embeddings, by published name."""
    D, inner = config.n_embd, 4 * config.n_embd if config.n_inner is None else config.n_inner
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
        raise ValueError(f"{checkpoint.source}: no layer of the configuration has a {name}")


def leave_out_other_tasks(tensors: MutableMapping[str, torch.Tensor], source: str) -> None:
    """Remove, with a warning, tensors of other tasks' heads; those of unknown layers stay, to be refused."""
    parts = ("wte.", "wpe.", "h.", "ln_f.", "lm_head.")
    for name in [name for name in tensors if not name.startswith(parts)]:
        del tensors[name]
        warnings.warn(f"{source}: {name} is no part of a language model and is left out", stacklevel=4)


def published_name(stored: str) -> str | None:
    """The name of a stored tensor in the published layout, or None for the causal-mask buffers of old files."""
    name = stored.removeprefix("transformer.")
    return None if re.fullmatch(r"h\.\d+\.attn\.(bias|masked_bias)", name) else name


def _from_module(model: GPT2LMHeadModel, source: str | None = None, weights: str = "pretrained") -> Checkpoint:
    source = source or model.config.name_or_path or type(model).__name__
    named = {published_name(name): tensor for name, tensor in model.state_dict().items()}
    tensors = {name: tensor for name, tensor in named.items() if name is not None}
    if model.lm_head.weight.data_ptr() == model.transformer.wte.weight.data_ptr():
        del tensors["lm_head.weight"]
    leave_out_other_tasks(tensors, source)
    return Checkpoint(model.config, tensors, source, weights)


def _from_directory(directory: Path, source: str) -> Checkpoint:
    config = _read_config(directory / "config.json")
    tensors = _SafetensorsFiles(_safetensors_files(directory))
    if config.tie_word_embeddings:
        tensors.pop("lm_head.weight", None)
    elif "lm_head.weight" not in tensors:
        raise ValueError(f"{source}: tie_word_embeddings is false, but the weights lack lm_head.weight")
    leave_out_other_tasks(tensors, source)
    return Checkpoint(config, tensors, source, directory=directory)


def _read_config(file: Path) -> GPT2Config:
    content = _read_json_object(file)
    if content.get("model_type") != "gpt2":
        raise ValueError(f"{file}: model_type must be 'gpt2', got {content.get('model_type')!r}")
    try:
        return GPT2Config.from_dict(content)
    except (StrictDataclassError, TypeError, ValueError) as error:
        raise ValueError(f"{file}: {error}") from error


def _read_json_object(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} must hold a JSON object, got {type(content).__name__}")
    return content


def _safetensors_files(directory: Path) -> list[Path]:
    index = directory / "model.safetensors.index.json"
    if index.is_file():
        weight_map = _read_json_object(index).get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
            raise ValueError(f"{index} has no weight_map from tensors to files")
        files = sorted({directory / name for name in weight_map.values()})
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

    weights = ["config.json", "*.safetensors", "*.safetensors.index.json"]
    tokenizer = ["tokenizer*", "vocab.json", "vocab.txt", "merges.txt", "special_tokens_map.json", "added_tokens.json"]
    return Path(snapshot_download(hub_id, allow_patterns=weights + tokenizer))


class _SafetensorsFiles(MutableMapping[str, torch.Tensor]):
    """Tensors of safetensors files, each read when asked for, so that a model is never whole in memory here."""

    def __init__(self, files: list[Path]):
        self._places: dict[str, tuple[Path, str]] = {}
        for file in files:
            try:
                with safetensors.safe_open(file, framework="pt") as opened:
                    keys = opened.keys()
            except safetensors.SafetensorError as error:
                raise ValueError(f"{file} is not a whole safetensors file: {error}") from error
            self._places |= {name: (file, key) for key in keys if (name := published_name(key))}

    def __getitem__(self, name: str) -> torch.Tensor:
        file, key = self._places[name]
        with safetensors.safe_open(file, framework="pt") as opened:  # a mapping that goes when the tensor does
            return opened.get_tensor(key)

    def __setitem__(self, name: str, tensor: torch.Tensor) -> None:
        raise TypeError("the files of a checkpoint are read only")

    def __delitem__(self, name: str) -> None:
        del self._places[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)
