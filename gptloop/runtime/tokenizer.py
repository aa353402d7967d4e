"""The tokenizer beside a model: one JSON file of the `tokenizers` library, which an export wrote.

To read it takes neither transformers nor torch. Knows nothing of models.
"""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer


def open_tokenizer(path: Path) -> Tokenizer:
    """Read a tokenizer that an export saved.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is truncated or something else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no such tokenizer file: {path}")
    try:
        return Tokenizer.from_buffer(path.read_bytes())
    except Exception as error:  # tokenizers raises nothing more special
        raise ValueError(f"{path} is truncated or no tokenizer: {error}") from error
