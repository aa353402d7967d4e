"""`python -m benchmarks.int8_outliers`: what int8 costs a trained model whose channels have outliers.

Trains a small byte-level model on the source of Python's standard library, moves outlier channels into it without
changing what it computes, exports each in int8, and compares it with the model in float32 on source that it has not
seen: once as the runtime multiplies here, and once as coarsely as on a CPU without VNNI. Writes one JSON file. Ten
minutes of one core, nearly all of it training.
"""

from __future__ import annotations

import argparse
import copy
import json
import sysconfig
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from gptloop import export
from gptloop.graph import quantization
from gptloop.reference.evaluate import evaluate
from gptloop.report.disk import write_files

CONFIG: dict[str, Any] = {"n_layer": 4, "n_embd": 192, "n_head": 6, "n_positions": 256, "vocab_size": 256}
DROPOUT: dict[str, Any] = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
STEPS, ROWS, WINDOW = 900, 16, 128
HELD_BACK = 200_000  # bytes at the end that are not trained on
SCORED = 16 * 255 + 1  # of them, the first so many are scored
CHANNELS = [3, 77, 150]
FACTORS = (1, 20, 50, 100)
VALUE_FACTOR = 30


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.int8_outliers", description=__doc__.split("\n\n")[1])
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="the JSON file to write")
    options = parser.parse_args()
    if not options.output.parent.is_dir():  # said before the minutes that it takes
        parser.error(f"no such folder: {options.output.parent}")
    torch.set_num_threads(1)
    text = torch.tensor(bytearray(b"".join(f.read_bytes() for f in sorted(_library().glob("*.py"))))).long()
    model = train(text[:-HELD_BACK])
    ids = text[-HELD_BACK:][:SCORED].numpy()
    found = {"rows": measure(model, ids)}
    # The graph tries out what products add up to: where that is not this, as without VNNI, it quantizes coarsely.
    with mock.patch.object(quantization, "SUM", 0):
        found["rows_without_vnni"] = measure(model, ids)
    facts = {"gptloop": metadata.version("gptloop"), "config": CONFIG, "tokens": SCORED - 1}
    content = json.dumps({"gptloop_kind": "int8_outliers", **facts, **found}, indent=1) + "\n"
    write_files(options.output.parent, {options.output.name: content.encode()})
    for name, rows in found.items():
        print(name)
        for row in rows:
            print(f"{row['outliers']:<34} {row['perplexity_change']:+.2%} {row['agreement']:.1%}")


def train(text: torch.Tensor) -> GPT2LMHeadModel:
    """A seeded model trained on bytes; perplexity about 12 on text it has not seen."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(**CONFIG, **DROPOUT, bos_token_id=None, eos_token_id=None)).train()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.1, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=STEPS)
    for _ in range(STEPS):
        starts = torch.randint(len(text) - WINDOW - 1, (ROWS,))
        batch = torch.stack([text[start : start + WINDOW] for start in starts])
        optimizer.zero_grad()
        model(input_ids=batch, labels=batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model.eval()


def measure(model: GPT2LMHeadModel, ids: np.ndarray[Any, np.dtype[np.int64]]) -> list[dict[str, Any]]:
    """A row for each set of outliers: what int8 costs against float32."""
    rows = []
    for factor, value_factor in [*((factor, 1) for factor in FACTORS), (FACTORS[-1], VALUE_FACTOR)]:
        changed = with_outliers(model, factor, value_factor)
        with tempfile.TemporaryDirectory() as folder:
            found = evaluate(export(changed, Path(folder) / "int8.onnx", precision="int8"), changed, ids)
        values = f", V x {value_factor}" if value_factor > 1 else ""
        rows.append({"outliers": f"layer norms x {factor}{values}", **found.to_dict()})
    return rows


def with_outliers(model: GPT2LMHeadModel, factor: float, value_factor: float) -> Any:
    """The same function: channels behind layer norms, and of V, are larger, and the rows that read them smaller."""
    changed: Any = copy.deepcopy(model)
    D = changed.config.n_embd
    with torch.no_grad():
        for block in changed.transformer.h:
            for norm, product in ((block.ln_1, block.attn.c_attn), (block.ln_2, block.mlp.c_fc)):
                norm.weight[CHANNELS] *= factor
                norm.bias[CHANNELS] *= factor
                product.weight[CHANNELS] /= factor
            values = [2 * D + channel for channel in CHANNELS]
            block.attn.c_attn.weight[:, values] *= value_factor
            block.attn.c_attn.bias[values] *= value_factor
            block.attn.c_proj.weight[CHANNELS] /= value_factor
    return changed


def _library() -> Path:
    return Path(sysconfig.get_path("stdlib"))


if __name__ == "__main__":
    main()
