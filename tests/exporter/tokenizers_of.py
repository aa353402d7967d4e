"""What the tests of tokenizers share: texts, and what a model file says about its tokenizer."""

from pathlib import Path

import onnx

TEXTS = [
    "Four score and seven years ago",
    " a space before, two  within, one after ",
    "lines\n\n\tand tabs\r\n",
    "naïve façade, Ελληνικά, 日本語, עברית",
    "👩‍👩‍👧 \U0001f680 \x00 \x7f \u200b",
    "the end<|endoftext|>and more",
    "1234567890 !?.,;:'\"-- don't we'll I'M",
    "",
]


def change_tokenizer(directory: Path) -> None:
    """Write the end of text differently."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        file = directory / name
        file.write_text(file.read_text().replace("<|endoftext|>", "<|fin|>"))


def metadata(path: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(path, load_external_data=False).metadata_props}


def saved_tokenizer(path: Path) -> Path:
    """The file that the model names."""
    return path.with_name(metadata(path)["gptloop_tokenizer"])


def assert_same_tokenizer(found, expected) -> None:
    for text in TEXTS:
        ids = expected(text)["input_ids"]
        assert found.encode(text).ids == ids
        assert found.decode(ids, skip_special_tokens=False) == expected.decode(ids)
    for token in range(len(expected)):  # most are a part of a character only
        assert found.decode([token], skip_special_tokens=False) == expected.decode([token])
