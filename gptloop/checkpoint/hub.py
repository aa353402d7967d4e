"""Models of the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from gptloop.checkpoint.brief import brief

WEIGHTS = ["config.json", "*.safetensors", "*.safetensors.index.json", "generation_config.json", "adapter_config.json"]
TOKENIZER = [
    "tokenizer*",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "spiece.model",
    "sentencepiece.bpe.model",
]


def download(hub_id: str) -> Path:
    """Configuration, safetensors and tokenizer of a hub model, as a local directory; cached by huggingface_hub.

    Raises:
        FileNotFoundError: If the hub cannot be reached or has no such model, or the cache cannot be written.
    """
    from huggingface_hub import snapshot_download  # noqa: PLC0415  (only a hub id needs it)

    try:
        return Path(snapshot_download(hub_id, allow_patterns=WEIGHTS + TOKENIZER))
    except Exception as error:  # its own, its HTTP library's and the system's
        cause = f"{type(error).__name__}: {error}"
        raise FileNotFoundError(
            f"no such model directory: {hub_id}; nor did the hub give it: {brief(cause)}"
        ) from error
