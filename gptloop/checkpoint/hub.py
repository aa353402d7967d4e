"""Models of the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path


def download(hub_id: str) -> Path:
    """Configuration, safetensors and tokenizer of a hub model, as a local directory; cached by huggingface_hub."""
    from huggingface_hub import snapshot_download  # noqa: PLC0415  (only a hub id needs it)

    weights = ["config.json", "*.safetensors", "*.safetensors.index.json"]
    tokenizer = ["tokenizer*", "vocab.json", "vocab.txt", "merges.txt", "special_tokens_map.json", "added_tokens.json"]
    return Path(snapshot_download(hub_id, allow_patterns=weights + tokenizer))
