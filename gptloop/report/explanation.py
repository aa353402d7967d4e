"""Why a case became slower: the profiles of base and change compared, operator by operator, as plain data.

Knows profiles as `benchmarks.gate.profiling` reads them; nothing of how they were measured or how this is shown.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Profile = Mapping[str, Any]
Group = Mapping[str, Any]
Rows = list[dict[str, Any]]

MOST_ROWS = 8
_COUNTS = ("nodes", "runs", "seconds")
_NOTICED = 0.1  # of what the call became slower by: what took less is not named as a cause
_MOST_UNCHANGED = 3  # operators that are named though their nodes are the same


def explain(case: str, base: Profile, change: Profile) -> dict[str, Any]:
    """What changed in a call from base to change.

    Args:
        case: Its name.
        base: A profile.
        change: The other side's.

    Returns:
        For JSON, times in seconds of one profiled call, the largest change first: `operators` and `shapes` (an operator
        with what it reads) with `base` and `change` (each `nodes`, `runs`, `seconds`) and `slower_s`; `appeared` and
        `vanished`, nodes by place and operator that only one side has; `unpacked`, products that read weights in the
        change which ONNX Runtime had packed for the base, and `packed`, the other way; `memory`, bytes by side;
        `culprits`, sentences, the surest first.
    """
    places = _compared(base, change, lambda group: (group["place"], group["operator"]))
    operators = _compared(base, change, lambda group: (group["operator"],))
    shapes = _compared(base, change, lambda group: (group["operator"], _listed_shapes(group["inputs"])))
    found = {
        "case": case,
        "base_s": base["seconds"],
        "change_s": change["seconds"],
        "operators": [_named(row, "operator") for row in operators[:MOST_ROWS]],
        "shapes": [_named(row, "operator", "inputs") for row in shapes[:MOST_ROWS]],
        "appeared": [_named(row, "place", "operator") for row in places if _more_nodes(row) > 0],
        "vanished": [_named(row, "place", "operator") for row in places if _more_nodes(row) < 0],
        "unpacked": _unpacked(base, change, places),
        "packed": _unpacked(change, base, places),
        "memory": {name: {"base": base[name], "change": change[name]} for name in ("arena_bytes", "peak_memory_bytes")},
    }
    return found | {"culprits": _culprits(found)}


def _compared(base: Profile, change: Profile, key: Callable[[Group], tuple[str, ...]]) -> Rows:
    """Groups of both sides summed by a key, what changed most first."""
    sums: dict[tuple[str, ...], dict[str, dict[str, Any]]] = defaultdict(
        lambda: {side: dict.fromkeys(_COUNTS, 0) for side in ("base", "change")}
    )
    for side, profile in (("base", base), ("change", change)):
        for group in profile["groups"]:
            for count in _COUNTS:
                sums[key(group)][side][count] += group[count]
    rows = [
        {"key": name, **sides, "slower_s": sides["change"]["seconds"] - sides["base"]["seconds"]}
        for name, sides in sums.items()
    ]
    return sorted(rows, key=lambda row: (-abs(row["slower_s"]), row["key"]))


def _listed_shapes(inputs: Sequence[str]) -> str:
    """What a node reads, those alike in a row once: `2 float[8,64]`."""
    alike = [(shape, len(list(group))) for shape, group in itertools.groupby(inputs)]
    return ", ".join(f"{count} {shape}" if count > 1 else shape for shape, count in alike)


def _named(row: Mapping[str, Any], *names: str) -> dict[str, Any]:
    rest = {name: value for name, value in row.items() if name != "key"}
    return dict(zip(names, row["key"], strict=True)) | rest


def _more_nodes(row: Mapping[str, Any]) -> int:
    more: int = row["change"]["nodes"] - row["base"]["nodes"]
    return more


def _unpacked(base: Profile, change: Profile, places: Rows) -> Rows:
    """Nodes of as many at a place that read more in the change: weights that ONNX Runtime had packed for the base.

    A packed weight is a part of the kernel, so the profile does not list it among the inputs.
    """
    read = {side: _inputs(profile) for side, profile in (("base", base), ("change", change))}
    rows = []
    for row in places:
        before, now = (read[side].get(row["key"], []) for side in ("base", "change"))
        if len(before) != len(now) or not (more := sum(map(len, now)) - sum(map(len, before))) > 0:
            continue
        weights = sorted(
            {shape for inputs in now for shape in inputs} - {shape for inputs in before for shape in inputs}
        )
        rows.append(_named(row, "place", "operator") | {"weights": weights, "products": more})
    return rows


def _inputs(profile: Profile) -> dict[tuple[str, str], list[Sequence[str]]]:
    """What each node reads, by place and operator; only nodes of operators that multiply."""
    found: dict[tuple[str, str], list[Sequence[str]]] = defaultdict(list)
    for group in profile["groups"]:
        if any(word in group["operator"] for word in ("Gemm", "MatMul")):
            found[group["place"], group["operator"]] += [group["inputs"]] * group["nodes"]
    return found


def _culprits(found: Mapping[str, Any]) -> list[str]:
    slower_s = found["change_s"] - found["base_s"]
    said = [
        f"Unpacked products: {_product(row)} now read weights that ONNX Runtime had packed for the base, "
        f"{_more(row['slower_s'])}."
        for row in _worth(found["unpacked"])
    ]
    for word in ("appeared", "vanished"):
        for place in dict.fromkeys(row["place"] for row in found[word]):
            rows = sorted((row for row in found[word] if row["place"] == place), key=lambda row: row["operator"])
            nodes = [f"{abs(_more_nodes(row))} {row['operator']}" for row in rows]
            said.append(f"{_listed(nodes)} {word} in {place}, {_more(sum(row['slower_s'] for row in rows))}.")
    of_place = {row["operator"] for row in (*found["unpacked"], *found["appeared"], *found["vanished"])}
    said += [
        f"{row['operator']} takes longer as it stands, {_more(row['slower_s'])}."
        for row in found["operators"]
        if row["slower_s"] >= _NOTICED * slower_s > 0 and row["operator"] not in of_place
    ][:_MOST_UNCHANGED]
    return said or ["No node appeared, vanished or takes notably longer under the profiler."]


def _worth(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those that count beside the one that took most."""
    least = _NOTICED * max((abs(row["slower_s"]) for row in rows), default=0.0)
    return [row for row in rows if abs(row["slower_s"]) >= least]


def _product(row: Mapping[str, Any]) -> str:
    weights = ", ".join(row["weights"])
    return f"{row['products']} {row['operator']} in {row['place']}{f' ({weights})' if weights else ''}"


def _more(seconds: float) -> str:
    return f"{seconds * 1e3:+.3g} ms a call"


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
