"""The structure of a model file as text for a terminal."""

from __future__ import annotations

import json
import re
from collections import Counter

from gptloop import names
from gptloop.console import printable
from gptloop.exporter.inspect import Structure


def render(structure: Structure) -> str:
    """What `gptloop inspect` prints."""
    lines = ["metadata"]
    for key, value in structure.metadata.items():
        lines.append(f"  {key.removeprefix('gptloop_'):12} {_short(key, value)}")
    lines += ["opsets", *(f"  {domain:12} {version}" for domain, version in structure.opsets.items())]
    lines += ["files", *(f"  {size:>13,} bytes  {name}" for name, size in structure.file_bytes.items())]
    tokenizer = structure.metadata.get(names.META_TOKENIZER)
    if tokenizer and tokenizer not in structure.file_bytes:
        lines.append(f"  {'not there':>19}  {tokenizer}")
    in_steps = len(structure.body_weights)
    lines += ["weights", f"  {structure.weight_bytes:>13,} bytes in the outer graph, {in_steps} tensors in a step"]
    if structure.block_weights:
        lines.append(f"  {len(structure.block_weights):>13,} tensors named again in the outer Loop's body")
    inputs, outputs = (_by_layers(values) for values in (structure.inputs, structure.outputs))
    width = max(map(len, inputs | outputs))
    for title, values in (("inputs", inputs), ("outputs", outputs)):
        lines.append(title)
        for name, (kind, first) in values.items():
            optional = "  optional" if first in structure.optional else ""
            lines.append(f"  {name:{width}}  {kind}{optional}")
    lines += ["carried from step to step", f"  {carried_text(structure)}"]
    lines += [f"  {structure.carried_bytes_per_step:,} bytes more of each row with each step"]
    for title, counts in (
        ("outside the Loop", structure.graph_nodes),
        ("of a block of steps", structure.block_nodes),
        ("of a step", structure.body_nodes),
    ):
        if not counts:
            continue
        lines.append(f"nodes {title}: {counts.total()}")
        lines += _count_lines(counts)
        if counts is structure.graph_nodes:
            lines.append(f"  {_prefill_text(structure)}")
    lines.append(f"nodes per layer of a step: {structure.nodes_per_layer:g}")
    return "\n".join(printable(line) for line in lines)


def carried_text(structure: Structure) -> str:
    """What the Loop carries, by type and shape: `1 x int64 [S], 24 x float [B, 12, R, T - 1, 64]`."""
    kinds = Counter(structure.carried.values())
    return ", ".join(f"{count} x {kind}" for kind, count in kinds.items())


def _by_layers(values: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Values that differ in the number of a layer alone, under one name: `past_prompt.{0..11}.key`.

    Returns:
        By that name, type and shape, and the name of the first of them.
    """
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, kind in values.items():
        before, _, after = _layer(name)
        groups.setdefault((before, after, kind), []).append(name)
    shown = {}
    for (before, after, kind), alike in groups.items():
        first, last = (_layer(name)[1] for name in (alike[0], alike[-1]))
        shown[alike[0] if first == last else f"{before}{{{first}..{last}}}{after}"] = (kind, alike[0])
    return shown


def _layer(name: str) -> tuple[str, str, str]:
    """What stands before a layer's number, the number, and what stands behind it; of another name, all is before."""
    found = re.fullmatch(r"(.*\.)(\d+)(\..*)", name, re.DOTALL)
    return (found[1], found[2], found[3]) if found else (name, "", "")


def _prefill_text(structure: Structure) -> str:
    whole, chunks = structure.prefill_nodes, structure.prefill_nodes_in_chunks
    if whole == chunks:
        return f"of a prefill: {whole}"
    return f"of a prefill: {whole} where prompts attend in one piece, {chunks} where in chunks"


def _count_lines(counts: Counter[tuple[str, str]]) -> list[str]:
    lines = []
    for domain in sorted({domain for domain, _ in counts}):
        ops = [(op, n) for (d, op), n in counts.most_common() if d == domain]
        lines.append(f"  {domain}: {sum(n for _, n in ops)} ({', '.join(f'{op} {n}' for op, n in ops)})")
    return lines


def _short(key: str, value: str) -> str:
    if key != names.META_CONFIG:
        return value
    config = json.loads(value)
    wanted = ("n_layer", "n_head", "n_embd", "n_inner", "n_positions", "vocab_size", "activation_function")
    return ", ".join(f"{name} {config[name]}" for name in wanted if config.get(name) is not None)
