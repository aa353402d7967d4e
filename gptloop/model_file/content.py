"""Whether the bytes of a model are those that were exported: the hashes that its file records, computed again.

Knows how the .onnx file holds a hash of itself; nothing of what is in the parts.
"""

from __future__ import annotations

import hashlib
import mmap
import re
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from gptloop import names
from gptloop.model_file.damage import damaged

UNKNOWN = "0" * 64  # what stands in the place of a file's own hash while it is computed


def check_content(
    path: Path, metadata: Mapping[str, str], data: Mapping[str, Path], tokenizer: Mapping[str, Path]
) -> None:
    """Compare every file of a model, the .onnx file among them, with its recorded SHA-256.

    Files that were exported before these were recorded have the first digits of a part's in the part's name, and none
    of the .onnx file's.

    Args:
        path: The .onnx file.
        metadata: What it says of itself.
        data: Where its data files are, by the names it has for them.
        tokenizer: Likewise.

    Raises:
        ValueError: If a file is not what was exported, or nothing says what that was; it is named.
    """
    if not data and names.META_SHA256 not in metadata:
        raise ValueError(f"{path} cannot be verified: it was exported before hashes were recorded")
    for parts, key in ((data, names.META_DATA_SHA256), (tokenizer, names.META_TOKENIZER_SHA256)):
        for named, real in parts.items():
            _check_part(path, named, real, metadata.get(key))
    if wanted := metadata.get(names.META_SHA256):
        with path.open("rb") as file:
            found = sha256_of_itself(file, wanted)
        if found != wanted:
            raise damaged(path, "it is not what was exported, or another tool has changed it since")


def _check_part(path: Path, named: str, real: Path, recorded: str | None) -> None:
    in_name = re.search(r"-([0-9a-f]{16})\.(?:data|tokenizer\.json)$", named)
    wanted = recorded or (in_name and in_name[1])
    if not wanted:
        raise ValueError(f"{real} cannot be verified: neither {path} nor its name holds its hash")
    with real.open("rb") as part:
        found = hashlib.file_digest(part, "sha256").hexdigest()
    if not found.startswith(wanted):
        raise damaged(real, f"its SHA-256 begins with {found[:16]}, that of what was exported with {wanted[:16]}")


def sha256_of_itself(file: BinaryIO, recorded: str) -> str:
    """SHA-256 of a file that holds it: of its bytes with zeros where `recorded` stands; empty if nowhere."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content, memoryview(content) as view:
        if (start := _place_of_hash(content, recorded)) < 0:
            return ""
        digest = hashlib.sha256(view[:start])
        digest.update(UNKNOWN.encode())
        digest.update(view[start + len(UNKNOWN) :])
    return digest.hexdigest()


def seal(file: BinaryIO) -> None:
    """Put into a file that was written with `UNKNOWN` as its own hash what this hash is."""
    digest = sha256_of_itself(file, UNKNOWN)
    with mmap.mmap(file.fileno(), 0) as content:
        start = _place_of_hash(content, UNKNOWN)
        content[start : start + len(digest)] = digest.encode()
        content.flush()


def _place_of_hash(content: mmap.mmap, recorded: str) -> int:
    """Behind its key, in the metadata that end the file: as protobuf writes a key and a value of 64 bytes."""
    key = names.META_SHA256.encode() + b"\x12\x40"
    found = content.rfind(key + recorded.encode())
    return -1 if found < 0 else found + len(key)
