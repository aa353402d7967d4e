"""One side of an explanation in a process of its own: its file, called under ONNX Runtime's profiler.

Run by `benchmarks.gate.profiling` as a file, with another tree's `gptloop` on PYTHONPATH perhaps: so it imports nothing
of `benchmarks`, and of gptloop only what every revision has. Reads one JSON object a line from standard input, and
answers each with one line.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import numpy as np
import onnxruntime as ort

WARM_CALLS = 1


def hello() -> dict[str, Any]:
    """Whose gptloop this is."""
    import gptloop  # noqa: PLC0415

    return {"gptloop": gptloop.__file__}


def profile(
    path: str, *, prefix: str, device: str, threads: int, ids: list[Any], arguments: dict[str, Any], calls: int
) -> dict[str, Any]:
    """Open a file, call it, and say where the profile of these calls is."""
    sessions = _profiled_sessions(prefix)
    import gptloop  # noqa: PLC0415

    loop = gptloop.OnnxLoop(path, device=device, threads=threads)
    for _ in range(WARM_CALLS + calls):
        loop.generate(np.array(ids), **arguments)
    (session,) = sessions
    return {"profile": session.end_profiling(), "warm_calls": WARM_CALLS}


def _profiled_sessions(prefix: str) -> list[ort.InferenceSession]:
    """Have every session that is opened from now on profiled: no revision's `OnnxLoop` has an option for it."""
    opened: list[ort.InferenceSession] = []
    open_session = ort.InferenceSession.__init__

    def opening(self: Any, model: Any, sess_options: Any = None, *others: Any, **named: Any) -> None:
        options = sess_options or ort.SessionOptions()
        options.enable_profiling = True
        options.profile_file_prefix = prefix
        open_session(self, model, options, *others, **named)
        opened.append(self)

    ort.InferenceSession.__init__ = opening
    return opened


def main() -> None:
    """Answer until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = hello() if request.pop("do") == "hello" else profile(**request)
        except Exception as error:  # an older revision may lack anything; the other side says what that means
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
