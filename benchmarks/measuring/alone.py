"""One contender in a process of its own: the control of the interleaved rounds, and its peak memory.

`run_alone` starts it as `python -m benchmarks.measuring.alone JOB`; it prints one line of JSON.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from typing import Any

from benchmarks.cases import Case, Workload
from benchmarks.contenders import Files, load, prompt_ids
from gptloop.bench.clock import timed
from gptloop.bench.memory import peak_memory_bytes
from gptloop.runtime.huge_pages import on_huge_pages


def run_alone(case: Case, name: str, files: Files, *, device: str, threads: int) -> dict[str, Any]:
    """What `main` prints for this contender.

    Raises:
        RuntimeError: If the process fails, with what it said.
    """
    job = {
        "contender": name,
        "workload": dataclasses.asdict(case.workload),
        "rounds": case.alone_rounds,
        "files": files.to_json(),
        "device": device,
        "threads": threads,
    }
    command = [sys.executable, "-m", "benchmarks.measuring.alone", json.dumps(job)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name} failed in a process of its own:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main(job_json: str) -> None:
    """Load, warm up, time, and print the result: the process's side."""
    job = json.loads(job_json)
    workload = Workload(**job["workload"])
    files = Files.from_json(job["files"])
    with on_huge_pages(wanted=job["device"] == "cpu"):
        start = time.perf_counter()
        if job["contender"].startswith(("torch", "hf")):
            import torch  # noqa: PLC0415

            torch.set_num_threads(job["threads"])
        contender = load(job["contender"], files, device=job["device"], threads=job["threads"])
        load_s = time.perf_counter() - start
    vocab_size = json.loads((files.checkpoint / "config.json").read_text())["vocab_size"]
    ids = prompt_ids(workload, vocab_size)

    contender.generate(ids, workload, max_new_tokens=workload.max_new_tokens)  # warm, as the interleaved rounds are
    rounds_s = [
        timed(lambda: contender.generate(ids, workload, max_new_tokens=workload.max_new_tokens))
        for _ in range(job["rounds"])
    ]
    peak = peak_memory_bytes(getattr(contender, "pid", "self"))
    print(json.dumps({"load_s": load_s, "rounds_s": rounds_s, "peak_memory_bytes": peak}))


if __name__ == "__main__":
    main(sys.argv[1])
