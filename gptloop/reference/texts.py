"""Texts to score or to calibrate with, as token ids.

Knows files and tokenizers; not what the ids are for.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from gptloop import names
from gptloop.model_file import read_model
from gptloop.runtime.refusals import NoTokenizerError
from gptloop.runtime.tokenizer import open_tokenizer


def read_text(path: str | Path, text: Path) -> npt.NDArray[np.int64]:
    """A text file as ids of the tokenizer beside an exported file.

    Raises:
        FileNotFoundError: If any of these files does not exist.
        NoTokenizerError: If the model has no tokenizer, a ValueError.
        ValueError: If the text is no UTF-8.
    """
    path = Path(path)
    metadata = read_model(path).metadata
    if names.META_TOKENIZER not in metadata:
        raise NoTokenizerError(f"{path} has no tokenizer and takes token ids instead of text")
    return text_ids(open_tokenizer(path.with_name(metadata[names.META_TOKENIZER])), text)


def text_ids(tokenizer: Tokenizer, text: Path) -> npt.NDArray[np.int64]:
    """A text file as a tokenizer's ids.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is no UTF-8.
    """
    return np.array(tokenizer.encode(_read(text)).ids, np.int64)


def read_ids(file: Path) -> npt.NDArray[np.int64]:
    """Token ids, separated by white space or commas.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it holds anything else.
    """
    words = _read(file).replace(",", " ").split()
    if wrong := next((word for word in words if not re.fullmatch(r"\d{1,18}", word)), None):
        raise ValueError(f"{file} must hold token ids, got {wrong[:20]!r}")
    return np.array([int(word) for word in words], np.int64)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is no text in UTF-8: {error}") from error
