"""Before anything is timed: checkpoints, what each tree exports from them, and the comparison of their tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from transformers import GPT2Config

from benchmarks.cases import BASELINE
from benchmarks.contenders import Tokens, arguments, prompt_ids
from benchmarks.gate.process import Process, processes
from benchmarks.gate.work import PRECISIONS, SIDES, Files, GatedCase, Work
from benchmarks.measuring.measurement import Say
from benchmarks.tiny import tiny_model
from gptloop import TorchLoop
from gptloop.checkpoint.seeded import random_model
from gptloop.reference.bounds import ParityError, check_quality
from gptloop.reference.evaluate import evaluate
from gptloop.reference.parity import Judge
from gptloop.runtime.request import check_request


def prepare(files: Files, work: Work, say: Say) -> dict[str, str]:
    """Make the checkpoints, let each tree export them, and compare tokens: no timing without parity.

    Returns:
        Cases that cannot be measured, by name, and why.
    """
    for size in sorted({case.size for case in (*work.cases, work.control)}):
        say(f"{size}: seeded random weights{', tiny' if work.smoke else ''}")
        (tiny_model() if work.smoke else random_model(size)).save_pretrained(files.checkpoint(size))
    missing: dict[str, str] = {}
    tokens: dict[str, dict[str, Tokens]] = {}
    with processes(files.trees) as started:
        for side, process in started.items():
            tokens[side] = {}
            for case in work.cases:
                say(f"{side} exports and tries {case.name}")
                answer = _export(process, files, side, case) or _load(process, files, side, case, work)
                if "error" in answer:
                    missing[case.name] = f"the {side}'s tree cannot run it: {answer['error']}"
                else:
                    tokens[side][case.name] = np.array(answer["tokens"])
    for case in work.cases:
        if case.name not in missing and (reason := _disparity(files, case, tokens, work.device)):
            missing[case.name] = reason
    return missing


def send_load(process: Process, files: Files, side: str, case: GatedCase, work: Work) -> None:
    torch = case.contender == BASELINE
    process.send(
        "load",
        key=case.name,
        path=str(files.checkpoint(case.size) if torch else files.exported(side, case)),
        torch=torch,
        device=work.device,
        threads=work.threads,
        ids=case_ids(files, case).tolist(),
        arguments=arguments(case.workload, case.workload.max_new_tokens, greedy=False),
    )


def _export(process: Process, files: Files, side: str, case: GatedCase) -> dict[str, Any]:
    """Nothing if it went well."""
    path = files.exported(side, case)
    if path.exists():
        return {}
    path.parent.mkdir(exist_ok=True)
    checkpoint = str(files.checkpoint(case.size))
    return process.ask("export", checkpoint=checkpoint, path=str(path), precision=PRECISIONS[case.contender])


def _load(process: Process, files: Files, side: str, case: GatedCase, work: Work) -> dict[str, Any]:
    send_load(process, files, side, case, work)
    return process.receive()


def case_ids(files: Files, case: GatedCase) -> Tokens:
    return prompt_ids(case.workload, GPT2Config.from_pretrained(files.checkpoint(case.size)).vocab_size)


def _disparity(files: Files, case: GatedCase, tokens: Mapping[str, Mapping[str, Tokens]], device: str) -> str | None:
    """Why a side's tokens do not allow it to be timed, if so.

    At fp32 both sides have the tokens of the working tree's PyTorch loop. An int8 graph may have its own: the change's
    is asked for the quality that the suite asks for; the base's passed that when it was the change.
    """
    checkpoint, ids = files.checkpoint(case.size), case_ids(files, case)
    call = arguments(case.workload, case.workload.max_new_tokens, greedy=False)
    expected = TorchLoop(checkpoint, device=device).generate(ids, **call)
    side = "change"
    try:
        if PRECISIONS[case.contender] == "int8":
            text = np.array([*ids[0], *expected[0]])
            check_quality(evaluate(files.exported("change", case), checkpoint, text), "int8")
        else:
            request = check_request(GPT2Config.from_pretrained(checkpoint), ids, **call)
            for side in SIDES:
                Judge(checkpoint).check(request, expected, tokens[side][case.name])
    except ParityError as error:
        return f"the {side} generates other tokens than the PyTorch loop, so it has no time: {error}"
    return None
