"""What a GPU must get right before it is timed, and what a decode step makes it do.

Correctness of every loop and flavor against torch on the same device, where ONNX Runtime put the nodes, and the trace
of a step. Writes what it finds as it finds it.
"""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import onnxruntime as ort
import torch
from transformers import GPT2Config

from benchmarks.contenders import Contender, Files, Tokens, arguments, load, prepare, prompt_ids
from benchmarks.gpu.stages import say, write_json
from benchmarks.machine.cuda_trace import Event, count, kernel_summary, trace_steps
from benchmarks.workloads import Workload
from gptloop import OnnxLoop, TorchLoop
from gptloop.checkpoint.checkpoint import TORCH_TYPES
from gptloop.reference.bounds import ParityError, check_closeness
from gptloop.reference.parity import Judge
from gptloop.report import write_files
from gptloop.runtime.feeds import feeds
from gptloop.runtime.lean_call import lean_feeds
from gptloop.runtime.request import check_request
from gptloop.runtime.session import CUDA, open_session

UNROLLED_TOKENS = 12  # where what is looked at does not depend on their number
ONNX = ("onnx", "onnx_lean", "onnx_fixed", "onnx_fused", "onnx_unrolled")


def correctness(files: Files, workload: Workload, device: str, folder: Path) -> None:
    """fp32 token by token against torch on the same device, fp16 within its bounds, and nodes where they should be.

    Args:
        files: A size's.
        workload: The call.
        device: "cuda", or "cpu" to rehearse.
        folder: Where `correctness.json` goes, and nodes by provider below `profiles`, which exists.

    Raises:
        ParityError: If anything is wrong, after all has been looked at and written down.
    """
    found: dict[str, Any] = {}
    for precision in ("fp32", "fp16"):
        found |= in_precision(replace(files, precision=precision), workload, device, folder / "profiles")
        write_json(folder / "correctness.json", found)
    wrong = [name for name, what in found.items() if "error" in what]
    if device == "cuda":
        wrong += [name for name, what in found.items() if "nodes" in name and CUDA not in what]
    if wrong:
        raise ParityError(f"wrong: {', '.join(wrong)}")


def in_precision(files: Files, w: Workload, device: str, profiles: Path) -> dict[str, Any]:
    """`correctness` in the precision of the files, what was found by name."""
    precision = files.precision
    config = GPT2Config.from_pretrained(files.checkpoint)
    ids, call = prompt_ids(w, config.vocab_size), arguments(w, w.max_new_tokens, greedy=False)
    oracle = TorchLoop(files.checkpoint, device=device, dtype=TORCH_TYPES[precision])
    judge = Judge(files.checkpoint, precision, device if precision != "fp32" else "cpu")
    expected = oracle.generate(ids, **call, return_logprobs=True)
    found: dict[str, Any] = {}
    for name in ONNX:
        say(f"{precision}: {name}")
        # The unrolled file's size grows with its tokens; a call's first tokens do not depend on how many it asks for.
        new_tokens = min(w.max_new_tokens, UNROLLED_TOKENS) if name == "onnx_unrolled" else w.max_new_tokens
        request = check_request(config, ids, **(call | {"max_new_tokens": new_tokens}))
        tokens = _opened(name, files, device).generate(ids, w, max_new_tokens=new_tokens)
        wanted = expected.tokens[:, :new_tokens]
        found[f"{precision} {name}"] = _outcome(functools.partial(judge.check, request, wanted, tokens))
    request = check_request(config, ids, **call)
    for name, path in (("onnx", files.exported(precision)), ("onnx_lean", files.flavored(f"{precision}-lean"))):
        counts = _providers_of_nodes(path, device, request, profiles)
        write_files(profiles, {f"nodes-{precision}-{name}.txt": _nodes_text(counts).encode()})
        by_provider = Counter(provider for provider, _ in counts.elements())
        found[f"{precision} {name} nodes by provider"] = dict(by_provider)
    if precision != "fp32":
        same = OnnxLoop(files.exported(precision), device=device).generate(ids, **call, return_logprobs=True)
        check = functools.partial(check_closeness, expected, same, precision)
        found[f"{precision} log-probabilities"] = _outcome(check)
    return found


def _outcome(check: Callable[[], Any]) -> dict[str, Any]:
    """What a parity check found, or why it failed."""
    try:
        result = check()
    except ParityError as error:
        return {"error": str(error)}
    return asdict(result)


def _providers_of_nodes(path: Path, device: str, request: Any, folder: Path) -> Counter[tuple[str, str]]:
    """How often a node of each provider and operator ran in one call, from ONNX Runtime's own profile."""
    options = ort.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "ort")
    session = open_session(path, device=device, options=options)
    lean = len(session.get_inputs()) < len(feeds(request))
    session.run(["sequences"], lean_feeds(request, "lean", None) if lean else feeds(request))
    profile = Path(session.end_profiling())
    events = json.loads(profile.read_text())
    profile.unlink()
    return count_nodes(events)


def count_nodes(events: list[dict[str, Any]]) -> Counter[tuple[str, str]]:
    """Kernels run, by provider and operator, of an ONNX Runtime profile's events."""
    runs = (event for event in events if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"))
    return Counter((event["args"]["provider"], event["args"]["op_name"]) for event in runs)


def _nodes_text(counts: Counter[tuple[str, str]]) -> str:
    """The counts as lines."""
    return "".join(f"{n:>8}  {provider:24} {op}\n" for (provider, op), n in counts.most_common())


def trace(files: Files, workload: Workload, device: str, folder: Path) -> None:
    """One decode step of each loop, in fp16, and the call that it is from: kernels, copies, synchronisations.

    Arguments as `correctness`; writes `trace.json`, and each loop's kernels below `profiles`.
    """
    files = replace(files, precision="fp16")
    ids = prompt_ids(workload, GPT2Config.from_pretrained(files.checkpoint).vocab_size)
    found: dict[str, Any] = {}
    for name in ("torch", *ONNX):
        say(f"trace of {name}")
        contender = _opened(name, files, device)
        many = min(workload.max_new_tokens, UNROLLED_TOKENS)
        counts, events = trace_steps(functools.partial(_some_tokens, contender, ids, workload), many // 3, many)
        found[name] = {"step": counts.to_dict(), "call": count(events).to_dict()}
        write_files(folder / "profiles", {f"kernels-{name}.txt": _summary(**found[name], events=events).encode()})
        write_json(folder / "trace.json", found)
        del contender


def _opened(name: str, files: Files, device: str) -> Contender:
    """A contender, its files made where they are missing."""
    prepare(name, files)
    return load(name, files, device=device, threads=torch.get_num_threads())


def _some_tokens(contender: Contender, ids: Tokens, workload: Workload, new_tokens: int) -> Tokens:
    """The workload with another number of new tokens."""
    return contender.generate(ids, workload, max_new_tokens=new_tokens)


def _summary(step: dict[str, float], call: dict[str, float], events: list[Event]) -> str:
    """The counts of a step and of the longer call, then that call's kernels."""
    lines = [f"{'a step':>12} {'the call':>12}"]
    lines += [f"{value:>12.6g} {call[name]:>12.6g}  {name}" for name, value in step.items()]
    return "\n".join([*lines, "", kernel_summary(events)])
