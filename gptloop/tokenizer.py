"""The tokenizer beside a model: one JSON file of the `tokenizers` library.

Whatever files a checkpoint's tokenizer came in, transformers reads them once, at export. To read the saved file takes
neither transformers nor torch. Knows nothing of models.
"""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer

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
    from transformers import AutoTokenizer  # noqa: PLC0415  (an exported file is read without transformers)

    try:
        loaded = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
        tokenizer: Tokenizer = loaded.backend_tokenizer
    except Exception as error:  # tokenizers raises nothing more special
        raise ValueError(f"the tokenizer in {directory} cannot be read: {error}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer.to_str().encode()


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
