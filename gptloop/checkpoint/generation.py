"""What a checkpoint says about generation: the tokens that end and start a text, and defaults of other arguments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import GenerationConfig

from gptloop.checkpoint.brief import brief
from gptloop.checkpoint.folder import file_in
from gptloop.checkpoint.json_object import read_json_object

# Of GenerationConfig's fields: what the model's tokens do not depend on, or what is read here.
_NO_DEFAULTS = {
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "decoder_start_token_id",
    "transformers_version",
    "use_cache",
    "output_attentions",
    "output_hidden_states",
    "output_logits",
    "output_scores",
    "return_dict_in_generate",
    "disable_compile",
}


@dataclass(frozen=True)
class GenerationDefaults:
    """What a checkpoint says about generation.

    Attributes:
        eos_token_ids: What ends a text; in the vocabulary.
        bos_token_ids: What starts one; likewise.
        others: Further defaults, such as temperature, which an exported model does not have; as "temperature=0.6".
    """

    eos_token_ids: tuple[int, ...] = ()
    bos_token_ids: tuple[int, ...] = ()
    others: tuple[str, ...] = ()


def defaults_in_folder(folder: Path, vocab_size: int) -> GenerationDefaults:
    """Those of a checkpoint's folder: as in transformers generation_config.json's alone, or else config.json's.

    Raises:
        ValueError: If generation_config.json is no JSON, or a token id is none.
    """
    file = file_in(folder, "generation_config.json")
    if not file.is_file():
        file = file_in(folder, "config.json")
    return _defaults(read_json_object(file), vocab_size, str(file))


def defaults_of(config: GenerationConfig, vocab_size: int, source: str) -> GenerationDefaults:
    """Those of a model in memory."""
    return _defaults(config.to_diff_dict(), vocab_size, source)


def _defaults(content: Mapping[str, Any], vocab_size: int, source: str) -> GenerationDefaults:
    eos, bos = (_token_ids(name, content.get(name), vocab_size, source) for name in ("eos_token_id", "bos_token_id"))
    fields = set(GenerationConfig().to_dict()) - _NO_DEFAULTS
    others = [
        f"{name}={brief(repr(content[name]))}"
        for name in sorted(content)
        if name in fields and not name.startswith("_") and content[name] is not None
    ]
    return GenerationDefaults(eos, bos, tuple(others))


def _token_ids(name: str, value: Any, vocab_size: int, source: str) -> tuple[int, ...]:
    """The ids that the model can generate; -1 is an old habit for none, and the default is beyond a small vocabulary.

    Raises:
        ValueError: If the value is no id, list of ids, or None.
    """
    ids = value if isinstance(value, list) else [] if value is None else [value]
    if not all(type(token) is int for token in ids):
        raise ValueError(f"{source}: {name} must be a token id or a list of them, got {brief(repr(value))}")
    return tuple(dict.fromkeys(token for token in ids if 0 <= token < vocab_size))
