"""The contenders that the report knows, in the order in which it shows them.

One that it does not know stands last, under its bare name, in a colour that is left.
"""

from dataclasses import dataclass

BASELINE = "torch"
CANDIDATE = "onnx"


@dataclass(frozen=True)
class Contender:
    """What the report knows of a contender.

    Attributes:
        name: In saved runs.
        title: In front of people.
        colour: In all charts, as `#RRGGBB`; no other contender's.
        own: Whether its times are what the project's pages quote as ours.
        peer: Whether it may be the best peer there.
    """

    name: str
    title: str
    colour: str
    own: bool = False
    peer: bool = False


# Okabe and Ito's palette (the baseline in grey, the peers and a GPU's flavors from Tol's muted): colour-blind safe.
_ALL = (
    Contender(BASELINE, "PyTorch loop", "#8C8C8C"),
    Contender("torch_tiled", "PyTorch loop, tiled", "#56B4E9"),
    Contender("torch_int8", "PyTorch loop, int8", "#CC79A7", peer=True),
    Contender("torch_bf16", "PyTorch loop, bf16", "#CC6677", peer=True),
    Contender("torch_compiled", "Hugging Face, compiled", "#D55E00", peer=True),
    Contender("hf_generate", "Hugging Face generate", "#E69F00", peer=True),
    Contender("ctranslate2", "CTranslate2", "#882255", peer=True),
    Contender("ctranslate2_int8", "CTranslate2, int8", "#AA4499", peer=True),
    Contender("openvino", "OpenVINO, our file", "#332288", peer=True),
    Contender("openvino_default", "OpenVINO, its own precision", "#88CCEE", peer=True),
    Contender("jax", "JAX", "#661100", peer=True),
    Contender("onnx_step", "ONNX, a step per run", "#F0E442"),
    Contender(CANDIDATE, "ONNX loop", "#0072B2", own=True),
    Contender("onnx_int8", "ONNX loop, int8", "#009E73", own=True),
    Contender("onnx_lean", "ONNX loop, lean", "#44AA99"),
    Contender("onnx_fixed", "ONNX loop, fixed", "#117733"),
    Contender("onnx_fused", "ONNX loop, fused", "#999933"),
    Contender("onnx_unrolled", "ONNX, unrolled", "#DDCC77"),
)
CONTENDERS = {one.name: one for one in _ALL}
OWN = tuple(one.name for one in _ALL if one.own)
PEERS = tuple(one.name for one in _ALL if one.peer)
