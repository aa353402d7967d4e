"""A colour for each name, the same in all charts of a report."""

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from gptloop.report.compare import BASELINE, CANDIDATE

Colours = Mapping[str, str]

# Okabe and Ito's palette for contenders (the baseline in grey, the peers and a GPU's flavors from Tol's muted, others
# from Tol's medium contrast), Tol's light for workloads: all colour-blind safe.
_CONTENDER_COLOURS = {
    BASELINE: "#8C8C8C",
    "torch_tiled": "#56B4E9",
    "torch_int8": "#CC79A7",
    "torch_bf16": "#CC6677",
    "torch_compiled": "#D55E00",
    "hf_generate": "#E69F00",
    "ctranslate2": "#882255",
    "ctranslate2_int8": "#AA4499",
    "openvino": "#332288",
    "openvino_default": "#88CCEE",
    "jax": "#661100",
    "onnx_step": "#F0E442",
    CANDIDATE: "#0072B2",
    "onnx_int8": "#009E73",
    "onnx_lean": "#44AA99",
    "onnx_fixed": "#117733",
    "onnx_fused": "#999933",
    "onnx_unrolled": "#DDCC77",
}
_OTHER_CONTENDERS = ("#6699CC", "#004488", "#994455", "#000000")
_WORKLOAD_COLOURS = {"1x1": "#77AADD", "8x1": "#44BB99", "64x1": "#EEDD88", "1x64": "#EE8866"}
_OTHER_WORKLOADS = ("#99DDFF", "#BBCC33", "#FFAABB", "#AAAA00", "#DDDDDD")


def workload_colours(compared: pd.DataFrame) -> dict[str, str]:
    """A colour for each workload; give the whole frame, so that all charts of a report agree."""
    return _colours(compared["workload"].unique(), _WORKLOAD_COLOURS, _OTHER_WORKLOADS)


def contender_colours(compared: pd.DataFrame) -> dict[str, str]:
    """A colour for each contender; give the whole frame, so that all charts of a report agree."""
    return _colours(compared["contender"].unique(), _CONTENDER_COLOURS, _OTHER_CONTENDERS)


def _colours(names: Iterable[str], known: Colours, others: Sequence[str]) -> dict[str, str]:
    unknown = sorted(set(names) - known.keys())
    return {**known, **{name: others[i % len(others)] for i, name in enumerate(unknown)}}
