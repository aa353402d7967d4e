"""One model onto the disk: parts, commit and tidying, by one export at a time.

Knows in which order files are written and removed; not what they hold.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import onnx_ir as ir

from gptloop import names
from gptloop.exporter.files import Part, Progress, commit, write_data, write_tokenizer
from gptloop.exporter.lock import alone_in
from gptloop.exporter.orphans import remove_orphans, remove_unnamed


def write_model(
    model: ir.Model, path: Path, *, tokenizer: bytes | None, single_file: bool, progress: Progress | None
) -> None:
    """Write a model and its parts, and remove what former exports to `path` left; waits for exports that do so already.

    Raises:
        OSError: If a file cannot be written. Then the folder is as it was.
    """
    with alone_in(path.parent):
        parts: list[Part] = []
        try:
            if tokenizer:
                write_tokenizer(tokenizer, path, parts)
                model.metadata_props[names.META_TOKENIZER] = parts[-1].path.name
                model.metadata_props[names.META_TOKENIZER_SHA256] = parts[-1].sha256
            if not single_file:
                write_data(model, path, parts, progress)
                model.metadata_props[names.META_DATA_SHA256] = parts[-1].sha256
            commit(model, path)
        except BaseException:  # an interrupt, too
            remove_unnamed([part.path for part in parts if part.is_new])
            raise
        with contextlib.suppress(OSError):  # the model is written
            remove_orphans(path)
