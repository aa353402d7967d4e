"""A checkpoint's tokenizer, whatever files it came in: transformers reads them once, at export.

Ends with the content of one JSON file of the `tokenizers` library, which `gptloop.runtime.tokenizer` opens.
"""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

from tokenizers import Tokenizer
from transformers import AutoTokenizer

from gptloop.checkpoint.brief import brief
from gptloop.checkpoint.clean_up import add_clean_up
from gptloop.checkpoint.config import read_config
from gptloop.checkpoint.folder import file_in
from gptloop.checkpoint.hub import TOKENIZER
from gptloop.checkpoint.quiet import quiet_transformers
from gptloop.checkpoint.vocabulary import check_fits, check_ids

VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt")  # with any of them, a directory has a tokenizer
SENTENCEPIECE = ("spiece.model", "sentencepiece.bpe.model", "tokenizer.model")


def read_tokenizer(directory: Path, vocab_size: int | None = None) -> bytes | None:
    """The tokenizer of a checkpoint, as Hugging Face opens it, as the content of a file for `open_tokenizer`.

    Args:
        directory: Of the checkpoint.
        vocab_size: The model's, if the tokenizer is to fit it.

    Returns:
        None if the directory has no tokenizer.

    Raises:
        ValueError: If transformers cannot read the tokenizer, if a file of it lies elsewhere, if it has ids far beyond
            its size, or if ordinary text has tokens beyond `vocab_size`.
    """
    if not any((directory / name).is_file() for name in VOCABULARIES):
        for name in SENTENCEPIECE:
            if (directory / name).is_file():
                advice = "save the tokenizer with transformers, which writes a tokenizer.json"
                raise ValueError(f"{directory / name} is SentencePiece's, which is not read; {advice}")
        return None
    try:
        for file in directory.iterdir():
            if any(fnmatch(file.name, pattern) for pattern in TOKENIZER):
                file_in(directory, file.name)
        check_ids(directory)
        with quiet_transformers():
            # With its own reading of config.json, transformers would make room for num_labels' names.
            config_file = file_in(directory, "config.json")
            config = read_config(config_file) if config_file.is_file() else None
            loaded = AutoTokenizer.from_pretrained(
                directory, config=config, local_files_only=True, trust_remote_code=False
            )
    except Exception as error:  # tokenizers raises nothing more special
        raise ValueError(f"the tokenizer in {directory} cannot be read: {brief(error)}") from error
    tokenizer: Tokenizer | None = getattr(loaded, "backend_tokenizer", None)
    if tokenizer is None:
        raise ValueError(f"the tokenizer in {directory} is a {type(loaded).__name__}, which has no tokenizer.json")
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if vocab_size is not None:
        check_fits(tokenizer, vocab_size, directory)
    add_clean_up(tokenizer, loaded)
    return tokenizer.to_str().encode()
