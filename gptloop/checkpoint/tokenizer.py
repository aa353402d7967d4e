"""A checkpoint's tokenizer, whatever files it came in: transformers reads them once, at export.

Ends with the content of one JSON file of the `tokenizers` library, which `gptloop.runtime.tokenizer` opens.
"""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer
from transformers import AutoTokenizer

from gptloop.checkpoint.clean_up import add_clean_up

VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt")  # with any of them, a directory has a tokenizer


def read_tokenizer(directory: Path) -> bytes | None:
    """The tokenizer of a checkpoint, as Hugging Face opens it, as the content of a file for `open_tokenizer`.

    Args:
        directory: Of the checkpoint.

    Returns:
        None if the directory has no tokenizer.

    Raises:
        ValueError: If transformers cannot read the tokenizer.
    """
    if not any((directory / name).is_file() for name in VOCABULARIES):
        return None
    try:
        loaded = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
        tokenizer: Tokenizer = loaded.backend_tokenizer
    except Exception as error:  # tokenizers raises nothing more special
        raise ValueError(f"the tokenizer in {directory} cannot be read: {error}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    add_clean_up(tokenizer, loaded)
    return tokenizer.to_str().encode()
