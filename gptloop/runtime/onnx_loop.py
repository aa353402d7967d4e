"""OnnxLoop: an exported file in ONNX Runtime.

Knows the graph's inputs and outputs and ONNX Runtime's options; nothing of how the graph computes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from gptloop import names
from gptloop.runtime.arguments import Arguments
from gptloop.runtime.cuda_graph import CapturedCalls
from gptloop.runtime.interrupt import interruptible
from gptloop.runtime.lean_call import lean_feeds
from gptloop.runtime.loop import Loop, Outputs
from gptloop.runtime.memory import check_memory
from gptloop.runtime.opening import open_model
from gptloop.runtime.request import Request
from gptloop.runtime.session import CUDA, THREADS_MAX
from gptloop.values import whole_number

ON_HOST = (names.TOP_K, names.NUM_RETURN_SEQUENCES)  # inputs that are sizes of tensors


HALVES = ("fp16", "bf16")  # whose KV cache is in half precision, too
LOG_FATAL = 4  # an error is raised as well, and a run that a signal ended is none


class _Bounds:
    def __init__(self, config: dict[str, Any]):
        self.vocab_size: int = config["vocab_size"]
        self.n_positions: int = config["n_positions"]


class OnnxLoop(Loop):
    """An exported model, ready to generate; may be shared by threads.

    Args:
        path: The .onnx file that `gptloop.export` wrote, its data file beside it.
        device: "cpu", "cuda", or "auto" for CUDA where it loads.
        threads: Threads of one product; ONNX Runtime's own choice (one per physical core) unless given.
        prepack: Whether ONNX Runtime rearranges the weights for its products on the CPU when it loads them. False
            leaves them in the mapped file, in pages that the system may take back and several processes share: loading
            takes a moment, but generating gets slower (0.65 to 0.8 times the speed, gpt2 in fp32).
        huge_pages: Whether to move what was packed to huge pages, where Linux has them. Generating gets faster (1.01 to
            1.13 times, gpt2), loading takes 0.1 to 1 s longer for 500 MB.
        verify: Whether to read all of the model's files first and compare them with the hashes that the export
            recorded: 0.4 s for 200 MB (a shared AMD EPYC, 2 cores).

    Attributes:
        device: "cpu" or "cuda", where it runs.
        flavor: The file's, of which some have fewer features: `generate` refuses what the file cannot do.

    Raises:
        FileNotFoundError: If the model file or its data file is missing.
        ValueError: If either is truncated, damaged or no gptloop model, names files outside its folder, or with
            `verify` is not what was exported; the device or `threads` is not usable, or the precision does not run on
            the device.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        device: str = "auto",
        threads: int | None = None,
        prepack: bool = True,
        huge_pages: bool = True,
        verify: bool = False,
    ):
        self.path = Path(path)
        threads = None if threads is None else whole_number("threads", threads, 1, THREADS_MAX)
        self.session, self.metadata = open_model(
            self.path, device=device, threads=threads, prepack=prepack, huge_pages=huge_pages, verify=verify
        )
        self._weights = self.session.weights
        self._config = json.loads(self.metadata[names.META_CONFIG])
        super().__init__(_Bounds(self._config))
        self.flavor = self.metadata.get(names.META_FLAVOR, "standard")
        fixed = self.metadata.get(names.META_MAX_NEW_TOKENS)
        self._max_new_tokens = None if fixed is None else int(fixed)
        self._inputs = {value.name: value.shape for value in self.session.get_inputs()}
        self.device = "cuda" if CUDA in self.session.get_providers() else "cpu"
        self._captured = CapturedCalls(self.session, ON_HOST, self.device) if self.flavor == "unrolled" else None

    def check(
        self, input_ids: npt.ArrayLike, *, return_logprobs: bool = False, **arguments: Unpack[Arguments]
    ) -> Request:
        """The request of a call to `generate`, without running it; raises as that does."""
        request = super().check(input_ids, return_logprobs=return_logprobs, **arguments)
        if self.device == "cpu":
            check_memory(request, self._config, 2 if self.metadata[names.META_PRECISION] in HALVES else 4)
        return request

    def _run(self, request: Request) -> Outputs:
        if self._weights:
            self._weights.check()
        lean = self.flavor != "standard"
        inputs = lean_feeds(request, self.flavor, self._max_new_tokens) if lean else self._feeds(request)
        wanted = [names.SEQUENCES, names.LOGPROBS, names.RAW_LOGPROBS] if request.return_logprobs else [names.SEQUENCES]
        if self._captured:
            shape = (*request.input_ids.shape[:1], request.num_return_sequences, request.max_new_tokens)
            outputs = [self._captured.run(inputs, names.SEQUENCES, np.zeros(shape, np.int64))]
        else:
            outputs = run_bound(self.session, inputs, wanted)
        outputs = [x.reshape(-1, x.shape[-1]) for x in outputs]  # [B, R, N] -> [B * R, N]
        if not request.return_logprobs:
            outputs += [np.zeros(outputs[0].shape, np.float32)] * 2
        return Outputs(*outputs)

    def _feeds(self, request: Request) -> dict[str, npt.NDArray[Any]]:
        inputs = feeds(request)
        if names.FIRST_CANDIDATE not in self._inputs:  # a file of before there was one
            if request.first_candidate:
                raise ValueError(f"{self.path} has no input first_candidate: export it again")
            del inputs[names.FIRST_CANDIDATE]
        if len(self._inputs[names.EOS_TOKEN_IDS]) == 1:  # a file of before they were the prompts' own
            inputs[names.EOS_TOKEN_IDS] = inputs[names.EOS_TOKEN_IDS][0]
        return inputs


def run_bound(
    session: ort.InferenceSession, inputs: dict[str, npt.NDArray[Any]], outputs: list[str]
) -> list[npt.NDArray[Any]]:
    """Run with inputs and outputs bound, so that of what is computed on a device nothing else leaves it.

    Ends early, and raises what the handler did, when a signal's handler raises: Ctrl-C. The session stays usable.
    """
    binding = session.io_binding()
    for name, value in inputs.items():
        binding.bind_cpu_input(name, np.ascontiguousarray(value))
    for name in outputs:
        binding.bind_output(name, "cpu")
    options = ort.RunOptions()
    options.log_severity_level = LOG_FATAL
    interruptible(
        lambda: session.run_with_iobinding(binding, options), stop=lambda end: setattr(options, "terminate", end)
    )
    return binding.copy_outputs_to_cpu()


def feeds(request: Request) -> dict[str, npt.NDArray[Any]]:
    """The graph's inputs of a checked request, by name, for any runtime."""
    return {
        names.INPUT_IDS: request.input_ids,
        names.ATTENTION_MASK: request.attention_mask,
        names.MAX_NEW_TOKENS: np.array([request.max_new_tokens]),
        names.MIN_NEW_TOKENS: np.array([request.min_new_tokens]),
        names.NUM_RETURN_SEQUENCES: np.array([request.num_return_sequences]),
        names.FIRST_CANDIDATE: np.array([request.first_candidate]),
        names.TEMPERATURE: request.temperature,
        names.TOP_K: request.top_k,
        names.TOP_P: request.top_p,
        names.MIN_P: np.array([request.min_p], dtype=np.float32),
        names.REPETITION_PENALTY: np.array([request.repetition_penalty], dtype=np.float32),
        names.EOS_TOKEN_IDS: np.array([request.eos_token_ids or (-1,)]),
        names.PAD_TOKEN_ID: np.array([request.pad_token_id]),
        names.RETURN_LOGPROBS: np.array([request.return_logprobs]),
        names.SEED: request.seed,
    }
