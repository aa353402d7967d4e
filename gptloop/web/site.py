"""What is served: each address with the one file behind it, found before the first request.

Knows the built page and the model's files; no sockets.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from gptloop import names
from gptloop.model_file import ModelFile, read_model

PAGE = Path(__file__).parent / "page"  # where web/build.mjs puts it
START, MODEL = "index.html", "model/model.onnx"  # as the page has them, from its own address
PRECISIONS = ("fp32", "int8")  # what a browser's WebAssembly computes in

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".wasm": "application/wasm",
}
BINARY = "application/octet-stream"


class Served(NamedTuple):
    """A file and its content type."""

    path: Path
    type: str


def open_site(path: str | Path, page: str | Path = PAGE) -> Mapping[str, Served]:
    """What is served of a model and the page, by address.

    Args:
        path: The .onnx file that `gptloop.export` wrote, of flavor "standard" in fp32 or int8.
        page: The folder that the page was built into.

    Raises:
        ValueError: If a browser cannot run the file, or it is damaged.
        FileNotFoundError: If the model file, its data file or the page does not exist.
    """
    file, page = read_model(Path(path)), Path(page)
    _check_runs(file)
    if not (page / START).is_file():
        raise FileNotFoundError(
            f"no page in {page}: in a checkout of gptloop, npm ci --prefix web && npm run build --prefix web builds it"
        )
    site = {
        f"/{found.relative_to(page).as_posix()}": Served(found, TYPES[found.suffix])
        for found in page.rglob("*")
        if found.suffix in TYPES and found.is_file()
    }
    parts = {MODEL.removeprefix("model/"): file.path, **file.data_places, **file.tokenizer_places}
    return (
        site
        | {"/": site[f"/{START}"]}
        | {f"/model/{name}": Served(real.absolute(), BINARY) for name, real in parts.items()}
    )


def _check_runs(file: ModelFile) -> None:
    flavor = file.metadata.get(names.META_FLAVOR, "standard")
    precision = file.metadata[names.META_PRECISION]
    if flavor != "standard":
        raise ValueError(f"{file.path} is of flavor {flavor!r}, which is for a GPU: the page runs 'standard'")
    if precision not in PRECISIONS:
        raise ValueError(f"{file.path} is in {precision}: a browser runs {' and '.join(PRECISIONS)}")
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in file.proto.graph.input}
    if ranks.get(names.PAST_SEQUENCES) != 3 or ranks.get(names.EOS_TOKEN_IDS) != 2:
        raise ValueError(f"{file.path} is from before the graph had all that the page needs: export it again")
    if names.META_TOKENIZER in file.metadata and not file.tokenizer_places:
        name = file.metadata[names.META_TOKENIZER]
        raise FileNotFoundError(f"{file.path} needs its tokenizer {file.path.parent / name}, which does not exist")
